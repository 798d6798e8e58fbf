//! A clock that can be set while servers run.

use std::path::{Path, PathBuf};

/// What a `LD_PRELOAD`ed libfaketime reads its time from. Monotonic clocks go on as they do.
pub(crate) struct Clock {
    library: PathBuf,
    file: tempfile::NamedTempFile,
    offset: i64,
}

impl Clock {
    /// `None`: there is no libfaketime; `scripts/scenarios` fetches it.
    pub(crate) fn start() -> Option<Self> {
        let named = std::env::var_os("FAKETIME_LIBRARY").map(PathBuf::from);
        let packaged = ["x86_64", "aarch64"].map(|machine| {
            PathBuf::from(format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1"))
        });
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
        let fetched =
            cache.or_else(home).map(|cache| cache.join("waypost/faketime/libfaketime.so"));
        let mut libraries = named.into_iter().chain(packaged).chain(fetched);
        let library = libraries.find(|path| path.exists())?;
        let clock = Self { library, file: tempfile::NamedTempFile::new().unwrap(), offset: 0 };
        clock.write();
        Some(clock)
    }

    /// So many seconds forth or back.
    pub(crate) fn step(&mut self, seconds: i64) {
        self.offset += seconds;
        self.write();
    }

    /// In one step: the servers read it at each look at the clock.
    fn write(&self) {
        let path: &Path = self.file.path();
        let new = path.with_extension("new");
        std::fs::write(&new, format!("{:+}\n", self.offset)).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        [
            ("LD_PRELOAD", path(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", path(self.file.path())),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}
