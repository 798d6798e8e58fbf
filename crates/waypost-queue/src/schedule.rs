//! When a deferred delivery is tried again, and when it is given up.

use std::time::Duration;

use waypost_types::Timestamp;

/// A retry schedule (O2): delays between attempts, and a lifetime from acceptance.
///
/// The delay after the n-th attempt is `first` doubled n-1 times, at most `longest`; or the n-th of a
/// list, whose last one repeats. A last attempt is made at the end of the lifetime; what that one
/// defers has failed. Delays below one second count as one second. The default is five minutes
/// doubling to four hours, for five days.
///
/// ```
/// use std::time::Duration;
/// use waypost_queue::Schedule;
/// use waypost_types::Timestamp;
/// let schedule = Schedule::default();
/// let accepted = Timestamp::from_millis(0);
/// let first = schedule.next(1, accepted, accepted).unwrap();
/// assert_eq!(first, accepted + Duration::from_secs(300));
/// assert_eq!(schedule.next(2, accepted, first), Some(first + Duration::from_secs(600)));
/// assert_eq!(schedule.next(9, accepted, accepted + Duration::from_secs(5 * 86_400)), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    delays: Delays,
    lifetime: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Delays {
    Doubling { first: Duration, longest: Duration },
    List { delays: Box<[Duration]>, last: Duration },
}

const SHORTEST: Duration = Duration::from_secs(1);
const LIFETIME: Duration = Duration::from_secs(5 * 86_400);

/// A list of delays holds none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`delays` is empty (O2); write at least one, such as `delays = [\"5m\"]`")]
pub struct NoDelays;

impl Default for Schedule {
    fn default() -> Self {
        Self::doubling(Duration::from_secs(300), Duration::from_secs(4 * 3600), LIFETIME)
    }
}

impl Schedule {
    /// Delays that double from `first` to `longest`.
    #[must_use]
    pub fn doubling(first: Duration, longest: Duration, lifetime: Duration) -> Self {
        Self { delays: Delays::Doubling { first, longest: longest.max(first) }, lifetime }
    }

    /// Fixed delays; the last one repeats.
    ///
    /// # Errors
    /// [`NoDelays`] for an empty list.
    pub fn list(delays: Vec<Duration>, lifetime: Duration) -> Result<Self, NoDelays> {
        let last = *delays.last().ok_or(NoDelays)?;
        Ok(Self { delays: Delays::List { delays: delays.into(), last }, lifetime })
    }

    /// How long after acceptance a delivery is given up.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// When the next attempt is due after `attempts` of them, the last one ended `now`; always after
    /// `now`. `None`: the lifetime is over.
    #[must_use]
    pub fn next(&self, attempts: u32, accepted_at: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let end = accepted_at + self.lifetime;
        if now >= end {
            return None;
        }
        Some((now + self.delay(attempts).max(SHORTEST)).min(end))
    }

    fn delay(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1);
        match &self.delays {
            Delays::Doubling { first, longest } => {
                let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
                first.checked_mul(factor).unwrap_or(*longest).min(*longest)
            }
            Delays::List { delays, last } => {
                let place = usize::try_from(doublings).unwrap_or(usize::MAX);
                delays.get(place).copied().unwrap_or(*last)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn delays(schedule: &Schedule, count: u32) -> Vec<u64> {
        let at = Timestamp::from_millis(0);
        (1..=count).map(|n| schedule.next(n, at, at).unwrap().since(at).as_secs() / 60).collect()
    }

    #[test]
    fn delays_o2() {
        assert_eq!(delays(&Schedule::default(), 8), [5, 10, 20, 40, 80, 160, 240, 240]);
        assert_eq!(delays(&Schedule::default(), 4000).last(), Some(&240));
        let minutes = |m: u64| Duration::from_secs(60 * m);
        let list = vec![minutes(1), minutes(1), minutes(3), minutes(5)];
        assert_eq!(delays(&Schedule::list(list, LIFETIME).unwrap(), 6), [1, 1, 3, 5, 5, 5]);
        assert_eq!(Schedule::list(vec![], LIFETIME), Err(NoDelays));
    }

    #[test]
    fn the_last_attempt_is_at_the_end_of_the_lifetime_o2() {
        let schedule = Schedule::default();
        let start = Timestamp::from_millis(1_000);
        let (mut now, mut attempts) = (start, 1);
        while let Some(next) = schedule.next(attempts, start, now) {
            assert!(next > now);
            now = next;
            attempts += 1;
        }
        assert_eq!(now, start + LIFETIME);
        assert_eq!(attempts, 36);
    }

    proptest! {
        #[test]
        fn next_lies_ahead_and_ends(
            first in 0u64..10_000_000, longest in 0u64..10_000_000, lifetime in 0u64..1_000_000_000,
            attempts in any::<u32>(), accepted in 0u64..1_000_000, later in 0u64..2_000_000_000,
        ) {
            let ms = Duration::from_millis;
            let schedule = Schedule::doubling(ms(first), ms(longest), ms(lifetime));
            let accepted = Timestamp::from_millis(accepted);
            let now = accepted + ms(later);
            match schedule.next(attempts, accepted, now) {
                Some(next) => prop_assert!(now < next && next <= accepted + ms(lifetime)),
                None => prop_assert!(later >= lifetime),
            }
        }
    }
}
