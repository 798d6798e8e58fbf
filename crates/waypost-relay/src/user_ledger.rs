//! How much each user has relayed, and to whom.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use waypost_types::Timestamp;

use crate::digest::{Digest, DigestBuild};
use crate::limits::Limits;
use crate::quota::{QuotaLimit, QuotaRefusal, QuotaUse, is_near, used};
use crate::recipient_table::RecipientTable;
use crate::sent_by_user::SentByUser;
use crate::user_table::UserTable;
use crate::window::{DAY, Tally, long, short};

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
}

/// How much of a user's limits is taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    messages: u32,
    unique: u32,
}

impl Taken {
    /// Whether one more may bring a limit near its end; said of few that it does not.
    pub(crate) fn may_be_near(self, limits: &Limits) -> bool {
        is_near(self.messages.saturating_add(1), limits.messages_per_user_per_day)
            || is_near(self.unique.saturating_add(1), limits.unique_recipients_per_user_per_day)
    }
}

impl UserLedger {
    /// What is taken already, and the refusal of one more recipient, with `first` of one more message.
    pub(crate) fn refusal(
        &mut self,
        user: Digest,
        recipient: Digest,
        first: bool,
        limits: &Limits,
        now: Timestamp,
    ) -> (Taken, Option<QuotaRefusal>) {
        let standing = self.standing(user, now);
        let (sent, held) = standing.unique();
        let taken = Taken {
            messages: standing.sum.messages.saturating_add(standing.under_way.messages),
            unique: sent.saturating_add(held),
        };
        if first && let Some(refusal) = standing.message_use(limits, now).refusal() {
            return (taken, Some(refusal));
        }
        if taken.unique < limits.unique_recipients_per_user_per_day {
            return (taken, None);
        }
        let Some(refusal) = standing.unique_use(limits, now).refusal() else {
            return (taken, None);
        };
        let is_known = self.held.contains_key(&recipient)
            || last_live(&self.recipients, recipient, now).is_some();
        (taken, (!is_known).then_some(refusal))
    }

    /// Holds a recipient, with `first` its message too.
    pub(crate) fn reserve(&mut self, user: Digest, recipient: Digest, first: bool, now: Timestamp) {
        let Self { users, recipients, under_way, held } = self;
        let under_way = under_way.entry(user).or_default();
        if first {
            under_way.messages = under_way.messages.saturating_add(1);
        }
        let hold = held.entry(recipient).or_insert_with(|| {
            let last = last_live(recipients, recipient, now);
            if let Some(last) = last {
                if let Some(sent) = users.get_mut(user) {
                    sent.subtract(last, Tally::RECIPIENT, now);
                }
                under_way.known = under_way.known.saturating_add(1);
            }
            under_way.recipients = under_way.recipients.saturating_add(1);
            Hold { holders: 0, last }
        });
        hold.holders = hold.holders.saturating_add(1);
    }

    /// Counts a message under way as sent.
    pub(crate) fn commit(&mut self, user: Digest, recipients: &[Digest], now: Timestamp) {
        let bucket = DAY.bucket(now);
        for recipient in recipients {
            self.count(user, *recipient, bucket, now);
        }
        if let Some(sent) = self.users.entry(user) {
            sent.advance(now);
            sent.add(bucket, Tally::MESSAGE, now);
        }
        self.give_back(user, recipients, true, now);
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
            let Entry::Occupied(mut hold) = self.held.entry(*recipient) else { continue };
            hold.get_mut().holders = hold.get().holders.saturating_sub(1);
            if hold.get().holders > 0 {
                continue;
            }
            under_way.recipients = under_way.recipients.saturating_sub(1);
            let Some(last) = hold.remove().last else { continue };
            under_way.known = under_way.known.saturating_sub(1);
            if DAY.is_live(last, now)
                && let Some(sent) = self.users.entry(user)
            {
                sent.add(last, Tally::RECIPIENT, now);
            }
        }
        if under_way.messages == 0 && under_way.recipients == 0 {
            place.remove();
        }
    }

    /// Counts a message of the past, in a live bucket.
    pub(crate) fn replay(
        &mut self,
        user: Digest,
        recipients: &[Digest],
        bucket: u32,
        now: Timestamp,
    ) {
        for recipient in recipients {
            self.count(user, *recipient, bucket, now);
        }
        if let Some(sent) = self.users.entry(user) {
            sent.advance(now);
            sent.add(bucket, Tally::MESSAGE, now);
        }
    }

    pub(crate) fn usage(&mut self, user: Digest, limits: &Limits, now: Timestamp) -> [QuotaUse; 2] {
        let standing = self.standing(user, now);
        [standing.message_use(limits, now), standing.unique_use(limits, now)]
    }

    /// Frees the memory of what has left the window, in one of `parts` parts.
    pub(crate) fn prune(&mut self, part: usize, parts: usize, now: Timestamp) {
        let today = DAY.bucket(now);
        self.users.prune(part, parts, now);
        self.recipients.sweep(part, parts, |last| DAY.is_live(long(last, today), now));
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

    fn standing(&mut self, user: Digest, now: Timestamp) -> Standing<'_> {
        let under_way = self.under_way.get(&user).copied().unwrap_or_default();
        let sent = self.users.get_mut(user).map(|sent| {
            sent.advance(now);
            &*sent
        });
        Standing { sent, sum: sent.map(SentByUser::sum).unwrap_or_default(), under_way }
    }

    /// Notes a message to a recipient in a bucket, unless there is one in a later bucket.
    fn count(&mut self, user: Digest, recipient: Digest, bucket: u32, now: Timestamp) {
        let today = DAY.bucket(now);
        let before = last_live(&self.recipients, recipient, now);
        let bucket = before.map_or(bucket, |before| before.max(bucket));
        let is_live = |last| DAY.is_live(long(last, today), now);
        self.recipients.set(recipient, short(bucket), is_live);
        if let Some(hold) = self.held.get_mut(&recipient) {
            if let Some(under_way) = self.under_way.get_mut(&user).filter(|_| hold.last.is_none()) {
                under_way.known = under_way.known.saturating_add(1);
            }
            hold.last = hold.last.max(Some(bucket));
        } else if let Some(sent) = self.users.entry(user) {
            sent.advance(now);
            if let Some(before) = before {
                sent.subtract(before, Tally::RECIPIENT, now);
            }
            sent.add(bucket, Tally::RECIPIENT, now);
        }
    }
}

