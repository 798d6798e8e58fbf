//! Administrators who cannot be told, or are missing where they are needed.

use waypost_types::{Account, Directory as _};

use super::Linted;
use crate::diagnostics::{Diagnostic, Report};
use crate::raw::OverLimit;

pub(super) fn lint(at: &Linted<'_>, report: &mut Report) {
    if at.raw.over_limit.value == OverLimit::Hold && at.raw.administrators.items.is_empty() {
        report.push(Diagnostic::warning(
            "hold-without-administrators",
            at.raw.over_limit.place,
            "D13",
            "mail over a quota is held, and there are no administrators who would be told",
            "add `administrators = [\"admin@example.com\"]`",
        ));
    }
    // A rule may take mail for addresses that are unknown here.
    if !at.rules.is_empty() {
        return;
    }
    for one in &at.raw.administrators {
        let ours = one.domain().is_some_and(|domain| at.compiled.internal.is_verified(domain));
        if ours && matches!(at.directory.account(&one.value), Ok(Account::Unrecognized)) {
            report.push(Diagnostic::warning(
                "unknown-administrator",
                one.place,
                "D17",
                format!(
                    "{} is no user and no group, so what administrators are told is lost",
                    one.value
                ),
                "add the user, or name an address that receives mail",
            ));
        }
    }
}
