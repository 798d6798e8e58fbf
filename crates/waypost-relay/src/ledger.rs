//! Who has relayed how much: reserve at RCPT, commit with the 250, release on anything else.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use siphasher::sip128::{Hasher128, SipHasher13};
use waypost_types::{Mailbox, Timestamp};

use crate::limits::{LimitMode, Limits};
use crate::quota::{QuotaCommit, QuotaLimit, QuotaRefusal, QuotaSubject, QuotaUse, Reservation};
use crate::transaction::{Abandoned, Held, Transaction};
use crate::user_counts::{Digest, DigestMap, UserCounts};
use crate::window::{DAY, END, Scale, TEN_MINUTES, Tally, Window};

/// The quotas of all organizations and users (D10 to D13).
///
/// Windows slide. They are kept in buckets (five minutes for 24 hours, two seconds for 10 minutes),
/// so a place may be free later than in an exact window, by less than a bucket, and never earlier.
/// Different recipients are counted exactly, by 128-bit digests under a secret key. A reservation
/// counts against every other session until its transaction ends, however long that takes.
///
/// Time is the caller's and is expected not to go back: a step back counts as no progress. Memory:
/// see the crate's head; it grows with what was accepted in 24 hours, so the organizations' limits
/// bound it while they are in force. One owner changes it (put it behind a lock); each call costs a
/// few map look-ups and looks at no more than 302 buckets.
#[derive(Debug)]
pub struct Ledger {
    key: [u8; 16],
    /// The latest time seen.
    now: Timestamp,
    organizations: HashMap<Arc<str>, OrganizationCounts>,
    abandoned: Abandoned,
}

/// What a ledger holds, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerSize {
    /// Organizations with anything counted.
    pub organizations: usize,
    /// Users with anything counted.
    pub users: usize,
    /// Different recipients, of each user for itself.
    pub recipients: usize,
}

#[derive(Debug, Default)]
struct OrganizationCounts {
    day: Window,
    ten_minutes: Window,
    pending: Tally,
    users: DigestMap<UserCounts>,
}

