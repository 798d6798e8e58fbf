//! An organization's rules, compiled, and the walk over them.

use smallvec::SmallVec;
use waypost_types::{Directory, Mailbox, ReversePath, Unavailable};

use crate::conditions::{Conditions, Draft, Held, List};
use crate::lists::{Lists, ListsBuilder};
use crate::report::stops;
use crate::texts::short;
use crate::units::Units;
use crate::{
    AccountKind, AccountKinds, AddressMatch, Direction, Directions, Mode, Rule, Subject,
    SwitchedOff,
};

/// What a walk asks: one direction, one account, one envelope.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The direction looked at.
    pub direction: Direction,
    /// The account that it is about: recipient's or sender's, by the direction.
    pub subject: Subject,
    /// The envelope sender.
    pub sender: &'a ReversePath,
    /// The recipient as it came in RCPT.
    pub recipient: &'a Mailbox,
}

/// What a walk found.
#[derive(Clone, Debug, Default)]
pub struct Walk<'r> {
    /// The rules that match and act, in order: the subject's unit first, then those above it.
    pub matched: Vec<&'r Rule>,
    /// The rules that match and are only observed (O6).
    pub observed: Vec<&'r Rule>,
}

/// The rules of an organization, compiled (C8).
///
/// A rule with an envelope filter is found by one of its lists, the one that fewer addresses match: from
/// the address to the conditions that it fulfils, and from each condition to the rules that wait for
/// it. A rule without a filter is found by its unit, the direction and the kind of account. So a walk
/// costs by the rules that match, not by those there are.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    pub(crate) rules: Vec<Rule>,
    pub(crate) units: Units,
    /// For each rule number the rule's place in the file.
    order: Box<[u32]>,
    /// For each rule number what is still to be asked when the rule is found.
    checks: Box<[Check]>,
    /// For each unit what its rules ask.
    asks: Box<[Asks]>,
    /// Rules without a filter, by unit and [`cell`].
    unfiltered: Lists,
    senders: Filtered,
    recipients: Filtered,
}

/// The rules with one of the two lists.
#[derive(Clone, Debug, Default)]
struct Filtered {
    conditions: Conditions,
    /// For each condition the rules that are found by it, in ascending order.
    waiting: Lists,
    /// The lists of rules that are found by their other one.
    rest: Lists,
}

/// What is still to be asked of a rule that was found.
#[derive(Clone, Copy, Debug)]
struct Check {
    affects: Directions,
    accounts: AccountKinds,
    rest: Rest,
}

/// The list that a rule was not found by, by its place in [`Filtered::rest`].
#[derive(Clone, Copy, Debug)]
enum Rest {
    None,
    Senders(u32),
    Recipients(u32),
}

/// For which [`cell`]s a unit's rules ask: a bit each.
#[derive(Clone, Copy, Debug, Default)]
struct Asks {
    senders: u16,
    recipients: u16,
    groups_of_sender: u16,
    groups_of_recipient: u16,
}

/// Directions and kinds of account, crossed.
const CELLS: u32 = 12;

fn cell(direction: Direction, kind: AccountKind) -> u32 {
    u32::from(direction.place()) * 3 + u32::from(kind.place())
}

fn cells(rule: &Rule) -> impl Iterator<Item = u32> + '_ {
    let kinds = |direction| {
        let kinds = AccountKind::ALL.into_iter().filter(|kind| rule.accounts.contains(*kind));
        kinds.map(move |kind| cell(direction, kind))
    };
    rule.affects.iter().flat_map(kinds)
}

/// Numbers of rules that match: few, most of the time.
type Found = SmallVec<[u32; 16]>;

