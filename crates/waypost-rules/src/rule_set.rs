//! An organization's rules, compiled, and the walk over them.

use std::collections::{HashMap, HashSet};

use regex::{RegexSet, RegexSetBuilder, SetMatches};
use waypost_types::{Directory, Mailbox, OrgUnit, ReversePath, Unavailable};

use crate::filter::PATTERN_SIZE;
use crate::{AddressMatch, Direction, Mode, Pattern, Rule, Subject, SwitchedOff};

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

/// A rule that was looked at (C9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleReport {
    /// The rule's description.
    pub rule: Box<str>,
    /// The first condition that failed, with the value seen; `None` when the rule matched.
    pub failed: Option<String>,
}

/// What a walk found.
#[derive(Clone, Debug, Default)]
pub struct Walk<'r> {
    /// Every rule looked at, in order.
    pub reports: Vec<RuleReport>,
    /// The rules that match and act, in order: the subject's unit first, then those above it.
    pub matched: Vec<&'r Rule>,
    /// The rules that match and are only observed (O6).
    pub observed: Vec<&'r Rule>,
}

/// The rules of an organization, compiled: by unit, all patterns in one set (C8).
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    by_unit: HashMap<OrgUnit, Vec<usize>>,
    switched_off: HashMap<OrgUnit, HashSet<Box<str>>>,
    patterns: PatternSet,
}

impl RuleSet {
    /// Compiles rules, given in file order. Time and memory are linear in their size.
    #[must_use]
    pub fn compile(rules: Vec<Rule>, switched_off: Vec<SwitchedOff>) -> Self {
        let mut by_unit: HashMap<OrgUnit, Vec<usize>> = HashMap::new();
        for (place, rule) in rules.iter().enumerate() {
            by_unit.entry(rule.org_unit.clone()).or_default().push(place);
        }
        let mut off: HashMap<OrgUnit, HashSet<Box<str>>> = HashMap::new();
        for switch in switched_off {
            off.entry(switch.org_unit).or_default().insert(switch.rule);
        }
        let patterns = PatternSet::compile(&rules);
        Self { rules, by_unit, switched_off: off, patterns }
    }

