//! Which groups each entry is in: the members of the groups, the other way round.

use super::{Entry, short};

/// Pairs of an entry and the place of a group that it is in, sorted: found by halving.
#[derive(Clone, Debug, Default)]
pub(super) struct Memberships(Box<[(Entry, u32)]>);

impl Memberships {
    /// `groups` are the members of each group, nested ones counted.
    pub(super) fn new<'m>(groups: impl Iterator<Item = &'m [Entry]>) -> Self {
        let numbered = groups.enumerate().map(|(place, members)| (short(place), members));
        let mut pairs: Vec<_> = numbered
            .flat_map(|(place, all)| all.iter().map(move |entry| (*entry, place)))
            .collect();
        pairs.sort_unstable();
        Self(pairs.into())
    }

    /// The places of the groups that an entry is in.
    pub(super) fn of(&self, entry: Entry) -> impl Iterator<Item = usize> {
        let from = self.0.partition_point(|(other, _)| *other < entry);
        let own = self.0.iter().skip(from).take_while(move |(other, _)| *other == entry);
        own.filter_map(|(_, place)| usize::try_from(*place).ok())
    }
}
