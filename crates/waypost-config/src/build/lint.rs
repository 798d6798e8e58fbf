//! What can be used and is probably not meant, and what tests of the configuration lack.

use crate::diagnostics::{Diagnostic, Report, Spanned};
use crate::raw::{Affects, Mode, RawConfig, RawExpect, RawOrganization};

use super::known_names;

/// Doubts about an organization as a whole.
pub(super) fn organization(raw: &Spanned<RawOrganization>, report: &mut Report) {
    if let Some(gateway) = &raw.outbound_gateway {
        let rules = raw.rule.iter().filter(|rule| rule.mode.value == Mode::Enforce);
        let outbound = rules
            .filter(|rule| rule.affects.iter().any(|affects| affects.value == Affects::Outbound));
        for rule in outbound {
            let then = rule.then.as_ref().and_then(|then| then.modify.as_ref());
            let (Some(modify), Some(name)) = (then, &rule.description) else { continue };
            if modify.route.is_none() {
                continue;
            }
            report.push(Diagnostic::warning(
                "gateway-and-rule",
                gateway.place,
                "B2",
                format!(
                    "mail that the rule `{}` matches takes the rule's route, not this gateway",
                    name.as_str()
                ),
                "keep one of the two, unless this is meant; a rule is the recommended way",
            ));
        }
    }
    if raw.licences.is_none() && raw.limits.is_none() && !raw.relay.is_unset() {
        report.push(Diagnostic::warning(
            "no-licences",
            raw.relay.place,
            "D11",
            "the organization relays and has no `licences`, so its quotas are 0",
            "write `licences = 250`, or set `[organization.limits]`",
        ));
    }
}

/// What can be said of `[[expect]]` tests before they are run (O7).
pub(super) fn expects(raw: &RawConfig, report: &mut Report) {
    let names = |organization: &Spanned<RawOrganization>| {
        let names = organization.route.iter().filter_map(|route| route.name.as_ref());
        names.map(|name| name.value.clone()).collect::<Vec<_>>()
    };
    let routes: Vec<_> = raw.organization.iter().flat_map(names).collect();
    let listeners: Vec<_> =
        raw.listener.iter().filter_map(|listener| listener.name.as_ref()).collect();
    for expect in &raw.expect {
        outcomes(expect, report);
        if let Some(route) = expect.route.as_ref().filter(|route| !routes.contains(&route.value)) {
            let known: Vec<_> = routes.iter().map(|name| name.as_str()).collect();
            report.push(Diagnostic::error(
                "unknown-route",
                route.place,
                "O7",
                format!("there is no route `{}`", **route),
                known_names(route.as_str(), &known),
            ));
        }
        let known = |name: &&Spanned<crate::raw::Name>| {
            !listeners.iter().any(|listener| listener.value == name.value)
        };
        if let Some(listener) = expect.listener.as_ref().filter(known) {
            let known: Vec<_> = listeners.iter().map(|name| name.as_str()).collect();
            report.push(Diagnostic::error(
                "unknown-listener",
                listener.place,
                "O7",
                format!("there is no listener `{}`", listener.as_str()),
                known_names(listener.as_str(), &known),
            ));
        }
    }
}

fn outcomes(raw: &Spanned<RawExpect>, report: &mut Report) {
    let outcomes =
        [raw.route.is_some(), raw.reply.is_some(), raw.via.is_some(), raw.quarantine.is_some()];
    let message = match outcomes.iter().filter(|there| **there).count() {
        1 => return,
        0 if !raw.complete => return,
        0 => "the test expects nothing",
        _ => "the test expects several things of one delivery",
    };
    report.push(Diagnostic::error(
        "one-outcome",
        raw.place,
        "O7",
        message,
        "write exactly one of `route`, `reply`, `via` and `quarantine`",
    ));
}