    /// The rules, in file order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Walks the subject's unit and those above it, in that order, and stops behind a matching rule
    /// that says `stop`.
    ///
    /// # Errors
    /// [`Unavailable`] when a group look-up cannot be answered; the message is then to be deferred.
    pub fn walk<'r>(
        &'r self,
        question: &Question<'_>,
        directory: &dyn Directory,
    ) -> Result<Walk<'r>, Unavailable> {
        let mut walk = Walk::default();
        if self.rules.is_empty() {
            return Ok(walk);
        }
        let asked = Asked {
            sender: Address::of(question.sender.mailbox(), &self.patterns),
            recipient: Address::of(Some(question.recipient), &self.patterns),
            question,
            directory,
        };
        let mut off: Vec<(&OrgUnit, &HashSet<Box<str>>)> = Vec::new();
        for unit in question.subject.org_unit.lineage() {
            for place in self.by_unit.get(&unit).map(Vec::as_slice).unwrap_or_default() {
                let Some(rule) = self.rules.get(*place) else { continue };
                let switched = off.iter().find(|(_, names)| names.contains(&rule.description));
                let failed = match switched {
                    Some((by, _)) => Some(format!("it is switched off in {by}")),
                    None => self.first_failure(rule, &asked)?,
                };
                let matched = failed.is_none();
                walk.reports.push(RuleReport { rule: rule.description.clone(), failed });
                match (matched, rule.mode) {
                    (false, _) | (true, Mode::Off) => {}
                    (true, Mode::Observe) => walk.observed.push(rule),
                    (true, Mode::Enforce) => {
                        walk.matched.push(rule);
                        if rule.stop {
                            return Ok(walk);
                        }
                    }
                }
            }
            if let Some((unit, names)) = self.switched_off.get_key_value(&unit) {
                off.push((unit, names));
            }
        }
        Ok(walk)
    }

    /// The first condition of a rule that fails, in the order mode, direction, account, senders,
    /// recipients.
    fn first_failure(&self, rule: &Rule, asked: &Asked<'_>) -> Result<Option<String>, Unavailable> {
        let Question { direction, subject, .. } = asked.question;
        if rule.mode == Mode::Off {
            return Ok(Some("its mode is off".to_owned()));
        }
        if !rule.affects.contains(*direction) {
            let affects = rule.affects;
            return Ok(Some(format!("it affects {affects}; this message is {direction}")));
        }
        if !rule.accounts.contains(subject.kind) {
            let whose = if direction.is_outgoing() { "sender" } else { "recipient" };
            return Ok(Some(format!(
                "it affects accounts of kind {}; the {whose} {} is of kind {}",
                rule.accounts,
                asked.shown(direction.is_outgoing()),
                subject.kind.as_str(),
            )));
        }
        if !self.any_match(&rule.envelope.senders, &asked.sender, asked.directory)? {
            return Ok(Some(format!("no sender entry matches {}", asked.shown(true))));
        }
        if !self.any_match(&rule.envelope.recipients, &asked.recipient, asked.directory)? {
            return Ok(Some(format!("no recipient entry matches {}", asked.shown(false))));
        }
        Ok(None)
    }

    /// Whether one of the entries matches; an empty list asks for nothing (C5).
    fn any_match(
        &self,
        entries: &[AddressMatch],
        address: &Address<'_>,
        directory: &dyn Directory,
    ) -> Result<bool, Unavailable> {
        if entries.is_empty() {
            return Ok(true);
        }
        for entry in entries {
            let matches = match (entry, address.mailbox) {
                (AddressMatch::Pattern(pattern), _) => self.patterns.is_match(pattern, address),
                (_, None) => false,
                (AddressMatch::Address(wanted), Some(mailbox)) => wanted == mailbox,
                (AddressMatch::Group(group), Some(mailbox)) => {
                    directory.is_member(mailbox, group)?
                }
            };
            if matches {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

struct Asked<'a> {
    question: &'a Question<'a>,
    sender: Address<'a>,
    recipient: Address<'a>,
    directory: &'a dyn Directory,
}

impl Asked<'_> {
    fn shown(&self, sender: bool) -> &str {
        match (sender, self.sender.text.as_str()) {
            (true, "") => "<>",
            (true, text) => text,
            (false, _) => &self.recipient.text,
        }
    }
}

/// An address with its text and the patterns that match it.
struct Address<'a> {
    mailbox: Option<&'a Mailbox>,
    text: String,
    matches: Option<SetMatches>,
}

impl<'a> Address<'a> {
    fn of(mailbox: Option<&'a Mailbox>, patterns: &PatternSet) -> Self {
        let text = mailbox.map(Mailbox::to_string).unwrap_or_default();
        let matches = patterns.set.as_ref().map(|set| set.matches(&text));
        Self { mailbox, text, matches }
    }
}

/// All patterns of all rules in one set, so that an address is scanned once.
///
/// Too large a set (64 MiB compiled) is not built, and the patterns are then tried one by one.
#[derive(Clone, Debug, Default)]
struct PatternSet {
    set: Option<RegexSet>,
    places: HashMap<Box<str>, usize>,
}

impl PatternSet {
    fn compile(rules: &[Rule]) -> Self {
        let mut places = HashMap::new();
        let mut sources: Vec<&str> = Vec::new();
        let entries = rules
            .iter()
            .flat_map(|rule| rule.envelope.senders.iter().chain(&rule.envelope.recipients));
        for entry in entries {
            if let AddressMatch::Pattern(pattern) = entry
                && !places.contains_key(pattern.as_str())
            {
                places.insert(pattern.as_str().into(), sources.len());
                sources.push(pattern.as_str());
            }
        }
        if sources.is_empty() {
            return Self::default();
        }
        let set = RegexSetBuilder::new(&sources)
            .case_insensitive(true)
            .size_limit(64 * PATTERN_SIZE)
            .dfa_size_limit(8 * PATTERN_SIZE)
            .build()
            .ok();
        Self { set, places }
    }

    fn is_match(&self, pattern: &Pattern, address: &Address<'_>) -> bool {
        match (&address.matches, self.places.get(pattern.as_str())) {
            (Some(matches), Some(place)) => matches.matched(*place),
            _ => pattern.is_match(&address.text),
        }
    }
}
