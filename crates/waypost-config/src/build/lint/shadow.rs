//! Rules that others keep from ever acting, and parts of them that always lose.

use std::collections::{HashMap, HashSet};

use waypost_rules::{AccountKind, Action, AddressMatch, Mode, Rule};
use waypost_types::{Directory as _, OrgUnit};

use super::{Linted, WrittenRule};
use crate::diagnostics::{Diagnostic, Place, Report};

/// How many rules of a kind are looked at for one that may be shadowed: with more, what is said is
/// true, and something may be left unsaid.
pub(super) const MOST: usize = 16;

pub(super) fn lint(at: &Linted<'_>, report: &mut Report) {
    let off: HashSet<&str> = at
        .raw
        .org_unit
        .iter()
        .flat_map(|unit| &unit.disabled_rules)
        .map(|one| one.as_str())
        .collect();
    // What some unit switches off does not always stand before another one.
    let stands = |one: &WrittenRule<'_>| {
        one.rule.mode == Mode::Enforce && !off.contains(&*one.rule.description)
    };
    let mut before: HashMap<&OrgUnit, Index<'_>> = HashMap::new();
    let mut untold = Vec::new();
    for one in &at.rules {
        let unit = before.entry(&one.rule.org_unit).or_default();
        if !by_earlier(at, unit, one, report) {
            untold.push(*one);
        }
        if stands(one) {
            unit.add(*one);
        }
    }
    if at.rules.iter().any(|one| one.rule.stop) {
        // A walk that stops may never come to the rule that rejects.
        return;
    }
    let mut rejecting: HashMap<&OrgUnit, Index<'_>> = HashMap::new();
    for one in at.rules.iter().filter(|one| is_reject(one.rule) && stands(one)) {
        rejecting.entry(&one.rule.org_unit).or_default().add(*one);
    }
    if rejecting.is_empty() {
        return;
    }
    for one in untold {
        let acts = one.rule.mode == Mode::Enforce && !is_reject(one.rule);
        let units = one.rule.org_unit.lineage();
        let candidates = units
            .filter_map(|unit| rejecting.get(&unit))
            .flat_map(|index| index.candidates(one.rule));
        let mut candidates = candidates.filter(|_| acts);
        if let Some(by) = candidates.find(|by| covers(at, by.rule, one.rule)) {
            shadowed(&one, by, report);
        }
    }
}

/// What the rules before one in its unit leave of it; `true`: it was told of.
fn by_earlier(
    at: &Linted<'_>,
    before: &Index<'_>,
    one: &WrittenRule<'_>,
    report: &mut Report,
) -> bool {
    let covering: Vec<_> =
        before.candidates(one.rule).filter(|by| covers(at, by.rule, one.rule)).collect();
    let ends = |by: &&&WrittenRule<'_>| {
        by.rule.stop || (is_reject(by.rule) && one.rule.mode == Mode::Enforce)
    };
    if let Some(by) = covering.iter().find(ends) {
        shadowed(one, by, report);
        return true;
    }
    let Some(own) = one.modification().filter(|_| one.rule.mode == Mode::Enforce) else {
        return false;
    };
    let Some(raw) = one.raw.then.as_ref().and_then(|then| then.modify.as_ref()) else {
        return false;
    };
    let part = |what: &str, place: Option<Place>, by: &WrittenRule<'_>, report: &mut Report| {
        report.push(Diagnostic::warning(
            "part-always-loses",
            place.unwrap_or(raw.place),
            "C8",
            format!(
                "the rule `{}` matches whenever `{}` does, stands before it and sets {what} too, so \
                 this is never used",
                by.rule.description, one.rule.description
            ),
            "put the narrower rule first, or remove this",
        ));
    };
    let sets = |what: fn(&waypost_rules::Modification) -> bool| {
        covering.iter().find(move |by| by.modification().is_some_and(what))
    };
    // The same value twice makes no difference.
    if own.route.is_some()
        && let Some(by) = sets(|changes| changes.route.is_some())
        && by.modification().is_some_and(|changes| changes.route != own.route)
    {
        part("the route", raw.route.as_ref().map(|route| route.place), by, report);
    }
    if own.replace_recipient.is_some()
        && let Some(by) = sets(|changes| changes.replace_recipient.is_some())
        && by.modification().is_some_and(|it| it.replace_recipient != own.replace_recipient)
    {
        let place = raw.replace_recipient.as_ref().map(|change| change.place);
        part("the recipient", place, by, report);
    }
    false
}

