//! The configuration as it is written, every value with its place.
//!
//! **In:** the text of the main file and of those that it includes. **Out:** [`RawConfig`] and a
//! [`Report`] of everything that is wrong with keys, types and single values, in one pass; or, when
//! a text is not TOML at all, [`NotToml`]. **Bounds:** time and memory are linear in the text;
//! tables nest at most 80 deep. **Not here:** what needs two values to judge.

mod checked;
mod csv_directory;
mod expect;
mod filter;
mod inbound;
mod keys;
mod leaf;
mod organization;
mod reader;
mod record;
mod redis;
mod relay;
mod route;
mod rule;
mod server;
mod text;
mod words;

use toml::de::{DeTable, DeValue};

use crate::diagnostics::{Diagnostic, Place, Report, SourceFile, Spanned};
use crate::difference::Tree;
use keys::table;
use reader::{Key, Read, Reader};

pub use checked::{CopyTo, DnsServers, Pattern, Range, TlsCheck};
pub(crate) use csv_directory::CSV_COLUMNS;
pub use csv_directory::read_directory_csv;
pub use expect::RawExpect;
pub use filter::{
    Filter, FilterAddress, FilterHeader, FilterSays, OnFilterFailure, RawFilter, RawFilterTag,
};
pub use inbound::{RawInboundGateway, RawSpamTag};
pub use keys::{Form, KeyInfo, Kind, Need};
pub use leaf::{Load, Port};
pub use organization::{RawDirectory, RawGroup, RawLimits, RawOrgUnit, RawOrganization, RawUser};
pub use reader::List;
pub(crate) use reader::{listed, nearest};
pub use record::{LocalParts, RawRecord, Record};
pub use redis::{RedisAddress, RedisPrefix};
pub use relay::{RawRelay, RawRelayAddress};
pub use route::{RawAuth, RawRoute, RawRouteHost};
pub use rule::{
    RawAlsoDeliverTo, RawEnvelopeFilter, RawHeader, RawMatcher, RawModify, RawReplaceRecipient,
    RawRule, RawThen,
};
pub use server::{RawListener, RawRetry, RawServer, RawServerLimits, RawTimeouts, RawTls};
pub use text::{DirectoryFiles, FilePath, Name, OneLine};
pub use words::{
    AccountKind, Affects, AllowedSenders, Authenticate, InternalSenders, Mode, OnTlsFailure,
    OverLimit, Protocol, RedisFallback, RejectCode, Role, SpamAction, Switch, TlsStart,
    UnlistedAddress, Via,
};

table! {
    /// The main file: one `[server]`, its listeners, its organizations, and tests of all that.
    RawConfig {
        /// What holds for the whole server. It must be there, since `hostname` has no default.
        section server: RawServer, "format";
        /// A port that SMTP clients connect to; one table for each. Without one `serve` receives
        /// nothing.
        list listener: RawListener, "D5";
        /// A customer; one table for each. Without one, mail is accepted for nobody.
        list organization: RawOrganization, "A1";
        /// Tests of the configuration, played by `waypost check` and before each reload; one that
        /// fails refuses the configuration.
        list expect: RawExpect, "O7";
    }
}

table! {
    /// A file that the main one includes.
    RawInclude {
        /// Customers, as in the main file.
        list organization: RawOrganization, "A1";
        /// Tests of the configuration, as in the main file.
        list expect: RawExpect, "O7";
    }
}

/// A text that is not TOML: each place where its syntax breaks is an error in the report.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{} is not TOML; see the report for the places", self.file())]
pub struct NotToml {
    /// What is wrong, where.
    pub report: Report,
}

impl NotToml {
    fn file(&self) -> &str {
        let first = self.report.diagnostics().first().map(|found| found.place.file);
        let index = first.and_then(|file| usize::try_from(file).ok());
        let source = index.and_then(|index| self.report.sources().get(index));
        source.map_or("the configuration", |source| source.name.as_str())
    }
}

