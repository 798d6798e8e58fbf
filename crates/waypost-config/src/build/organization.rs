//! `[[organization]]`: what its own tables must agree on, and its compiled form.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use waypost_auth::Mode;
use waypost_relay::OverLimit;
use waypost_rules::InternalDomains;
use waypost_types::{Domain, OrgUnit};

use super::routes::Routes;
use super::{Files, Unique, inbound, logins, rules};
use crate::diagnostics::{Diagnostic, Place, Report, Spanned};
use crate::directory::StaticDirectory;
use crate::policy::{InternalSenders, Organization, SpamAction};
use crate::raw::{self, RawConfig, RawDirectory, RawOrganization};

/// What became of an organization.
pub(super) struct CompiledOrganization {
    pub(super) directory: Arc<StaticDirectory>,
    /// `None`: it lacks what an organization needs, as the report says.
    pub(super) organization: Option<Organization>,
}

/// Compiles the organizations. `directories` are the files that they name, in their order.
pub(super) fn build(
    raw: &RawConfig,
    directories: &[Vec<RawDirectory>],
    files: &dyn Files,
    report: &mut Report,
) -> Vec<CompiledOrganization> {
    let mut names = Unique::new("organization", "D11");
    let mut domains: HashMap<Domain, Place> = HashMap::new();
    if raw.organization.is_unset() && raw.organization.items.is_empty() {
        report.push(Diagnostic::warning(
            "no-organization",
            raw.organization.place,
            "C3",
            "there is no organization, so mail is accepted for nobody",
            "add a table `[[organization]]`",
        ));
    }
    let mut compiled = Vec::new();
    for (organization, directory) in raw.organization.iter().zip(directories) {
        if let Some(name) = &organization.name {
            names.claim(name.as_str().to_lowercase(), name.as_str(), name.place, report);
        }
        check_domains(organization, &mut domains, report);
        let mut one = one(organization, directory, report);
        let logins = logins::build(organization, files, report);
        one.organization.iter_mut().for_each(|one| one.logins.clone_from(&logins));
        compiled.push(one);
    }
    compiled
}

fn check_domains(
    raw: &Spanned<RawOrganization>,
    seen: &mut HashMap<Domain, Place>,
    report: &mut Report,
) {
    if raw.domains.is_unset() {
        report.push(Diagnostic::error(
            "no-domain",
            raw.domains.place,
            "C3",
            "the organization has no verified domain",
            "add `domains = [\"example.com\"]`, the primary one first",
        ));
    }
    for domain in &raw.domains {
        if let Some(first) = seen.get(&domain.value) {
            let first = report.locate(*first);
            report.push(Diagnostic::error(
                "duplicate-domain",
                domain.place,
                "C3",
                format!("the domain `{}` was given at {first} already", **domain),
                "a domain belongs to one organization: take it away here or there",
            ));
        } else {
            seen.insert(domain.value.clone(), domain.place);
        }
    }
}

fn one(
    raw: &Spanned<RawOrganization>,
    files: &[RawDirectory],
    report: &mut Report,
) -> CompiledOrganization {
    let domains: Vec<Domain> = raw.domains.iter().map(|domain| domain.value.clone()).collect();
    let directory = Arc::new(StaticDirectory::build(
        &domains,
        raw.user.iter().chain(files.iter().flat_map(|file| &file.user)),
        raw.group.iter().chain(files.iter().flat_map(|file| &file.group)),
        report,
    ));
    let routes = Routes::build(raw, report);
    if let Some(route) = &raw.mailbox_route {
        routes.check(route, &OrgUnit::root(), report);
    }
    if let Some(gateway) = &raw.outbound_gateway {
        check_gateway_port(gateway, report);
    }
    let rules = rules::build(raw, &routes, &directory, report);
    let inbound_gateway =
        raw.inbound_gateway.as_ref().and_then(|gateway| inbound::build(gateway, report));
    let organization = raw.name.as_ref().map(|name| Organization {
        name: name.as_str().into(),
        internal: InternalDomains::new(domains.iter().cloned()),
        domains,
        internal_senders: match raw.internal_senders.value {
            raw::InternalSenders::FromHeader => InternalSenders::FromHeader,
            raw::InternalSenders::Authenticated => InternalSenders::Authenticated,
        },
        rules,
        routes: routes.compiled,
        logins: BTreeMap::new(),
        mailbox_route: raw.mailbox_route.as_ref().map(|route| route.value.clone()),
        outbound_gateway: raw.outbound_gateway.as_ref().map(|host| host.value.clone()),
        inbound_gateway,
        authenticate: match raw.authenticate.value {
            raw::Authenticate::Off => Mode::Off,
            raw::Authenticate::Report => Mode::Report,
            raw::Authenticate::Enforce => Mode::Enforce,
        },
        spam_action: match raw.spam_action.value {
            raw::SpamAction::Mark => SpamAction::Mark,
            raw::SpamAction::Quarantine => SpamAction::Quarantine,
            raw::SpamAction::Reject => SpamAction::Reject,
        },
        abuse_threshold: raw.abuse_threshold.value,
        over_limit: match raw.over_limit.value {
            raw::OverLimit::Reject => OverLimit::Reject,
            raw::OverLimit::Defer => OverLimit::Defer,
            raw::OverLimit::Hold => OverLimit::Hold,
        },
        administrators: raw.administrators.iter().map(|one| one.value.clone()).collect(),
        passwords: directory
            .active_users()
            .filter_map(|(user, password, _)| Some((user.address.clone(), password?.clone())))
            .collect(),
        directory: directory.clone(),
    });
    CompiledOrganization { directory, organization }
}

/// Ports as for a single-host route (B1, A2).
fn check_gateway_port(gateway: &Spanned<waypost_types::HostPort>, report: &mut Report) {
    if matches!(gateway.port, 25 | 587 | 1024..) {
        return;
    }
    report.push(Diagnostic::error(
        "gateway-port",
        gateway.place,
        "B1",
        format!("port {} is not allowed for an outbound gateway", gateway.port),
        "write 25, 587 or a port from 1024 to 65535 (A2)",
    ));
}
