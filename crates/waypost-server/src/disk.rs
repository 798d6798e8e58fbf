//! Free space of the spool's file system, measured at most once a second.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use waypost_store::free_octets;
use waypost_types::Timestamp;

/// What the store needs beside the messages: to write down outcomes, and to sort what it holds in
/// memory into tables.
pub(crate) const RESERVE: u64 = 32 << 20;
const PAUSE_MILLIS: u64 = 1000;

/// Free octets of a file system.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    free: AtomicU64,
    measured: AtomicU64,
}

impl Disk {
    /// Measures at once.
    pub(crate) fn new(path: PathBuf, now: Timestamp) -> Self {
        let free = AtomicU64::new(measure(&path));
        Self { path, free, measured: AtomicU64::new(now.as_millis()) }
    }

    /// Octets that were free a second ago or less. One system call a second, however often it is asked.
    pub(crate) fn free(&self, now: Timestamp) -> u64 {
        let (now, last) = (now.as_millis(), self.measured.load(Ordering::Relaxed));
        let due = now.abs_diff(last) >= PAUSE_MILLIS;
        let ordering = Ordering::Relaxed;
        if due && self.measured.compare_exchange(last, now, ordering, ordering).is_ok() {
            self.free.store(measure(&self.path), Ordering::Relaxed);
        }
        self.free.load(Ordering::Relaxed)
    }
}

/// What cannot be measured is not refused for: the commit will tell.
fn measure(path: &std::path::Path) -> u64 {
    free_octets(path).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "the free space cannot be measured");
        u64::MAX
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_measured_once_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let at = Timestamp::from_millis;
        let disk = Disk::new(folder.path().to_owned(), at(5000));
        assert!(disk.free(at(5000)) > 0);
        disk.free.store(7, Ordering::Relaxed);
        assert_eq!(disk.free(at(5999)), 7);
        assert_ne!(disk.free(at(6000)), 7);
        disk.free.store(7, Ordering::Relaxed);
        assert_eq!(disk.free(at(6001)), 7);
        assert_ne!(disk.free(at(4000)), 7, "a clock that steps back does not stop it");
    }
}
