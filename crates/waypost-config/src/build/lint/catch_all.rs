//! Catch-all rules of organizations with several domains.

use waypost_rules::{AccountKind, Direction};

use super::Linted;
use crate::diagnostics::{Diagnostic, Report};

/// Unknown recipients of all domains alike are taken by a rule that was perhaps meant for one (C4, C7).
pub(super) fn without_filter(at: &Linted<'_>, report: &mut Report) {
    let domains: Vec<&str> = at.compiled.domains.iter().map(|domain| domain.as_str()).collect();
    if domains.len() < 2 {
        return;
    }
    for one in at.enforced() {
        let incoming = one.rule.affects.iter().any(|direction| !Direction::is_outgoing(direction));
        let envelope = &one.rule.envelope;
        let Some(modification) = one.modification().filter(|_| incoming) else { continue };
        let takes = modification.route.is_some() || modification.replace_recipient.is_some();
        if !takes
            || !one.rule.accounts.contains(AccountKind::Unrecognized)
            || !envelope.recipients.is_empty()
            || !envelope.senders.is_empty()
        {
            continue;
        }
        report.push(Diagnostic::warning(
            "catch-all-without-filter",
            one.raw.accounts.place,
            "C7",
            format!(
                "the rule `{}` takes the unrecognized recipients of all {} domains: {}",
                one.rule.description,
                domains.len(),
                crate::raw::listed(domains.get(..8).unwrap_or(&domains)),
            ),
            "say which domain it is for: `envelope = { recipients = [{ pattern = \
             '@example\\.com$' }] }`, or an entry for each, if all are meant",
        ));
    }
}
