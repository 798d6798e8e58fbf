//! A configuration from disk.
//!
//! **In:** the path of the main file. **Out:** a [`Loaded`] configuration: its raw form, the report on
//! it and, when it has no error, the compiled policy. Relative paths start at the directory of the
//! main file. **Errors:** [`LoadError`] when a file cannot be read or is not TOML; whatever else is
//! wrong is in the report. **Source:** A12, and the format's `include`.

mod pattern;

use std::hash::Hasher as _;
use std::path::{Path, PathBuf};

use siphasher::sip::SipHasher13;
use waypost_config::diagnostics::{Report, SourceFile};
use waypost_config::policy::Policy;
use waypost_config::raw::{self, NotToml, RawConfig};
use waypost_config::{Files, compile};

/// A configuration that could be read.
pub(crate) struct Loaded {
    /// As it is written.
    pub(crate) raw: RawConfig,
    /// What was found in it.
    pub(crate) report: Report,
    /// Compiled; `None`: the report has errors.
    pub(crate) policy: Option<Policy>,
}

/// Why a configuration cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// A file is missing, unreadable, or no text.
    #[error("{path}: cannot be read: {because}; correct the path or the rights")]
    Unreadable {
        /// The path.
        path: String,
        /// What the system says.
        because: String,
    },
    /// A file is not TOML.
    #[error(transparent)]
    NotToml(#[from] NotToml),
}

/// Reads and compiles the configuration at a path.
///
/// # Errors
/// [`LoadError`] names the file.
pub(crate) fn load(path: &str) -> Result<Loaded, LoadError> {
    let disk = Disk::beside(Path::new(path));
    let main = source(path, std::fs::read(path).map_err(|error| error.to_string()))?;
    let (alone, _) = raw::read(main.clone(), Vec::new())?;
    let mut included = Vec::new();
    for written in alone.includes() {
        for file in disk.matching(written)? {
            let name = file.display().to_string();
            let bytes = std::fs::read(&file).map_err(|error| error.to_string());
            included.push(source(&name, bytes)?);
        }
    }
    let version = version(std::iter::once(&main).chain(&included));
    let (raw, mut report) = raw::read(main, included)?;
    let compiled = compile(&raw, &disk, &mut report);
    let policy = compiled.map(|compiled| compiled.into_policy(&version));
    Ok(Loaded { raw, report, policy })
}

fn source(path: &str, bytes: Result<Vec<u8>, String>) -> Result<SourceFile, LoadError> {
    let text = bytes
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned()));
    let text = text.map_err(|because| LoadError::Unreadable { path: path.to_owned(), because })?;
    Ok(SourceFile::new(path, text))
}

/// An id of the text: the same text gives the same id, another one almost surely another.
fn version<'a>(sources: impl Iterator<Item = &'a SourceFile>) -> String {
    let mut hasher = SipHasher13::new();
    for source in sources {
        hasher.write(source.text.as_bytes());
        hasher.write_u8(0xff);
    }
    format!("{:016x}", hasher.finish())
}

/// The files beside a main file.
pub(crate) struct Disk {
    base: PathBuf,
}

impl Disk {
    /// Relative paths start at the directory of `main`.
    pub(crate) fn beside(main: &Path) -> Self {
        Self { base: main.parent().unwrap_or(Path::new("")).to_owned() }
    }

    /// The files that a pattern of `include` names, sorted. One without `*` and `?` names one file.
    fn matching(&self, written: &str) -> Result<Vec<PathBuf>, LoadError> {
        if !pattern::is_pattern(written) {
            return Ok(vec![self.base.join(written)]);
        }
        pattern::files(&self.base, written).map_err(|(path, error)| LoadError::Unreadable {
            path: path.display().to_string(),
            because: error.to_string(),
        })
    }
}

impl Files for Disk {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        std::fs::read(self.base.join(path)).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn includes_are_found_beside_the_main_file_and_the_version_follows_the_text() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let organization = |name: &str, domain: &str| {
            format!("[[organization]]\nname = \"{name}\"\ndomains = [\"{domain}\"]\n")
        };
        std::fs::create_dir(at("organizations")).unwrap();
        std::fs::write(at("organizations/b.toml"), organization("B", "b.example")).unwrap();
        std::fs::write(at("organizations/a.toml"), organization("A", "a.example")).unwrap();
        std::fs::write(at("organizations/c.txt"), "not TOML").unwrap();
        let main = at("waypost.toml").display().to_string();
        let text = "[server]\nhostname = \"mx.a.example\"\ninclude = [\"organizations/*.toml\"]\n";
        std::fs::write(&main, text).unwrap();
        let first = load(&main).unwrap();
        let policy = first.policy.unwrap_or_else(|| panic!("{}", first.report.render(false)));
        let names: Vec<_> = policy.organizations().iter().map(|one| &*one.name).collect();
        assert_eq!(names, ["A", "B"]);
        assert_eq!(load(&main).unwrap().policy.unwrap().version(), policy.version());
        std::fs::write(at("organizations/b.toml"), organization("C", "b.example")).unwrap();
        assert_ne!(load(&main).unwrap().policy.unwrap().version(), policy.version());
        std::fs::write(at("organizations/b.toml"), "[[").unwrap();
        assert!(matches!(load(&main), Err(LoadError::NotToml(_))));
        std::fs::write(at("organizations/b.toml"), b"\xff").unwrap();
        assert!(matches!(load(&main), Err(LoadError::Unreadable { .. })));
        std::fs::write(&main, "[server]\ninclude = [\"none.toml\"]\n").unwrap();
        assert!(matches!(load(&main), Err(LoadError::Unreadable { .. })));
        assert!(matches!(load("/none/x.toml"), Err(LoadError::Unreadable { .. })));
    }
}
