//! Moments that never go back.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use waypost_types::Timestamp;

/// The wall clock at its making, plus a monotonic clock's progress: a clock that is set back stalls
/// no time-out and no retry.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Timestamp,
    start: Instant,
}

impl Clock {
    /// A clock that starts at the wall clock's time.
    #[must_use]
    pub fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall: Timestamp::default() + since, start: Instant::now() }
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.wall + self.start.elapsed()
    }

    /// The moment as tokio's timers take it; a past one is now.
    #[must_use]
    pub fn instant(&self, at: Timestamp) -> Instant {
        Instant::now() + at.since(self.now())
    }
}
