//! The settings that a Postfix with Waypost's tables and policy service cannot follow.

use waypost_auth::Mode as AuthenticateMode;
use waypost_relay::{AllowedSenders, OverLimit, RelayMode};
use waypost_route::{OnTlsFailure, Route};
use waypost_rules::{Action, Direction, Mode, Modification, Rule};

use super::next_hops::{is_stricter_than_asked, service};
use crate::policy::{InternalSenders, Organization, Policy};

/// One setting that is followed otherwise than by `serve`, or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Whose it is.
    pub organization: Box<str>,
    /// What kind of setting: `rule`, `relay`, `route` or `organization`.
    pub kind: &'static str,
    /// Its name.
    pub name: Box<str>,
    /// What becomes of it, and why.
    pub because: String,
}

/// Everything in a policy that tables and policy delegation cannot express, in the order of the file.
///
/// What is not listed is decided as `serve` decides it. Rules, entries and switches that are off or only
/// observed are not listed. Time: linear in the settings.
#[must_use]
pub fn limits(policy: &Policy) -> Vec<Limit> {
    let mut found = Vec::new();
    for organization in policy.organizations() {
        let mut see = |kind, name: &str, because: Vec<&str>| {
            found.extend(because.into_iter().map(|because| Limit {
                organization: organization.name.clone(),
                kind,
                name: name.into(),
                because: because.to_owned(),
            }));
        };
        see("organization", &organization.name, of_organization(organization));
        for route in organization.routes.values() {
            see("route", route.name().as_str(), of_route(route));
        }
        for rule in organization.rules.rules().iter().filter(|rule| rule.mode == Mode::Enforce) {
            see("rule", &rule.description, of_rule(rule));
        }
        for entry in policy.relay().entries(&organization.name) {
            if entry.mode() == RelayMode::Off {
                continue;
            }
            let mut because = Vec::new();
            if entry.allowed_senders() == AllowedSenders::Any {
                because.push(
                    "policy delegation cannot rewrite a foreign sender to the postmaster (D8): such mail \
                     is refused, or with --keep-foreign-senders goes on under its own sender",
                );
            }
            if entry.copy_to().is_some() {
                because.push("no copy is made (D16); Postfix's sender_bcc_maps can");
            }
            see("relay", entry.description(), because);
        }
    }
    found
}

fn of_organization(organization: &Organization) -> Vec<&'static str> {
    let mut because = Vec::new();
    if organization.authenticate != AuthenticateMode::Off {
        because.push("authenticate: SPF, DKIM and DMARC need the message; a milter sees it (E2)");
    }
    if organization.internal_senders == InternalSenders::Authenticated {
        because.push("internal_senders: the From: field is not seen (C3)");
    }
    let gateway = organization.inbound_gateway.as_ref();
    if gateway.is_some() {
        because.push(
            "inbound_gateway: who may connect and TLS (E7, E8) are checked; the source IP and spam tags \
             need the message's header (E3 to E5, E9)",
        );
    }
    if organization.over_limit == OverLimit::Hold {
        because.push(
            "over_limit = \"hold\": a recipient over a limit is deferred, as with \"defer\"; Postfix holds whole \
             messages only, and nobody would let them go when there is room",
        );
    }
    if organization.has_maildir() {
        because.push(
            "mailbox_route is missing: mail for users is left to Postfix's own delivery, since there is no \
             Maildir of ours",
        );
    }
    because
}

fn of_route(route: &Route) -> Vec<&'static str> {
    let mut because = Vec::new();
    if route.auth().is_some() {
        because.push("auth: give Postfix the password in smtp_sasl_password_maps");
    }
    if route.roots().is_some() {
        because.push("roots: give Postfix the file in smtp_tls_CAfile");
    }
    if route.retry().is_some() {
        because.push("retry: Postfix has one schedule for all (minimal_backoff_time)");
    }
    let requires_tls = route
        .hosts()
        .iter()
        .any(|host| host.tls().requirement == waypost_types::TlsDemand::Required);
    if requires_tls && route.on_tls_failure() == OnTlsFailure::Bounce {
        because
            .push("on_tls_failure: Postfix lets mail wait where TLS fails, and does not bounce it");
    }
    if route.hosts().iter().any(is_stricter_than_asked) {
        because.push(
            "TLS: Postfix checks authority and name of a certificate together, and then always requires \
             TLS; so the table `tls` says `secure`",
        );
    }
    let services = route.hosts().iter().map(|host| service(route, host));
    if services.clone().any(|one| Some(one) != services.clone().next()) {
        because.push(
            "hosts with implicit and with STARTTLS: one look-up names one service, so only those hosts are \
             named that are like the first one drawn",
        );
    }
    if services.clone().any(|one| one == waypost_postfix::Transport::Smtps) {
        because.push("implicit TLS: master.cf needs the service `smtps` of docs/POSTFIX.md");
    }
    because
}

