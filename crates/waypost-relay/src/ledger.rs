//! Who has relayed how much: reserve at RCPT, commit with the 250, release on anything else.

use waypost_types::{Mailbox, Timestamp};

use crate::caller_ledger::CallerLedger;
use crate::counts_table::{CountsTable, Handle};
use crate::digest::Digest;
use crate::limits::{LimitMode, Limits};
use crate::quota::{
    QuotaCommit, QuotaLimit, QuotaRefusal, QuotaSubject, QuotaUse, Reservation, is_far, used,
};
use crate::recipient_table::AGES;
use crate::transaction::{Abandoned, Digests, Held, Transaction};
use crate::user_ledger::UserLedger;
use crate::window::{Count, DAY, END, Scale, TEN_MINUTES, Window};

/// The quotas of all organizations and users (D10 to D13).
///
/// Windows slide. They are kept in buckets (five minutes for 24 hours, two seconds for 10 minutes),
/// so a place may be free later than in an exact window, by less than a bucket, and never earlier.
/// Different recipients are counted exactly, by 128-bit digests under a secret key. A reservation
/// counts against every other session until its transaction ends, however long that takes.
///
/// Time is the caller's and is expected not to go back: a step back counts as no progress. Memory:
/// see the crate's head; it grows with what was accepted in 24 hours, so the organizations' limits
/// bound it while they are in force. One owner changes it (put it behind a lock); a call costs a few
/// look-ups and looks at no more than 380 buckets, but the 32nd [`Ledger::commit`], and a call that must know
/// exactly, does so for each of the 32 messages at most that were accepted and are not counted as sent yet.
#[derive(Debug)]
pub struct Ledger {
    key: [u8; 16],
    /// The latest time seen.
    now: Timestamp,
    /// When the next bucket of a day begins.
    turn: Timestamp,
    /// The bucket in which the last pruning of all began.
    pruned: u32,
    /// The bucket in which the pruning by parts began that goes on.
    round: u32,
    /// The part that is pruned next.
    part: usize,
    organizations: CountsTable<OrganizationCounts>,
    users: UserLedger,
    callers: CallerLedger,
    abandoned: Abandoned,
    /// Messages that count still as under way, [`AT_ONCE`] at most.
    accepted: Vec<Accepted>,
}

/// A message that was accepted, until it is counted as sent. It takes the same places meanwhile.
#[derive(Debug)]
struct Accepted {
    at: Timestamp,
    organization: Handle,
    user: Option<Handle>,
    recipients: usize,
    /// Of the recipients, where there is a user.
    digests: Digests,
}

/// How many messages are counted at once, so that memory is waited for once instead of for each.
const AT_ONCE: usize = 32;

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
    /// Recipients of messages under way.
    pending: u32,
    day: Window<u32, RECENT>,
    ten_minutes: Window<u32, RECENT>,
}

/// With so many the counts of an organization come to four lines of the processor's cache.
const RECENT: usize = 8;

