//! What is said of the rules that were looked at.

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;
use waypost_types::{Directory, Mailbox, OrgUnit, ReversePath, Unavailable};

use crate::conditions::List;
use crate::rule_set::Asked;
use crate::{
    AccountKind, AccountKinds, Direction, Directions, Mode, Question, Rule, RuleSet, Walk,
};

/// A rule that was looked at (C9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleReport {
    /// The rule's description.
    pub rule: Arc<str>,
    /// The first condition that failed; `None` when the rule matched.
    pub failed: Option<Failed>,
    /// How many conditions failed beside the first one: the fewer, the nearer the rule came to matching.
    /// What a rule that is off asks of addresses is not looked at, and counts as failed.
    pub also_failed: u8,
}

/// A condition of a rule that failed, with the value that it was held against (C9).
///
/// Its text is made only where somebody reads it: `no sender entry matches a@b.example`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failed {
    /// The rule is switched off in this unit (C8).
    SwitchedOff(OrgUnit),
    /// Its mode is off (O6).
    Mode,
    /// It does not affect the direction (C2).
    Direction {
        /// What it affects.
        affects: Directions,
        /// What the message has.
        seen: Direction,
    },
    /// It does not affect the kind of account (C4).
    Account {
        /// What it affects.
        accounts: AccountKinds,
        /// The kind seen.
        seen: AccountKind,
        /// It is the sender's account, not the recipient's.
        is_sender: bool,
        /// Whose account it is; `None`: the null sender's.
        address: Option<Mailbox>,
    },
    /// None of its entries for senders matches (C5).
    Senders(ReversePath),
    /// None of its entries for recipients matches (C5).
    Recipients(Mailbox),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::SwitchedOff(unit) => write!(f, "it is switched off in {unit}"),
            Failed::Mode => f.write_str("its mode is off"),
            Failed::Direction { affects, seen } => {
                write!(f, "it affects {affects}; this message is {seen}")
            }
            Failed::Account { accounts, seen, is_sender, address } => {
                let whose = if *is_sender { "sender" } else { "recipient" };
                write!(f, "it affects accounts of kind {accounts}; the {whose} ")?;
                match address {
                    Some(address) => write!(f, "{address}")?,
                    None => f.write_str("<>")?,
                }
                write!(f, " is of kind {}", seen.as_str())
            }
            Failed::Senders(ReversePath::Mailbox(sender)) => {
                write!(f, "no sender entry matches {sender}")
            }
            Failed::Senders(ReversePath::Null) => f.write_str("no sender entry matches <>"),
            Failed::Recipients(recipient) => write!(f, "no recipient entry matches {recipient}"),
        }
    }
}

/// What is said of the rules that were looked at for one question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    /// A report a rule, in the order in which the rules were looked at.
    pub listed: Vec<RuleReport>,
    /// How many rules that did not match are left out.
    pub left_out: usize,
}

/// The conditions of a rule, in the order in which they are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Switch,
    Mode,
    Direction,
    Account,
    Senders,
    Recipients,
}

impl Condition {
    const ALL: [Condition; 6] = [
        Condition::Switch,
        Condition::Mode,
        Condition::Direction,
        Condition::Account,
        Condition::Senders,
        Condition::Recipients,
    ];
}

impl RuleSet {
    /// Says of the rules that a walk looks at, in order, which condition of each fails first: whether it is
    /// switched off, mode, direction, account, senders, recipients.
    ///
    /// Those that match are always told, others until there are `most` in all; `usize::MAX` tells all.
    /// Of the others those are preferred that are found by an entry that sender or recipient fulfil, then
    /// those looked at first. Costs by the rules that are told, not by those there are.
    ///
    /// # Errors
    /// [`Unavailable`] when a group look-up cannot be answered.
    pub fn reports(
        &self,
        question: &Question<'_>,
        directory: &dyn Directory,
        most: usize,
    ) -> Result<Reports, Unavailable> {
        self.walk_told(question, directory, most).map(|(_, reports)| reports)
    }