fn shadowed(one: &WrittenRule<'_>, by: &WrittenRule<'_>, report: &mut Report) {
    let (rule, other) = (&one.rule.description, &by.rule.description);
    let at = report.locate(by.place());
    let what = match &by.rule.action {
        Action::Reject { .. } => "rejects whatever this one matches",
        _ => "matches whatever this one does, stands before it, and stops",
    };
    report.push(Diagnostic::warning(
        "shadowed-rule",
        one.place(),
        "C8",
        format!("the rule `{rule}` never acts: `{other}` ({at}) {what}"),
        "put the narrower rule first, make the other one narrower, or remove one",
    ));
}

fn is_reject(rule: &Rule) -> bool {
    matches!(rule.action, Action::Reject { .. })
}

/// Whether a rule matches whenever another one of its unit or below does.
fn covers(at: &Linted<'_>, wide: &Rule, narrow: &Rule) -> bool {
    let list = |wide: &[AddressMatch], narrow: &[AddressMatch]| {
        let covered = |entry| wide.iter().any(|other| covers_entry(at, other, entry));
        wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(covered))
    };
    narrow.affects.iter().all(|direction| wide.affects.contains(direction))
        && AccountKind::ALL
            .into_iter()
            .all(|kind| wide.accounts.contains(kind) || !narrow.accounts.contains(kind))
        && list(&wide.envelope.senders, &narrow.envelope.senders)
        && list(&wide.envelope.recipients, &narrow.envelope.recipients)
}

fn covers_entry(at: &Linted<'_>, wide: &AddressMatch, narrow: &AddressMatch) -> bool {
    match (wide, narrow) {
        (AddressMatch::Address(wide), AddressMatch::Address(narrow)) => wide == narrow,
        (AddressMatch::Group(wide), AddressMatch::Group(narrow)) => wide == narrow,
        (AddressMatch::Pattern(wide), AddressMatch::Pattern(narrow)) => {
            wide.as_str() == narrow.as_str()
        }
        (AddressMatch::Pattern(wide), AddressMatch::Address(narrow)) => {
            at.matcher.is_match(wide, &narrow.to_string())
        }
        (AddressMatch::Group(wide), AddressMatch::Address(narrow)) => {
            at.directory.is_member(narrow, wide).unwrap_or(false)
        }
        _ => false,
    }
}

/// The rules of a unit that may cover another one, by what their filters hold.
#[derive(Default)]
struct Index<'a> {
    /// No filter.
    open: Vec<WrittenRule<'a>>,
    /// A pattern or a group, which may hold addresses.
    broad: Vec<WrittenRule<'a>>,
    /// By each entry of the senders, else of the recipients.
    by_entry: HashMap<(bool, String), Vec<WrittenRule<'a>>>,
}

impl<'a> Index<'a> {
    fn add(&mut self, one: WrittenRule<'a>) {
        let envelope = &one.rule.envelope;
        let by_sender = !envelope.senders.is_empty();
        let keyed = if by_sender { &envelope.senders } else { &envelope.recipients };
        if keyed.is_empty() {
            self.open.push(one);
            return;
        }
        let is_broad = |entry: &AddressMatch| !matches!(entry, AddressMatch::Address(_));
        if keyed.iter().any(is_broad) {
            self.broad.push(one);
        }
        for entry in keyed {
            self.by_entry.entry((by_sender, key(entry))).or_default().push(one);
        }
    }

    /// Those that may cover a rule, in file order within each kind; [`MOST`] of a kind.
    fn candidates(&self, rule: &Rule) -> impl Iterator<Item = &WrittenRule<'a>> {
        let first = |by_sender: bool, entries: &[AddressMatch]| {
            let found =
                entries.first().and_then(|entry| self.by_entry.get(&(by_sender, key(entry))));
            found.map_or(&[][..], Vec::as_slice).iter().take(MOST)
        };
        let open = self.open.iter().take(MOST);
        let broad = self.broad.iter().take(MOST);
        open.chain(first(true, &rule.envelope.senders))
            .chain(first(false, &rule.envelope.recipients))
            .chain(broad)
    }
}

fn key(entry: &AddressMatch) -> String {
    match entry {
        AddressMatch::Address(address) => format!("a{address}").to_lowercase(),
        AddressMatch::Group(group) => format!("g{group}").to_lowercase(),
        AddressMatch::Pattern(pattern) => format!("p{}", pattern.as_str()),
    }
}
