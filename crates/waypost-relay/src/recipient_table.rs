//! When each user's recipients were last written to.

use crate::digest::Digest;

/// Shards grow one at a time, so that growing never takes long.
const SHARDS: usize = 256;

/// For each recipient of a user the bucket of the last message, by digest: open addressing with
/// 18 octets a place, of which at least 64 and at most 80 in 100 are taken, so a recipient takes 22 to
/// 28 octets. What has left the window stays until [`RecipientTable::sweep`] comes to it, or room is needed.
///
/// Buckets are kept in 16 bits: see `short` and `long` of [`crate::window`].
#[derive(Debug)]
pub(crate) struct RecipientTable {
    shards: Vec<Shard>,
}

/// A place; all digests but that of a free one differ from 0.
#[derive(Clone, Copy, Debug)]
struct Place {
    digest: [u8; 16],
    last: [u8; 2],
}

const FREE: Place = Place { digest: [0; 16], last: [0; 2] };

#[derive(Clone, Debug, Default)]
struct Shard {
    places: Vec<Place>,
    taken: usize,
}

impl Default for RecipientTable {
    fn default() -> Self {
        Self { shards: vec![Shard::default(); SHARDS] }
    }
}

impl RecipientTable {
    /// The bucket of the last message to a recipient, in or out of the window.
    pub(crate) fn get(&self, recipient: Digest) -> Option<u16> {
        let shard = self.shards.get(recipient.shard(SHARDS))?;
        let found = shard.places.get(shard.find(recipient.to_octets(), recipient.place())?)?;
        (found.digest != FREE.digest).then(|| u16::from_ne_bytes(found.last))
    }

    /// Notes the bucket of a message. Where room is short, what `is_live` denies is forgotten first.
    pub(crate) fn set(&mut self, recipient: Digest, last: u16, is_live: impl Fn(u16) -> bool) {
        let Some(shard) = self.shards.get_mut(recipient.shard(SHARDS)) else { return };
        let place = Place { digest: recipient.to_octets(), last: last.to_ne_bytes() };
        if let Some(known) = shard.known(recipient) {
            known.last = place.last;
            return;
        }
        if (shard.taken + 1) * 5 > shard.places.len() * 4 {
            shard.rebuild(1, &is_live);
        }
        shard.insert(place);
    }

    /// Forgets what `is_live` denies in one of `parts` parts, which divide the table evenly, and gives
    /// the room back.
    pub(crate) fn sweep(&mut self, part: usize, parts: usize, is_live: impl Fn(u16) -> bool) {
        for shard in self.shards.iter_mut().skip(part).step_by(parts) {
            if !shard.places.is_empty() {
                shard.rebuild(0, &is_live);
            }
        }
    }

    /// How many recipients are held, live or not.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.taken).sum()
    }
}

impl Shard {
    /// The place that holds the digest, or the free one where it would go; `None` without places.
    fn find(&self, digest: [u8; 16], hash: u64) -> Option<usize> {
        let start = usize::try_from(scaled(hash, self.places.len())).ok()?;
        let (wrapped, first) = self.places.split_at_checked(start)?;
        let wanted = |place: &Place| place.digest == digest || place.digest == FREE.digest;
        first
            .iter()
            .position(wanted)
            .map(|found| start + found)
            .or_else(|| wrapped.iter().position(wanted))
    }

    fn known(&mut self, recipient: Digest) -> Option<&mut Place> {
        let found = self.find(recipient.to_octets(), recipient.place())?;
        self.places.get_mut(found).filter(|place| place.digest != FREE.digest)
    }

    fn insert(&mut self, place: Place) {
        let hash = Digest::place_of(place.digest);
        if let Some(found) = self.find(place.digest, hash)
            && let Some(free) = self.places.get_mut(found)
        {
            *free = place;
            self.taken += 1;
        }
    }

    /// Lays the live places out anew, with room for `more` before the shard is full again.
    fn rebuild(&mut self, more: usize, is_live: &impl Fn(u16) -> bool) {
        let live =
            |place: &&Place| place.digest != FREE.digest && is_live(u16::from_ne_bytes(place.last));
        let count = self.places.iter().filter(live).count() + more;
        // 64 in 100 are taken, then 80 in 100 before the next time.
        let room = (count * 25).div_ceil(16);
        let old = std::mem::replace(self, Shard { places: vec![FREE; room], taken: 0 });
        old.places.iter().filter(live).for_each(|place| self.insert(*place));
    }
}

/// `hash` scaled to below `count`.
fn scaled(hash: u64, count: usize) -> u128 {
    (u128::from(hash) * count as u128) >> 64
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use waypost_types::Mailbox;

    use super::*;

    fn digest(number: u16) -> Digest {
        let mailbox: Mailbox = format!("r{number}@a.example").parse().unwrap();
        Digest::of_user([1; 16], "", &mailbox)
    }

    #[test]
    fn a_recipient_takes_at_most_28_octets() {
        assert_eq!(size_of::<Place>(), 18);
        let mut table = RecipientTable::default();
        for number in 0..60_000 {
            table.set(digest(number), 1, |_| true);
        }
        let places: usize = table.shards.iter().map(|shard| shard.places.capacity()).sum();
        assert_eq!(table.len(), 60_000);
        assert!(places * 18 <= 60_000 * 29, "{places} places");
    }

    proptest! {
        #[test]
        fn the_table_is_a_map_that_forgets_only_what_has_left_the_window(
            steps in prop::collection::vec((0u16..300, 0u16..3, 0u8..20), 1..600)
        ) {
            let (mut table, mut model) = (RecipientTable::default(), HashMap::new());
            let mut now = 20;
            for (number, later, sweep) in steps {
                now += later;
                let live = |last: u16| last + 10 > now;
                table.set(digest(number), now, live);
                model.insert(number, now);
                if sweep == 0 {
                    table.sweep(0, 1, live);
                    let live = model.values().filter(|last| live(**last)).count();
                    prop_assert_eq!(table.len(), live);
                }
                for (number, last) in &model {
                    let found = table.get(digest(*number));
                    prop_assert!(found == Some(*last) || (found.is_none() && !live(*last)));
                }
            }
        }
    }
}
