//! What can be used and is probably not meant: warnings that take more than one value to see.
//!
//! **In:** an organization as written and as compiled. **Out:** warnings, each with a stable id, both
//! parties by name, the place and a cure; `docs/CHECK.md` lists them. **Bounds:** time is linear in
//! routes and rules: of the rules before one that might shadow it, [`shadow::MOST`] of a kind are
//! looked at.

mod administrators;
mod catch_all;
mod deliveries;
mod expects;
mod matcher;
mod outbound;
mod patterns;
mod reach;
mod routes;
mod shadow;

use std::collections::HashMap;

use waypost_rules::{Action, Mode, Modification, Rule};
use waypost_types::OrgUnit;

use super::organization::CompiledOrganization;
use crate::diagnostics::{Report, Spanned};
use crate::directory::StaticDirectory;
use crate::policy::Organization;
use crate::raw::{RawConfig, RawOrganization, RawRule};
use matcher::Matcher;

pub(super) use expects::expects;

/// An organization that is looked at.
struct Linted<'a> {
    config: &'a RawConfig,
    raw: &'a Spanned<RawOrganization>,
    compiled: &'a Organization,
    directory: &'a StaticDirectory,
    /// The rules that are not off, in file order.
    rules: Vec<WrittenRule<'a>>,
    matcher: Matcher,
}

/// A rule as written and as compiled.
#[derive(Clone, Copy)]
struct WrittenRule<'a> {
    raw: &'a Spanned<RawRule>,
    rule: &'a Rule,
}

impl<'a> WrittenRule<'a> {
    fn modification(&self) -> Option<&'a Modification> {
        match &self.rule.action {
            Action::Modify(modification) => Some(modification),
            Action::Reject { .. } | Action::Quarantine { .. } => None,
        }
    }

    /// Where its description stands.
    fn place(&self) -> crate::diagnostics::Place {
        self.raw.description.as_ref().map_or(self.raw.place, |found| found.place)
    }
}

impl Linted<'_> {
    /// The rules that act.
    fn enforced(&self) -> impl Iterator<Item = &WrittenRule<'_>> {
        self.rules.iter().filter(|one| one.rule.mode == Mode::Enforce)
    }
}

/// Looks at the organizations of a configuration.
pub(super) fn organizations(
    config: &RawConfig,
    compiled: &[CompiledOrganization],
    report: &mut Report,
) {
    for (raw, compiled) in config.organization.iter().zip(compiled) {
        let Some(organization) = &compiled.organization else { continue };
        let at = Linted {
            config,
            raw,
            compiled: organization,
            directory: &compiled.directory,
            rules: written(raw, organization.rules.rules()),
            matcher: Matcher::default(),
        };
        outbound::gateway_and_rule(&at, report);
        outbound::no_licences(&at, report);
        catch_all::without_filter(&at, report);
        deliveries::lint(&at, report);
        patterns::lint(&at, report);
        routes::lint(&at, report);
        // What could not be read of users, groups and rules would be missed here: no user, no rule that
        // takes a route.
        if !report.has_errors() {
            routes::unused(&at, report);
            administrators::lint(&at, report);
            reach::lint(&at, report);
            shadow::lint(&at, report);
        }
    }
}

/// The compiled rules beside what is written of them. Those that did not compile, or share unit and
/// description with another one, are errors and are left out.
fn written<'a>(raw: &'a RawOrganization, rules: &'a [Rule]) -> Vec<WrittenRule<'a>> {
    let mut places: HashMap<(&OrgUnit, &str), Vec<&Spanned<RawRule>>> = HashMap::new();
    for raw in &raw.rule {
        if let Some(description) = &raw.description {
            let key = (&raw.org_unit.value, description.as_str());
            places.entry(key).or_default().push(raw);
        }
    }
    let on = rules.iter().filter(|rule| rule.mode != Mode::Off);
    on.filter_map(|rule| match places.get(&(&rule.org_unit, &*rule.description))?.as_slice() {
        [raw] => Some(WrittenRule { raw, rule }),
        _ => None,
    })
    .collect()
}
