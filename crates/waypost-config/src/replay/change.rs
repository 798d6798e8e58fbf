//! What changes for one message.

use serde::Serialize;
use serde_json::Value;
use waypost_types::ReversePath;

use super::comparison::{Comparison, same_set};
use super::fate::{Fate, Outcome, RecipientFate, Refusal, Sent};
use super::groups::{Kind, Turn};
use super::recorded::Recorded;
use super::shown::{Shown, Telling};

/// A message whose fate changes.
#[derive(Clone, Debug, Serialize)]
pub struct MessageChange {
    /// Its id, as recorded.
    pub id: Value,
    /// When it was decided, as recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Box<str>>,
    /// The envelope sender; empty for the null one.
    pub mail_from: String,
    /// The recipients whose mail is concerned.
    pub changes: Vec<RecipientChange>,
    /// What the change comes to.
    pub turn: Turn,
}

/// What changes for one recipient.
#[derive(Clone, Debug, Serialize)]
pub struct RecipientChange {
    /// The recipient of RCPT; absent where MAIL is concerned and no recipient was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// What becomes of it now.
    pub before: Shown,
    /// What would become of it.
    pub after: Shown,
    /// The rules responsible: those that led to the one fate and not to the other, or all that did
    /// where both sides have the same; empty where settings or the directory are responsible.
    pub rules: Vec<Box<str>>,
    /// What it comes to.
    pub turn: Turn,
    /// The same for identical changes.
    #[serde(skip)]
    pub(super) kind: Kind,
}

impl MessageChange {
    pub(super) fn of(
        comparison: &Comparison<'_>,
        recorded: &Recorded,
        sender: &ReversePath,
        before: &Fate,
        after: &Fate,
    ) -> Self {
        let mut changes = Vec::new();
        for (was, is) in before.recipients.iter().zip(&after.recipients) {
            if !comparison.is_same_for(was, is) {
                changes.push(recipient(comparison, (recorded, sender), was, is));
            }
        }
        if before.recipients.is_empty() {
            changes.push(of_mail(before, after));
        }
        let turn = changes.iter().map(|change| change.turn).min().unwrap_or(Turn::Changed);
        Self {
            id: recorded.id.clone(),
            time: recorded.time.clone(),
            mail_from: sender.to_string(),
            changes,
            turn,
        }
    }
}

fn recipient(
    comparison: &Comparison<'_>,
    (recorded, sender): (&Recorded, &ReversePath),
    was: &RecipientFate,
    is: &RecipientFate,
) -> RecipientChange {
    let telling = |policy| Telling {
        policy,
        ways: &comparison.ways,
        sender,
        recipient: &was.recipient,
        recorded,
    };
    let (old, new) = (telling(comparison.old), telling(comparison.new));
    let (before, after) = (old.shown(was), new.shown(is));
    let (rules_before, rules_after) = (old.rules(was), new.rules(is));
    let words = |telling: &Telling<'_>, shown: &Shown| {
        let because = shown.because.iter().map(|text| telling.general(text)).collect();
        (telling.words(shown), because)
    };
    let kind = Kind::new(words(&old, &before), words(&new, &after));
    RecipientChange {
        recipient: Some(was.recipient.to_string()),
        rules: responsible(&rules_before, &rules_after),
        turn: turn(comparison, &was.outcome, &is.outcome),
        before,
        after,
        kind,
    }
}

/// The change of a MAIL without recipients.
fn of_mail(before: &Fate, after: &Fate) -> RecipientChange {
    let side = |fate: &Fate| match &fate.mail {
        Some(refusal) => Telling::refused(refusal, vec![refusal.because.clone()]),
        None => Shown {
            refused: None,
            by_notice: false,
            quarantine: None,
            deliveries: Vec::new(),
            because: Vec::new(),
        },
    };
    let words = |fate: &Fate| match &fate.mail {
        Some(Refusal { reply, because, .. }) => {
            (vec![format!("MAIL refused: {reply}")], vec![because.clone()])
        }
        None => (vec!["MAIL accepted; no recipient was recorded".to_owned()], Vec::new()),
    };
    RecipientChange {
        recipient: None,
        before: side(before),
        after: side(after),
        rules: Vec::new(),
        turn: match (&before.mail, &after.mail) {
            (None, _) => Turn::Refused,
            (_, None) => Turn::NoLongerRefused,
            _ => Turn::RefusedOtherwise,
        },
        kind: Kind::new(words(before), words(after)),
    }
}

fn responsible(before: &[Box<str>], after: &[Box<str>]) -> Vec<Box<str>> {
    let only = |these: &[Box<str>], those: &[Box<str>]| -> Vec<Box<str>> {
        these.iter().filter(|rule| !those.contains(rule)).cloned().collect()
    };
    let mut found = only(before, after);
    found.extend(only(after, before));
    if found.is_empty() { before.to_vec() } else { found }
}

fn turn(comparison: &Comparison<'_>, before: &Outcome, after: &Outcome) -> Turn {
    match (before, after) {
        (Outcome::Refused(_), Outcome::Refused(_)) => Turn::RefusedOtherwise,
        (Outcome::Taken { .. }, Outcome::Refused(_)) => Turn::Refused,
        (Outcome::Refused(_), Outcome::Taken { .. }) => Turn::NoLongerRefused,
        (Outcome::Taken { kept: None, .. }, Outcome::Taken { kept: Some(_), .. }) => Turn::Kept,
        (Outcome::Taken { kept: Some(_), .. }, Outcome::Taken { kept: None, .. }) => {
            Turn::NoLongerKept
        }
        (Outcome::Taken { sent, .. }, Outcome::Taken { sent: then, .. }) => {
            let moved = sent.iter().any(|one| comparison.ways.differ(&one.destination));
            match !moved && same_set(sent, then, Sent::goes_the_same_way) {
                true => Turn::Changed,
                false => Turn::Elsewhere,
            }
        }
    }
}

impl RecipientChange {
    /// The side before, in words that are the same for identical changes.
    #[must_use]
    pub fn before_in_words(&self) -> &[String] {
        &self.kind.before
    }

    /// The side after, likewise.
    #[must_use]
    pub fn after_in_words(&self) -> &[String] {
        &self.kind.after
    }
}
