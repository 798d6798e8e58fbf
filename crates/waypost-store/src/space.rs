//! Room on the disk.

use std::io;
use std::path::Path;

/// Octets that may still be written to the file system of `path` by who is not root. One system
/// call, which blocks.
///
/// # Errors
/// Those of the system: `path` is missing, or its file system does not answer.
pub fn free_octets(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
