//! The server's clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use waypost_types::Timestamp;

/// Time that never steps back: the wall clock at the start plus a monotonic clock's progress.
///
/// A wall clock that is set back stalls no retry; one that is set right later is followed only by a
/// restart. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Timestamp,
    started: Instant,
}

impl Clock {
    /// Reads the wall clock once. A clock before 1970 counts as 1970.
    #[must_use]
    pub fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall: Timestamp::default() + since, started: Instant::now() }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.wall + self.started.elapsed()
    }

    /// A moment on tokio's clock; moments that are past are now.
    #[must_use]
    pub fn instant(&self, at: Timestamp) -> tokio::time::Instant {
        (self.started + at.since(self.wall)).into()
    }
}
