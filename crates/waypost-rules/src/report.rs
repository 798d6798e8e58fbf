//! What is said of the rules that were looked at.

use smallvec::SmallVec;
use waypost_types::{Directory, Unavailable};

use crate::conditions::List;
use crate::rule_set::{Asked, Groups};
use crate::{Mode, Question, Rule, RuleSet};

/// A rule that was looked at (C9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleReport {
    /// The rule's description.
    pub rule: Box<str>,
    /// The first condition that failed, with the value seen; `None` when the rule matched.
    pub failed: Option<String>,
}

/// What is said of the rules that were looked at for one question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    /// A report a rule, in the order in which the rules were looked at.
    pub listed: Vec<RuleReport>,
    /// How many rules that did not match are left out.
    pub left_out: usize,
}

/// The first condition of a rule that fails, in the order in which they are looked at.
enum Failure<'a> {
    SwitchedOff(&'a waypost_types::OrgUnit),
    Mode,
    Direction,
    Account,
    Senders,
    Recipients,
}

impl RuleSet {
    /// Says of the rules that a walk looks at, in order, which condition of each fails first: whether it is
    /// switched off, mode, direction, account, senders, recipients.
    ///
    /// Those that match are always told, others until there are `most` in all; `usize::MAX` tells all.
    /// Costs by the rules that are told.
    ///
    /// # Errors
    /// [`Unavailable`] when a group look-up cannot be answered.
    pub fn reports(
        &self,
        question: &Question<'_>,
        directory: &dyn Directory,
        most: usize,
    ) -> Result<Reports, Unavailable> {
        let matching = self.matching(question, directory)?;
        let units = self.units.holding_for(&question.subject.org_unit);
        let asked = self.asked(question, units, directory, Groups::Late)?;
        let stopped = matching.last().copied().filter(|last| self.rule(*last).is_some_and(stops));
        let shown = Shown::new(question);
        let mut reports = Reports::default();
        let mut room = most.saturating_sub(matching.len());
        let mut told = matching.iter().copied().peekable();
        for unit in units {
            let rules = self.units.rules_of(*unit);
            let end = stopped.map_or(rules.end, |last| rules.end.min(last + 1));
            let mut next = rules.start;
            while next < end {
                let Some(rule) = self.rule(next) else { break };
                let failed = if told.next_if_eq(&next).is_some() {
                    None
                } else if room > 0 {
                    room -= 1;
                    let failure = self.first_failure(next, &asked)?;
                    failure.map(|failure| failure.told(rule, question, &shown))
                } else {
                    // On to the next that matches.
                    let to = told.peek().map_or(end, |matching| end.min(*matching));
                    reports.left_out += (to - next) as usize;
                    next = to;
                    continue;
                };
                reports.listed.push(RuleReport { rule: rule.description.clone(), failed });
                next += 1;
            }
        }
        Ok(reports)
    }

    /// The rules that match, found by looking at each.
    pub(crate) fn looked_at(&self, asked: &Asked<'_>) -> Result<SmallVec<[u32; 16]>, Unavailable> {
        let mut found = SmallVec::new();
        for number in asked.units.iter().flat_map(|unit| self.units.rules_of(*unit)) {
            if self.first_failure(number, asked)?.is_none() {
                found.push(number);
                if self.rule(number).is_some_and(stops) {
                    break;
                }
            }
        }
        Ok(found)
    }

    fn first_failure<'a>(
        &'a self,
        number: u32,
        asked: &Asked<'_>,
    ) -> Result<Option<Failure<'a>>, Unavailable> {
        let Question { direction, subject, .. } = asked.question;
        let Some(rule) = self.rule(number) else { return Ok(None) };
        Ok(if let Some(unit) = self.units.who_switches_off(number, asked.units) {
            Some(Failure::SwitchedOff(unit))
        } else if rule.mode == Mode::Off {
            Some(Failure::Mode)
        } else if !rule.affects.contains(*direction) {
            Some(Failure::Direction)
        } else if !rule.accounts.contains(subject.kind) {
            Some(Failure::Account)
        } else if !self.is_listed(number, List::Senders, asked)? {
            Some(Failure::Senders)
        } else if !self.is_listed(number, List::Recipients, asked)? {
            Some(Failure::Recipients)
        } else {
            None
        })
    }
}

/// Whether no rule is looked at behind this one, where it matches.
pub(crate) fn stops(rule: &Rule) -> bool {
    rule.stop && rule.mode == Mode::Enforce
}

impl Failure<'_> {
    fn told(&self, rule: &Rule, question: &Question<'_>, shown: &Shown) -> String {
        let Question { direction, subject, .. } = question;
        match self {
            Failure::SwitchedOff(unit) => format!("it is switched off in {unit}"),
            Failure::Mode => "its mode is off".to_owned(),
            Failure::Direction => {
                format!("it affects {}; this message is {direction}", rule.affects)
            }
            Failure::Account => {
                let (whose, address) = match direction.is_outgoing() {
                    true => ("sender", &shown.sender),
                    false => ("recipient", &shown.recipient),
                };
                format!(
                    "it affects accounts of kind {}; the {whose} {address} is of kind {}",
                    rule.accounts,
                    subject.kind.as_str(),
                )
            }
            Failure::Senders => ["no sender entry matches ", &shown.sender].concat(),
            Failure::Recipients => ["no recipient entry matches ", &shown.recipient].concat(),
        }
    }
}

/// The addresses of a question as they are told.
struct Shown {
    sender: String,
    recipient: String,
}

impl Shown {
    fn new(question: &Question<'_>) -> Self {
        let sender = question.sender.mailbox();
        Self {
            sender: sender.map_or_else(|| "<>".to_owned(), ToString::to_string),
            recipient: question.recipient.to_string(),
        }
    }
}
