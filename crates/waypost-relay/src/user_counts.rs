//! What one user sent in the last 24 hours, and to how many different recipients.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use waypost_types::Timestamp;

use crate::window::{DAY, Tally, Window};

/// 128 bits of keyed SipHash: two addresses with one digest will not be met, and nobody without the
/// key can make them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(pub(crate) [u32; 4]);

impl std::hash::Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [first, second, ..] = self.0;
        state.write_u64(u64::from(first) << 32 | u64::from(second));
    }
}

/// Hands a digest's own bits to the hash map.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DigestBits(u64);

impl Hasher for DigestBits {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, bits: u64) {
        self.0 = bits;
    }
}

pub(crate) type DigestMap<V> = HashMap<Digest, V, BuildHasherDefault<DigestBits>>;

/// Messages and unique recipients of one user.
///
/// A recipient is in one of two places: in `seen` with the bucket of its last message, and then
/// counted in that bucket of `day`, or, while a transaction holds a reservation for it, in
/// `pending`. So a recipient whose bucket expires between RCPT and the 250 keeps its place.
/// What `seen` holds of expired buckets is stale: not counted, and swept out now and then.
#[derive(Debug, Default)]
pub(crate) struct UserCounts {
    seen: DigestMap<u32>,
    day: Window,
    pending: Option<Box<Pending>>,
}

#[derive(Debug, Default)]
struct Pending {
    messages: u32,
    recipients: DigestMap<Pin>,
}

#[derive(Debug, Default)]
struct Pin {
    /// How many reservations there are.
    holders: u32,
    /// The bucket of the last message to it, if there was one.
    last: Option<u32>,
}

