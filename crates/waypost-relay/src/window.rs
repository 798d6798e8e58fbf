//! A sliding window that counts in buckets and errs on the strict side (D13).

use std::collections::VecDeque;
use std::slice;
use std::time::Duration;

use prefetch_index::prefetch_index;
use waypost_types::Timestamp;

/// The length of a window and of its buckets, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    bucket: u64,
    window: u64,
}

/// 24 hours in 288 buckets of five minutes.
pub(crate) const DAY: Scale = Scale { bucket: 300_000, window: 86_400_000 };
/// 10 minutes in 300 buckets of two seconds.
pub(crate) const TEN_MINUTES: Scale = Scale { bucket: 2_000, window: 600_000 };

/// The last moment that every scale can number (in 2242); the ledger's clock stops there.
pub(crate) const END: Timestamp = Timestamp::from_millis(u32::MAX as u64 * 2_000);

impl Scale {
    /// How many buckets come to a window.
    pub(crate) const fn buckets(self) -> u32 {
        (self.window / self.bucket) as u32
    }

    /// The number of the bucket that holds `at`.
    pub(crate) fn bucket(self, at: Timestamp) -> u32 {
        u32::try_from(at.as_millis() / self.bucket).unwrap_or(u32::MAX)
    }

    /// When a bucket begins.
    pub(crate) fn begin(self, bucket: u32) -> Timestamp {
        Timestamp::from_millis(u64::from(bucket) * self.bucket)
    }

    /// When what is counted in a bucket is free again: a window after the bucket's end, so never
    /// too early, and late by less than a bucket.
    pub(crate) fn free_at(self, bucket: u32) -> Timestamp {
        Timestamp::from_millis((u64::from(bucket) + 1) * self.bucket + self.window)
    }

    pub(crate) fn is_live(self, bucket: u32, now: Timestamp) -> bool {
        self.free_at(bucket) > now
    }

    /// When what is counted at `now` will be free.
    pub(crate) fn free_if_counted(self, now: Timestamp) -> Timestamp {
        now + Duration::from_millis(self.bucket + self.window)
    }
}

/// A bucket's number in 16 bits, which take 227 days of five minutes to come round.
pub(crate) fn short(bucket: u32) -> u16 {
    (bucket & 0xFFFF) as u16
}

/// The bucket that a short number stands for: the latest up to `now` that has it.
pub(crate) fn long(short: u16, now: u32) -> u32 {
    now.saturating_sub(u32::from(self::short(now).wrapping_sub(short)))
}

/// Messages and recipients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) messages: u32,
    pub(crate) recipients: u32,
}

impl Tally {
    pub(crate) const MESSAGE: Tally = Tally { messages: 1, recipients: 0 };
    pub(crate) const RECIPIENT: Tally = Tally { messages: 0, recipients: 1 };
}

/// What a [`Window`] counts.
pub(crate) trait Count: Copy + Default + PartialEq {
    fn add(&mut self, other: Self);
    fn subtract(&mut self, other: Self);
}

impl Count for Tally {
    fn add(&mut self, other: Self) {
        self.messages = self.messages.saturating_add(other.messages);
        self.recipients = self.recipients.saturating_add(other.recipients);
    }

    fn subtract(&mut self, other: Self) {
        self.messages = self.messages.saturating_sub(other.messages);
        self.recipients = self.recipients.saturating_sub(other.recipients);
    }
}

impl Count for u32 {
    fn add(&mut self, other: Self) {
        *self = self.saturating_add(other);
    }

    fn subtract(&mut self, other: Self) {
        *self = self.saturating_sub(other);
    }
}

/// What was counted, by bucket; a bucket in which nothing was counted takes no room. 4 octets and a count
/// a bucket, at most 302 buckets, and a quarter more than there are.
///
/// The newest `RECENT` buckets and the number of the oldest are at hand. They go to the others, which lie
/// elsewhere in memory, all at once when their room is needed; so most of the counting looks at no other
/// memory as long as nothing leaves.
#[derive(Clone, Debug)]
pub(crate) struct Window<C = Tally, const RECENT: usize = 1> {
    sum: C,
    oldest: u32,
    /// How many of `recent` there are.
    count: u32,
    /// The newest, oldest first.
    recent: [(u32, C); RECENT],
    /// All before them, oldest first.
    older: VecDeque<(u32, C)>,
}

