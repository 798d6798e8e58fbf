//! What the files of a configuration look like on disk, to notice that one changed, and whose it is.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

use crate::control::named;
use crate::pattern;

/// What the files of a configuration look like: those that it names, and those that the patterns of its
/// `include` find. To be stored.
///
/// A file is looked at through symbolic links, so that a link that leads elsewhere is a change, and with
/// its inode, so that one that is put in place of another is. Nothing is opened or read. Costs a `stat`
/// for each file, and a reading of each folder that a pattern searches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamps {
    /// Where the patterns begin.
    base: PathBuf,
    patterns: Vec<String>,
    /// The files that are named.
    named: Vec<PathBuf>,
    /// Those, and what the patterns find; `None`: not there, or not to be looked at.
    files: BTreeMap<PathBuf, Option<Stamp>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Nanoseconds since 1970 of the last writing.
    written: i128,
    /// The same of the last change of rights, owner or name.
    changed: i128,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        let nanos =
            |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            written: nanos(found.mtime(), found.mtime_nsec()),
            changed: nanos(found.ctime(), found.ctime_nsec()),
        })
    }
}

impl Stamps {
    /// What the named files look like now, and what the patterns find. Blocking.
    pub(crate) fn of(base: &Path, patterns: Vec<String>, named: Vec<PathBuf>) -> Self {
        let mut stamps = Self { base: base.to_owned(), patterns, named, files: BTreeMap::new() };
        let found = stamps.patterns.iter();
        // A folder that cannot be read is told of when the configuration is loaded.
        let found = found.filter_map(|pattern| pattern::files(&stamps.base, pattern).ok());
        let all = stamps.named.iter().cloned().chain(found.flatten());
        stamps.files = all.map(|path| (path.clone(), Stamp::of(&path))).collect();
        stamps
    }

    /// With what an earlier look saw of the files that both looked at.
    pub(crate) fn with_earlier(mut self, earlier: &Self) -> Self {
        for (path, stamp) in &earlier.files {
            if let Some(later) = self.files.get_mut(path) {
                *later = *stamp;
            }
        }
        self
    }

    /// What the files look like now; those among them that are new, too. Blocking.
    #[must_use]
    pub fn now(&self) -> Self {
        Self::of(&self.base, self.patterns.clone(), self.named.clone())
    }

    /// Who changed what is different now, in words for the audit log: the owners of the files (A12).
    /// Empty: nothing is different. May ask the system's user database: blocking.
    #[must_use]
    pub fn changed_by(&self, now: &Self) -> String {
        let paths =
            self.files.keys().chain(now.files.keys()).collect::<std::collections::BTreeSet<_>>();
        let changed = paths.into_iter().filter(|path| {
            let before = self.files.get(*path).copied().flatten();
            before != now.files.get(*path).copied().flatten()
        });
        owners(changed.map(PathBuf::as_path))
    }

    /// When a file was written, as far as can be seen without reading it; `None`: it is not there.
    pub(crate) fn looks(&self, path: &Path) -> Option<String> {
        let stamp = self.files.get(path).copied().flatten()?;
        Some(format!("{} {} {}", stamp.inode, stamp.size, stamp.written))
    }
}

/// `root (uid 0), owner of a.toml and b.toml`, for each owner.
pub(crate) fn owners<'p>(paths: impl Iterator<Item = &'p Path>) -> String {
    let mut files: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for path in paths {
        let shown = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        match std::fs::metadata(path) {
            Ok(found) => files.entry(uid(&found)).or_default().push(shown.into_owned()),
            // Gone: whoever may take files away is the folder's owner.
            Err(_) => {
                let folder = path.parent().and_then(|folder| std::fs::metadata(folder).ok());
                let uid = folder.as_ref().map_or(Uid::effective().as_raw(), uid);
                files.entry(uid).or_default().push(format!("the folder of {shown}"));
            }
        }
    }
    let owner = |(uid, files): (u32, Vec<String>)| {
        let (first, rest) = files.split_at(files.len().min(3));
        let more = match rest.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{}, owner of {}{more}", named(Uid::from_raw(uid)), first.join(", "))
    };
    files.into_iter().map(owner).collect::<Vec<_>>().join("; ")
}

fn uid(found: &Metadata) -> u32 {
    found.uid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a12_every_way_to_change_a_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(at(name), text).unwrap();
        std::fs::create_dir(at("organizations")).unwrap();
        // As Kubernetes mounts a folder: the file is a link into a folder that is a link.
        for version in ["v1", "v2"] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("linked.toml"), "same").unwrap();
        }
        std::os::unix::fs::symlink("v1", at("data")).unwrap();
        std::os::unix::fs::symlink("data/linked.toml", at("linked.toml")).unwrap();
        write("waypost.toml", "a");
        write("organizations/a.toml", "a");
        let named = ["waypost.toml", "mx.pem", "linked.toml"].map(at).to_vec();
        let patterns = vec!["organizations/*.toml".to_owned()];
        let mut stamps = Stamps::of(folder.path(), patterns, named);
        assert_eq!(stamps, stamps.now());
        assert_eq!(stamps.changed_by(&stamps.now()), "");
        let mut noticed = |who: &str, what: &str| {
            let now = stamps.now();
            assert_ne!(now, stamps, "{what}");
            let by = stamps.changed_by(&now);
            assert!(by.ends_with(who) && by.contains("uid"), "{what}: {by}");
            stamps = now;
        };
        write("waypost.toml", "ab");
        noticed("owner of waypost.toml", "written");
        write("new", "ba");
        std::fs::rename(at("new"), at("waypost.toml")).unwrap();
        noticed("owner of waypost.toml", "another file of the same size is put in its place");
        write("organizations/b.toml", "");
        noticed("owner of b.toml", "a new file that a pattern finds");
        std::fs::remove_file(at("organizations/a.toml")).unwrap();
        noticed("owner of the folder of a.toml", "a file that a pattern found is gone");
        write("mx.pem", "x");
        noticed("owner of mx.pem", "a named file that was missing");
        std::os::unix::fs::symlink("v2", at("next")).unwrap();
        std::fs::rename(at("next"), at("data")).unwrap();
        noticed("owner of linked.toml", "a link above it leads elsewhere");
        let stored = serde_json::to_string(&stamps).unwrap();
        assert_eq!(serde_json::from_str::<Stamps>(&stored).unwrap(), stamps);
    }
}
