//! Moments that never go back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use waypost_types::Timestamp;

/// The wall clock at its making, plus a monotonic clock's progress: a clock that is set back stalls
/// no time-out and no retry.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Timestamp,
    progress: Progress,
}

/// What tells the progress.
#[derive(Clone, Copy, Debug)]
enum Progress {
    Since(Instant),
    Counted { from: Duration, count: fn() -> Duration },
}

impl Clock {
    /// A clock that starts at the wall clock's time and goes on as tokio's does, which on most systems
    /// stands still while the machine sleeps.
    #[must_use]
    pub fn start() -> Self {
        Self { wall: wall(), progress: Progress::Since(Instant::now()) }
    }

    /// A clock that starts at the wall clock's time and goes on as `count` does, which tells a time since
    /// whenever, and never one before what it told already.
    #[must_use]
    pub fn counting(count: fn() -> Duration) -> Self {
        Self { wall: wall(), progress: Progress::Counted { from: count(), count } }
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.wall
            + match self.progress {
                Progress::Since(start) => start.elapsed(),
                Progress::Counted { from, count } => count().saturating_sub(from),
            }
    }

    /// The moment as tokio's timers take it; a past one is now.
    #[must_use]
    pub fn instant(&self, at: Timestamp) -> Instant {
        Instant::now() + at.since(self.now())
    }
}

fn wall() -> Timestamp {
    Timestamp::default() + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn time_goes_on_as_is_counted_and_never_back_o2() {
        static COUNTED: AtomicU64 = AtomicU64::new(1_000);
        let clock = Clock::counting(|| Duration::from_secs(COUNTED.load(Ordering::Relaxed)));
        let began = clock.now();
        for (counted, gone) in [(1_000, 0), (1_060, 60), (87_400, 86_400), (10, 0)] {
            COUNTED.store(counted, Ordering::Relaxed);
            assert_eq!(clock.now().since(began), Duration::from_secs(gone), "at {counted}");
        }
    }
}
