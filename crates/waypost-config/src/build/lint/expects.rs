//! What tests of the configuration lack (O7).

use crate::diagnostics::{Diagnostic, Report, Spanned};
use crate::raw::{RawConfig, RawExpect, RawOrganization};

use crate::build::known_names;

/// What can be said of `[[expect]]` tests before they are run.
pub(in crate::build) fn expects(raw: &RawConfig, report: &mut Report) {
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
