//! Two policies, asked about the same messages.

use super::change::MessageChange;
use super::fate::{Envelope, Fate, Outcome, RecipientFate, ReplayError, Sent};
use super::local_parts::{KnownAddresses, LocalPartKey};
use super::recorded::Recorded;
use super::unseen;
use super::ways::Ways;
use crate::policy::Policy;

/// Two policies to be compared by what they make of recorded messages.
pub struct Comparison<'p> {
    pub(super) old: &'p Policy,
    pub(super) new: &'p Policy,
    pub(super) ways: Ways,
    known: Option<(Box<str>, KnownAddresses)>,
}

/// What the comparison of one message found.
#[derive(Clone, Debug)]
pub struct Compared {
    /// What changes; `None`: nothing.
    pub change: Option<MessageChange>,
    /// A hashed address of it is known to neither policy, so patterns over local parts cannot be
    /// judged.
    pub unresolved: bool,
    /// A policy asks for SPF and DMARC, and what they said was not recorded.
    pub unauthenticated: bool,
}

impl<'p> Comparison<'p> {
    /// Of what stands to what is to come.
    #[must_use]
    pub fn new(old: &'p Policy, new: &'p Policy) -> Self {
        Self { old, new, ways: Ways::between(old, new), known: None }
    }

    /// With the key of hashed local parts.
    #[must_use]
    pub fn with_key(mut self, key: &LocalPartKey) -> Self {
        let known = KnownAddresses::of(key, &[self.old, self.new]);
        self.known = Some((key.fingerprint().into(), known));
        self
    }

    /// Replays one message under both.
    ///
    /// # Errors
    /// [`ReplayError`] when a policy cannot take its envelope, or the key of its hashed local parts is
    /// missing.
    pub fn compare(&self, recorded: &Recorded) -> Result<Compared, ReplayError> {
        let known = match (recorded.hashed.as_deref(), &self.known) {
            (None, _) => None,
            (Some(_), None) => return Err(ReplayError::NoKey),
            (Some(theirs), Some((ours, _))) if *theirs != **ours => {
                return Err(ReplayError::OtherKey(theirs.into(), ours.clone()));
            }
            (Some(_), Some((_, known))) => Some(known),
        };
        let envelope = Envelope::of(recorded, known)?;
        let listener = recorded.listener.as_deref();
        let before = self.old.fate(&envelope, listener_in(self.old, self.new, listener))?;
        let after = self.new.fate(&envelope, listener_in(self.new, self.old, listener))?;
        let unauthenticated = before.unauthenticated || after.unauthenticated;
        let change = (!self.is_same(&before, &after))
            .then(|| MessageChange::of(self, recorded, envelope.sender(), &before, &after));
        Ok(Compared { change, unresolved: envelope.unresolved, unauthenticated })
    }

    /// Settings that differ and that no replay can see, each once, for people.
    #[must_use]
    pub fn unseen(&self) -> Vec<String> {
        unseen::settings(self.old, self.new)
    }

    /// The rules with patterns that look at local parts, which cannot be judged on hashed ones.
    #[must_use]
    pub fn unjudged_patterns(&self) -> Vec<String> {
        unseen::patterns(self.old, self.new)
    }

    fn is_same(&self, before: &Fate, after: &Fate) -> bool {
        let mail = |fate: &Fate| fate.mail.as_ref().map(|refusal| refusal.reply.clone());
        before.recipients.len() == after.recipients.len()
            && (!before.recipients.is_empty() || mail(before) == mail(after))
            && before.recipients.iter().zip(&after.recipients).all(|(a, b)| self.is_same_for(a, b))
    }

    pub(super) fn is_same_for(&self, before: &RecipientFate, after: &RecipientFate) -> bool {
        match (&before.outcome, &after.outcome) {
            (Outcome::Refused(was), Outcome::Refused(is)) => {
                was.reply == is.reply && was.by_notice == is.by_notice
            }
            (Outcome::Taken { kept: was, sent }, Outcome::Taken { kept: is, sent: then }) => {
                was.as_ref().map(|kept| &kept.0) == is.as_ref().map(|kept| &kept.0)
                    && !sent.iter().any(|one| self.ways.differ(&one.destination))
                    && same_set(sent, then, Sent::is_same)
            }
            _ => false,
        }
    }
}

/// Whether both hold the same, in any order.
pub(super) fn same_set<T>(one: &[T], other: &[T], same: impl Fn(&T, &T) -> bool) -> bool {
    if one.len() != other.len() {
        return false;
    }
    if one.iter().zip(other).all(|(a, b)| same(a, b)) {
        return true;
    }
    let mut left: Vec<&T> = other.iter().collect();
    one.iter().all(|wanted| {
        let found = left.iter().position(|candidate| same(wanted, candidate));
        found.map(|place| left.swap_remove(place)).is_some()
    })
}

/// The listener to replay at: the one of that name, or the first of the role that it has in the other
/// policy.
fn listener_in<'a>(
    policy: &'a Policy,
    other: &Policy,
    listener: Option<&'a str>,
) -> Option<&'a str> {
    let name = listener?;
    if policy.role(name).is_some() {
        return Some(name);
    }
    let Some(role) = other.role(name) else { return Some(name) };
    let same = policy.server.listeners.iter().find(|one| one.role == role);
    same.map_or(Some(name), |one| Some(&one.name))
}
