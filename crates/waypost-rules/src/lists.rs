//! Many lists of numbers in one piece of memory.

/// Lists of numbers, each known by its place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lists {
    numbers: Box<[u32]>,
    /// Where each list ends, and the next begins.
    ends: Box<[u32]>,
}

impl Lists {
    /// The list at a place; none has nothing in it.
    pub(crate) fn of(&self, place: u32) -> &[u32] {
        let at = place as usize;
        let before = at.checked_sub(1).and_then(|before| self.ends.get(before));
        let (from, to) = (before.copied().unwrap_or(0), self.ends.get(at).copied().unwrap_or(0));
        self.numbers.get(from as usize..to as usize).unwrap_or_default()
    }

    /// Turns pairs of a place and a number round: the lists of numbers by place, in the order of the
    /// pairs. Every place is below `places`.
    pub(crate) fn by_place(places: usize, pairs: impl Iterator<Item = (u32, u32)> + Clone) -> Self {
        let mut ends = vec![0_u32; places];
        for (place, _) in pairs.clone() {
            if let Some(count) = ends.get_mut(place as usize) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for end in &mut ends {
            // For now where each begins; filling moves it to where it ends.
            sum += std::mem::replace(end, sum);
        }
        let mut numbers = vec![0_u32; sum as usize];
        for (place, number) in pairs {
            if let Some(end) = ends.get_mut(place as usize) {
                if let Some(slot) = numbers.get_mut(*end as usize) {
                    *slot = number;
                }
                *end += 1;
            }
        }
        Self { numbers: numbers.into(), ends: ends.into() }
    }
}

/// Lists that are added one after another.
#[derive(Default)]
pub(crate) struct ListsBuilder {
    numbers: Vec<u32>,
    ends: Vec<u32>,
}

impl ListsBuilder {
    pub(crate) fn push(&mut self, list: impl Iterator<Item = u32>) {
        self.numbers.extend(list);
        self.ends.push(u32::try_from(self.numbers.len()).unwrap_or(u32::MAX));
    }

    pub(crate) fn finish(self) -> Lists {
        Lists { numbers: self.numbers.into(), ends: self.ends.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_found_by_place() {
        let pairs = [(2, 7), (0, 1), (2, 5)];
        let lists = Lists::by_place(4, pairs.into_iter());
        let all: Vec<_> = (0..5).map(|place| lists.of(place).to_vec()).collect();
        assert_eq!(all, [vec![1], vec![], vec![7, 5], vec![], vec![]]);
        let mut builder = ListsBuilder::default();
        for list in &all {
            builder.push(list.iter().copied());
        }
        assert_eq!(builder.finish().of(2), [7, 5]);
    }
}
