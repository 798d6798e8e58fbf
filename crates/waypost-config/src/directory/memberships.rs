//! Which groups each entry is in: the members of the groups, the other way round.

use super::{Entry, short};

/// For each entry the places of the groups that it is in.
#[derive(Clone, Debug, Default)]
pub(super) struct Memberships {
    /// How many users and groups there are: entries are laid out users first, then groups, then others.
    users: usize,
    groups: usize,
    /// Where the groups of each entry end in `all`, and those of the next begin.
    ends: Box<[u32]>,
    all: Box<[u32]>,
}

impl Memberships {
    /// `groups` are the members of each group, nested ones counted.
    pub(super) fn new<'m>(
        users: usize,
        groups: impl ExactSizeIterator<Item = &'m [Entry]> + Clone,
    ) -> Self {
        let mut built = Self { users, groups: groups.len(), ..Self::default() };
        let mut ends: Vec<u32> = Vec::new();
        for entry in groups.clone().flatten() {
            let place = built.place(*entry);
            if ends.len() <= place {
                ends.resize(place + 1, 0);
            }
            if let Some(count) = ends.get_mut(place) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for end in &mut ends {
            // Where each begins, until it is filled.
            sum += std::mem::replace(end, sum);
        }
        let mut all = vec![0; usize::try_from(sum).unwrap_or_default()];
        for (group, members) in groups.enumerate() {
            for entry in members {
                let Some(end) = ends.get_mut(built.place(*entry)) else { continue };
                if let Some(slot) = usize::try_from(*end).ok().and_then(|end| all.get_mut(end)) {
                    *slot = short(group);
                }
                *end += 1;
            }
        }
        (built.ends, built.all) = (ends.into(), all.into());
        built
    }

    fn place(&self, entry: Entry) -> usize {
        let (before, index) = match entry {
            Entry::User(index) => (0, index),
            Entry::Group(index) => (self.users, index),
            Entry::Elsewhere(index) => (self.users + self.groups, index),
        };
        before + usize::try_from(index).unwrap_or(usize::MAX / 2)
    }

    /// The places of the groups that an entry is in.
    pub(super) fn of(&self, entry: Entry) -> impl Iterator<Item = usize> {
        let place = self.place(entry);
        let end = |place: usize| usize::try_from(*self.ends.get(place)?).ok();
        let from = place.checked_sub(1).and_then(end).unwrap_or(0);
        let own = self.all.get(from..end(place).unwrap_or(from)).unwrap_or_default();
        own.iter().filter_map(|group| usize::try_from(*group).ok())
    }
}
