//! The disk side of a configuration: reading it.

use std::hash::Hasher;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use siphasher::sip::SipHasher24;
use waypost_config::diagnostics::{Report, SourceFile};
use waypost_config::difference::Snapshot;
use waypost_config::policy::Policy;
use waypost_config::raw::{self, FileKind, NotToml, RawConfig, RawDirectory};
use waypost_config::{Files, compile};

use crate::pattern;
use crate::stamps::Stamps;

/// A configuration as it was found on disk.
pub struct Loaded {
    /// The policy; `None` when the report has errors.
    pub policy: Option<Arc<Policy>>,
    /// The configuration as written, for its `[[expect]]` tests.
    pub raw: RawConfig,
    /// Everything that is wrong or doubtful.
    pub report: Report,
    /// The folder of the main file: where relative paths begin.
    pub base: PathBuf,
    /// What the files looked like before they were read, to notice a change.
    pub stamps: Stamps,
    /// The directory files of each organization, as they were read.
    directories: Vec<Vec<RawDirectory>>,
}

impl Loaded {
    /// What the configuration says, to be compared with another one (A12). Takes time linear in it.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::new(&self.raw, &self.directories);
        for file in self.raw.needed_files() {
            let path = file.path.as_str();
            // What users and groups are is told one by one.
            if file.kind != FileKind::Directory
                && let Some(looks) = self.stamps.looks(&self.base.join(path))
            {
                snapshot.add_file(path, &looks);
            }
        }
        snapshot
    }
}

/// Why a configuration cannot even be judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file is missing, unreadable, or not UTF-8.
    #[error("{path} cannot be read: {source}; check the path and its rights")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not TOML.
    #[error(transparent)]
    NotToml(#[from] NotToml),
}

/// Reads a configuration with all files that it includes and names. Blocking; time and memory are
/// linear in the files.
///
/// A pattern in `include` may have `*` and `?`, and begins at the folder of the main file, as all
/// relative paths do; matches are taken in the order of their paths.
///
/// # Errors
/// [`LoadError`]; what is only wrong is in [`Loaded::report`].
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    let base = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let disk = Disk { base: base.clone() };
    // Before they are read: what changes while they are is noticed afterwards.
    let mut named = vec![path.to_owned()];
    let first = Stamps::of(&base, Vec::new(), named.clone());
    let main = source(path, &path.display().to_string())?;
    let (mut included, mut patterns, mut found) = (Vec::new(), Vec::new(), Vec::new());
    let alone = raw::read(main.clone(), Vec::new())?;
    for pattern in alone.0.includes() {
        found.extend(disk.matches(pattern)?);
        match pattern::is_pattern(pattern) {
            true => patterns.push(pattern.to_owned()),
            false => named.push(base.join(pattern)),
        }
    }
    let second = Stamps::of(&base, patterns.clone(), named.clone());
    for found in found {
        included.push(source(&found, &found.display().to_string())?);
    }
    let (raw, mut report) = match included.is_empty() {
        true => alone,
        false => raw::read(main, included)?,
    };
    named.extend(raw.needed_files().iter().map(|file| base.join(file.path.as_str())));
    let stamps = Stamps::of(&base, patterns, named).with_earlier(&second).with_earlier(&first);
    let compiled = compile(&raw, &disk, &mut report);
    let (mut policy, mut directories) = (None, Vec::new());
    if let Some(mut compiled) = compiled {
        directories = std::mem::take(&mut compiled.written);
        policy = Some(Arc::new(compiled.into_policy(&version(&report))));
    }
    Ok(Loaded { policy, raw, report, base, stamps, directories })
}

/// The version of a configuration: 16 hexadecimal digits, the same for the same texts.
fn version(report: &Report) -> String {
    let mut hasher = SipHasher24::new_with_keys(0, 0);
    for source in report.sources() {
        hasher.write(source.text.as_bytes());
        hasher.write_u8(0xFF);
    }
    format!("{:016x}", hasher.finish())
}

fn source(path: &Path, name: &str) -> Result<SourceFile, LoadError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| LoadError::Unreadable { path: path.to_owned(), source })?;
    Ok(SourceFile::new(name, text))
}

struct Disk {
    base: PathBuf,
}

impl Files for Disk {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        std::fs::read(self.base.join(path)).map_err(|error| error.to_string())
    }

    fn is_open_to_all(&self, path: &str) -> bool {
        use std::os::unix::fs::PermissionsExt as _;
        let found = std::fs::metadata(self.base.join(path));
        found.is_ok_and(|found| found.permissions().mode() & 0o004 != 0)
    }
}

impl Disk {
    /// The files that a pattern of `include` names, sorted. One without `*` and `?` names one file.
    fn matches(&self, written: &str) -> Result<Vec<PathBuf>, LoadError> {
        if !pattern::is_pattern(written) {
            return Ok(vec![self.base.join(written)]);
        }
        pattern::files(&self.base, written)
            .map_err(|(path, source)| LoadError::Unreadable { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn includes_and_named_files_are_found_beside_the_main_file() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        std::fs::create_dir(folder.path().join("organizations")).unwrap();
        write(
            "waypost.toml",
            "[server]\nhostname = \"mx.s.example\"\nspool = \"spool\"\n\
             include = [\"organizations/*.toml\"]\n\
             [[listener]]\nname = \"mx\"\nrole = \"mx\"\nbind = \"127.0.0.1:0\"\n",
        );
        let organization =
            "[[organization]]\nname = \"S\"\ndomains = [\"s.example\"]\nlicences = 1\n";
        write("organizations/s.toml", organization);
        let main = folder.path().join("waypost.toml");
        let loaded = load(&main).unwrap();
        let shown = loaded.report.render(false);
        let policy = loaded.policy.expect(&shown);
        assert!(policy.organization("S").is_some());
        assert_eq!(loaded.stamps, loaded.stamps.now());
        write("organizations/s.toml", &format!("{organization}payment_overdue = true\n"));
        assert_ne!(loaded.stamps, loaded.stamps.now());
        assert_ne!(load(&main).unwrap().policy.unwrap().version(), policy.version());

        let missing = load(&folder.path().join("none.toml"));
        assert!(matches!(missing, Err(LoadError::Unreadable { .. })));
        write("bad.toml", "[server");
        assert!(matches!(load(&folder.path().join("bad.toml")), Err(LoadError::NotToml(_))));
    }
}
