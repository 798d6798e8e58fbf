//! When each user's recipients were last written to.

use prefetch_index::prefetch_index;

use crate::digest::{Digest, SHARD_BITS};

/// Shards grow one at a time, so that growing never takes long.
const SHARDS: usize = 1 << SHARD_BITS;

/// For each recipient of a user the bucket of the last message, by digest: open addressing with
/// 16 octets a place, of which at least 60 and at most 80 in 100 are taken, so a recipient takes 20 to
/// 27 octets. What has left the window stays until [`RecipientTable::sweep`] comes to it, or room is needed.
///
/// A look-up reads two neighbouring lines of the processor's cache at once, and seldom more.
///
/// A place holds a digest but for the bits that the shard stands for, and in their stead the number of the
/// bucket, cut to as many bits: see [`AGES`].
#[derive(Debug)]
pub(crate) struct RecipientTable {
    shards: Vec<Shard>,
}

/// How many buckets can be told apart, counted back from now: three and a half days of five minutes. What
/// is older must have been swept.
pub(crate) const AGES: u32 = 1 << SHARD_BITS;

/// The bits of a place that are its bucket.
const BUCKET: u64 = (1 << SHARD_BITS) - 1;
const LINE: usize = 4;

/// Places that are read at once; those taken come first.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Line {
    /// The upper halves of the digests; [`FREE`] where there is none.
    upper: [u64; LINE],
    lower: [u64; LINE],
}

const FREE: u64 = 0;

/// What a place holds.
#[derive(Clone, Copy, Debug)]
struct Place {
    upper: u64,
    /// With the bucket.
    lower: u64,
}

#[derive(Clone, Debug, Default)]
struct Shard {
    lines: Vec<Line>,
    taken: usize,
}

impl Default for RecipientTable {
    fn default() -> Self {
        Self { shards: vec![Shard::default(); SHARDS] }
    }
}

impl RecipientTable {
    /// The bucket of the last message to a recipient, in or out of the window that ends in bucket `today`.
    #[inline]
    pub(crate) fn get(&self, recipient: Digest, today: u32) -> Option<u32> {
        let shard = self.shards.get(recipient.shard(SHARDS))?;
        let found = shard.find(Place::new(recipient, 0))?;
        let place = shard.lines.get(found / LINE)?.place(found % LINE)?;
        Some(place.bucket(today))
    }

    /// Begins to fetch what a look-up of the recipient will read, without waiting for it.
    #[inline]
    pub(crate) fn fetch(&self, recipient: Digest) {
        let Some(shard) = self.shards.get(recipient.shard(SHARDS)) else { return };
        let first = scaled(recipient.place(), shard.lines.len());
        prefetch_index(&shard.lines, first);
        prefetch_index(&shard.lines, first + 1);
    }

    /// Notes the bucket of a message, and returns that of the last one before, in or out of the window.
    /// Where room is short, what `is_live` denies is forgotten first.
    #[inline]
    pub(crate) fn set(
        &mut self,
        recipient: Digest,
        bucket: u32,
        today: u32,
        is_live: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let shard = self.shards.get_mut(recipient.shard(SHARDS))?;
        let place = Place::new(recipient, bucket);
        let has_room = (shard.taken + 1) * 5 <= shard.lines.len() * LINE * 4;
        if let Some(found) = shard.find(place)
            && let Some(line) = shard.lines.get_mut(found / LINE)
        {
            let before = line.place(found % LINE);
            if has_room || before.is_some() {
                line.put(found % LINE, place);
                shard.taken += usize::from(before.is_none());
                return before.map(|before| before.bucket(today));
            }
        }
        shard.rebuild(1, |place| is_live(place.bucket(today)));
        shard.insert(place);
        None
    }

    /// Forgets what `is_live` denies in one of `parts` parts, which divide the table evenly, and gives
    /// the room back.
    pub(crate) fn sweep(
        &mut self,
        part: usize,
        parts: usize,
        today: u32,
        is_live: impl Fn(u32) -> bool,
    ) {
        for shard in self.shards.iter_mut().skip(part).step_by(parts) {
            if !shard.lines.is_empty() {
                shard.rebuild(0, |place| is_live(place.bucket(today)));
            }
        }
    }

    /// How many recipients are held, live or not.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.taken).sum()
    }
}

impl Place {
    fn new(digest: Digest, bucket: u32) -> Self {
        let (upper, lower) = digest.halves();
        Self { upper, lower: lower & !BUCKET | u64::from(bucket) & BUCKET }
    }

    /// The latest bucket up to `today` whose number ends so.
    fn bucket(self, today: u32) -> u32 {
        today.saturating_sub(today.wrapping_sub((self.lower & BUCKET) as u32) % AGES)
    }
}

