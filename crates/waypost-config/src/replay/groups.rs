//! Identical changes, summed up.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde::Serialize;

use super::change::{MessageChange, RecipientChange};

/// The most kinds of changes that are told apart; messages with further ones are only counted.
pub const MAX_GROUPS: usize = 1000;
/// Examples of each.
const EXAMPLES: usize = 3;

/// What a change comes to. Of several recipients of a message the first in this order counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Turn {
    /// It is refused.
    Refused,
    /// It is refused no longer.
    NoLongerRefused,
    /// It is kept in quarantine.
    Kept,
    /// It is kept no longer.
    NoLongerKept,
    /// It goes elsewhere, or to more or fewer places.
    Elsewhere,
    /// It goes to the same place, changed.
    Changed,
    /// It is refused as before, in other words.
    RefusedOtherwise,
}

impl Turn {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Refused,
        Self::NoLongerRefused,
        Self::Kept,
        Self::NoLongerKept,
        Self::Elsewhere,
        Self::Changed,
        Self::RefusedOtherwise,
    ];

    /// In words, behind a number: `9 refused`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::NoLongerRefused => "no longer refused",
            Self::Kept => "kept in quarantine",
            Self::NoLongerKept => "no longer kept",
            Self::Elsewhere => "to another place",
            Self::Changed => "changed on the same way",
            Self::RefusedOtherwise => "refused with another reply",
        }
    }
}

/// What identical changes have in common, in words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    pub(super) before: Vec<String>,
    pub(super) before_because: Vec<String>,
    pub(super) after: Vec<String>,
    pub(super) after_because: Vec<String>,
}

impl Kind {
    /// Of both sides, each with its reasons.
    pub(super) fn new(
        before: (Vec<String>, Vec<String>),
        after: (Vec<String>, Vec<String>),
    ) -> Self {
        Self { before: before.0, before_because: before.1, after: after.0, after_because: after.1 }
    }
}

/// Messages with the same change.
#[derive(Clone, Debug)]
pub struct Group {
    /// What becomes of them now.
    pub before: Vec<String>,
    /// Why.
    pub before_because: Vec<String>,
    /// What would become of them.
    pub after: Vec<String>,
    /// Why.
    pub after_because: Vec<String>,
    /// The rules responsible.
    pub rules: Vec<Box<str>>,
    /// How many messages.
    pub messages: u64,
    /// The first ones, a line each.
    pub examples: Vec<String>,
    first: usize,
}

/// All changes seen so far.
#[derive(Debug, Default)]
pub struct Groups {
    groups: HashMap<Kind, Group>,
    turns: HashMap<Turn, u64>,
    messages: u64,
    /// Messages with a change that no group was left for.
    ungrouped: u64,
}

impl Groups {
    /// Adds a message, which stands at this line.
    pub fn add(&mut self, line: u64, message: &MessageChange) {
        self.messages += 1;
        *self.turns.entry(message.turn).or_default() += 1;
        let mut seen: Vec<&Kind> = Vec::new();
        let mut ungrouped = false;
        for change in &message.changes {
            if seen.len() < MAX_GROUPS && seen.contains(&&change.kind) {
                continue;
            }
            seen.push(&change.kind);
            ungrouped |= !self.count(line, message, change);
        }
        self.ungrouped += u64::from(ungrouped);
    }

    /// `false`: there is no room for another group.
    fn count(&mut self, line: u64, message: &MessageChange, change: &RecipientChange) -> bool {
        let first = self.groups.len();
        let group = match self.groups.entry(change.kind.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if first >= MAX_GROUPS => return false,
            Entry::Vacant(free) => {
                let Kind { before, before_because, after, after_because } = change.kind.clone();
                let rules = change.rules.clone();
                free.insert(Group {
                    before,
                    before_because,
                    after,
                    after_because,
                    rules,
                    messages: 0,
                    examples: Vec::new(),
                    first,
                })
            }
        };
        group.messages += 1;
        if group.examples.len() < EXAMPLES {
            group.examples.push(example(line, message, change));
        }
        true
    }

    /// How many messages change.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// How many of them have a change that is in no group, since there are too many kinds.
    #[must_use]
    pub fn ungrouped(&self) -> u64 {
        self.ungrouped
    }

    /// The groups, the largest first, then in the order in which they came.
    #[must_use]
    pub fn sorted(&self) -> Vec<&Group> {
        let mut groups: Vec<&Group> = self.groups.values().collect();
        groups.sort_by_key(|group| (std::cmp::Reverse(group.messages), group.first));
        groups
    }

    /// How many messages take which turn, those that none takes left out.
    #[must_use]
    pub fn turns(&self) -> Vec<(Turn, u64)> {
        let counted = |turn: &Turn| Some((*turn, *self.turns.get(turn)?));
        Turn::ALL.iter().filter_map(counted).collect()
    }
}

/// One message in a line: where it stands, its id, from whom, to whom.
fn example(line: u64, message: &MessageChange, change: &RecipientChange) -> String {
    let id = match &message.id {
        serde_json::Value::String(id) => id.clone(),
        serde_json::Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let to = change.recipient.as_deref().unwrap_or("(nobody)");
    format!("line {line}  {id}  <{}> to {to}", message.mail_from)
}
