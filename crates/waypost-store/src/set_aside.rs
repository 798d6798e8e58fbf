//! The folder for values that cannot be read.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// `corrupt/` in the spool.
#[derive(Debug)]
pub(crate) struct Corrupt {
    folder: PathBuf,
}

impl Corrupt {
    pub(crate) fn of(spool: &Path) -> Self {
        Self { folder: spool.join("corrupt") }
    }

    /// Writes a value's bytes to a file of their own; the same value twice is one file.
    pub(crate) fn keep(&self, name: &str, value: &[u8]) -> io::Result<PathBuf> {
        create_private(&self.folder)?;
        let path = self.folder.join(name);
        let mut file = fs::File::create(&path)?;
        file.write_all(value)?;
        file.sync_all()?;
        sync_folder(&self.folder)?;
        Ok(path)
    }

    /// Moves a folder here under the first free name.
    pub(crate) fn take_in(&self, folder: &Path) -> io::Result<PathBuf> {
        create_private(&self.folder)?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut number = 0u32;
        loop {
            let to = self.folder.join(format!("{name}-{number}"));
            if !to.try_exists()? {
                fs::rename(folder, &to)?;
                return Ok(to);
            }
            number = number.saturating_add(1);
        }
    }
}

/// Creates a folder that only its owner can look into: it holds people's mail.
pub(crate) fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Makes the names in a folder outlive a power cut, where the system lets folders be synced.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) && !folder.as_os_str().is_empty() {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}
