//! `[[organization.rule]]` and `[[organization.org_unit]]`.

use std::collections::HashMap;

use waypost_rules::{
    AccountKind, AccountKinds, Action, AddressMatch, Direction, Directions, EnvelopeFilter, Mode,
    Pattern, Rule, RuleSet, SwitchedOff,
};
use waypost_types::{Mailbox, OrgUnit};

use super::routes::Routes;
use super::{Unique, known_names, modification};
use crate::diagnostics::{Diagnostic, Place, Report, Spanned};
use crate::directory::StaticDirectory;
use crate::raw::{self, List, RawMatcher, RawOrganization, RawRule, RawThen};

/// What a rule names must exist here.
pub(super) struct Named<'a> {
    pub(super) routes: &'a Routes,
    pub(super) directory: &'a StaticDirectory,
    groups: Vec<&'a str>,
}

pub(super) fn build(
    raw: &RawOrganization,
    routes: &Routes,
    directory: &StaticDirectory,
    report: &mut Report,
) -> RuleSet {
    let groups: Vec<String> = directory.group_addresses().map(Mailbox::to_string).collect();
    let groups = groups.iter().map(String::as_str).collect();
    let named = Named { routes, directory, groups };
    let mut descriptions: HashMap<OrgUnit, Unique> = HashMap::new();
    let mut rules = Vec::new();
    for rule in &raw.rule {
        if let Some(description) = &rule.description {
            descriptions
                .entry(rule.org_unit.value.clone())
                .or_insert_with(|| Unique::new("rule", "C1"))
                .claim(
                    description.as_str().to_owned(),
                    description.as_str(),
                    description.place,
                    report,
                );
        }
        rules.extend(build_rule(rule, &named, report));
    }
    RuleSet::compile(rules, switched_off(raw, report))
}

fn build_rule(raw: &Spanned<RawRule>, named: &Named<'_>, report: &mut Report) -> Option<Rule> {
    let affects = affects(raw, report);
    let accounts = accounts(raw, affects, report);
    let envelope = match &raw.envelope {
        None => EnvelopeFilter::default(),
        Some(filter) => EnvelopeFilter {
            senders: matchers(&filter.senders, named, report),
            recipients: matchers(&filter.recipients, named, report),
        },
    };
    let action = action(raw, named, report);
    Some(Rule {
        description: raw.description.as_ref()?.as_str().into(),
        org_unit: raw.org_unit.value.clone(),
        affects,
        accounts,
        envelope,
        mode: match raw.mode.value {
            raw::Mode::Enforce => Mode::Enforce,
            raw::Mode::Observe => Mode::Observe,
            raw::Mode::Off => Mode::Off,
        },
        stop: raw.stop.value,
        action: action?,
    })
}

fn affects(raw: &Spanned<RawRule>, report: &mut Report) -> Directions {
    if raw.affects.is_unset() {
        report.push(Diagnostic::error(
            "no-direction",
            raw.affects.place,
            "C2",
            "the rule affects no mail",
            "write `affects = [\"inbound\"]`; the directions are `inbound`, `outbound`, \
             `internal-sending`, `internal-receiving`",
        ));
    }
    let direction = |affects: &Spanned<raw::Affects>| match affects.value {
        raw::Affects::Inbound => Direction::Inbound,
        raw::Affects::Outbound => Direction::Outbound,
        raw::Affects::InternalSending => Direction::InternalSending,
        raw::Affects::InternalReceiving => Direction::InternalReceiving,
    };
    raw.affects.iter().map(direction).collect()
}

fn accounts(raw: &Spanned<RawRule>, affects: Directions, report: &mut Report) -> AccountKinds {
    let kinds: AccountKinds = raw
        .accounts
        .iter()
        .map(|kind| match kind.value {
            raw::AccountKind::Users => AccountKind::User,
            raw::AccountKind::Groups => AccountKind::Group,
            raw::AccountKind::Unrecognized => AccountKind::Unrecognized,
        })
        .collect();
    if raw.accounts.is_written_empty() {
        report.push(Diagnostic::error(
            "no-account",
            raw.accounts.place,
            "C4",
            "the rule affects no kind of account",
            "write at least one of `users`, `groups`, `unrecognized`, or remove the key",
        ));
    }
    let all_outgoing = !affects.is_empty() && affects.is_outgoing_only();
    let then = raw.then.as_ref().and_then(|then| then.modify.as_ref());
    let routes_outbound =
        affects.contains(Direction::Outbound) && then.is_some_and(|modify| modify.route.is_some());
    if raw.accounts.is_unset() {
        if routes_outbound && !all_outgoing {
            report.push(Diagnostic::warning(
                "senders-left-out",
                raw.affects.place,
                "B2",
                "outbound mail of groups and unrecognized senders passes this rule by: a rule that \
                 affects incoming mail too affects users alone",
                "give outbound mail a rule of its own, or write `accounts = [\"users\", \"groups\", \
                 \"unrecognized\"]`",
            ));
        }
        return if all_outgoing { AccountKinds::ALL } else { AccountKinds::USERS };
    }
    let left_out: Vec<_> = [
        (AccountKind::User, "users"),
        (AccountKind::Group, "groups"),
        (AccountKind::Unrecognized, "unrecognized"),
    ]
    .into_iter()
    .filter(|(kind, _)| !kinds.contains(*kind))
    .map(|(_, word)| word)
    .collect();
    let complete = raw.accounts.written == Some(raw.accounts.items.len());
    if (all_outgoing || routes_outbound) && complete && !left_out.is_empty() {
        report.push(Diagnostic::warning(
            "senders-left-out",
            raw.accounts.place,
            "B2",
            format!("mail of some senders passes this rule by: {}", crate::raw::listed(&left_out)),
            "remove `accounts`, and the rule affects all three kinds; an empty envelope sender is \
             `unrecognized`",
        ));
    }
    kinds
}

