//! The configuration's format as a reference for people and as a schema for editors.
//!
//! **In:** the keys of the format ([`RawConfig::keys`]), the very tables that read a file. **Out:**
//! Markdown (`docs/CONFIG.md`) and JSON Schemas of draft 2020-12, one for each kind of file
//! ([`Document`]).
//! **Bounds:** some hundred kilobytes of text, the same for every call. **Errors:** none.
//! **Source:** A1-E12, O1-O8, as each key says. **Not here:** rules that need several values, which
//! only [`compile`](crate::compile) knows; the schema refuses nothing that it accepts.

mod markdown;
mod schema;

pub use markdown::markdown;
pub use schema::{Document, schema};

use crate::raw::{KeyInfo, Kind, Need, RawConfig};

/// A table of the format, once for all places where it may stand.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// Where it stands first: `organization.rule.then`.
    pub path: String,
    /// Other places where it may stand.
    pub also: Vec<String>,
    /// Its head as TOML: `[[organization.rule]]`.
    pub head: String,
    /// What it is.
    pub doc: String,
    /// A whole example as TOML text with its heads; empty where there is none.
    pub example: String,
    /// Its keys, in the order of the format.
    pub keys: Vec<KeyInfo>,
}

/// Every table of the format, in its order: a table, then those below it.
#[must_use]
pub fn sections() -> Vec<Section> {
    let mut sections = Vec::new();
    for key in RawConfig::keys() {
        add(&mut sections, &key, "");
    }
    sections
}

fn add(sections: &mut Vec<Section>, key: &KeyInfo, above: &str) {
    let Kind::Table { doc, example, keys } = &key.kind else { return };
    let path = format!("{above}{}", key.name);
    if let Some(known) = sections.iter_mut().find(|one| one.doc == *doc && one.keys == *keys) {
        known.also.push(path);
        return;
    }
    let head = head(&path, &key.need);
    let below = format!("{path}.");
    let (doc, example) = (doc.clone(), example.clone());
    sections.push(Section { path, also: Vec::new(), head, doc, example, keys: keys.clone() });
    for key in keys {
        add(sections, key, &below);
    }
}

fn head(path: &str, need: &Need) -> String {
    if *need == Need::List { format!("[[{path}]]") } else { format!("[{path}]") }
}

/// Tables of which exactly one of some keys must be there.
const EXACTLY_ONE: &[(&str, &[&str])] = &[
    ("organization.route", &["host", "primary"]),
    ("organization.rule.envelope.senders", &["address", "pattern", "group"]),
    ("organization.rule.then", &["reject", "quarantine", "modify"]),
    ("expect", &["route", "reply", "via", "quarantine"]),
];

/// The keys of a table of which exactly one must be there.
#[must_use]
pub fn exactly_one(path: &str) -> &'static [&'static str] {
    EXACTLY_ONE.iter().find(|(table, _)| *table == path).map_or(&[], |(_, keys)| keys)
}

/// Tables that one of their keys may stand for, written as a value in the table's place.
const SHORT: &[(&str, &str)] = &[("server.filter", "address"), ("server.record", "file")];

/// The key whose value alone may stand for the table at `path`.
#[must_use]
pub fn short_form(path: &str) -> Option<&'static str> {
    SHORT.iter().find(|(table, _)| *table == path).map(|(_, key)| *key)
}

/// Lists that must be there, with at least one element.
const NOT_EMPTY: &[&str] = &["organization.domains", "organization.rule.affects"];

/// Whether a key of the table at `path` must be there, as its own need or another rule says.
#[must_use]
pub fn is_required(path: &str, key: &KeyInfo) -> bool {
    let holds_required = || match &key.kind {
        Kind::Table { keys, .. } => keys.iter().any(|key| key.need == Need::Required),
        Kind::Leaf { .. } => false,
    };
    match key.need {
        Need::Required => true,
        Need::Section => holds_required(),
        Need::List => NOT_EMPTY.contains(&format!("{path}.{}", key.name).as_str()),
        Need::Optional | Need::Default(_) => false,
    }
}