/// The bucket of the last message to a recipient in the window.
fn last_live(recipients: &RecipientTable, recipient: Digest, now: Timestamp) -> Option<u32> {
    let last = long(recipients.get(recipient)?, DAY.bucket(now));
    DAY.is_live(last, now).then_some(last)
}

impl Standing<'_> {
    /// Different recipients that were written to, and further ones that messages under way have.
    fn unique(&self) -> (u32, u32) {
        let UnderWay { recipients, known, .. } = self.under_way;
        (self.sum.recipients.saturating_add(known), recipients.saturating_sub(known))
    }

    fn message_use(&self, limits: &Limits, now: Timestamp) -> QuotaUse {
        let allowed = limits.messages_per_user_per_day;
        let counted = (self.sum.messages, self.under_way.messages);
        used(QuotaLimit::MessagesPerUserPerDay, allowed, counted, DAY, now, |need| {
            self.sent?.free_again(need, |tally| tally.messages, now)
        })
    }

    fn unique_use(&self, limits: &Limits, now: Timestamp) -> QuotaUse {
        let allowed = limits.unique_recipients_per_user_per_day;
        let limit = QuotaLimit::UniqueRecipientsPerUserPerDay;
        used(limit, allowed, self.unique(), DAY, now, |need| {
            self.sent?.free_again(need, |tally| tally.recipients, now)
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
        Digest::of_user([1; 16], "", &format!("{name}@a.example").parse().unwrap())
    }

    fn unique(ledger: &mut UserLedger, now: Timestamp) -> (u32, u32) {
        let found = ledger.usage(digest("marie"), &LIMITS, now)[1];
        (found.used, found.reserved)
    }

    #[test]
    fn a_reservation_outlives_the_bucket_of_the_message_before_d13() {
        let (mut ledger, marie, to) = (UserLedger::default(), digest("marie"), digest("to"));
        ledger.reserve(marie, to, true, at(0));
        ledger.commit(marie, &[to], at(0));
        assert_eq!(unique(&mut ledger, at(0)), (1, 0));
        ledger.reserve(marie, to, true, at(DAY_MINUTES));
        let later = at(DAY_MINUTES + 10);
        ledger.prune(0, 1, later);
        let (used, reserved) = unique(&mut ledger, later);
        assert_eq!(used + reserved, 1, "still held");
        assert!(ledger.refusal(marie, digest("other"), false, &LIMITS, later).1.is_some());
        assert!(ledger.refusal(marie, to, false, &LIMITS, later).1.is_none());
        ledger.commit(marie, &[to], later);
        assert_eq!(unique(&mut ledger, later), (1, 0));
    }

    #[test]
    fn a_released_recipient_returns_to_its_bucket() {
        let (mut ledger, marie, to) = (UserLedger::default(), digest("marie"), digest("to"));
        ledger.reserve(marie, to, true, at(0));
        ledger.commit(marie, &[to], at(0));
        ledger.reserve(marie, to, true, at(60));
        ledger.give_back(marie, &[to], true, at(70));
        assert_eq!(unique(&mut ledger, at(70)), (1, 0));
        assert_eq!(ledger.usage(marie, &LIMITS, at(70))[1].room_at, Some(at(DAY_MINUTES + 5)));
        ledger.prune(0, 1, at(DAY_MINUTES + 5));
        assert_eq!(ledger.size(), (0, 0));
    }
}