/// How many buckets pass before the ledger is pruned unasked. What was kept then was a window old at
/// most, and time leaps by a window at most: no bucket is older than can be told.
const UNPRUNED: u32 = 400;
const _: () = assert!(UNPRUNED + 2 * (DAY.buckets() + 1) < AGES);

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
            turn: Timestamp::default(),
            pruned: 0,
            round: 0,
            part: 0,
            organizations: CountsTable::default(),
            users: UserLedger::default(),
            callers: CallerLedger::default(),
            abandoned: Abandoned::default(),
            accepted: Vec::new(),
        }
    }

    /// Begins the transaction of one message, with nothing reserved.
    #[must_use]
    pub fn begin(&self, mut subject: QuotaSubject) -> Transaction {
        subject.forget_unlimited();
        let organization = Digest::of_organization(self.key, &subject.organization);
        let user = subject.user.as_ref().map(|user| organization.of_mailbox(user));
        let abandoned = self.abandoned.clone();
        // Where to look is found out now; what is there is read with the recipients.
        let organization = self.organizations.handle(organization);
        if let Some(counts) = self.organizations.likely(organization) {
            counts.fetch();
        }
        if let Some(user) = user {
            self.users.fetch(user);
        }
        Transaction::new(subject, organization, user, abandoned)
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
        let limits = &subject.limits;
        if limits.mode == LimitMode::Off {
            return Ok(Reservation::default());
        }
        let first = transaction.recipients().is_empty();
        let user = transaction.user().map(|user| (user, user.of_mailbox(recipient)));
        let organization = transaction.organization();
        let counts = self.organizations.entry(organization);
        let mut sent = user.map(|(user, recipient)| self.users.look(user, recipient, now));
        if counts.is_far(limits)
            && sent.as_mut().is_none_or(|sent| sent.is_far(limits))
            && !subject.has_caller()
        {
            counts.pending.add(1);
            let digest = sent.map(|sent| sent.reserve(first));
            transaction.push(recipient, digest);
            return Ok(Reservation::default());
        }
        self.count_accepted();
        let counts = self.organizations.entry(organization);
        let mut sent = user.map(|(user, recipient)| self.users.look(user, recipient, now));
        let refusal = sent
            .as_mut()
            .and_then(|sent| sent.refusal(first, limits))
            .or_else(|| counts.uses(limits, now).iter().find_map(QuotaUse::refusal))
            .or_else(|| self.callers.refusal(subject, now));
        match refusal {
            Some(refusal) if limits.mode == LimitMode::Enforce => return Err(refusal),
            _ => {}
        }
        counts.pending.add(1);
        self.callers.reserve(subject);
        let digest = sent.map(|sent| sent.reserve(first));
        let mut near = Vec::new();
        if let Some((user, _)) = user {
            near.extend(self.users.usage(user, limits, now));
        }
        near.extend(counts.uses(limits, now));
        near.extend(self.callers.uses(subject, now).into_iter().flatten());
        near.retain(QuotaUse::is_near);
        transaction.push(recipient, digest);
        Ok(Reservation { would_refuse: refusal, near })
    }

    /// Counts a message that is accepted: its reservations become use, at `now`. What is returned
    /// goes to the journal, in one batch with the message; `None` when nothing was reserved.
    pub fn commit(&mut self, now: Timestamp, mut transaction: Transaction) -> Option<QuotaCommit> {
        let now = self.advance(now);
        let commit = transaction.take_commit(now)?;
        if transaction.subject().has_caller() {
            self.callers.give_back(transaction.subject(), commit.recipients.len());
            self.callers.count(&commit, now, now);
        }
        self.accepted.push(Accepted {
            at: now,
            organization: transaction.organization(),
            user: transaction.user().map(|user| Handle::new(user, None)),
            recipients: commit.recipients.len(),
            digests: transaction.take_digests(),
        });
        if self.accepted.len() >= AT_ONCE || commit.recipients.len() > AT_ONCE {
            self.count_accepted();
        }
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
        self.count_accepted();
        let at = commit.at.min(END);
        if commit.recipients.is_empty() || !DAY.is_live(DAY.bucket(at), now) {
            return;
        }
        let organization = Digest::of_organization(self.key, &commit.organization);
        let counts = self.organizations.entry(self.organizations.handle(organization));
        counts.record(at, commit.recipients.len(), now);
        if let Some(user) = &commit.user {
            let user = organization.of_mailbox(user);
            let to = commit.recipients.iter().map(|to| user.of_mailbox(to));
            self.users.replay(user, to, DAY.bucket(at), now);
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
        self.count_accepted();
        let organization = Digest::of_organization(self.key, organization);
        if let Some(user) = user {
            return self.users.usage(organization.of_mailbox(user), limits, now);
        }
        let mut none = OrganizationCounts::default();
        let counts = self
            .organizations
            .get_mut(self.organizations.handle(organization))
            .unwrap_or(&mut none);
        counts.uses(limits, now)
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
        if part == 0 {
            self.round = DAY.bucket(self.now);
        } else if self.part == PARTS {
            self.pruned = self.pruned.max(self.round);
        }
    }

    fn prune_part(&mut self, now: Timestamp, part: usize, parts: usize) {
        let now = self.advance(now);
        self.count_accepted();
        self.users.prune(part, parts, now);
        self.organizations.retain(|counts| {
            counts.advance(now);
            !counts.is_empty()
        });
        if part == 0 {
            self.callers.prune(now);
        }
    }

    /// How much the ledger holds. Costs next to nothing.
    #[must_use]
    pub fn size(&mut self) -> LedgerSize {
        self.count_accepted();
        let (users, recipients) = self.users.size();
        let (organizations, callers) = (self.organizations.len(), self.callers.len());
        LedgerSize { organizations, users, recipients, callers }
    }

    /// Takes note of the time and of what dropped transactions left.
    fn advance(&mut self, now: Timestamp) -> Timestamp {
        let before = self.now;
        self.now = before.max(now.min(END));
        if self.now >= self.turn {
            self.count_accepted();
            self.turn_to_bucket(DAY.bucket(before), DAY.bucket(self.now));
        }
        for held in self.abandoned.collect() {
            self.give_back(&held, true);
        }
        self.now
    }

    /// Counts the messages accepted since the last time. What is needed for it lies far apart in memory:
    /// all is fetched before any is waited for.
    fn count_accepted(&mut self) {
        if self.accepted.is_empty() {
            return;
        }
        for Accepted { user, digests, .. } in &mut self.accepted {
            if let Some(user) = user {
                *user = self.users.fetch_all(user.digest, digests);
            }
        }
        for Accepted { at, organization, user, recipients, digests } in self.accepted.drain(..) {
            if let Some(counts) = self.organizations.get_mut(organization) {
                counts.release(recipients);
                counts.record(at, recipients, at);
            }
            if let Some(user) = user {
                self.users.commit(user, &digests, at);
            }
        }
    }

    /// Forgets in time what could be taken for something later.
    fn turn_to_bucket(&mut self, before: u32, bucket: u32) {
        self.turn = DAY.begin(bucket.saturating_add(1));
        if !DAY.is_live(before, self.now) {
            self.users.forget_sent();
        }
        if bucket - self.pruned > UNPRUNED {
            self.pruned = bucket;
            self.users.prune(0, 1, self.now);
        }
    }

    /// Gives back reserved recipients and, with `message`, the message's own place.
    fn give_back(&mut self, held: &Held, message: bool) {
        self.count_accepted();
        if let Some(counts) = self.organizations.get_mut(held.organization) {
            counts.release(held.recipients.len());
        }
        if let Some(user) = held.user {
            self.users.give_back(user, &held.digests, message, self.now);
        }
        if let Some(caller) = &held.caller {
            self.callers.give_back(caller, held.recipients.len());
        }
    }
}