fn matchers(list: &List<RawMatcher>, named: &Named<'_>, report: &mut Report) -> Vec<AddressMatch> {
    list.iter().filter_map(|raw| matcher(raw, named, report)).collect()
}

fn matcher(
    raw: &Spanned<RawMatcher>,
    named: &Named<'_>,
    report: &mut Report,
) -> Option<AddressMatch> {
    match (&raw.address, &raw.pattern, &raw.group) {
        (Some(address), None, None) => Some(AddressMatch::Address(address.value.clone())),
        (None, Some(pattern), None) => match Pattern::new(pattern.as_str()) {
            Ok(compiled) => Some(AddressMatch::Pattern(compiled)),
            Err(error) => {
                report.push(Diagnostic::error(
                    "wrong-value",
                    pattern.place,
                    "C5",
                    error.to_string(),
                    "correct it, or make it smaller",
                ));
                None
            }
        },
        (None, None, Some(group)) => {
            if !named.directory.is_group(group) {
                report.push(Diagnostic::error(
                    "unknown-group",
                    group.place,
                    "C5",
                    format!("there is no group `{}` in this organization", **group),
                    known_names(&group.to_string(), &named.groups),
                ));
            }
            Some(AddressMatch::Group(group.value.clone()))
        }
        (None, None, None) if !raw.complete => None,
        _ => {
            report.push(Diagnostic::error(
                "one-of-three",
                raw.place,
                "C5",
                "an entry of a filter is an address, a pattern or a group",
                "write exactly one of `address`, `pattern` and `group`; several entries are or-ed",
            ));
            None
        }
    }
}

fn action(raw: &Spanned<RawRule>, named: &Named<'_>, report: &mut Report) -> Option<Action> {
    let then = raw.then.as_ref()?;
    one_of_three(then, report)?;
    if let Some(reject) = &then.reject {
        if reject.as_str().trim().is_empty() {
            report.push(Diagnostic::error(
                "empty-text",
                reject.place,
                "C6",
                "the text of the refusal is empty",
                "tell the sender why, and whom to ask",
            ));
        }
        return Some(Action::Reject { text: reject.as_str().into() });
    }
    if let Some(name) = &then.quarantine {
        return Some(Action::Quarantine { name: name.as_str().into() });
    }
    let modify = then.modify.as_ref()?;
    Some(Action::Modify(Box::new(modification::build(modify, raw, named, report))))
}

fn one_of_three(then: &Spanned<RawThen>, report: &mut Report) -> Option<()> {
    let places: Vec<Place> = [
        then.reject.as_ref().map(|found| found.place),
        then.quarantine.as_ref().map(|found| found.place),
        then.modify.as_ref().map(|found| found.place),
    ]
    .into_iter()
    .flatten()
    .collect();
    let (place, message) = match places.as_slice() {
        [_] => return Some(()),
        [] if !then.complete => return None,
        [] => (then.place, "the rule does nothing"),
        [_, second, ..] => (*second, "the rule does several things at once"),
    };
    report.push(Diagnostic::error(
        "one-action",
        place,
        "C6",
        message,
        "write exactly one of `reject = \"text\"`, `quarantine = \"name\"` and `modify = { … }`",
    ));
    None
}

/// The rules that units switch off; each must be one of a unit above (C8).
fn switched_off(raw: &RawOrganization, report: &mut Report) -> Vec<SwitchedOff> {
    let mut off = Vec::new();
    for unit in &raw.org_unit {
        let Some(path) = &unit.path else { continue };
        for name in &unit.disabled_rules {
            let rules = raw.rule.iter().filter_map(|rule| {
                let description = rule.description.as_ref()?;
                Some((description.as_str(), &rule.org_unit.value))
            });
            let same: Vec<_> = rules.clone().filter(|(found, _)| *found == name.as_str()).collect();
            let inherited = |at: &OrgUnit| *at != path.value && path.is_at_or_below(at);
            if same.iter().any(|(_, at)| inherited(at)) {
                off.push(SwitchedOff { org_unit: path.value.clone(), rule: name.as_str().into() });
                continue;
            }
            let cure = match same.first() {
                Some(_) => {
                    "only rules of units above can be switched off; in the rule's own unit, \
                            write `mode = \"off\"` into it"
                        .into()
                }
                None => {
                    let known: Vec<_> =
                        rules.filter(|(_, at)| inherited(at)).map(|(found, _)| found).collect();
                    known_names(name.as_str(), &known)
                }
            };
            report.push(Diagnostic::error(
                "unknown-rule",
                name.place,
                "C8",
                format!("{} inherits no rule `{}`", path.value, name.as_str()),
                cure,
            ));
        }
    }
    off
}