impl RuleSet {
    /// Compiles rules, given in file order. Time and memory are linear in their size.
    #[must_use]
    pub fn compile(mut rules: Vec<Rule>, switched_off: Vec<SwitchedOff>) -> Self {
        rules.shrink_to_fit();
        for rule in &mut rules {
            rule.envelope.senders.shrink_to_fit();
            rule.envelope.recipients.shrink_to_fit();
        }
        let (units, order) = Units::new(&rules, &switched_off);
        let mut by_senders = ByList::new(&rules, List::Senders);
        let mut by_recipients = ByList::new(&rules, List::Recipients);
        let acting = || {
            let numbered = (0..).zip(&order);
            let rules = numbered
                .filter_map(|(number, place)| Some((number, *place, rules.get(*place as usize)?)));
            rules.filter(|(_, _, rule)| rule.mode != Mode::Off)
        };
        let mut asks = vec![Asks::default(); units.count()];
        let mut unfiltered = Vec::new();
        for (number, place, rule) in acting() {
            by_senders.add(number, place);
            by_recipients.add(number, place);
            let unit = units.unit_of(number);
            let bits = cells(rule).fold(0_u16, |bits, cell| bits | 1 << cell);
            if let Some(asks) = asks.get_mut(unit as usize) {
                asks.add(rule, bits);
            }
            if rule.envelope.senders.is_empty() && rule.envelope.recipients.is_empty() {
                unfiltered.extend(cells(rule).map(|cell| (unit * CELLS + cell, number)));
            }
        }
        let cells = units.count() * CELLS as usize;
        let unfiltered = Lists::by_place(cells, unfiltered.iter().copied());
        let mut checks: Vec<Check> = order
            .iter()
            .filter_map(|place| rules.get(*place as usize))
            .map(|rule| Check { affects: rule.affects, accounts: rule.accounts, rest: Rest::None })
            .collect();
        for (number, _, _) in acting() {
            let rest = match (by_senders.cost(number), by_recipients.cost(number)) {
                (None, None) => continue,
                (Some(_), None) => {
                    by_senders.wait(number);
                    Rest::None
                }
                (None, Some(_)) => {
                    by_recipients.wait(number);
                    Rest::None
                }
                // Recipients are more alike than senders.
                (Some(senders), Some(recipients)) if senders <= recipients => {
                    by_senders.wait(number);
                    Rest::Recipients(by_recipients.leave(number))
                }
                (Some(_), Some(_)) => {
                    by_recipients.wait(number);
                    Rest::Senders(by_senders.leave(number))
                }
            };
            if let Some(check) = checks.get_mut(number as usize) {
                check.rest = rest;
            }
        }
        let (senders, recipients) = (by_senders.finish(), by_recipients.finish());
        let (checks, asks) = (checks.into(), asks.into());
        Self { rules, units, order, checks, asks, unfiltered, senders, recipients }
    }

