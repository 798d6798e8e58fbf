//! From the configuration as written to the parts of a policy, with every rule that needs more than
//! one value to judge.
//!
//! **In:** [`RawConfig`], the files that it names, and the report on it so far. **Out:** the server's
//! settings and the organizations, compiled; and in the report every mistake and doubt, each at its
//! place. Nothing stops at the first mistake. **Not here:** the `[[expect]]` tests, which need the
//! compiled policy.

mod filter;
mod inbound;
mod lint;
mod logins;
mod modification;
mod organization;
mod proxies;
mod relay;
mod routes;
mod rules;
mod server;

use std::collections::HashMap;
use std::sync::Arc;

use waypost_relay::RelayService;

use crate::diagnostics::{Diagnostic, Place, Report, Severity, SourceFile, Spanned};
use crate::directory::StaticDirectory;
use crate::policy::{Organization, Policy};
use crate::raw::{FileKind, RawConfig, RawDirectory};
use crate::settings::ServerSettings;

/// The files that a configuration names, as the caller can read them.
///
/// Paths are given as written: a relative one starts at the directory of the main file, which the
/// caller knows.
pub trait Files {
    /// The bytes of a file, or why it cannot be read, in words for a person.
    ///
    /// # Errors
    /// Why the file cannot be read.
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;

    /// Whether every user of the machine may read a file, for a warning about passwords.
    fn is_open_to_all(&self, _path: &str) -> bool {
        false
    }
}

impl Files for HashMap<String, Vec<u8>> {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        self.get(path).cloned().ok_or_else(|| "there is no such file".into())
    }
}

/// The compiled parts of a configuration: what a policy is made of.
pub struct Compiled {
    /// The server's own settings.
    pub server: ServerSettings,
    /// The organizations, in file order.
    pub organizations: Vec<Organization>,
    /// Who may relay.
    pub relay: RelayService,
    /// The directory of each organization, in the same order; with password hashes and quotas.
    pub directories: Vec<Arc<StaticDirectory>>,
    /// The directory files of each organization, in the same order, as they are written.
    pub written: Vec<Vec<RawDirectory>>,
}

impl Compiled {
    /// The policy that the parts make, under an id of the configuration's version.
    #[must_use]
    pub fn into_policy(self, version: &str) -> Policy {
        Policy::new(self.server, self.organizations, self.relay, version)
    }
}

/// Checks the whole configuration and compiles its parts.
///
/// Adds to the report every mistake and doubt. `None`: the report has errors.
pub fn compile(raw: &RawConfig, files: &dyn Files, report: &mut Report) -> Option<Compiled> {
    let server = server::build(raw, report);
    let written: Vec<Vec<RawDirectory>> = raw
        .organization
        .iter()
        .map(|organization| {
            let paths = organization.directory.iter().flat_map(|all| {
                all.paths().iter().map(|path| Spanned::new(path.clone(), all.place))
            });
            paths.filter_map(|path| directory_file(&path, files, report)).collect()
        })
        .collect();
    readable_files(raw, files, report);
    let compiled = organization::build(raw, &written, files, report);
    let relay = relay::build(raw, &compiled, report);
    lint::organizations(raw, &compiled, report);
    lint::expects(raw, report);
    if report.has_errors() {
        return None;
    }
    let directories = compiled.iter().map(|one| Arc::clone(&one.directory)).collect();
    let organizations: Option<Vec<_>> =
        compiled.into_iter().map(|compiled| compiled.organization).collect();
    Some(Compiled {
        server: server?,
        organizations: organizations?,
        relay: relay?,
        directories,
        written,
    })
}

fn directory_file(
    path: &Spanned<crate::raw::FilePath>,
    files: &dyn Files,
    report: &mut Report,
) -> Option<RawDirectory> {
    let text = files
        .read(path.as_str())
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned()));
    match text {
        Ok(text) => {
            let source = SourceFile::new(path.as_str(), text);
            match path.as_str().to_ascii_lowercase().ends_with(".csv") {
                true => crate::raw::read_directory_csv(source, report),
                false => crate::raw::read_directory(source, report),
            }
        }
        Err(because) => {
            report.push(unreadable(path, &because));
            None
        }
    }
}

fn unreadable(path: &Spanned<crate::raw::FilePath>, because: &str) -> Diagnostic {
    Diagnostic::error(
        "unreadable-file",
        path.place,
        "format",
        format!("the file `{}` cannot be read: {because}", path.as_str()),
        "correct the path (a relative one starts at the directory of the main file) or the rights",
    )
}

/// A route without its roots sends nothing, so that is an error, and so is a Redis that nobody vouches
/// for. The files of a listener, and what is shown to Redis, only warn here: `serve` refuses to start without them. Directories and passwords are told of where they are
/// read.
fn readable_files(raw: &RawConfig, files: &dyn Files, report: &mut Report) {
    let of_redis = raw.server.as_ref().and_then(|server| server.redis_ca.as_ref());
    for file in raw.needed_files() {
        let rule = match file.kind {
            FileKind::Roots if of_redis == Some(&file.path) => "O5",
            FileKind::Roots => "A6",
            _ => "format",
        };
        let severity = match file.kind {
            FileKind::Directory | FileKind::Password => continue,
            FileKind::Roots => Severity::Error,
            FileKind::Certificate | FileKind::PrivateKey => Severity::Warning,
        };
        match files.read(file.path.as_str()) {
            Err(because) => {
                report.push(Diagnostic { severity, rule, ..unreadable(&file.path, &because) });
            }
            Ok(bytes) if file.kind == FileKind::Roots && !holds_certificate(&bytes) => {
                report.push(Diagnostic::error(
                    "no-roots",
                    file.path.place,
                    rule,
                    format!("the file `{}` holds no certificate in PEM", file.path.as_str()),
                    "write the authority's certificates into it, each from BEGIN CERTIFICATE to END",
                ));
            }
            Ok(_) => {}
        }
    }
}

fn holds_certificate(pem: &[u8]) -> bool {
    let begin = b"-----BEGIN CERTIFICATE-----";
    pem.windows(begin.len()).any(|window| window == begin)
}

/// Notes a second use of something that must be unique, by its folded form.
struct Unique {
    what: &'static str,
    rule: &'static str,
    seen: HashMap<String, Place>,
}

impl Unique {
    fn new(what: &'static str, rule: &'static str) -> Self {
        Self { what, rule, seen: HashMap::new() }
    }

    /// Claims a name; an error if it is taken.
    fn claim(&mut self, key: String, shown: &str, place: Place, report: &mut Report) {
        if let Some(first) = self.seen.get(&key) {
            let first = report.locate(*first);
            report.push(Diagnostic::error(
                "duplicate-name",
                place,
                self.rule,
                format!("the {} `{shown}` was given at {first} already", self.what),
                "choose another one, or remove one of the two",
            ));
        } else {
            self.seen.insert(key, place);
        }
    }
}

/// `did you mean …? ` and the names there are.
fn known_names(name: &str, known: &[&str]) -> String {
    let near = crate::raw::nearest(name, known)
        .map(|near| format!("did you mean `{near}`? "))
        .unwrap_or_default();
    let shown = crate::raw::listed(known.get(..8).unwrap_or(known));
    match known.len() {
        0 => "define it first".into(),
        1..=8 => format!("{near}known are {shown}"),
        more => format!("{near}known are {shown} and {} more", more - 8),
    }
}
