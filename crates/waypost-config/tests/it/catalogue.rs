//! The list of findings is whole: each id that the source names is in it, and the page is made from it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it means"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use waypost_config::diagnostics::{CATALOGUE, Severity, reference};

/// Words with hyphens in the source that are no ids.
const NO_IDS: [&str; 8] = [
    "from-header",
    "sender-mailbox",
    "my-domains",
    "registered-users",
    "internal-sending",
    "internal-receiving",
    "ietf-draft",
    "kebab-case",
];

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, out),
            false => out.push(path),
        }
    }
}

/// The string literals of a source text, outside its tests, that look like ids.
fn literals(text: &str) -> BTreeSet<String> {
    let text = text.split("#[cfg(test)]").next().unwrap();
    let mut found = BTreeSet::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for literal in line.split('"').skip(1).step_by(2) {
            let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            let begins = literal.starts_with(|c: char| c.is_ascii_lowercase());
            let ends = literal.ends_with(|c: char| c.is_ascii_alphanumeric());
            if literal.contains('-') && literal.chars().all(is_word) && begins && ends {
                found.insert(literal.to_owned());
            }
        }
    }
    found
}

#[test]
fn each_id_of_the_source_is_in_the_list_and_the_other_way_round() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    for folder in ["src/build", "src/directory", "src/dns"] {
        files(&root.join(folder), &mut sources);
    }
    sources.retain(|path| !path.ends_with("tests.rs"));
    sources.extend(["src/raw/reader.rs", "src/raw/mod.rs"].map(|path| root.join(path)));
    sources.push(root.join("../waypost-route/src/error.rs"));
    let ids: BTreeSet<String> = sources
        .iter()
        .flat_map(|path| literals(&std::fs::read_to_string(path).unwrap()))
        .filter(|id| !NO_IDS.contains(&id.as_str()))
        .collect();
    let listed: BTreeSet<String> = CATALOGUE.iter().map(|known| known.id.to_owned()).collect();
    let missing: Vec<_> = ids.difference(&listed).collect();
    assert!(missing.is_empty(), "not in CATALOGUE (or add them to NO_IDS here): {missing:?}");
    let gone: Vec<_> = listed.difference(&ids).collect();
    assert!(gone.is_empty(), "in CATALOGUE, and nothing says them: {gone:?}");
    assert_eq!(listed.len(), CATALOGUE.len(), "an id is listed twice");
}

/// What the goldens show: severity, id and rule.
fn shown() -> BTreeSet<(String, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut goldens = Vec::new();
    files(&root.join("errors"), &mut goldens);
    files(&root.join("lints"), &mut goldens);
    let mut shown = BTreeSet::new();
    for path in goldens.iter().filter(|path| path.extension().is_some_and(|it| it == "expected")) {
        let text = std::fs::read_to_string(path).unwrap();
        let mut head = None;
        for line in text.lines() {
            if let Some((severity, rest)) = line.split_once('[')
                && ["error", "warning"].contains(&severity)
                && let Some((id, _)) = rest.split_once(']')
            {
                head = Some((severity.to_owned(), id.to_owned()));
            }
            if let Some((_, rule)) = line.split_once("= note: rule ")
                && let Some((severity, id)) = head.take()
            {
                shown.insert((severity, id, rule.to_owned()));
            }
        }
    }
    shown
}

#[test]
fn the_goldens_show_each_warning_and_only_what_is_listed() {
    let listed: BTreeMap<_, _> = CATALOGUE.iter().map(|known| (known.id, known)).collect();
    let shown = shown();
    for (severity, id, rule) in &shown {
        let known = listed.get(id.as_str()).unwrap_or_else(|| panic!("{id} is not in CATALOGUE"));
        let rules: Vec<_> = known.rules.split(' ').collect();
        assert!(rules.contains(&rule.as_str()) || known.rules.starts_with('('), "{id}: {rule}");
        let lighter = id == "unreadable-file";
        assert!(known.severity.as_str() == severity || lighter, "{id}: {severity}");
    }
    // What takes a DNS or a disk to see is shown elsewhere; of relay entries all doubts have ids.
    let elsewhere = ["spf-", "mx-", "dns-", "sender-without-", "password-", "relay-doubt"];
    for known in CATALOGUE.iter().filter(|known| known.severity == Severity::Warning) {
        let is_shown = shown.iter().any(|(_, id, _)| id == known.id);
        let is_elsewhere = elsewhere.iter().any(|start| known.id.starts_with(start));
        assert!(is_shown || is_elsewhere, "no golden shows {}", known.id);
    }
}

#[test]
fn the_page_is_made_from_the_list() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/CHECK.md");
    let wanted = reference();
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&page, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(found == wanted, "docs/CHECK.md is stale; UPDATE_GOLDENS=1 rewrites it");
}