    /// The rules, in file order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Finds the rules that match, of the subject's unit and those above it, in that order, up to the first
    /// that says `stop`.
    ///
    /// Cost is that of the conditions that sender and recipient fulfil and of the rules that wait for
    /// them. Where nothing matches, nothing is allocated.
    ///
    /// # Errors
    /// [`Unavailable`] when a group look-up cannot be answered; the message is then to be deferred.
    pub fn walk<'r>(
        &'r self,
        question: &Question<'_>,
        directory: &dyn Directory,
    ) -> Result<Walk<'r>, Unavailable> {
        let (_, matching) = self.matching_asked(question, directory)?;
        Ok(self.walk_of(&matching))
    }

    pub(crate) fn walk_of(&self, matching: &[u32]) -> Walk<'_> {
        let mut walk = Walk::default();
        for number in matching {
            match self.rule(*number) {
                Some(rule) if rule.mode == Mode::Observe => walk.observed.push(rule),
                Some(rule) => walk.matched.push(rule),
                None => {}
            }
        }
        walk
    }

    pub(crate) fn rule(&self, number: u32) -> Option<&Rule> {
        self.rules.get(*self.order.get(number as usize)? as usize)
    }

    /// What sender and recipient fulfil, and the numbers of the rules that match, acting or observed, in
    /// order.
    pub(crate) fn matching_asked<'a>(
        &'a self,
        question: &'a Question<'a>,
        directory: &'a dyn Directory,
    ) -> Result<(Asked<'a>, Found), Unavailable> {
        let units = self.units.holding_for(&question.subject.org_unit);
        if let Ok(asked) = self.asked(question, units, directory, Groups::Listed) {
            let found = self.found(&asked);
            return Ok((asked, found));
        }
        // Whether a group is really asked for is known only by looking at rule after rule.
        let asked = self.asked(question, units, directory, Groups::Late)?;
        let found = self.looked_at(&asked)?;
        Ok((asked, found))
    }

    /// Finds out also what no rule for this direction and account asks, for those that are told of.
    pub(crate) fn hold_all<'a>(&'a self, asked: &mut Asked<'a>) {
        let directory = (asked.groups == Groups::Listed).then_some(asked.directory);
        let hold = |held: &mut Option<Held<'a>>, filtered: &Filtered, address| {
            if held.as_ref().is_none_or(|held| !held.with_groups && directory.is_some()) {
                let all = filtered.conditions.held(&self.rules, address, directory);
                let all = all.or_else(|_| filtered.conditions.held(&self.rules, address, None));
                *held = all.ok();
            }
        };
        hold(&mut asked.sender, &self.senders, asked.question.sender.mailbox());
        hold(&mut asked.recipient, &self.recipients, Some(asked.question.recipient));
    }

    /// Rules that sender or recipient fulfil an entry of, at most about so many that do not match.
    pub(crate) fn near_misses(
        &self,
        asked: &Asked<'_>,
        stopped: Option<u32>,
        most: usize,
        near: &mut Vec<u32>,
    ) {
        for (filtered, held) in
            [(&self.senders, &asked.sender), (&self.recipients, &asked.recipient)]
        {
            for condition in held.iter().flat_map(|held| &held.conditions) {
                let waiting = filtered.waiting.of(*condition);
                for unit in asked.units {
                    let rules = self.units.rules_of(*unit);
                    let from = waiting.partition_point(|number| *number < rules.start);
                    let of_unit = waiting.iter().copied().skip(from);
                    let of_unit = of_unit.take_while(|number| {
                        rules.contains(number) && stopped.is_none_or(|last| *number < last)
                    });
                    let misses = of_unit.filter(|number| !self.is_match(*number, asked));
                    near.extend(misses.take(most.saturating_sub(near.len())));
                }
            }
        }
    }

    /// What sender and recipient fulfil, as far as the rules of these units ask.
    fn asked<'a>(
        &'a self,
        question: &'a Question<'a>,
        units: &'a [u32],
        directory: &'a dyn Directory,
        groups: Groups,
    ) -> Result<Asked<'a>, Unavailable> {
        let Question { direction, subject, .. } = question;
        let cell = cell(*direction, subject.kind);
        let asks = units
            .iter()
            .filter_map(|unit| self.asks.get(*unit as usize))
            .fold(Asks::default(), |all, one| all.with(*one));
        let has = |bits: u16| bits & 1 << cell != 0;
        let wanted = |bits: u16| (groups == Groups::Listed && has(bits)).then_some(directory);
        let held = |filtered: &Filtered, address: Option<&'a Mailbox>, asks: u16, groups: u16| {
            let held = || filtered.conditions.held(&self.rules, address, wanted(groups));
            has(asks).then(held).transpose()
        };
        let sender = question.sender.mailbox();
        Ok(Asked {
            question,
            units,
            directory,
            groups,
            cell,
            sender: held(&self.senders, sender, asks.senders, asks.groups_of_sender)?,
            recipient: held(
                &self.recipients,
                Some(question.recipient),
                asks.recipients,
                asks.groups_of_recipient,
            )?,
        })
    }

    /// The rules that match, found by what is fulfilled.
    fn found(&self, asked: &Asked<'_>) -> Found {
        let mut found = Found::new();
        for unit in asked.units {
            found.extend_from_slice(self.unfiltered.of(unit * CELLS + asked.cell));
        }
        for (filtered, held) in
            [(&self.senders, &asked.sender), (&self.recipients, &asked.recipient)]
        {
            for condition in held.iter().flat_map(|held| &held.conditions) {
                self.wake(filtered.waiting.of(*condition), asked, &mut found);
            }
        }
        found.sort_unstable();
        found.dedup();
        found.retain(|number| self.units.who_switches_off(*number, asked.units).is_none());
        let stops = |number: &u32| self.rule(*number).is_some_and(stops);
        if let Some(last) = found.iter().position(stops) {
            found.truncate(last + 1);
        }
        found
    }

    /// Of the rules that wait for a condition, those of the units that hold and that match.
    fn wake(&self, waiting: &[u32], asked: &Asked<'_>, found: &mut Found) {
        const FEW: usize = 16;
        let matches = |number: &u32| self.is_match(*number, asked);
        if waiting.len() <= FEW {
            let holds = |number: &u32| {
                asked.units.iter().any(|unit| self.units.rules_of(*unit).contains(number))
            };
            found.extend(waiting.iter().copied().filter(|number| holds(number) && matches(number)));
            return;
        }
        for unit in asked.units {
            let rules = self.units.rules_of(*unit);
            let from = waiting.partition_point(|number| *number < rules.start);
            let of_unit = waiting.iter().skip(from).take_while(|number| rules.contains(number));
            found.extend(of_unit.copied().filter(matches));
        }
    }

    /// Whether a rule that was found by one of its lists matches.
    fn is_match(&self, number: u32, asked: &Asked<'_>) -> bool {
        let Question { direction, subject, .. } = asked.question;
        let Some(check) = self.checks.get(number as usize) else { return false };
        let rest = |filtered: &Filtered, rest: u32, held: &Option<Held<'_>>| {
            let list = filtered.rest.of(rest);
            held.as_ref().is_some_and(|held| filtered.conditions.any_held(&self.rules, list, held))
        };
        check.affects.contains(*direction)
            && check.accounts.contains(subject.kind)
            && match check.rest {
                Rest::None => true,
                Rest::Senders(list) => rest(&self.senders, list, &asked.sender),
                Rest::Recipients(list) => rest(&self.recipients, list, &asked.recipient),
            }
    }

    /// Whether one of a list's entries is fulfilled; groups are asked for now where they were not listed.
    pub(crate) fn is_listed(
        &self,
        number: u32,
        rule: &Rule,
        list: List,
        asked: &Asked<'_>,
    ) -> Result<bool, Unavailable> {
        let Some(check) = self.checks.get(number as usize) else { return Ok(false) };
        let entries = list.of(rule);
        if entries.is_empty() {
            return Ok(true);
        }
        let (filtered, held) = match list {
            List::Senders => (&self.senders, &asked.sender),
            List::Recipients => (&self.recipients, &asked.recipient),
        };
        let Some(held) = held else { return Ok(false) };
        let is_held = match (list, check.rest) {
            (List::Senders, Rest::Senders(rest)) | (List::Recipients, Rest::Recipients(rest)) => {
                filtered.conditions.any_held(&self.rules, filtered.rest.of(rest), held)
            }
            _ => {
                let waits = |one: &u32| filtered.waiting.of(*one).binary_search(&number).is_ok();
                held.conditions.iter().any(waits)
            }
        };
        if is_held || asked.groups == Groups::Listed {
            return Ok(is_held);
        }
        let Some(address) = held.address else { return Ok(false) };
        for entry in entries {
            if let AddressMatch::Group(group) = entry
                && asked.directory.is_member(address, group)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// How groups are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Groups {
    /// Those of an address are listed at once.
    Listed,
    /// Each is asked for when a rule needs it.
    Late,
}

/// A question, with what is fulfilled.
pub(crate) struct Asked<'a> {
    pub(crate) question: &'a Question<'a>,
    /// The units that hold, nearest first.
    pub(crate) units: &'a [u32],
    directory: &'a dyn Directory,
    groups: Groups,
    cell: u32,
    /// What the sender fulfils; `None`: no rule asks.
    sender: Option<Held<'a>>,
    recipient: Option<Held<'a>>,
}

