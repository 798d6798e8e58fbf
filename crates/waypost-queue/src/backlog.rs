//! What waits for its first attempt, and when that is too much.

use std::ops::{AddAssign, SubAssign};

/// Works and octets that wait for their first attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Works: a message counts once for each transaction that it asks for.
    pub works: usize,
    /// Octets of their messages.
    pub octets: u64,
}

impl AddAssign for Backlog {
    fn add_assign(&mut self, other: Self) {
        self.works += other.works;
        self.octets = self.octets.saturating_add(other.octets);
    }
}

impl SubAssign for Backlog {
    fn sub_assign(&mut self, other: Self) {
        self.works = self.works.saturating_sub(other.works);
        self.octets = self.octets.saturating_sub(other.octets);
    }
}

impl Backlog {
    fn reaches(self, limit: Backlog) -> bool {
        self.works >= limit.works || self.octets >= limit.octets
    }

    pub(crate) fn is_at_most_half_of(self, limit: Backlog) -> bool {
        self.works <= limit.works / 2 && self.octets <= limit.octets / 2
    }

    /// Three quarters.
    fn most_of(self) -> Backlog {
        Backlog {
            works: (self.works / 4).saturating_mul(3),
            octets: (self.octets / 4).saturating_mul(3),
        }
    }
}

/// Too much from the limit on, until it has fallen to three quarters of it: so that whoever waits is
/// woken now and then, and not for each work.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gauge {
    pub(crate) is_full: bool,
}

impl Gauge {
    /// The level is this now; whether it has eased.
    pub(crate) fn set(&mut self, level: Backlog, limit: Backlog) -> bool {
        if level.reaches(limit) {
            self.is_full = true;
            return false;
        }
        let low = limit.most_of();
        let eased = self.is_full && level.works <= low.works && level.octets <= low.octets;
        self.is_full &= !eased;
        eased
    }
}