impl UserCounts {
    /// Forgets what has left the window.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        self.day.advance(DAY, now);
        let live = self.day.sum().recipients as usize;
        if self.seen.len() > live.saturating_mul(2).saturating_add(16) {
            self.sweep(now);
        }
    }

    /// Frees the memory of what has left the window.
    pub(crate) fn sweep(&mut self, now: Timestamp) {
        self.day.advance(DAY, now);
        self.seen.retain(|_, last| DAY.is_live(*last, now));
        self.seen.shrink_to_fit();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.seen.is_empty() && self.pending.is_none() && self.day.sum() == Tally::default()
    }

    /// How many recipients take memory.
    pub(crate) fn held(&self) -> usize {
        self.seen.len() + self.pending.as_ref().map_or(0, |pending| pending.recipients.len())
    }

    /// Messages that were sent, and that are under way.
    pub(crate) fn messages(&self) -> (u32, u32) {
        (self.day.sum().messages, self.pending.as_ref().map_or(0, |pending| pending.messages))
    }

    /// Different recipients that were sent to, and further ones that messages under way have.
    pub(crate) fn unique(&self, now: Timestamp) -> (u32, u32) {
        let live = |pin: &&Pin| pin.last.is_some_and(|last| DAY.is_live(last, now));
        let pins = self.pending.as_ref().map_or(0, |pending| pending.recipients.len());
        let sent = self
            .pending
            .as_ref()
            .map_or(0, |pending| pending.recipients.values().filter(live).count());
        (self.day.sum().recipients.saturating_add(small(sent)), small(pins - sent))
    }

    /// As `unique`, in sum, without looking at every reservation.
    pub(crate) fn unique_in_all(&self) -> u32 {
        let pins = self.pending.as_ref().map_or(0, |pending| pending.recipients.len());
        self.day.sum().recipients.saturating_add(small(pins))
    }

    /// Whether `recipient` is counted already.
    pub(crate) fn knows(&self, recipient: Digest, now: Timestamp) -> bool {
        let pinned =
            self.pending.as_ref().is_some_and(|found| found.recipients.contains_key(&recipient));
        pinned || self.seen.get(&recipient).is_some_and(|last| DAY.is_live(*last, now))
    }

    /// When a place for one more message is free, if the limit leaves one ever.
    pub(crate) fn message_room(&self, need: u32) -> Option<Timestamp> {
        self.day.free_again(DAY, need, |tally| tally.messages)
    }

    /// When a place for one more recipient is free.
    pub(crate) fn recipient_room(&self, need: u32) -> Option<Timestamp> {
        self.day.free_again(DAY, need, |tally| tally.recipients)
    }

    pub(crate) fn reserve_message(&mut self) {
        let pending = self.pending.get_or_insert_default();
        pending.messages = pending.messages.saturating_add(1);
    }

    pub(crate) fn release_message(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.messages = pending.messages.saturating_sub(1);
        }
        self.tidy();
    }

    pub(crate) fn commit_message(&mut self, now: Timestamp) {
        self.day.add(DAY.bucket(now), Tally::MESSAGE);
        self.release_message();
    }

    pub(crate) fn reserve_recipient(&mut self, recipient: Digest, now: Timestamp) {
        let pending = self.pending.get_or_insert_default();
        let pin = pending.recipients.entry(recipient).or_insert_with(|| {
            let last = self.seen.remove(&recipient).filter(|last| DAY.is_live(*last, now));
            if let Some(last) = last {
                self.day.subtract(last, Tally::RECIPIENT);
            }
            Pin { holders: 0, last }
        });
        pin.holders = pin.holders.saturating_add(1);
    }

    pub(crate) fn release_recipient(&mut self, recipient: Digest, now: Timestamp) {
        let Some(pending) = &mut self.pending else { return };
        let Some(pin) = pending.recipients.get_mut(&recipient) else { return };
        pin.holders = pin.holders.saturating_sub(1);
        if pin.holders == 0 {
            let last = pin.last.filter(|last| DAY.is_live(*last, now));
            pending.recipients.remove(&recipient);
            if let Some(last) = last {
                self.seen.insert(recipient, last);
                self.day.add(last, Tally::RECIPIENT);
            }
        }
        self.tidy();
    }

    pub(crate) fn commit_recipient(&mut self, recipient: Digest, now: Timestamp) {
        self.record_recipient(recipient, DAY.bucket(now), now);
        self.release_recipient(recipient, now);
    }

    /// Counts a message of the past.
    pub(crate) fn record_message(&mut self, bucket: u32) {
        self.day.add(bucket, Tally::MESSAGE);
    }

    /// Counts a recipient in a live bucket, unless it is counted in a later one.
    pub(crate) fn record_recipient(&mut self, recipient: Digest, bucket: u32, now: Timestamp) {
        if let Some(pin) =
            self.pending.as_mut().and_then(|pending| pending.recipients.get_mut(&recipient))
        {
            pin.last = pin.last.max(Some(bucket));
            return;
        }
        let last = self.seen.get(&recipient).copied().filter(|last| DAY.is_live(*last, now));
        if let Some(last) = last {
            self.day.subtract(last, Tally::RECIPIENT);
        }
        let bucket = last.map_or(bucket, |last| last.max(bucket));
        self.seen.insert(recipient, bucket);
        self.day.add(bucket, Tally::RECIPIENT);
    }

    fn tidy(&mut self) {
        self.pending.take_if(|pending| pending.messages == 0 && pending.recipients.is_empty());
    }
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_millis(minutes * 60_000)
    }

    const A: Digest = Digest([1, 0, 0, 0]);
    const DAY_MINUTES: u64 = 24 * 60;

    #[test]
    fn sizes_are_as_promised() {
        assert!(size_of::<(Digest, UserCounts)>() <= 96, "{}", size_of::<(Digest, UserCounts)>());
        assert!(size_of::<(Digest, u32)>() <= 20, "{}", size_of::<(Digest, u32)>());
    }

    #[test]
    fn a_reservation_outlives_the_bucket_of_the_message_before_d13() {
        let mut user = UserCounts::default();
        user.reserve_recipient(A, at(0));
        user.commit_recipient(A, at(0));
        assert_eq!(user.unique(at(0)), (1, 0));
        user.reserve_recipient(A, at(DAY_MINUTES));
        let later = at(DAY_MINUTES + 10);
        user.advance(later);
        assert_eq!((user.unique(later), user.unique_in_all()), ((0, 1), 1), "still held");
        user.commit_recipient(A, later);
        assert_eq!(user.unique(later), (1, 0));
    }

    #[test]
    fn a_released_recipient_returns_to_its_bucket() {
        let mut user = UserCounts::default();
        user.reserve_recipient(A, at(0));
        user.commit_recipient(A, at(0));
        user.reserve_recipient(A, at(60));
        user.release_recipient(A, at(70));
        assert_eq!(user.unique(at(70)), (1, 0));
        assert_eq!(user.recipient_room(1), Some(at(DAY_MINUTES + 5)));
        user.sweep(at(DAY_MINUTES + 5));
        assert!(user.is_empty());
    }
}
