//! How much each user has relayed, and to whom.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use waypost_types::Timestamp;

use crate::counts_table::Handle;
use crate::digest::{Digest, DigestBuild};
use crate::limits::Limits;
use crate::quota::{QuotaLimit, QuotaRefusal, QuotaUse, is_far, used};
use crate::recipient_table::RecipientTable;
use crate::sent_by_user::SentByUser;
use crate::user_table::UserTable;
use crate::window::{Count, DAY, Tally};

/// Messages and unique recipients of all users (D10).
///
/// A recipient counts in one of two places: in the bucket of its last message, or, while a message
/// under way holds it, among what is held. So a recipient whose bucket leaves the window between RCPT
/// and the 250 keeps its place.
#[derive(Debug, Default)]
pub(crate) struct UserLedger {
    users: UserTable,
    recipients: RecipientTable,
    under_way: HashMap<Digest, UnderWay, DigestBuild>,
    held: HashMap<Digest, Hold, DigestBuild>,
}

/// What messages of one user hold that are under way.
#[derive(Clone, Copy, Debug, Default)]
struct UnderWay {
    messages: u32,
    recipients: u32,
    /// Those of the recipients that were written to before.
    known: u32,
    /// The latest recipient, while nobody needs to know whether it was written to before. One
    /// reservation holds it, and it stands here alone.
    unread: Option<Digest>,
}

/// A recipient that messages under way hold.
#[derive(Debug, Default)]
struct Hold {
    /// How many reservations there are.
    holders: u32,
    /// The bucket of the last message to it, if there was one.
    last: Option<u32>,
}

/// Of one user, what was sent and what is under way.
#[derive(Clone, Copy)]
struct Standing<'u> {
    sent: Option<&'u SentByUser>,
    sum: Tally,
    under_way: UnderWay,
    now: Timestamp,
}

/// A user who wants to write to a recipient.
pub(crate) struct Look<'l> {
    user: Digest,
    recipient: Digest,
    users: &'l mut UserTable,
    under_way: Entry<'l, Digest, UnderWay>,
    recipients: &'l RecipientTable,
    held: &'l mut HashMap<Digest, Hold, DigestBuild>,
    now: Timestamp,
}

impl Look<'_> {
    /// Whether the limits are neither hit nor near with one more message and recipient; said of few
    /// that are far that they are not.
    pub(crate) fn is_far(&mut self, limits: &Limits) -> bool {
        let under_way = self.under_way();
        let is_far = |sum: Tally| {
            let messages = sum.messages.saturating_add(under_way.messages);
            let recipients = sum.recipients.saturating_add(under_way.recipients);
            is_far(messages.saturating_add(1), limits.messages_per_user_per_day)
                && is_far(recipients.saturating_add(1), limits.unique_recipients_per_user_per_day)
        };
        // What has left the window only adds to the sum: where that is far as it is, that is enough.
        self.users.at_most(self.user).is_some_and(is_far)
            || is_far(self.sent().map(|sent| sent.sum()).unwrap_or_default())
    }

    /// The refusal of one more recipient, with `first` of one more message.
    pub(crate) fn refusal(&mut self, first: bool, limits: &Limits) -> Option<QuotaRefusal> {
        self.settle();
        let (under_way, now) = (self.under_way(), self.now);
        let standing = Standing::of(self.sent(), under_way, now);
        if first && let Some(refusal) = standing.message_use(limits).refusal() {
            return Some(refusal);
        }
        let (sent, held) = standing.unique();
        if sent.saturating_add(held) < limits.unique_recipients_per_user_per_day {
            return None;
        }
        let refusal = standing.unique_use(limits).refusal()?;
        let is_known = self.held.contains_key(&self.recipient)
            || last_live(self.recipients, self.recipient, self.now).is_some();
        (!is_known).then_some(refusal)
    }

    fn sent(&mut self) -> Option<&mut SentByUser> {
        self.users.get_mut(self.users.handle(self.user))
    }

    fn under_way(&self) -> UnderWay {
        match &self.under_way {
            Entry::Occupied(under_way) => *under_way.get(),
            Entry::Vacant(_) => UnderWay::default(),
        }
    }

    /// Holds the recipient, with `first` its message too. The digest is the recipient's.
    pub(crate) fn reserve(mut self, first: bool) -> Digest {
        self.settle();
        let Self { recipient, under_way, held, .. } = self;
        let under_way = under_way.or_default();
        if first {
            under_way.messages = under_way.messages.saturating_add(1);
        } else {
            // Read by the reservation after this.
            self.recipients.fetch(recipient);
        }
        if under_way.recipients > 0
            && let Some(hold) = held.get_mut(&recipient)
        {
            hold.holders = hold.holders.saturating_add(1);
        } else {
            under_way.recipients = under_way.recipients.saturating_add(1);
            under_way.unread = Some(recipient);
        }
        recipient
    }

    fn settle(&mut self) {
        if let Entry::Occupied(under_way) = &mut self.under_way {
            let under_way = under_way.get_mut();
            under_way.settle(self.user, self.users, self.recipients, self.held, self.now);
        }
    }
}

