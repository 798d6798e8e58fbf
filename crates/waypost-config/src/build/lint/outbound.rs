//! Outbound mail: two ways at once, and quotas of nothing.

use super::Linted;
use crate::diagnostics::{Diagnostic, Report};
use crate::raw::{Affects, Mode};

/// Both outbound ways at once (B2).
pub(super) fn gateway_and_rule(at: &Linted<'_>, report: &mut Report) {
    let raw = at.raw;
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
}

/// An organization that relays without licences (D11).
pub(super) fn no_licences(at: &Linted<'_>, report: &mut Report) {
    let raw = at.raw;
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