impl<C: Count, const RECENT: usize> Default for Window<C, RECENT> {
    fn default() -> Self {
        let (sum, recent) = (C::default(), [<(u32, C)>::default(); RECENT]);
        Self { sum, oldest: 0, count: 0, recent, older: VecDeque::new() }
    }
}

impl<C: Count, const RECENT: usize> Window<C, RECENT> {
    /// What is counted; [`Window::advance`] comes first.
    pub(crate) fn sum(&self) -> C {
        self.sum
    }

    /// What is counted at a moment, whether the window was advanced to it or not.
    pub(crate) fn sum_at(&self, scale: Scale, now: Timestamp) -> C {
        if self.len() == 0 || scale.is_live(self.oldest, now) {
            return self.sum;
        }
        let live = self.slots().filter(|(bucket, _)| scale.is_live(*bucket, now));
        live.fold(C::default(), |mut sum, (_, tally)| {
            sum.add(tally);
            sum
        })
    }

    /// What was counted, by bucket, oldest first.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (u32, C)> {
        self.older.iter().chain(self.recent()).copied()
    }

    /// Whether another bucket takes more memory.
    pub(crate) fn is_full(&self) -> bool {
        self.recent().len() == RECENT && self.older.capacity() - self.older.len() < RECENT
    }

    /// How many buckets take room.
    pub(crate) fn len(&self) -> usize {
        self.older.len() + self.recent().len()
    }

    /// Begins to fetch what counting looks at.
    pub(crate) fn fetch(&self) {
        prefetch_index(slice::from_ref(&self.older), 0);
        prefetch_index(slice::from_ref(&self.sum), 0);
    }

    fn recent(&self) -> &[(u32, C)] {
        self.recent.get(..self.count as usize).unwrap_or_default()
    }

    /// Forgets what has left the window.
    pub(crate) fn advance(&mut self, scale: Scale, now: Timestamp) {
        if self.len() == 0 || scale.is_live(self.oldest, now) {
            return;
        }
        while let Some((_, tally)) = self.older.pop_front_if(|slot| !scale.is_live(slot.0, now)) {
            self.sum.subtract(tally);
        }
        if self.older.is_empty() {
            self.older = VecDeque::new();
            let dead = |slot: &&(u32, C)| !scale.is_live(slot.0, now);
            let dead = self.recent().iter().take_while(dead).count();
            for (_, tally) in self.recent.iter().take(dead) {
                self.sum.subtract(*tally);
            }
            self.recent.copy_within(dead.., 0);
            self.count = self.count.saturating_sub(dead as u32);
        }
        let oldest = self.slots().next();
        match oldest {
            Some((bucket, _)) => self.oldest = bucket,
            None => *self = Self::default(),
        }
    }

    pub(crate) fn add(&mut self, bucket: u32, tally: C) {
        self.oldest = if self.len() == 0 { bucket } else { self.oldest.min(bucket) };
        self.sum.add(tally);
        let newest = self.recent().last().or_else(|| self.older.back()).map(|slot| slot.0);
        if newest.is_none_or(|newest| newest < bucket) {
            if self.recent().len() == RECENT {
                self.put_away();
            }
            if let Some(slot) = self.recent.get_mut(self.count as usize) {
                *slot = (bucket, tally);
                self.count += 1;
            }
        } else if let Some(counted) = self.counted(bucket) {
            counted.add(tally);
        } else {
            // A step back in time that no message was sent in.
            self.put_away();
            let place = self.older.partition_point(|slot| slot.0 < bucket);
            self.older.insert(place, (bucket, tally));
        }
    }

    /// Takes back what was added to a bucket.
    pub(crate) fn subtract(&mut self, bucket: u32, tally: C) {
        if let Some(counted) = self.counted(bucket) {
            counted.subtract(tally);
            self.sum.subtract(tally);
        }
    }

    /// What a bucket counts.
    fn counted(&mut self, bucket: u32) -> Option<&mut C> {
        let recent = self.recent().iter().rposition(|slot| slot.0 == bucket);
        let slot = match recent {
            Some(index) => self.recent.get_mut(index),
            None => {
                let index = self.older.binary_search_by_key(&bucket, |slot| slot.0).ok()?;
                self.older.get_mut(index)
            }
        };
        slot.map(|(_, counted)| counted)
    }

    /// Makes room for recent buckets.
    fn put_away(&mut self) {
        if self.older.capacity() - self.older.len() < RECENT {
            // In small steps: twice the room would be half empty.
            self.older.reserve_exact(self.older.len() / 4 + RECENT + 1);
        }
        self.older.extend(self.recent.iter().take(self.count as usize));
        self.count = 0;
    }

    /// When `need` of what `pick` counts will have left the window; `None` when there is not so much.
    pub(crate) fn free_again(
        &self,
        scale: Scale,
        need: u32,
        pick: fn(&C) -> u32,
    ) -> Option<Timestamp> {
        self.free_again_at(scale, Timestamp::default(), need, pick)
    }

    /// The same of a window that was not advanced to `now`.
    pub(crate) fn free_again_at(
        &self,
        scale: Scale,
        now: Timestamp,
        need: u32,
        pick: fn(&C) -> u32,
    ) -> Option<Timestamp> {
        let mut left = need;
        for (bucket, tally) in self.slots().filter(|(bucket, _)| scale.is_live(*bucket, now)) {
            left = left.saturating_sub(pick(&tally));
            if left == 0 {
                return Some(scale.free_at(bucket));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_are_at_most_1_of_288_d13() {
        for scale in [DAY, TEN_MINUTES] {
            assert!(scale.bucket * 288 <= scale.window);
            assert_eq!(scale.window % scale.bucket, 0);
            assert!(scale.is_live(scale.bucket(END), END), "the end of time is counted");
        }
    }

    #[test]
    fn what_is_counted_leaves_after_the_window_and_within_a_bucket() {
        let at = Timestamp::from_millis(7_000);
        let mut window = Window::<Tally>::default();
        window.add(TEN_MINUTES.bucket(at), Tally::RECIPIENT);
        for (millis, want) in [(7_000, 1), (607_000, 1), (607_999, 1), (608_000, 0), (u64::MAX, 0)]
        {
            let mut later = window.clone();
            later.advance(TEN_MINUTES, Timestamp::from_millis(millis));
            assert_eq!(later.sum().recipients, want, "{millis}");
        }
        let free = window.free_again(TEN_MINUTES, 1, |tally| tally.recipients);
        assert_eq!(free, Some(Timestamp::from_millis(608_000)));
        assert_eq!(window.free_again(TEN_MINUTES, 2, |tally| tally.recipients), None);
    }

    proptest! {
        #[test]
        fn the_sum_lies_between_the_exact_window_and_one_bucket_more_d13(
            steps in prop::collection::vec(0u64..90_000, 1..200)
        ) {
            let mut window = Window::<Tally>::default();
            let mut log = Vec::new();
            let mut now = 0;
            for step in steps {
                now += step;
                let at = Timestamp::from_millis(now);
                window.advance(TEN_MINUTES, at);
                let within = |span: u64| log.iter().filter(|then| now - **then < span).count() as u32;
                let sum = window.sum().recipients;
                prop_assert!(within(600_000) <= sum && sum <= within(602_000), "{now}");
                window.add(TEN_MINUTES.bucket(at), Tally::RECIPIENT);
                log.push(now);
                prop_assert!(window.len() <= 302);
                let later = Timestamp::from_millis(now + 300_000);
                let mut advanced = window.clone();
                advanced.advance(TEN_MINUTES, later);
                prop_assert_eq!(window.sum_at(TEN_MINUTES, later), advanced.sum());
                let pick = |tally: &Tally| tally.recipients;
                prop_assert_eq!(
                    window.free_again_at(TEN_MINUTES, later, 3, pick),
                    advanced.free_again(TEN_MINUTES, 3, pick)
                );
            }
        }
    }
}