impl UserLedger {
    /// Begins to fetch what a reservation of a user looks at.
    pub(crate) fn fetch(&self, user: Digest) {
        self.users.fetch(user);
    }

    /// Begins to fetch what it takes to count a message; says where the user is.
    pub(crate) fn fetch_all(&self, user: Digest, recipients: &[Digest]) -> Handle {
        recipients.iter().for_each(|recipient| self.recipients.fetch(*recipient));
        self.users.handle(user)
    }

    /// Looks at a user who wants to write to a recipient.
    pub(crate) fn look(&mut self, user: Digest, recipient: Digest, now: Timestamp) -> Look<'_> {
        let Self { users, recipients, under_way, held } = self;
        let under_way = under_way.entry(user);
        Look { user, recipient, users, under_way, recipients, held, now }
    }

    /// Counts a message under way as sent.
    pub(crate) fn commit(&mut self, user: Handle, recipients: &[Digest], now: Timestamp) {
        let (bucket, mut tally) = (DAY.bucket(now), Tally::MESSAGE);
        let is_live = |last| DAY.is_live(last, now);
        let mut none = UnderWay::default();
        let mut under_way = self.under_way.entry(user.digest);
        let counted = match &mut under_way {
            Entry::Occupied(under_way) => under_way.get_mut(),
            Entry::Vacant(_) => &mut none,
        };
        counted.messages = counted.messages.saturating_sub(1);
        let mut superseded = None;
        for recipient in recipients {
            let before = self.recipients.set(*recipient, bucket, bucket, is_live);
            if counted.unread == Some(*recipient) {
                counted.unread = None;
                counted.recipients = counted.recipients.saturating_sub(1);
                tally.add(Tally::RECIPIENT);
                superseded = before.filter(|before| is_live(*before));
                continue;
            }
            let Entry::Occupied(mut hold) = self.held.entry(*recipient) else { continue };
            let Hold { holders, last } = hold.get_mut();
            *holders = holders.saturating_sub(1);
            match (*holders, last.replace(bucket)) {
                (0, last) => {
                    counted.recipients = counted.recipients.saturating_sub(1);
                    if last.is_some() {
                        counted.known = counted.known.saturating_sub(1);
                    }
                    tally.add(Tally::RECIPIENT);
                    hold.remove();
                }
                (_, None) => counted.known = counted.known.saturating_add(1),
                (_, Some(_)) => {}
            }
        }
        if let Entry::Occupied(under_way) = under_way
            && under_way.get().is_over()
        {
            under_way.remove();
        }
        self.users.change(user, |sent| {
            sent.advance(now);
            if let Some(before) = superseded {
                sent.subtract(before, Tally::RECIPIENT, now);
            }
            sent.add(bucket, tally, now);
        });
    }

    /// Lets go what a message held: recipients and, with `message`, itself.
    pub(crate) fn give_back(
        &mut self,
        user: Digest,
        recipients: &[Digest],
        message: bool,
        now: Timestamp,
    ) {
        let Entry::Occupied(mut place) = self.under_way.entry(user) else { return };
        let under_way = place.get_mut();
        if message {
            under_way.messages = under_way.messages.saturating_sub(1);
        }
        for recipient in recipients {
            if under_way.unread == Some(*recipient) {
                under_way.unread = None;
                under_way.recipients = under_way.recipients.saturating_sub(1);
                continue;
            }
            let Entry::Occupied(mut hold) = self.held.entry(*recipient) else { continue };
            hold.get_mut().holders = hold.get().holders.saturating_sub(1);
            if hold.get().holders > 0 {
                continue;
            }
            under_way.recipients = under_way.recipients.saturating_sub(1);
            let Some(last) = hold.remove().last else { continue };
            under_way.known = under_way.known.saturating_sub(1);
            if DAY.is_live(last, now) {
                let handle = self.users.handle(user);
                self.users.change(handle, |sent| sent.add(last, Tally::RECIPIENT, now));
            }
        }
        if under_way.is_over() {
            place.remove();
        }
    }

    /// Counts a message of the past, in a live bucket.
    pub(crate) fn replay(
        &mut self,
        user: Digest,
        recipients: impl Iterator<Item = Digest>,
        bucket: u32,
        now: Timestamp,
    ) {
        self.settle(user, now);
        let user = self.users.handle(user);
        for recipient in recipients {
            self.count(user, recipient, bucket, now);
        }
        self.users.change(user, |sent| {
            sent.advance(now);
            sent.add(bucket, Tally::MESSAGE, now);
        });
    }

    pub(crate) fn usage(&mut self, user: Digest, limits: &Limits, now: Timestamp) -> [QuotaUse; 2] {
        let under_way = self.settle(user, now);
        let sent = self.users.get_mut(self.users.handle(user));
        let standing = Standing::of(sent, under_way, now);
        [standing.message_use(limits), standing.unique_use(limits)]
    }

    /// Looks up what was not yet, and returns what is under way.
    fn settle(&mut self, user: Digest, now: Timestamp) -> UnderWay {
        let Some(under_way) = self.under_way.get_mut(&user) else {
            return UnderWay::default();
        };
        under_way.settle(user, &mut self.users, &self.recipients, &mut self.held, now);
        *under_way
    }

    /// Frees the memory of what has left the window, in one of `parts` parts.
    pub(crate) fn prune(&mut self, part: usize, parts: usize, now: Timestamp) {
        let today = DAY.bucket(now);
        self.users.prune(part, parts, now);
        self.recipients.sweep(part, parts, today, |last| DAY.is_live(last, now));
        self.under_way.shrink_to_fit();
        self.held.shrink_to_fit();
    }

    /// The window was left behind in one step: nothing that was sent counts any more.
    pub(crate) fn forget_sent(&mut self) {
        self.users.forget_sent();
        self.recipients = RecipientTable::default();
    }

    /// How many users and recipients of messages that left take memory.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.users.len(), self.recipients.len())
    }

    /// Notes a message to a recipient in a bucket, unless there is one in a later bucket.
    fn count(&mut self, user: Handle, recipient: Digest, bucket: u32, now: Timestamp) {
        let before = last_live(&self.recipients, recipient, now);
        let bucket = before.map_or(bucket, |before| before.max(bucket));
        let is_live = |last| DAY.is_live(last, now);
        self.recipients.set(recipient, bucket, DAY.bucket(now), is_live);
        if let Some(hold) = self.held.get_mut(&recipient) {
            if let Some(under_way) =
                self.under_way.get_mut(&user.digest).filter(|_| hold.last.is_none())
            {
                under_way.known = under_way.known.saturating_add(1);
            }
            hold.last = hold.last.max(Some(bucket));
        } else {
            self.users.change(user, |sent| {
                sent.advance(now);
                if let Some(before) = before {
                    sent.subtract(before, Tally::RECIPIENT, now);
                }
                sent.add(bucket, Tally::RECIPIENT, now);
            });
        }
    }
}

