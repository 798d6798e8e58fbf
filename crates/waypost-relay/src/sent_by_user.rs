//! What one user sent in the last 24 hours, by five minutes.

use waypost_types::Timestamp;

use crate::window::{Count, DAY, Tally, Window, long, short};

/// Messages and different recipients of one user, by bucket: up to eleven buckets in place, in 48 octets;
/// more of them, or more than 255 in one, in a [`Window`] of their own.
#[derive(Debug)]
pub(crate) enum SentByUser {
    Few { count: u8, slots: [Slot; FEW] },
    Many(Box<Window>),
}

const FEW: usize = 11;

/// A bucket in four octets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    bucket: u16,
    messages: u8,
    recipients: u8,
}

impl Slot {
    /// `None` when it counts too much for four octets.
    fn of(bucket: u32, tally: Tally) -> Option<Self> {
        let (messages, recipients) = (tally.messages.try_into(), tally.recipients.try_into());
        Some(Self { bucket: short(bucket), messages: messages.ok()?, recipients: recipients.ok()? })
    }

    fn tally(self) -> Tally {
        Tally { messages: self.messages.into(), recipients: self.recipients.into() }
    }
}

impl Default for SentByUser {
    fn default() -> Self {
        Self::Few { count: 0, slots: [Slot::default(); FEW] }
    }
}

impl SentByUser {
    /// What is counted; [`SentByUser::advance`] comes first.
    pub(crate) fn sum(&self) -> Tally {
        match self {
            Self::Few { .. } => self.few().iter().fold(Tally::default(), |mut sum, slot| {
                sum.add(slot.tally());
                sum
            }),
            Self::Many(window) => window.sum(),
        }
    }

    /// Forgets what has left the window. To be called at least every 200 days.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        let bucket = DAY.bucket(now);
        match self {
            Self::Few { count, slots } => {
                let dead = |slot: &&Slot| !DAY.is_live(long(slot.bucket, bucket), now);
                let dead = slots.iter().take(usize::from(*count)).take_while(dead).count();
                if dead > 0 {
                    slots.copy_within(dead.., 0);
                    *count = count.saturating_sub(u8::try_from(dead).unwrap_or(u8::MAX));
                }
            }
            Self::Many(window) => {
                window.advance(DAY, now);
                if window.len() * 2 <= FEW
                    && let Some(few) = Self::in_place(window)
                {
                    *self = few;
                }
            }
        }
    }

    /// Counts in a bucket of the window that ends `now`.
    pub(crate) fn add(&mut self, bucket: u32, tally: Tally, now: Timestamp) {
        if let Self::Many(window) = self {
            window.add(bucket, tally);
            return;
        }
        if self.change(bucket, now, |counted| counted.add(tally)) || self.push(bucket, tally, now) {
            return;
        }
        let mut window = self.as_window(now);
        window.add(bucket, tally);
        *self = Self::in_place(&window).unwrap_or_else(|| Self::Many(Box::new(window)));
    }

    /// Takes back what was added to a bucket.
    pub(crate) fn subtract(&mut self, bucket: u32, tally: Tally, now: Timestamp) {
        match self {
            Self::Many(window) => window.subtract(bucket, tally),
            Self::Few { .. } => {
                self.change(bucket, now, |counted| counted.subtract(tally));
            }
        }
    }

    /// When `need` of what `pick` counts will have left the window; `None` when there is not so much.
    pub(crate) fn free_again(
        &self,
        need: u32,
        pick: fn(&Tally) -> u32,
        now: Timestamp,
    ) -> Option<Timestamp> {
        match self {
            Self::Many(window) => window.free_again(DAY, need, pick),
            Self::Few { .. } => self.as_window(now).free_again(DAY, need, pick),
        }
    }

    fn few(&self) -> &[Slot] {
        match self {
            Self::Few { count, slots } => slots.get(..usize::from(*count)).unwrap_or_default(),
            Self::Many(_) => &[],
        }
    }

    /// Changes what a bucket counts; false when there is no such bucket in place, or not enough room
    /// in it.
    fn change(&mut self, bucket: u32, now: Timestamp, change: impl Fn(&mut Tally)) -> bool {
        let Self::Few { count, slots } = self else { return false };
        let today = DAY.bucket(now);
        let mut known = slots.iter_mut().take(usize::from(*count)).rev();
        let Some(slot) = known.find(|slot| long(slot.bucket, today) == bucket) else {
            return false;
        };
        let mut tally = slot.tally();
        change(&mut tally);
        Slot::of(bucket, tally).map(|changed| *slot = changed).is_some()
    }

    /// Counts in a bucket that is later than all there are; false when it is not, or there is no room.
    fn push(&mut self, bucket: u32, tally: Tally, now: Timestamp) -> bool {
        let Self::Few { count, slots } = self else { return false };
        let (known, room) = slots.split_at_mut(usize::from(*count));
        let is_last = known.last().is_none_or(|slot| long(slot.bucket, DAY.bucket(now)) < bucket);
        match (room, Slot::of(bucket, tally)) {
            ([free, ..], Some(slot)) if is_last => {
                *free = slot;
                *count += 1;
                true
            }
            _ => false,
        }
    }

    /// What is in place, as a window.
    fn as_window(&self, now: Timestamp) -> Window {
        let (mut window, today) = (Window::default(), DAY.bucket(now));
        for slot in self.few() {
            window.add(long(slot.bucket, today), slot.tally());
        }
        window
    }

    fn in_place(window: &Window) -> Option<Self> {
        let mut slots = [Slot::default(); FEW];
        let count = u8::try_from(window.len()).ok().filter(|count| usize::from(*count) <= FEW)?;
        for (slot, (bucket, tally)) in slots.iter_mut().zip(window.slots()) {
            *slot = Slot::of(bucket, tally)?;
        }
        Some(Self::Few { count, slots })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_same_as_a_window(
            steps in prop::collection::vec((0u64..40_000_000, 0u64..40_000_000, 0u32..70_000, any::<bool>()), 1..60)
        ) {
            let (mut sent, mut model) = (SentByUser::default(), <Window>::default());
            let mut now = Timestamp::from_millis(1_600_000_000_000);
            for (later, ago, recipients, back) in steps {
                now = now + std::time::Duration::from_millis(later);
                sent.advance(now);
                model.advance(DAY, now);
                let then = DAY.bucket(now.before(std::time::Duration::from_millis(ago)));
                let tally = Tally { messages: recipients % 3, recipients };
                sent.add(then, tally, now);
                model.add(then, tally);
                if back {
                    sent.subtract(then, tally, now);
                    model.subtract(then, tally);
                }
                prop_assert_eq!(sent.sum(), model.sum());
                for need in [1, 5, 50_000] {
                    let pick = |tally: &Tally| tally.recipients;
                    prop_assert_eq!(
                        sent.free_again(need, pick, now),
                        model.free_again(DAY, need, pick)
                    );
                }
            }
        }
    }
}