    /// A [`RuleSet::walk`] and its [`RuleSet::reports`], for the price of the one and of the rules told.
    ///
    /// # Errors
    /// [`Unavailable`] when a group look-up cannot be answered.
    pub fn walk_told<'r>(
        &'r self,
        question: &Question<'_>,
        directory: &dyn Directory,
        most: usize,
    ) -> Result<(Walk<'r>, Reports), Unavailable> {
        let (mut asked, matching) = self.matching_asked(question, directory)?;
        self.hold_all(&mut asked);
        let reports = self.told(&asked, &matching, most);
        Ok((self.walk_of(&matching), reports))
    }

    fn told(&self, asked: &Asked<'_>, matching: &[u32], most: usize) -> Reports {
        let stopped = matching.last().copied().filter(|last| self.rule(*last).is_some_and(stops));
        let ranges = asked.units.iter().map(|unit| {
            let rules = self.units.rules_of(*unit);
            let end = stopped.map_or(rules.end, |last| rules.end.min(last + 1));
            rules.start..end.max(rules.start)
        });
        let looked_at: usize = ranges.clone().map(|rules| rules.len()).sum();
        let others = looked_at.saturating_sub(matching.len());
        let room = most.saturating_sub(matching.len()).min(others);
        let mut told: Vec<u32> = Vec::with_capacity(matching.len() + room);
        if room < others {
            self.near_misses(asked, stopped, room, &mut told);
            told.retain(|number| matching.binary_search(number).is_err());
            told.sort_unstable();
            told.dedup();
        }
        let near = told.len();
        let is_near = |told: &[u32], number: &u32| {
            told.get(..near).is_some_and(|near| near.binary_search(number).is_ok())
        };
        for number in ranges.flatten() {
            if told.len() >= room {
                break;
            }
            if !is_near(&told, &number) && matching.binary_search(&number).is_err() {
                told.push(number);
            }
        }
        told.extend_from_slice(matching);
        told.sort_unstable();
        let left_out = looked_at.saturating_sub(told.len());
        let mut listed = Vec::with_capacity(told.len());
        for number in told {
            let Some(rule) = self.rule(number) else { break };
            let (failed, also_failed) = match matching.binary_search(&number) {
                Ok(_) => (None, 0),
                Err(_) => self.failures(number, rule, asked),
            };
            listed.push(RuleReport { rule: Arc::clone(&rule.description), failed, also_failed });
        }
        Reports { listed, left_out }
    }

    /// The first condition that fails, and how many more do. A directory that fails fulfils none.
    fn failures(&self, number: u32, rule: &Rule, asked: &Asked<'_>) -> (Option<Failed>, u8) {
        let fails = |condition: &Condition| {
            !self.is_fulfilled(*condition, number, rule, asked).unwrap_or(false)
        };
        let mut failing = Condition::ALL.into_iter().filter(fails);
        let first = failing.next().map(|condition| self.failed(condition, number, rule, asked));
        (first, failing.fold(0, |count, _| count + 1))
    }

    /// The rules that match, found by looking at each.
    pub(crate) fn looked_at(&self, asked: &Asked<'_>) -> Result<SmallVec<[u32; 16]>, Unavailable> {
        let mut found = SmallVec::new();
        for number in asked.units.iter().flat_map(|unit| self.units.rules_of(*unit)) {
            let Some(rule) = self.rule(number) else { break };
            if self.is_match_by_all(number, rule, asked)? {
                found.push(number);
                if stops(rule) {
                    break;
                }
            }
        }
        Ok(found)
    }

    fn is_match_by_all(
        &self,
        number: u32,
        rule: &Rule,
        asked: &Asked<'_>,
    ) -> Result<bool, Unavailable> {
        for condition in Condition::ALL {
            if !self.is_fulfilled(condition, number, rule, asked)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_fulfilled(
        &self,
        condition: Condition,
        number: u32,
        rule: &Rule,
        asked: &Asked<'_>,
    ) -> Result<bool, Unavailable> {
        let Question { direction, subject, .. } = asked.question;
        Ok(match condition {
            Condition::Switch => self.units.who_switches_off(number, asked.units).is_none(),
            Condition::Mode => rule.mode != Mode::Off,
            Condition::Direction => rule.affects.contains(*direction),
            Condition::Account => rule.accounts.contains(subject.kind),
            Condition::Senders => self.is_listed(number, rule, List::Senders, asked)?,
            Condition::Recipients => self.is_listed(number, rule, List::Recipients, asked)?,
        })
    }

    fn failed(&self, condition: Condition, number: u32, rule: &Rule, asked: &Asked<'_>) -> Failed {
        let Question { direction, subject, sender, recipient } = asked.question;
        match condition {
            Condition::Switch => {
                let unit = self.units.who_switches_off(number, asked.units);
                Failed::SwitchedOff(unit.cloned().unwrap_or_else(OrgUnit::root))
            }
            Condition::Mode => Failed::Mode,
            Condition::Direction => Failed::Direction { affects: rule.affects, seen: *direction },
            Condition::Account => {
                let is_sender = direction.is_outgoing();
                let address = if is_sender { sender.mailbox() } else { Some(*recipient) };
                Failed::Account {
                    accounts: rule.accounts,
                    seen: subject.kind,
                    is_sender,
                    address: address.cloned(),
                }
            }
            Condition::Senders => Failed::Senders((*sender).clone()),
            Condition::Recipients => Failed::Recipients((*recipient).clone()),
        }
    }
}

/// Whether no rule is looked at behind this one, where it matches.
pub(crate) fn stops(rule: &Rule) -> bool {
    rule.stop && rule.mode == Mode::Enforce
}
