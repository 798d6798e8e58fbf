//! The users of all organizations, by digest.

use prefetch_index::prefetch_index;
use waypost_types::Timestamp;

use crate::counts_table::Handle;
use crate::digest::Digest;
use crate::recipient_table::scaled;
use crate::sent_by_user::SentByUser;
use crate::window::Tally;

/// Shards grow one at a time, so that growing never takes long.
const SHARDS: usize = 256;
/// Places whose tags are read at once.
const GROUP: usize = 8;
/// One in each octet of a group's tags.
const EACH: u64 = 0x0101_0101_0101_0101;
const FREE: u128 = 0;

/// What one user sent: 64 octets, a line of the processor's cache, and 12 for each bucket when there are
/// more than eleven.
#[derive(Debug, Default)]
#[repr(align(64))]
struct UserCounts {
    user: u128,
    sent: SentByUser,
}

/// Users by open addressing. Beside each place an octet of its user's digest says who may be there, so
/// a look-up reads a few octets that lie close together and then, as a rule, the right place alone. A second
/// octet says how much that user sent at most: enough, as a rule, to tell that no limit is near. At least
/// 77 and at most 87 in 100 places are taken, so a user takes 75 to 86 octets.
#[derive(Debug)]
pub(crate) struct UserTable {
    shards: Vec<Shard>,
}

#[derive(Debug, Default)]
struct Shard {
    groups: Vec<Group>,
    users: Vec<UserCounts>,
    taken: usize,
}

/// What is known of eight places, an octet each.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// Of the digests; 0 where a place is free.
    tags: u64,
    /// Messages or different recipients, whatever is more, at most; [`MANY`] says nothing.
    at_most: u64,
}

const MANY: u8 = u8::MAX;

impl Default for UserTable {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::default()).collect() }
    }
}

impl UserTable {
    /// Begins to fetch what tells where a user is.
    pub(crate) fn fetch(&self, user: Digest) {
        if let Some(shard) = self.shards.get(user.shard(SHARDS)) {
            prefetch_index(&shard.groups, scaled(user.place(), shard.groups.len()));
        }
    }

    /// Where a user is likely to be; what is there is fetched from now on.
    pub(crate) fn handle(&self, user: Digest) -> Handle {
        let Some(shard) = self.shards.get(user.shard(SHARDS)) else {
            return Handle::new(user, None);
        };
        let handle = Handle::new(user, shard.likely(user));
        prefetch_index(&shard.users, handle.place());
        handle
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, user: Handle) -> Option<&mut SentByUser> {
        let shard = self.shards.get_mut(user.digest.shard(SHARDS))?;
        let place = shard.place(user)?;
        shard.users.get_mut(place).map(|found| &mut found.sent)
    }

    /// Changes what a user sent, which is made when there is nothing.
    #[inline]
    pub(crate) fn change(&mut self, user: Handle, change: impl FnOnce(&mut SentByUser)) {
        let Some(shard) = self.shards.get_mut(user.digest.shard(SHARDS)) else { return };
        let Some(place) = shard.place(user).or_else(|| shard.made(user.digest)) else { return };
        let Some(counts) = shard.users.get_mut(place) else { return };
        change(&mut counts.sent);
        let sum = counts.sent.sum();
        shard.note(place, sum);
    }

    /// How much a user sent at most, without a look at the user's own place; `None` when it may be anything.
    #[inline]
    pub(crate) fn at_most(&self, user: Digest) -> Option<Tally> {
        let most = self.shards.get(user.shard(SHARDS)).map_or(0, |shard| shard.at_most(user));
        let tally = Tally { messages: most.into(), recipients: most.into() };
        (most < MANY).then_some(tally)
    }

