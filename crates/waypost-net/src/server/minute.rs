//! How often something happened within the last minute.

use waypost_types::Timestamp;

/// Counts within the last minute, in slots of ten seconds: for up to ten seconds too long, never too
/// short.
#[derive(Debug, Default)]
pub(super) struct Minute {
    slots: [u32; SLOTS],
    /// The number of the newest slot since 1970.
    newest: u64,
}

const SLOTS: usize = 7;
const SLOT_MILLIS: u64 = 10_000;

impl Minute {
    /// How many there were.
    pub(super) fn count(&mut self, now: Timestamp) -> u32 {
        let slot = now.as_millis() / SLOT_MILLIS;
        let passed = usize::try_from(slot.saturating_sub(self.newest)).unwrap_or(SLOTS).min(SLOTS);
        self.slots.rotate_right(passed);
        self.slots.iter_mut().take(passed).for_each(|count| *count = 0);
        self.newest = self.newest.max(slot);
        self.slots.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Adds one, unless that would be beyond the limit.
    pub(super) fn add(&mut self, now: Timestamp, limit: u32) -> bool {
        let room = self.count(now) < limit;
        let [newest, ..] = &mut self.slots;
        *newest = newest.saturating_add(u32::from(room));
        room
    }
}