impl Ledger {
    /// An empty ledger. `key` should be random and secret: whoever knows it might find addresses
    /// that count as one. It need not be the same after a restart.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        Self {
            key,
            now: Timestamp::default(),
            organizations: HashMap::new(),
            abandoned: Abandoned::default(),
        }
    }

    /// Begins the transaction of one message, with nothing reserved.
    #[must_use]
    pub fn begin(&self, subject: QuotaSubject) -> Transaction {
        Transaction::new(subject, self.abandoned.clone())
    }

    /// Reserves a place for a recipient, and for the message with its first one. A recipient given
    /// again is counted again for the organization, not for the user.
    ///
    /// # Errors
    /// The [`QuotaRefusal`] of the first limit that is hit, in the order of [`QuotaLimit`]. Nothing
    /// is reserved then; the recipients before stand (D13).
    pub fn reserve(
        &mut self,
        now: Timestamp,
        transaction: &mut Transaction,
        recipient: &Mailbox,
    ) -> Result<Reservation, QuotaRefusal> {
        let now = self.advance(now);
        let QuotaSubject { organization, user, limits } = transaction.subject();
        if limits.mode == LimitMode::Off {
            return Ok(Reservation { would_refuse: None });
        }
        let first = transaction.recipients().is_empty();
        let recipient_digest = digest(self.key, recipient);
        let user_digest = user.as_ref().map(|user| digest(self.key, user));
        let counts = self.organizations.entry(Arc::clone(organization)).or_default();
        counts.advance(now);
        let OrganizationCounts { users, .. } = counts;
        let user = user_digest.map(|user| users.entry(user).or_default());

        let mut refusal = None;
        if let Some(user) = user {
            user.advance(now);
            if first {
                refusal = message_use(user, limits, now).refusal();
            }
            if refusal.is_none() && !user.knows(recipient_digest, now) {
                refusal = unique_refusal(user, limits, now);
            }
        }
        let refusal = refusal
            .or_else(|| counts.day_use(limits, now).refusal())
            .or_else(|| counts.ten_minutes_use(limits, now).refusal());
        match refusal {
            Some(refusal) if limits.mode == LimitMode::Enforce => return Err(refusal),
            _ => {}
        }

        counts.pending.add(Tally::RECIPIENT);
        if first {
            counts.pending.add(Tally::MESSAGE);
        }
        if let Some(user) = user_digest.and_then(|user| counts.users.get_mut(&user)) {
            user.reserve_recipient(recipient_digest, now);
            if first {
                user.reserve_message();
            }
        }
        transaction.push(recipient);
        Ok(Reservation { would_refuse: refusal })
    }

    /// Counts a message that is accepted: its reservations become use, at `now`. What is returned
    /// goes to the journal, in one batch with the message; `None` when nothing was reserved.
    pub fn commit(&mut self, now: Timestamp, mut transaction: Transaction) -> Option<QuotaCommit> {
        let now = self.advance(now);
        let held = transaction.take_held()?;
        let key = self.key;
        if let Some(counts) = self.organizations.get_mut(&held.subject.organization) {
            counts.advance(now);
            counts.release(held.recipients.len(), Tally::MESSAGE);
            counts.record(now, held.recipients.len());
            if let Some(user) = counts.user(key, &held) {
                user.advance(now);
                for recipient in &held.recipients {
                    user.commit_recipient(digest(key, recipient), now);
                }
                user.commit_message(now);
            }
        }
        Some(held.into_commit(now))
    }

    /// Gives back what a message reserved that is not accepted; refused mail never counts (D13).
    pub fn release(&mut self, transaction: Transaction) {
        drop(transaction);
        self.advance(self.now);
    }

    /// Gives back the place of one recipient that is refused after all, while the message goes on;
    /// false when none is reserved for it.
    pub fn release_recipient(
        &mut self,
        now: Timestamp,
        transaction: &mut Transaction,
        recipient: &Mailbox,
    ) -> bool {
        self.advance(now);
        if !transaction.take(recipient) {
            return false;
        }
        let message = transaction.recipients().is_empty();
        let held =
            Held { subject: transaction.subject().clone(), recipients: vec![recipient.clone()] };
        self.give_back(&held, message);
        true
    }

    /// Counts a message of the past again: at start, each [`QuotaCommit`] of the journal's last 24
    /// hours, in their order. Older ones change nothing. No limit is looked at.
    pub fn replay(&mut self, commit: &QuotaCommit) {
        let now = self.advance(commit.at);
        let at = commit.at.min(END);
        if commit.recipients.is_empty() || !DAY.is_live(DAY.bucket(at), now) {
            return;
        }
        let key = self.key;
        let name: Arc<str> = (*commit.organization).into();
        let counts = self.organizations.entry(name).or_default();
        counts.record(at, commit.recipients.len());
        counts.advance(now);
        if let Some(user) = &commit.user {
            let user = counts.users.entry(digest(key, user)).or_default();
            user.advance(now);
            user.record_message(DAY.bucket(at));
            for recipient in &commit.recipients {
                user.record_recipient(digest(key, recipient), DAY.bucket(at), now);
            }
        }
    }

    /// How far the limits of an organization are used, or those of one of its users by primary
    /// address. [`RelayService::limits`](crate::RelayService::limits) has the limits.
    #[must_use]
    pub fn usage(
        &mut self,
        now: Timestamp,
        organization: &str,
        user: Option<&Mailbox>,
        limits: &Limits,
    ) -> [QuotaUse; 2] {
        let now = self.advance(now);
        let key = self.key;
        let mut none = OrganizationCounts::default();
        let counts = self.organizations.get_mut(organization).unwrap_or(&mut none);
        counts.advance(now);
        match user {
            None => [counts.day_use(limits, now), counts.ten_minutes_use(limits, now)],
            Some(user) => {
                let mut nobody = UserCounts::default();
                let user = counts.users.get_mut(&digest(key, user)).unwrap_or(&mut nobody);
                user.advance(now);
                [message_use(user, limits, now), unique_use(user, limits, now)]
            }
        }
    }

    /// Frees the memory of what has left the windows. To be called every few minutes; costs time
    /// proportional to what is held. Answers do not depend on it.
    pub fn prune(&mut self, now: Timestamp) {
        let now = self.advance(now);
        self.organizations.retain(|_, counts| {
            counts.advance(now);
            counts.users.retain(|_, user| {
                user.sweep(now);
                !user.is_empty()
            });
            counts.users.shrink_to_fit();
            !counts.is_empty()
        });
    }

    /// How much the ledger holds. Costs time proportional to the number of users.
    #[must_use]
    pub fn size(&self) -> LedgerSize {
        let users = || self.organizations.values().flat_map(|counts| counts.users.values());
        LedgerSize {
            organizations: self.organizations.len(),
            users: users().count(),
            recipients: users().map(UserCounts::held).sum(),
        }
    }

    /// Takes note of the time and of what dropped transactions left.
    fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.now = self.now.max(now.min(END));
        for held in self.abandoned.collect() {
            self.give_back(&held, true);
        }
        self.now
    }

    /// Gives back reserved recipients and, with `message`, the message's own place.
    fn give_back(&mut self, held: &Held, message: bool) {
        let (key, now) = (self.key, self.now);
        let Some(counts) = self.organizations.get_mut(&held.subject.organization) else { return };
        let messages = if message { Tally::MESSAGE } else { Tally::default() };
        counts.release(held.recipients.len(), messages);
        if let Some(user) = counts.user(key, held) {
            user.advance(now);
            for recipient in &held.recipients {
                user.release_recipient(digest(key, recipient), now);
            }
            if message {
                user.release_message();
            }
        }
    }
}