impl Asks {
    fn add(&mut self, rule: &Rule, cells: u16) {
        let has_groups = |entries: &[AddressMatch]| {
            entries.iter().any(|entry| matches!(entry, AddressMatch::Group(_)))
        };
        let bits = |set: bool| if set { cells } else { 0 };
        let (senders, recipients) = (&rule.envelope.senders, &rule.envelope.recipients);
        self.senders |= bits(!senders.is_empty());
        self.recipients |= bits(!recipients.is_empty());
        self.groups_of_sender |= bits(has_groups(senders));
        self.groups_of_recipient |= bits(has_groups(recipients));
    }

    fn with(self, other: Self) -> Self {
        Self {
            senders: self.senders | other.senders,
            recipients: self.recipients | other.recipients,
            groups_of_sender: self.groups_of_sender | other.groups_of_sender,
            groups_of_recipient: self.groups_of_recipient | other.groups_of_recipient,
        }
    }
}

/// One of the two lists of all rules, while it is decided which rules are found by it.
struct ByList<'r> {
    draft: Draft<'r>,
    /// For each rule number the conditions of its list.
    lists: Vec<SmallVec<[u32; 4]>>,
    /// The rules that are found by it.
    waiting: Vec<u32>,
    /// The rules that are found by their other list.
    rest: Vec<u32>,
}

