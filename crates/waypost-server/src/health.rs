//! Whether the server can take mail now (O4).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::spool::{NoRoom, Spool};

/// What the parts of the server tell of themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health(Arc<Parts>);

#[derive(Debug, Default)]
struct Parts {
    stopping: AtomicBool,
    bound: AtomicUsize,
    serving: AtomicUsize,
}

/// A listener accepts for as long as this lives.
#[derive(Debug)]
pub(crate) struct Serving(Health);

/// Why no mail can be taken now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotReady {
    Stopping,
    ListenersEnded { ended: usize, of: usize },
    NoRoom(NoRoom),
}

impl Health {
    /// A listener begins to accept.
    pub(crate) fn serving(&self) -> Serving {
        self.0.bound.fetch_add(1, Ordering::Relaxed);
        self.0.serving.fetch_add(1, Ordering::Relaxed);
        Serving(self.clone())
    }

    /// The end was asked for.
    pub(crate) fn stop(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    /// All that stands in the way; empty: mail can be taken, of up to `largest` octets.
    pub(crate) fn not_ready(&self, spool: &Spool, largest: u64) -> Vec<NotReady> {
        self.judge(spool.room(largest))
    }

    fn judge(&self, room: Result<(), NoRoom>) -> Vec<NotReady> {
        let mut reasons = Vec::new();
        if self.0.stopping.load(Ordering::Relaxed) {
            reasons.push(NotReady::Stopping);
        } else {
            let of = self.0.bound.load(Ordering::Relaxed);
            let ended = of.saturating_sub(self.0.serving.load(Ordering::Relaxed));
            if ended > 0 {
                reasons.push(NotReady::ListenersEnded { ended, of });
            }
        }
        reasons.extend(room.err().map(NotReady::NoRoom));
        reasons
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.0.serving.fetch_sub(1, Ordering::Relaxed);
    }
}

impl NotReady {
    /// The name for machines.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::ListenersEnded { .. } => "listeners-ended",
            Self::NoRoom(NoRoom::Store) => "store-closed",
            Self::NoRoom(NoRoom::Queue(_)) => "queue-full",
            Self::NoRoom(NoRoom::Disk { .. }) => "disk-full",
        }
    }
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopping => f.write_str("the server is stopping"),
            Self::ListenersEnded { ended, of } => {
                write!(f, "{ended} of {of} listeners no longer accept; see the log and restart")
            }
            Self::NoRoom(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use waypost_queue::QueueError;

    use super::*;

    #[test]
    fn every_reason_is_told_o4() {
        let names = |health: &Health, room| -> Vec<&str> {
            health.judge(room).iter().map(NotReady::as_str).collect()
        };
        let full = || Err(QueueError::TooManyMessages(5).into());
        let health = Health::default();
        let (first, second) = (health.serving(), health.serving());
        assert_eq!(names(&health, Ok(())), [""; 0]);
        assert_eq!(names(&health, Err(NoRoom::Store)), ["store-closed"]);
        assert_eq!(names(&health, Err(NoRoom::Disk { free: 1, needed: 2 })), ["disk-full"]);
        assert_eq!(names(&health, full()), ["queue-full"]);
        drop(first);
        assert_eq!(names(&health, full()), ["listeners-ended", "queue-full"]);
        assert!(health.judge(Ok(()))[0].to_string().starts_with("1 of 2 listeners"));
        health.stop();
        drop(second);
        assert_eq!(names(&health, Ok(())), ["stopping"]);
    }
}