impl OrganizationCounts {
    fn advance(&mut self, now: Timestamp) {
        self.day.advance(DAY, now);
        self.ten_minutes.advance(TEN_MINUTES, now);
    }

    fn is_empty(&self) -> bool {
        let nothing = Tally::default();
        self.users.is_empty() && self.pending == nothing && self.day.sum() == nothing
    }

    /// Counts a message.
    fn record(&mut self, at: Timestamp, recipients: usize) {
        let recipients = u32::try_from(recipients).unwrap_or(u32::MAX);
        let tally = Tally { messages: 1, recipients };
        self.day.add(DAY.bucket(at), tally);
        self.ten_minutes.add(TEN_MINUTES.bucket(at), tally);
    }

    fn release(&mut self, recipients: usize, mut tally: Tally) {
        tally.recipients = u32::try_from(recipients).unwrap_or(u32::MAX);
        self.pending.subtract(tally);
    }

    fn user(&mut self, key: [u8; 16], held: &Held) -> Option<&mut UserCounts> {
        let user = held.subject.user.as_ref()?;
        self.users.get_mut(&digest(key, user))
    }

    fn day_use(&self, limits: &Limits, now: Timestamp) -> QuotaUse {
        let allowed = limits.recipients_per_day;
        self.window_use(QuotaLimit::RecipientsPerDay, allowed, &self.day, DAY, now)
    }

    fn ten_minutes_use(&self, limits: &Limits, now: Timestamp) -> QuotaUse {
        let (limit, allowed) =
            (QuotaLimit::RecipientsPer10Minutes, limits.recipients_per_10_minutes);
        self.window_use(limit, allowed, &self.ten_minutes, TEN_MINUTES, now)
    }

    fn window_use(
        &self,
        limit: QuotaLimit,
        allowed: u32,
        window: &Window,
        scale: Scale,
        now: Timestamp,
    ) -> QuotaUse {
        let counted = (window.sum().recipients, self.pending.recipients);
        used(limit, allowed, counted, scale, now, |need| {
            window.free_again(scale, need, |tally| tally.recipients)
        })
    }
}

fn message_use(user: &UserCounts, limits: &Limits, now: Timestamp) -> QuotaUse {
    let allowed = limits.messages_per_user_per_day;
    used(QuotaLimit::MessagesPerUserPerDay, allowed, user.messages(), DAY, now, |need| {
        user.message_room(need)
    })
}

fn unique_use(user: &UserCounts, limits: &Limits, now: Timestamp) -> QuotaUse {
    let allowed = limits.unique_recipients_per_user_per_day;
    used(QuotaLimit::UniqueRecipientsPerUserPerDay, allowed, user.unique(now), DAY, now, |need| {
        user.recipient_room(need)
    })
}

/// The refusal of one more different recipient; counts every reservation only when it is close.
fn unique_refusal(user: &UserCounts, limits: &Limits, now: Timestamp) -> Option<QuotaRefusal> {
    if user.unique_in_all() < limits.unique_recipients_per_user_per_day {
        return None;
    }
    unique_use(user, limits, now).refusal()
}

/// The use of a limit, and when it has room: when enough has left the window, or, should messages
/// under way hold it, a window from now.
fn used(
    limit: QuotaLimit,
    allowed: u32,
    (used, reserved): (u32, u32),
    scale: Scale,
    now: Timestamp,
    room: impl Fn(u32) -> Option<Timestamp>,
) -> QuotaUse {
    let beyond = used.saturating_add(reserved).saturating_add(1).saturating_sub(allowed);
    let room_at = (beyond > 0 && allowed > 0)
        .then(|| room(beyond).unwrap_or_else(|| scale.free_if_counted(now)));
    QuotaUse { limit, allowed, used, reserved, room_at }
}

/// A mailbox as the ledger knows it; equal mailboxes have one digest.
fn digest(key: [u8; 16], mailbox: &Mailbox) -> Digest {
    let mut hasher = SipHasher13::new_with_key(&key);
    mailbox.hash(&mut hasher);
    let (high, low) = hasher.finish128().as_u64();
    let halves = |number: u64| [(number >> 32) as u32, number as u32];
    let ([a, b], [c, d]) = (halves(high), halves(low));
    Digest([a, b, c, d])
}

#[cfg(test)]
mod tests;