impl Shard {
    /// The place that holds the digest, or the free one where it would go; `None` without places.
    #[inline]
    fn find(&self, wanted: Place) -> Option<usize> {
        let count = self.lines.len();
        let mut at = scaled(wanted.upper, count);
        for _ in 0..count {
            let next = if at + 1 < count { at + 1 } else { 0 };
            let (here, there) = (self.lines.get(at)?, self.lines.get(next)?);
            let mut same = here.equal(wanted.upper) | there.equal(wanted.upper) << LINE;
            let free = here.equal(FREE) | there.equal(FREE) << LINE;
            while same != 0 {
                let found = same.trailing_zeros() as usize;
                let (line, index) = if found < LINE { (here, at) } else { (there, next) };
                let lower = line.lower.get(found % LINE)?;
                if (lower ^ wanted.lower) <= BUCKET {
                    return Some(index * LINE + found % LINE);
                }
                same &= same - 1;
            }
            if free != 0 {
                let found = free.trailing_zeros() as usize;
                return Some(if found < LINE { at } else { next } * LINE + found % LINE);
            }
            at = next;
        }
        None
    }

    /// Puts a place that is not there into the first free one.
    fn insert(&mut self, place: Place) {
        let start = scaled(place.upper, self.lines.len());
        let (wrapped, first) = self.lines.split_at_mut(start);
        for line in first.iter_mut().chain(wrapped) {
            if let Some(free) = line.upper.iter().position(|upper| *upper == FREE) {
                line.put(free, place);
                self.taken += 1;
                return;
            }
        }
    }

    /// Lays the live places out anew, with room for `more` before the shard is full again.
    #[cold]
    fn rebuild(&mut self, more: usize, is_live: impl Fn(Place) -> bool) {
        let live = |place: &Place| is_live(*place);
        let count = self.lines.iter().flat_map(Line::places).filter(live).count() + more;
        // 60 in 100 are taken, then 80 in 100 before the next time.
        let room = (count * 5).div_ceil(3 * LINE);
        let lines = vec![Line::default(); room];
        let old = std::mem::replace(self, Shard { lines, taken: 0 });
        old.lines.iter().flat_map(Line::places).filter(live).for_each(|place| self.insert(place));
    }
}

impl Line {
    /// The places whose upper half is this, as bits.
    #[inline]
    fn equal(&self, upper: u64) -> u32 {
        let [a, b, c, d] = self.upper.map(|found| u32::from(found == upper));
        a | b << 1 | c << 2 | d << 3
    }

    fn place(&self, index: usize) -> Option<Place> {
        let (upper, lower) = (*self.upper.get(index)?, *self.lower.get(index)?);
        (upper != FREE).then_some(Place { upper, lower })
    }

    fn put(&mut self, index: usize, place: Place) {
        if let (Some(upper), Some(lower)) = (self.upper.get_mut(index), self.lower.get_mut(index)) {
            (*upper, *lower) = (place.upper, place.lower);
        }
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        (0..LINE).filter_map(|index| self.place(index))
    }
}

/// `hash` scaled to below `count`.
#[inline]
pub(crate) fn scaled(hash: u64, count: usize) -> usize {
    ((u128::from(hash) * count as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use waypost_types::Mailbox;

    use super::*;

    fn digest(number: u32) -> Digest {
        let mailbox: Mailbox = format!("r{number}@a.example").parse().unwrap();
        Digest::of_organization([1; 16], "").of_mailbox(&mailbox)
    }

    #[test]
    fn a_recipient_takes_at_most_27_octets() {
        assert_eq!(size_of::<Line>(), 64);
        let mut table = RecipientTable::default();
        for number in 0..200_000 {
            table.set(digest(number), 1, 1, |_| true);
            if number % 1000 == 999 && number > 100_000 {
                let lines: usize = table.shards.iter().map(|shard| shard.lines.capacity()).sum();
                let octets = lines * size_of::<Line>();
                assert!(octets <= (number as usize + 1) * 27, "{octets} octets for {number}");
            }
        }
        assert_eq!(table.len(), 200_000);
    }

    #[test]
    fn buckets_are_told_apart_as_far_back_as_ages() {
        let mut table = RecipientTable::default();
        for (bucket, today) in [(0, 0), (0, 1023), (1, 1024), (5_333_333, 5_333_333 + 1023)] {
            table.set(digest(1), bucket, bucket, |_| true);
            assert_eq!(table.get(digest(1), today), Some(bucket));
        }
    }

    proptest! {
        #[test]
        fn the_table_is_a_map_that_forgets_only_what_has_left_the_window(
            steps in prop::collection::vec((0u32..300, 0u32..3, 0u8..20), 1..600)
        ) {
            let (mut table, mut model) = (RecipientTable::default(), HashMap::new());
            let mut now = 20;
            for (number, later, sweep) in steps {
                now += later;
                let live = |last: u32| last + 10 > now;
                table.set(digest(number), now, now, live);
                model.insert(number, now);
                if sweep == 0 {
                    table.sweep(0, 1, now, live);
                    let live = model.values().filter(|last| live(**last)).count();
                    prop_assert_eq!(table.len(), live);
                }
                for (number, last) in &model {
                    let found = table.get(digest(*number), now);
                    prop_assert!(found == Some(*last) || (found.is_none() && !live(*last)));
                }
            }
        }
    }
}
