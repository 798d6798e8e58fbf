//! What is counted for the organizations, by digest.

use hashbrown::HashTable;

use crate::digest::Digest;

/// A digest, and the place where a table is likely to have it: the table checks, and searches only when
/// something else is there. So a place can be found long before the memory is read that it is in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handle {
    pub(crate) digest: Digest,
    place: u32,
}

impl Handle {
    pub(crate) fn new(digest: Digest, place: Option<usize>) -> Self {
        let place = place.and_then(|place| u32::try_from(place).ok()).unwrap_or(u32::MAX);
        Self { digest, place }
    }

    pub(crate) fn place(self) -> usize {
        usize::try_from(self.place).unwrap_or(usize::MAX)
    }
}

/// Counts in one list, found through an index that is small enough to stay in the processor's cache.
#[derive(Debug)]
pub(crate) struct CountsTable<T> {
    index: HashTable<Indexed>,
    list: Vec<Listed<T>>,
}

/// Begins a line of the processor's cache.
#[derive(Debug)]
#[repr(align(64))]
struct Listed<T> {
    digest: Digest,
    counts: T,
}

/// A place in the list, and bits of the digest there that tell it from nearly all others.
#[derive(Debug)]
struct Indexed {
    bits: u32,
    place: u32,
}

impl Indexed {
    fn new(digest: Digest, place: usize) -> Self {
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        Self { bits: digest.place() as u32, place }
    }

    fn place(&self) -> usize {
        usize::try_from(self.place).unwrap_or(usize::MAX)
    }
}

impl<T> Default for CountsTable<T> {
    fn default() -> Self {
        Self { index: HashTable::new(), list: Vec::new() }
    }
}

impl<T: Default> CountsTable<T> {
    /// Where counts are likely to be.
    pub(crate) fn handle(&self, digest: Digest) -> Handle {
        let bits = digest.place() as u32;
        let found = self.index.find(digest.place(), |indexed| indexed.bits == bits);
        Handle::new(digest, found.map(Indexed::place))
    }

    /// The counts that are likely to be the right ones, not to be relied on.
    pub(crate) fn likely(&self, handle: Handle) -> Option<&T> {
        self.list.get(handle.place()).map(|listed| &listed.counts)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        let place = self.place(handle)?;
        self.list.get_mut(place).map(|listed| &mut listed.counts)
    }

    /// The counts, which are made when there are none.
    #[inline]
    pub(crate) fn entry(&mut self, handle: Handle) -> &mut T {
        match self.place(handle) {
            Some(place) => {
                &mut self.list.get_mut(place).expect("a place that was looked at").counts
            }
            None => {
                let indexed = Indexed::new(handle.digest, self.list.len());
                let list = &self.list;
                self.index.insert_unique(handle.digest.place(), indexed, |indexed| {
                    list.get(indexed.place()).map_or(0, |listed| listed.digest.place())
                });
                &mut self
                    .list
                    .push_mut(Listed { digest: handle.digest, counts: T::default() })
                    .counts
            }
        }
    }

    /// Drops what `keep` denies.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&mut T) -> bool) {
        let before = self.list.len();
        self.list.retain_mut(|listed| keep(&mut listed.counts));
        if self.list.len() < before {
            self.list.shrink_to_fit();
            self.index = HashTable::with_capacity(self.list.len());
            for (place, Listed { digest, .. }) in self.list.iter().enumerate() {
                // There is room for all: nothing is hashed again.
                self.index.insert_unique(digest.place(), Indexed::new(*digest, place), |_| 0);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    #[inline]
    fn place(&self, handle: Handle) -> Option<usize> {
        if self.is_at(handle.place(), handle.digest) {
            return Some(handle.place());
        }
        let is_this = |indexed: &Indexed| self.is_at(indexed.place(), handle.digest);
        self.index.find(handle.digest.place(), is_this).map(Indexed::place)
    }

    #[inline]
    fn is_at(&self, place: usize, digest: Digest) -> bool {
        self.list.get(place).is_some_and(|listed| listed.digest == digest)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_table_is_a_map_whatever_its_handles_remember(
            steps in prop::collection::vec((0u8..40, 0u8..6), 1..300)
        ) {
            let digest = |number: u8| Digest::of_organization([1; 16], &number.to_string());
            let (mut table, mut model) = (CountsTable::<u32>::default(), HashMap::<u8, u32>::new());
            let mut handles: Vec<_> = (0..40).map(|number| table.handle(digest(number))).collect();
            for (number, step) in steps {
                let handle = &mut handles[usize::from(number)];
                match step {
                    0 => {
                        table.retain(|count| !count.is_multiple_of(3));
                        model.retain(|_, count| !count.is_multiple_of(3));
                    }
                    1 => *handle = table.handle(digest(number)),
                    _ => {
                        *table.entry(*handle) += 1;
                        *model.entry(number).or_default() += 1;
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                for (number, handle) in (0..).zip(&handles) {
                    prop_assert_eq!(table.get_mut(*handle).copied(), model.get(&number).copied());
                }
            }
        }
    }
}
