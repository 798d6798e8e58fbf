//! Who has relayed how much: reserve at RCPT, commit with the 250, release on anything else.

use std::collections::HashMap;
use std::sync::Arc;

use waypost_types::{Mailbox, Timestamp};

use crate::caller_ledger::CallerLedger;
use crate::digest::Digest;
use crate::limits::{LimitMode, Limits};
use crate::quota::{
    QuotaCommit, QuotaLimit, QuotaRefusal, QuotaSubject, QuotaUse, Reservation, is_near, used,
};
use crate::transaction::{Abandoned, Held, Transaction};
use crate::user_ledger::UserLedger;
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
    /// The bucket in which the last pruning of all was complete.
    pruned: u32,
    /// The part that is pruned next.
    part: usize,
    organizations: HashMap<Arc<str>, OrganizationCounts>,
    users: UserLedger,
    callers: CallerLedger,
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
    /// Logins and clients with anything counted, of each organization for itself; only where it limits
    /// them.
    pub callers: usize,
}

#[derive(Debug, Default)]
struct OrganizationCounts {
    day: Window,
    ten_minutes: Window,
    pending: Tally,
}

/// How many buckets pass before the ledger is pruned unasked: short numbers of buckets are unique for
/// thrice as long.
const UNPRUNED: u32 = 20_000;

/// How many calls of [`Ledger::prune_some`] come to everything.
const PARTS: usize = 64;

