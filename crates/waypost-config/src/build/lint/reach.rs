//! Rules, and entries of their filters, that nothing can match.

use std::collections::HashSet;

use waypost_rules::{AccountKind, AddressMatch, Direction, Rule, Subject};
use waypost_types::{Mailbox, OrgUnit};

use super::{Linted, WrittenRule};
use crate::diagnostics::{Diagnostic, Place, Report};
use crate::raw::{List, Mode, RawMatcher};

pub(super) fn lint(at: &Linted<'_>, report: &mut Report) {
    let units = Units::of(at);
    for one in &at.rules {
        if !unit(&units, one, report) {
            continue;
        }
        let Some(envelope) = &one.raw.envelope else { continue };
        let filter = &one.rule.envelope;
        let is_outgoing = |direction: Direction| direction.is_outgoing();
        let incoming = !one.rule.affects.iter().any(is_outgoing);
        entries(at, one, &envelope.senders, &filter.senders, report, |address| {
            match one.rule.affects.is_outgoing_only() {
                true => no_subject(at, one.rule, address, "sends"),
                false => None,
            }
        });
        entries(at, one, &envelope.recipients, &filter.recipients, report, |address| {
            let ours = address.domain().is_some_and(|to| at.compiled.internal.is_verified(to));
            if !ours && !one.rule.affects.contains(Direction::Outbound) {
                return Some("its domain is none of the organization's".to_owned());
            }
            if ours && one.rule.affects.iter().all(|direction| direction == Direction::Outbound) {
                return Some("mail for our own domains is not outbound".to_owned());
            }
            if incoming { no_subject(at, one.rule, address, "receives") } else { None }
        });
    }
    switched_off_twice(at, report);
}

/// The units that somebody is in, with those above them, and those that are declared.
struct Units {
    used: HashSet<OrgUnit>,
    declared: HashSet<OrgUnit>,
}

impl Units {
    fn of(at: &Linted<'_>) -> Self {
        let mut used = HashSet::new();
        for (user, _, _) in at.directory.active_users() {
            if !used.contains(&user.org_unit) {
                used.extend(user.org_unit.lineage());
            }
        }
        let declared = at.raw.org_unit.iter().filter_map(|unit| unit.path.as_ref());
        Self { used, declared: declared.flat_map(|path| path.lineage()).collect() }
    }
}

/// Whether somebody can be in a rule's unit.
fn unit(units: &Units, one: &WrittenRule<'_>, report: &mut Report) -> bool {
    let (rule, unit) = (one.rule, &one.rule.org_unit);
    if *unit == OrgUnit::root() {
        return true;
    }
    if !rule.accounts.contains(AccountKind::User) {
        report.push(Diagnostic::warning(
            "rule-never-matches",
            one.raw.org_unit.place,
            "C8",
            format!(
                "the rule `{}` is for {} in {unit}, and groups and unknown addresses are in the \
                 root unit",
                rule.description, rule.accounts
            ),
            "write `org_unit = \"/\"`, or add `users` to `accounts`",
        ));
        return false;
    }
    if !units.used.is_empty() && !units.used.contains(unit) && !units.declared.contains(unit) {
        report.push(Diagnostic::warning(
            "unit-without-users",
            one.raw.org_unit.place,
            "C8",
            format!("the rule `{}` is for {unit}, and no user is in it", rule.description),
            "correct the unit, or add `[[organization.org_unit]]` with this `path` if users follow",
        ));
        return false;
    }
    true
}

/// Why the account that an address names is none that the rule is for.
fn no_subject(at: &Linted<'_>, rule: &Rule, address: &Mailbox, does: &str) -> Option<String> {
    let subject = Subject::of(address, at.directory).ok()?;
    if !rule.accounts.contains(subject.kind) {
        let kind = match subject.kind {
            AccountKind::User => "a user",
            AccountKind::Group => "a group",
            AccountKind::Unrecognized => "unrecognized",
        };
        return Some(format!("who {does} is {kind}, and the rule affects {}", rule.accounts));
    }
    if !subject.org_unit.is_at_or_below(&rule.org_unit) {
        return Some(format!(
            "it is in {}, and the rule is for {}",
            subject.org_unit, rule.org_unit
        ));
    }
    None
}

/// Notes the entries of a list that nothing matches; where all are so, the rule.
fn entries(
    at: &Linted<'_>,
    one: &WrittenRule<'_>,
    written: &List<RawMatcher>,
    list: &[AddressMatch],
    report: &mut Report,
    no_match: impl Fn(&Mailbox) -> Option<String>,
) {
    if written.items.len() != list.len() {
        return;
    }
    let why = |entry: &AddressMatch| match entry {
        AddressMatch::Address(address) => Some((format!("`{address}`"), no_match(address)?)),
        AddressMatch::Group(group) if at.directory.is_empty_group(group) => {
            Some((format!("the group `{group}`"), "it has no member".to_owned()))
        }
        AddressMatch::Group(_) | AddressMatch::Pattern(_) => None,
    };
    let found: Vec<(Place, String, String)> = list
        .iter()
        .zip(&written.items)
        .filter_map(|(entry, written)| why(entry).map(|(who, why)| (written.place, who, why)))
        .collect();
    let all = found.len() == list.len();
    let rule = &one.rule.description;
    for (place, who, why) in found {
        let (id, message) = match all {
            true => {
                ("rule-never-matches", format!("the rule `{rule}` never matches: {who}: {why}"))
            }
            false => ("entry-never-matches", format!("in the rule `{rule}`, {who}: {why}")),
        };
        let cure =
            "correct the entry, or the rule's `affects`, `accounts` or `org_unit`, or remove it";
        report.push(Diagnostic::warning(id, place, "C5", message, cure));
        if all {
            break;
        }
    }
}

/// A rule that a unit switches off, and that is off anyway (C8).
fn switched_off_twice(at: &Linted<'_>, report: &mut Report) {
    for unit in &at.raw.org_unit {
        let Some(path) = &unit.path else { continue };
        for name in &unit.disabled_rules {
            let mut same = at
                .raw
                .rule
                .iter()
                .filter(|rule| {
                    let named = rule.description.as_ref().is_some_and(|it| it.value == name.value);
                    named && path.is_at_or_below(&rule.org_unit)
                })
                .peekable();
            if same.peek().is_some() && same.all(|rule| rule.mode.value == Mode::Off) {
                report.push(Diagnostic::warning(
                    "disabled-rule-is-off",
                    name.place,
                    "C8",
                    format!(
                        "{} switches off the rule `{}`, which has `mode = \"off\"`",
                        path.value,
                        name.as_str()
                    ),
                    "remove the name here, or the mode there",
                ));
            }
        }
    }
}
