//! The lock of a spool: one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use waypost_queue::StoreError;

use crate::fjall_store::failed;

/// Held as long as the spool is open.
///
/// A process that is being started has a copy of each open file until it becomes its program, and a lock is held
/// by all copies. So the lock is given up, and not left to the last one that is closed: who starts processes may
/// open the spool again at once.
#[derive(Debug)]
pub(crate) struct SpoolLock(File);

impl SpoolLock {
    /// Takes it.
    ///
    /// # Errors
    /// [`StoreError::Locked`]: it is held. [`StoreError::Failed`]: its file cannot be made.
    pub(crate) fn take(spool: &Path) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(spool.join("lock")).map_err(failed("open the lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: spool.to_owned() }),
            Err(TryLockError::Error(error)) => Err(failed("lock the spool")(error)),
        }
    }
}

impl Drop for SpoolLock {
    fn drop(&mut self) {
        // Where this fails, the lock goes when the file is closed.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_file_in_a_process_being_started_does_not_hold_the_lock() {
        let spool = tempfile::tempdir().unwrap();
        let lock = SpoolLock::take(spool.path()).unwrap();
        let copy = lock.0.try_clone().unwrap();
        let locked = StoreError::Locked { path: spool.path().to_owned() };
        assert_eq!(SpoolLock::take(spool.path()).unwrap_err(), locked);
        drop(lock);
        assert!(SpoolLock::take(spool.path()).is_ok());
        drop(copy);
    }
}