    /// Drops those who sent nothing in one of `parts` parts, which divide the table evenly, and gives the
    /// room back.
    pub(crate) fn prune(&mut self, part: usize, parts: usize, now: Timestamp) {
        for shard in self.shards.iter_mut().skip(part).step_by(parts) {
            let mut gone = 0;
            for user in shard.users.iter_mut().filter(|user| user.user != FREE) {
                user.sent.advance(now);
                if user.sent.sum() == Tally::default() {
                    user.user = FREE;
                    gone += 1;
                }
            }
            if gone > 0 {
                shard.taken = shard.taken.saturating_sub(gone);
                shard.rebuild(0);
            }
        }
    }

    /// Forgets what was sent, when all of it has left the window.
    pub(crate) fn forget_sent(&mut self) {
        for user in self.shards.iter_mut().flat_map(|shard| &mut shard.users) {
            user.sent = SentByUser::default();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.taken).sum()
    }
}

impl Shard {
    #[inline]
    fn place(&self, user: Handle) -> Option<usize> {
        let is_there = |found: &UserCounts| found.user == user.digest.bits();
        match self.users.get(user.place()).is_some_and(is_there) {
            true => Some(user.place()),
            false => self.known(user.digest),
        }
    }

    /// The most of all who might be this user.
    #[inline]
    fn at_most(&self, user: Digest) -> u8 {
        let start = scaled(user.place(), self.groups.len());
        let (wrapped, first) = self.groups.split_at_checked(start).unwrap_or_default();
        let (wanted, mut most) = (u64::from(user.tag()) * EACH, 0);
        for Group { tags, at_most } in first.iter().chain(wrapped) {
            let mut same = zeros(tags ^ wanted);
            while same != 0 {
                most = most.max((at_most >> (same.trailing_zeros() / 8 * 8)) as u8);
                same &= same - 1;
            }
            if zeros(*tags) != 0 {
                break;
            }
        }
        most
    }

    /// Notes what the user in a place sent.
    #[inline]
    fn note(&mut self, place: usize, sum: Tally) {
        let most = u8::try_from(sum.messages.max(sum.recipients)).unwrap_or(MANY);
        if let Some(Group { at_most, .. }) = self.groups.get_mut(place / GROUP) {
            let shift = place % GROUP * 8;
            *at_most = *at_most & !(0xFF << shift) | u64::from(most) << shift;
        }
    }

    /// The first place with a user's tag.
    #[inline]
    fn likely(&self, user: Digest) -> Option<usize> {
        let start = scaled(user.place(), self.groups.len());
        let wanted = u64::from(user.tag()) * EACH;
        for (group, Group { tags, .. }) in (start..).zip(self.groups.get(start..)?) {
            let (same, free) = (zeros(tags ^ wanted), zeros(*tags));
            if same != 0 {
                return Some(group * GROUP + same.trailing_zeros() as usize / 8);
            }
            if free != 0 {
                return None;
            }
        }
        None
    }

    fn known(&self, user: Digest) -> Option<usize> {
        self.find(user).filter(|place| self.users.get(*place).is_some_and(|one| one.user != FREE))
    }

    /// The place of a user who was not known.
    fn made(&mut self, user: Digest) -> Option<usize> {
        if (self.taken + 1) * 8 > self.users.len() * 7 {
            self.rebuild(1);
        }
        let place = self.find(user)?;
        self.put(place, UserCounts { user: user.bits(), sent: SentByUser::default() });
        Some(place)
    }

    /// The place that holds a user, or the free one where it would go; `None` without places.
    fn find(&self, user: Digest) -> Option<usize> {
        let start = scaled(user.place(), self.groups.len());
        let (wrapped, first) = self.groups.split_at_checked(start)?;
        let wanted = u64::from(user.tag()) * EACH;
        for (group, Group { tags, .. }) in (start..).zip(first).chain((0..).zip(wrapped)) {
            let mut same = zeros(tags ^ wanted);
            while same != 0 {
                let place = group * GROUP + same.trailing_zeros() as usize / 8;
                if self.users.get(place)?.user == user.bits() {
                    return Some(place);
                }
                same &= same - 1;
            }
            let free = zeros(*tags);
            if free != 0 {
                return Some(group * GROUP + free.trailing_zeros() as usize / 8);
            }
        }
        None
    }