fn of_rule(rule: &Rule) -> Vec<&'static str> {
    let mut because = Vec::new();
    let affects = |direction| rule.affects.contains(direction);
    let (inbound, receiving) = (affects(Direction::Inbound), affects(Direction::InternalReceiving));
    let (outbound, sending) = (affects(Direction::Outbound), affects(Direction::InternalSending));
    match &rule.action {
        Action::Modify(changes) => {
            if !rule.envelope.senders.is_empty() {
                because.push(
                    "it asks for the sender, and a table of recipients is not told who sends",
                );
            }
            if inbound != receiving {
                because.push(match inbound {
                    true => {
                        "the From: field decides between inbound and internal, and a table does not see \
                         it: it is followed for internal mail too"
                    }
                    false => {
                        "the From: field decides between inbound and internal, and a table does not see \
                         it: it is not followed"
                    }
                });
            }
            if sending {
                because.push("internal-sending: a table of recipients is not told who sends");
            }
            if outbound && !rule.envelope.recipients.is_empty() {
                because.push(
                    "outbound with recipients: the table `transport` follows it where all organizations \
                     agree, `senders` does not",
                );
            }
            if outbound && rule.accounts != waypost_rules::AccountKinds::ALL {
                because.push(
                    "outbound for some kinds of senders: only the table `senders` follows it",
                );
            }
            of_changes(changes, &mut because);
        }
        Action::Reject { .. } => {
            if inbound != receiving {
                because.push(
                    "it rejects by what stands in From:, which comes after RCPT: Postfix takes the mail \
                     (with both inbound and internal-receiving it would be refused)",
                );
            }
        }
        Action::Quarantine { .. } => {
            if inbound && receiving {
                because
                    .push("Postfix holds a message for all of its recipients (HOLD), or for none");
            }
            if outbound || sending {
                because.push(
                    "outgoing mail cannot be held by recipient: it is refused with 550 5.7.1",
                );
            }
            if inbound != receiving {
                because.push(
                    "it keeps mail by what stands in From:, which comes after RCPT: Postfix delivers it \
                     (with both inbound and internal-receiving it would be held)",
                );
            }
        }
    }
    because
}

fn of_changes(changes: &Modification, because: &mut Vec<&'static str>) {
    let header =
        changes.original_to_header || changes.spam_headers || !changes.add_headers.is_empty();
    if header {
        because.push("header lines are not added: a milter can");
    }
    if changes.subject_prefix.is_some() {
        because.push("subject_prefix: the message is not seen; a milter can");
    }
    if changes.remove_attachments {
        because.push("remove_attachments: the message is not seen");
    }
    if changes.suppress_bounces {
        because.push("suppress_bounces: Postfix sends its notices");
    }
    if changes.tls.is_some() {
        because.push(
            "require_tls: the table `tls` goes by next hop, so it holds for all mail to the same host",
        );
    }
    if !changes.also_reroute_spam {
        because.push("also_reroute_spam: whether it is spam is not known");
    }
    if changes.replace_recipient.is_some() {
        because.push(
            "replace_recipient: the table `aliases` follows it if mail for the new address goes the same \
             way; the new address is then looked up as if it had come in RCPT",
        );
    }
    for copy in &changes.also_deliver_to {
        because.push(
            "also_deliver_to: the table `aliases` adds an address of its own whose mail goes that way \
             anyway; not the same recipient by another route",
        );
        let changed = copy.no_spam
            || copy.suppress_bounces
            || !copy.add_headers.is_empty()
            || copy.subject_prefix.is_some()
            || copy.original_to_header
            || copy.spam_headers
            || copy.remove_attachments;
        if changed {
            because.push("also_deliver_to: the copy's own changes are not made");
        }
    }
}
