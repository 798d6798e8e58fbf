//! A small file system in memory, to fill and to empty.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs; dropped, it is gone.
pub(crate) struct Tmpfs {
    path: PathBuf,
}

impl Tmpfs {
    /// Mounts one of so many MiB on a folder, which is made. `None`, with a line on stderr, where that is not
    /// allowed: it takes root.
    pub(crate) fn mount(path: &Path, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let size = format!("size={mib}m,mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "waypost-test"])
            .arg(path)
            .output();
        match mounted {
            Ok(done) if done.status.success() => Some(Self { path: path.to_owned() }),
            Ok(done) => {
                let said = String::from_utf8_lossy(&done.stderr);
                eprintln!("skipped: a tmpfs cannot be mounted: {}", said.trim());
                None
            }
            Err(error) => {
                eprintln!("skipped: a tmpfs cannot be mounted: {error}");
                None
            }
        }
    }

    /// Writes a file until no octet is left.
    pub(crate) fn fill(&self) {
        let mut file = std::fs::File::create(self.path.join("ballast")).unwrap();
        for step in [1 << 20, 4096] {
            let zeros = vec![0; step];
            loop {
                match file.write(&zeros) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    /// Writes a file until so many MiB are left.
    pub(crate) fn fill_but(&self, mib: u32) {
        self.fill();
        let ballast = std::fs::OpenOptions::new().write(true).open(self.path.join("ballast"));
        let ballast = ballast.unwrap();
        let octets = ballast.metadata().unwrap().len();
        ballast.set_len(octets.saturating_sub(u64::from(mib) << 20)).unwrap();
    }

    /// Removes it.
    pub(crate) fn empty(&self) {
        std::fs::remove_file(self.path.join("ballast")).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