impl OrganizationCounts {
    /// Begins to fetch what counting looks at.
    fn fetch(&self) {
        self.day.fetch();
        self.ten_minutes.fetch();
    }

    fn advance(&mut self, now: Timestamp) {
        self.day.advance(DAY, now);
        self.ten_minutes.advance(TEN_MINUTES, now);
    }

    fn is_empty(&self) -> bool {
        self.pending == 0 && self.day.sum() == 0
    }

    /// Whether the limits are neither hit nor near with one more recipient; said of few that are far
    /// that they are not.
    fn is_far(&self, limits: &Limits) -> bool {
        // What has left the windows only adds to the sums: where they are far as they are, that is enough.
        let one_more = self.pending.saturating_add(1);
        let is_far = |window: &Window<u32, RECENT>, allowed| {
            is_far(window.sum().saturating_add(one_more), allowed)
        };
        is_far(&self.day, limits.recipients_per_day)
            && is_far(&self.ten_minutes, limits.recipients_per_10_minutes)
    }

    /// How far the limits are used.
    fn uses(&mut self, limits: &Limits, now: Timestamp) -> [QuotaUse; 2] {
        self.advance(now);
        [self.day_use(limits, now), self.ten_minutes_use(limits, now)]
    }

    /// Counts a message.
    fn record(&mut self, at: Timestamp, recipients: usize, now: Timestamp) {
        let recipients = u32::try_from(recipients).unwrap_or(u32::MAX);
        for (window, scale) in [(&mut self.day, DAY), (&mut self.ten_minutes, TEN_MINUTES)] {
            // What has left may wait until its room is needed: it lies where nothing else is read.
            if window.is_full() {
                window.advance(scale, now);
            }
            window.add(scale.bucket(at), recipients);
        }
    }

    fn release(&mut self, recipients: usize) {
        self.pending.subtract(u32::try_from(recipients).unwrap_or(u32::MAX));
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
        window: &Window<u32, RECENT>,
        scale: Scale,
        now: Timestamp,
    ) -> QuotaUse {
        let counted = (window.sum(), self.pending);
        used(limit, allowed, counted, scale, now, |need| {
            window.free_again(scale, need, |recipients| *recipients)
        })
    }
}

#[cfg(test)]
mod tests;