    fn put(&mut self, place: usize, user: UserCounts) {
        let tag = u64::from(Digest::from_bits(user.user).tag()) << (place % GROUP * 8);
        if let (Some(Group { tags, .. }), Some(free)) =
            (self.groups.get_mut(place / GROUP), self.users.get_mut(place))
        {
            *tags |= tag;
            *free = user;
            self.taken += 1;
            let sum = free.sent.sum();
            self.note(place, sum);
        }
    }

    /// Lays the users out anew, with room for `more` before the shard is full again.
    fn rebuild(&mut self, more: usize) {
        // 77 in 100 are taken, then 87 in 100 before the next time.
        let groups = ((self.taken + more) * 13).div_ceil(10 * GROUP);
        let mut users = Vec::with_capacity(groups * GROUP);
        users.resize_with(groups * GROUP, UserCounts::default);
        let old = std::mem::replace(
            self,
            Self { groups: vec![Group::default(); groups], users, taken: 0 },
        );
        for user in old.users.into_iter().filter(|user| user.user != FREE) {
            if let Some(place) = self.find(Digest::from_bits(user.user)) {
                self.put(place, user);
            }
        }
    }
}

/// The octets that are 0, by their highest bits; all but the lowest of them may be mistaken.
fn zeros(octets: u64) -> u64 {
    octets.wrapping_sub(EACH) & !octets & (0x80 * EACH)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::window::DAY;

    fn digest(number: u32) -> Digest {
        let user = format!("u{number}@a.example").parse().unwrap();
        Digest::of_organization([1; 16], "").of_mailbox(&user)
    }

    #[test]
    fn a_user_takes_at_most_96_octets() {
        assert_eq!(size_of::<UserCounts>(), 64);
        let mut table = UserTable::default();
        for number in 0..60_000 {
            let handle = table.handle(digest(number));
            table.change(handle, |_| {});
            if number % 1000 == 999 && number > 30_000 {
                let octets: usize = table
                    .shards
                    .iter()
                    .map(|shard| shard.users.capacity() * 64 + shard.groups.capacity() * 16)
                    .sum();
                assert!(octets <= (number as usize + 1) * 87, "{octets} octets for {number}");
            }
        }
        assert_eq!(table.len(), 60_000);
    }

    proptest! {
        #[test]
        fn the_table_is_a_map(steps in prop::collection::vec((0u32..3000, 1u32..4), 1..4000)) {
            let now = Timestamp::from_millis(1_600_000_000_000);
            let (mut table, mut model) = (UserTable::default(), HashMap::new());
            let mut handles = HashMap::new();
            for (number, times) in steps {
                // Every third is made and sends nothing.
                let tally = Tally { messages: times * u32::from(number % 3 > 0), recipients: 0 };
                let handle = handles.entry(number).or_insert_with(|| table.handle(digest(number)));
                table.change(*handle, |sent| sent.add(DAY.bucket(now), tally, now));
                *model.entry(number).or_default() += tally.messages;
            }
            let check = |table: &mut UserTable, model: &HashMap<u32, u32>| {
                prop_assert_eq!(table.len(), model.len());
                for number in 0..3000 {
                    let handle = table.handle(digest(number));
                    for handle in handles.get(&number).copied().into_iter().chain([handle]) {
                        let found = table.get_mut(handle).map(|sent| sent.sum().messages);
                        prop_assert_eq!(found, model.get(&number).copied());
                        let least = table.at_most(handle.digest).map(|sum| sum.messages);
                        prop_assert!(least.is_none_or(|least| least >= found.unwrap_or(0)));
                    }
                }
                Ok(())
            };
            check(&mut table, &model)?;
            table.prune(0, 1, now);
            model.retain(|_, messages| *messages > 0);
            check(&mut table, &model)?;
        }
    }
}