/// Reads the main file and those that it includes: the tables of the latter are added to its own.
///
/// The report holds every unknown key, wrong type and wrong value; it may have errors, and what
/// could be read is there all the same, so that the checks that follow find theirs too.
///
/// # Errors
/// [`NotToml`] when one of the texts is not TOML.
pub fn read(main: SourceFile, included: Vec<SourceFile>) -> Result<(RawConfig, Report), NotToml> {
    let mut sources = vec![main];
    sources.extend(included);
    let mut report = Report::new(sources.clone());
    let mut documents = Vec::new();
    for (file, source) in (0..).zip(&sources) {
        documents.extend(document(file, &source.text, &mut report).map(|found| (file, found)));
    }
    if report.has_errors() {
        return Err(NotToml { report });
    }
    let mut config = None;
    for (file, node) in &documents {
        let mut reader = Reader::new(*file, &mut report);
        match &mut config {
            None => config = RawConfig::read(node, &Key::DOCUMENT, &mut reader),
            Some(config) => {
                let Some(more) = RawInclude::read(node, &Key::DOCUMENT, &mut reader) else {
                    continue;
                };
                config.organization.items.extend(more.organization.items);
                config.expect.items.extend(more.expect.items);
            }
        }
    }
    match config {
        Some(config) => Ok((config, report)),
        None => Err(NotToml { report }),
    }
}

/// Reads a directory file, a TOML text with `[[user]]` and `[[group]]` tables, into a report that
/// exists. A text that is not TOML is an error in the report like any other.
pub fn read_directory(source: SourceFile, report: &mut Report) -> Option<RawDirectory> {
    let text = source.text.clone();
    let file = report.add_source(source);
    let node = document(file, &text, report)?;
    RawDirectory::read(&node, &Key::DOCUMENT, &mut Reader::new(file, report))
}

/// What a table says, as data, to be compared.
pub(crate) fn tree(table: &impl Read) -> Tree {
    table.tree()
}

/// The document in a text. `None`: it is not TOML, and the report says why.
fn document<'i>(file: u32, text: &'i str, report: &mut Report) -> Option<reader::Node<'i>> {
    let (document, faults) = DeTable::parse_recoverable(text);
    // One fault may bring others about: the first ones tell the story.
    for fault in faults.iter().take(20) {
        let span = fault.span().unwrap_or(0..0);
        let message = format!("this is not TOML: {}", fault.message());
        let cure = "correct the syntax; see https://toml.io for the format";
        report.push(Diagnostic::error("not-toml", Place::new(file, span), "format", message, cure));
    }
    let span = document.span();
    faults.is_empty().then(|| toml::Spanned::new(span, DeValue::Table(document.into_inner())))
}

/// A file that a configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeededFile {
    /// The path as written; a relative one starts at the directory of the main file.
    pub path: Spanned<FilePath>,
    /// What it is.
    pub kind: FileKind,
}

/// What a file is that a configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileKind {
    /// Users and groups, in TOML or CSV.
    Directory,
    /// A certificate chain in PEM.
    Certificate,
    /// A private key in PEM.
    PrivateKey,
    /// Trusted roots in PEM.
    Roots,
    /// A password.
    Password,
}

impl RawConfig {
    /// The patterns of `include`, for the caller to find the files; relative ones start at the
    /// directory of the main file.
    #[must_use]
    pub fn includes(&self) -> Vec<&str> {
        let include = self.server.iter().flat_map(|server| &server.include);
        include.map(|pattern| pattern.as_str()).collect()
    }

    /// The files that the configuration names, in its order.
    #[must_use]
    pub fn needed_files(&self) -> Vec<NeededFile> {
        let mut files = Vec::new();
        let mut add = |path: &Option<Spanned<FilePath>>, kind| {
            files.extend(path.clone().map(|path| NeededFile { path, kind }));
        };
        if let Some(server) = &self.server {
            add(&server.redis_ca, FileKind::Roots);
            add(&server.redis_certificate, FileKind::Certificate);
            add(&server.redis_key, FileKind::PrivateKey);
        }
        for tls in self.listener.iter().filter_map(|listener| listener.tls.as_ref()) {
            add(&tls.certificate, FileKind::Certificate);
            add(&tls.key, FileKind::PrivateKey);
        }
        for organization in &self.organization {
            if let Some(files) = &organization.directory {
                for path in files.paths() {
                    let path = Spanned::new(path.clone(), files.place);
                    add(&Some(path), FileKind::Directory);
                }
            }
            for route in &organization.route {
                add(&route.roots, FileKind::Roots);
                if let Some(auth) = &route.auth {
                    add(&auth.password_file, FileKind::Password);
                }
            }
        }
        files
    }
}
