//! The users of all organizations, by digest.

use hashbrown::HashTable;
use waypost_types::Timestamp;

use crate::digest::Digest;
use crate::sent_by_user::SentByUser;
use crate::window::Tally;

/// Shards grow one at a time, so that growing never takes long.
const SHARDS: usize = 64;

/// What one user sent: 64 octets, and 12 for each bucket when there are more than eleven.
#[derive(Debug)]
pub(crate) struct UserCounts {
    user: Digest,
    pub(crate) sent: SentByUser,
}

/// Users in one list, found through an index; a user takes 70 to 84 octets.
#[derive(Debug)]
pub(crate) struct UserTable {
    shards: Vec<Shard>,
}

#[derive(Debug, Default)]
struct Shard {
    index: HashTable<u32>,
    users: Vec<UserCounts>,
}

impl Default for UserTable {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::default()).collect() }
    }
}

impl UserTable {
    pub(crate) fn get_mut(&mut self, user: Digest) -> Option<&mut SentByUser> {
        let shard = self.shards.get_mut(user.shard(SHARDS))?;
        let place = shard.find(user)?;
        shard.users.get_mut(place).map(|user| &mut user.sent)
    }

    /// What a user sent, which is made when there is nothing.
    pub(crate) fn entry(&mut self, user: Digest) -> Option<&mut SentByUser> {
        let shard = self.shards.get_mut(user.shard(SHARDS))?;
        let place = match shard.find(user) {
            Some(place) => place,
            None => shard.push(UserCounts { user, sent: SentByUser::default() }),
        };
        shard.users.get_mut(place).map(|user| &mut user.sent)
    }

    /// Drops those who sent nothing in one of `parts` parts, which divide the table evenly, and gives the
    /// room back.
    pub(crate) fn prune(&mut self, part: usize, parts: usize, now: Timestamp) {
        for shard in self.shards.iter_mut().skip(part).step_by(parts) {
            shard.users.retain_mut(|user| {
                user.sent.advance(now);
                user.sent.sum() != Tally::default()
            });
            shard.users.shrink_to_fit();
            shard.reindex();
        }
    }

    /// Forgets what was sent, when all of it has left the window.
    pub(crate) fn forget_sent(&mut self) {
        for user in self.shards.iter_mut().flat_map(|shard| &mut shard.users) {
            user.sent = SentByUser::default();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.users.len()).sum()
    }
}

impl Shard {
    fn find(&self, user: Digest) -> Option<usize> {
        let place = |index: &u32| usize::try_from(*index).unwrap_or(usize::MAX);
        let is_this =
            |index: &u32| self.users.get(place(index)).is_some_and(|one| one.user == user);
        self.index.find(user.place(), is_this).map(place)
    }

    fn push(&mut self, user: UserCounts) -> usize {
        let (hash, place) = (user.user.place(), self.users.len());
        if place == self.users.capacity() {
            // In small steps: twice the room would be half empty.
            self.users.reserve_exact((place / 8).max(4));
        }
        self.users.push(user);
        let users = &self.users;
        self.index.insert_unique(hash, u32::try_from(place).unwrap_or(u32::MAX), |index| {
            let place = usize::try_from(*index).unwrap_or(usize::MAX);
            users.get(place).map_or(0, |user| user.user.place())
        });
        place
    }

    fn reindex(&mut self) {
        let mut index = HashTable::with_capacity(self.users.len());
        for (place, user) in (0..).zip(&self.users) {
            // There is room for all: nothing is hashed again.
            index.insert_unique(user.user.place(), place, |_| 0);
        }
        self.index = index;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_takes_at_most_96_octets() {
        assert_eq!(size_of::<UserCounts>(), 64);
        let mut table = UserTable::default();
        for number in 0..60_000 {
            let user = format!("u{number}@a.example").parse().unwrap();
            table.entry(Digest::of_user([1; 16], "", &user)).unwrap();
        }
        let octets: usize = table
            .shards
            .iter()
            .map(|shard| shard.users.capacity() * 64 + shard.index.allocation_size())
            .sum();
        assert_eq!(table.len(), 60_000);
        assert!(octets <= 60_000 * 90, "{octets} octets");
    }
}