impl<'r> ByList<'r> {
    fn new(rules: &'r [Rule], list: List) -> Self {
        let lists = vec![SmallVec::new(); rules.len()];
        Self { draft: Draft::new(rules, list), lists, waiting: Vec::new(), rest: Vec::new() }
    }

    fn add(&mut self, number: u32, place: u32) {
        if let Some(list) = self.lists.get_mut(number as usize) {
            *list = self.draft.add(place);
        }
    }

    fn list(&self, number: u32) -> &[u32] {
        self.lists.get(number as usize).map(SmallVec::as_slice).unwrap_or_default()
    }

    /// What it costs to find a rule by its list; `None` without a list.
    fn cost(&self, number: u32) -> Option<u64> {
        let list = self.list(number);
        (!list.is_empty()).then(|| self.draft.cost(list))
    }

    fn wait(&mut self, number: u32) {
        self.waiting.push(number);
    }

    fn leave(&mut self, number: u32) -> u32 {
        self.rest.push(number);
        short(self.rest.len() - 1)
    }

    fn finish(self) -> Filtered {
        let Self { draft, lists, waiting, rest } = self;
        let of = |number: &u32| lists.get(*number as usize).into_iter().flatten().copied();
        let mut finds = vec![false; draft.count()];
        for condition in waiting.iter().flat_map(of) {
            if let Some(finds) = finds.get_mut(condition as usize) {
                *finds = true;
            }
        }
        let (conditions, numbers) = draft.finish(&finds);
        let renumbered = |condition: u32| numbers.get(condition as usize).copied().unwrap_or(0);
        let pairs = waiting
            .iter()
            .flat_map(|number| of(number).map(|condition| (renumbered(condition), *number)));
        let waiting = Lists::by_place(numbers.len(), pairs);
        let mut left = ListsBuilder::default();
        for number in &rest {
            let mut list: SmallVec<[u32; 4]> = of(number).map(renumbered).collect();
            list.sort_unstable();
            left.push(list.into_iter());
        }
        Filtered { conditions, waiting, rest: left.finish() }
    }
}