impl Ledger {
    /// An empty ledger. `key` should be random and secret: whoever knows it might find addresses
    /// that count as one. It need not be the same after a restart.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        Self {
            key,
            now: Timestamp::default(),
            pruned: 0,
            part: 0,
            organizations: HashMap::new(),
            users: UserLedger::default(),
            callers: CallerLedger::default(),
            abandoned: Abandoned::default(),
        }
    }

    /// Begins the transaction of one message, with nothing reserved.
    #[must_use]
    pub fn begin(&self, subject: QuotaSubject) -> Transaction {
        let subject = subject.only_limited();
        let user = subject.user.as_ref();
        let user = user.map(|user| Digest::of_user(self.key, &subject.organization, user));
        Transaction::new(subject, user, self.abandoned.clone())
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
        let subject = transaction.subject();
        let QuotaSubject { organization, limits, .. } = subject;
        if limits.mode == LimitMode::Off {
            return Ok(Reservation::default());
        }
        let first = transaction.recipients().is_empty();
        let sent = transaction.user().map(|user| (user, user.of_recipient(self.key, recipient)));
        let (taken, refusal) = sent
            .map(|(user, to)| self.users.refusal(user, to, first, limits, now))
            .unwrap_or_default();
        let counts = match self.organizations.get_mut(organization) {
            Some(counts) => counts,
            None => self.organizations.entry(Arc::clone(organization)).or_default(),
        };
        counts.advance(now);
        let refusal = refusal
            .or_else(|| counts.day_use(limits, now).refusal())
            .or_else(|| counts.ten_minutes_use(limits, now).refusal())
            .or_else(|| self.callers.refusal(subject, now));
        match refusal {
            Some(refusal) if limits.mode == LimitMode::Enforce => return Err(refusal),
            _ => {}
        }
        counts.pending.add(Tally::RECIPIENT);
        if first {
            counts.pending.add(Tally::MESSAGE);
        }
        let mut near = Vec::new();
        if let Some((user, to)) = sent {
            self.users.reserve(user, to, first, now);
            if taken.may_be_near(limits) {
                near.extend(self.users.usage(user, limits, now));
            }
        }
        if counts.may_be_near(limits) {
            near.extend([counts.day_use(limits, now), counts.ten_minutes_use(limits, now)]);
        }
        if subject.has_caller() {
            self.callers.reserve(subject);
            near.extend(self.callers.uses(subject, now).into_iter().flatten());
        }
        near.retain(QuotaUse::is_near);
        transaction.push(recipient, sent.map(|(_, to)| to));
        Ok(Reservation { would_refuse: refusal, near })
    }

    /// Counts a message that is accepted: its reservations become use, at `now`. What is returned
    /// goes to the journal, in one batch with the message; `None` when nothing was reserved.
    pub fn commit(&mut self, now: Timestamp, mut transaction: Transaction) -> Option<QuotaCommit> {
        let now = self.advance(now);
        let held = transaction.take_held()?;
        if let Some(counts) = self.organizations.get_mut(&held.subject.organization) {
            counts.advance(now);
            counts.release(held.recipients.len(), Tally::MESSAGE);
            counts.record(now, held.recipients.len());
        }
        if let Some(user) = held.user {
            self.users.commit(user, &held.digests, now);
        }
        self.callers.give_back(&held.subject, held.recipients.len());
        let commit = held.into_commit(now);
        self.callers.count(&commit, now, now);
        Some(commit)
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
        let Some(held) = transaction.take(recipient) else { return false };
        self.give_back(&held, transaction.recipients().is_empty());
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
            let user = Digest::of_user(key, &commit.organization, user);
            let to = commit.recipients.iter().map(|to| user.of_recipient(key, to));
            self.users.replay(user, &to.collect::<Vec<_>>(), DAY.bucket(at), now);
        }
        self.callers.count(commit, at, now);
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
        if let Some(user) = user {
            return self.users.usage(Digest::of_user(self.key, organization, user), limits, now);
        }
        let mut none = OrganizationCounts::default();
        let counts = self.organizations.get_mut(organization).unwrap_or(&mut none);
        counts.advance(now);
        [counts.day_use(limits, now), counts.ten_minutes_use(limits, now)]
    }

    /// How far the limits of a login and a client are used, the login first: of those that the subject
    /// names and limits.
    #[must_use]
    pub fn usage_of_caller(&mut self, now: Timestamp, subject: &QuotaSubject) -> Vec<QuotaUse> {
        let now = self.advance(now);
        self.callers.uses(subject, now).into_iter().flatten().collect()
    }

    /// Frees the memory of what has left the windows. Costs time proportional to what is held: some 50 ms
    /// for a million users with five recipients each. Answers do not depend on it.
    pub fn prune(&mut self, now: Timestamp) {
        self.prune_part(now, 0, 1);
        self.pruned = DAY.bucket(self.now);
    }

    /// The same for a sixty-fourth of the users, the next one with each call: to be called every few
    /// seconds where many wait for the ledger.
    pub fn prune_some(&mut self, now: Timestamp) {
        let part = self.part % PARTS;
        self.part = part + 1;
        self.prune_part(now, part, PARTS);
        if self.part == PARTS {
            self.pruned = DAY.bucket(self.now);
        }
    }

    fn prune_part(&mut self, now: Timestamp, part: usize, parts: usize) {
        let now = self.advance(now);
        self.users.prune(part, parts, now);
        self.organizations.retain(|_, counts| {
            counts.advance(now);
            !counts.is_empty()
        });
        if part == 0 {
            self.callers.prune(now);
        }
    }

    /// How much the ledger holds. Costs next to nothing.
    #[must_use]
    pub fn size(&self) -> LedgerSize {
        let (users, recipients) = self.users.size();
        let (organizations, callers) = (self.organizations.len(), self.callers.len());
        LedgerSize { organizations, users, recipients, callers }
    }

    /// Takes note of the time and of what dropped transactions left.
    fn advance(&mut self, now: Timestamp) -> Timestamp {
        let before = DAY.bucket(self.now);
        self.now = self.now.max(now.min(END));
        let bucket = DAY.bucket(self.now);
        if !DAY.is_live(before, self.now) {
            self.users.forget_sent();
        }
        if bucket - self.pruned > UNPRUNED {
            self.pruned = bucket;
            self.users.prune(0, 1, self.now);
        }
        for held in self.abandoned.collect() {
            self.give_back(&held, true);
        }
        self.now
    }

    /// Gives back reserved recipients and, with `message`, the message's own place.
    fn give_back(&mut self, held: &Held, message: bool) {
        let messages = if message { Tally::MESSAGE } else { Tally::default() };
        if let Some(counts) = self.organizations.get_mut(&held.subject.organization) {
            counts.release(held.recipients.len(), messages);
        }
        if let Some(user) = held.user {
            self.users.give_back(user, &held.digests, message, self.now);
        }
        self.callers.give_back(&held.subject, held.recipients.len());
    }
}

impl OrganizationCounts {
    fn advance(&mut self, now: Timestamp) {
        self.day.advance(DAY, now);
        self.ten_minutes.advance(TEN_MINUTES, now);
    }

    /// Whether a limit may be near its end.
    fn may_be_near(&self, limits: &Limits) -> bool {
        let taken =
            |window: &Window| window.sum().recipients.saturating_add(self.pending.recipients);
        is_near(taken(&self.day), limits.recipients_per_day)
            || is_near(taken(&self.ten_minutes), limits.recipients_per_10_minutes)
    }

    fn is_empty(&self) -> bool {
        let nothing = Tally::default();
        self.pending == nothing && self.day.sum() == nothing
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

#[cfg(test)]
mod tests;