/// The bucket of the last message to a recipient in the window.
fn last_live(recipients: &RecipientTable, recipient: Digest, now: Timestamp) -> Option<u32> {
    recipients.get(recipient, DAY.bucket(now)).filter(|last| DAY.is_live(*last, now))
}

impl UnderWay {
    /// Looks the latest recipient up, if that was not done yet. So a reservation waits for no memory: the
    /// next one of the same user finds what this one has fetched.
    fn settle(
        &mut self,
        user: Digest,
        users: &mut UserTable,
        recipients: &RecipientTable,
        held: &mut HashMap<Digest, Hold, DigestBuild>,
        now: Timestamp,
    ) {
        let Some(recipient) = self.unread.take() else { return };
        let last = last_live(recipients, recipient, now);
        if let Some(last) = last {
            if let Some(sent) = users.get_mut(users.handle(user)) {
                sent.subtract(last, Tally::RECIPIENT, now);
            }
            self.known = self.known.saturating_add(1);
        }
        held.insert(recipient, Hold { holders: 1, last });
    }

    fn is_over(&self) -> bool {
        self.messages == 0 && self.recipients == 0
    }
}

impl<'u> Standing<'u> {
    fn of(sent: Option<&'u mut SentByUser>, under_way: UnderWay, now: Timestamp) -> Self {
        let sent = sent.map(|sent| {
            sent.advance(now);
            &*sent
        });
        Self { sent, sum: sent.map(SentByUser::sum).unwrap_or_default(), under_way, now }
    }

    /// Different recipients that were written to, and further ones that messages under way have.
    fn unique(&self) -> (u32, u32) {
        let UnderWay { recipients, known, .. } = self.under_way;
        (self.sum.recipients.saturating_add(known), recipients.saturating_sub(known))
    }

    fn message_use(&self, limits: &Limits) -> QuotaUse {
        let allowed = limits.messages_per_user_per_day;
        let counted = (self.sum.messages, self.under_way.messages);
        used(QuotaLimit::MessagesPerUserPerDay, allowed, counted, DAY, self.now, |need| {
            self.sent?.free_again(need, |tally| tally.messages, self.now)
        })
    }

    fn unique_use(&self, limits: &Limits) -> QuotaUse {
        let allowed = limits.unique_recipients_per_user_per_day;
        let limit = QuotaLimit::UniqueRecipientsPerUserPerDay;
        used(limit, allowed, self.unique(), DAY, self.now, |need| {
            self.sent?.free_again(need, |tally| tally.recipients, self.now)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_millis(1_600_000_200_000 + minutes * 60_000)
    }

    const DAY_MINUTES: u64 = 24 * 60;
    const LIMITS: Limits = Limits {
        recipients_per_day: 9,
        recipients_per_10_minutes: 9,
        messages_per_user_per_day: 9,
        unique_recipients_per_user_per_day: 1,
        recipients_per_login_per_day: None,
        recipients_per_client_per_day: None,
        mode: crate::LimitMode::Enforce,
    };

    fn digest(name: &str) -> Digest {
        let mailbox = format!("{name}@a.example").parse().unwrap();
        Digest::of_organization([1; 16], "").of_mailbox(&mailbox)
    }

    fn unique(ledger: &mut UserLedger, now: Timestamp) -> (u32, u32) {
        let found = ledger.usage(digest("marie"), &LIMITS, now)[1];
        (found.used, found.reserved)
    }

    #[test]
    fn a_reservation_outlives_the_bucket_of_the_message_before_d13() {
        let (mut ledger, marie, to) = (UserLedger::default(), digest("marie"), digest("to"));
        ledger.look(marie, to, at(0)).reserve(true);
        ledger.commit(Handle::new(marie, None), &[to], at(0));
        assert_eq!(unique(&mut ledger, at(0)), (1, 0));
        ledger.look(marie, to, at(DAY_MINUTES)).reserve(true);
        let later = at(DAY_MINUTES + 10);
        ledger.prune(0, 1, later);
        let (used, reserved) = unique(&mut ledger, later);
        assert_eq!(used + reserved, 1, "still held");
        assert!(ledger.look(marie, digest("other"), later).refusal(false, &LIMITS).is_some());
        assert!(ledger.look(marie, to, later).refusal(false, &LIMITS).is_none());
        ledger.commit(Handle::new(marie, None), &[to], later);
        assert_eq!(unique(&mut ledger, later), (1, 0));
    }

    #[test]
    fn a_released_recipient_returns_to_its_bucket() {
        let (mut ledger, marie, to) = (UserLedger::default(), digest("marie"), digest("to"));
        ledger.look(marie, to, at(0)).reserve(true);
        ledger.commit(Handle::new(marie, None), &[to], at(0));
        ledger.look(marie, to, at(60)).reserve(true);
        ledger.give_back(marie, &[to], true, at(70));
        assert_eq!(unique(&mut ledger, at(70)), (1, 0));
        assert_eq!(ledger.usage(marie, &LIMITS, at(70))[1].room_at, Some(at(DAY_MINUTES + 5)));
        ledger.prune(0, 1, at(DAY_MINUTES + 5));
        assert_eq!(ledger.size(), (0, 0));
    }
}
