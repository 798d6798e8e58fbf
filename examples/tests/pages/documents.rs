//! What the documents point at is there, and the README's commands do what they say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn documents() -> Vec<PathBuf> {
    let folders = ["docs", "docs/clients", "docs/migrate"]
        .map(|name| fs::read_dir(root().join(name)).unwrap());
    let entries = folders.into_iter().flatten().map(|entry| entry.unwrap().path());
    let pages = entries.filter(|path| path.extension().is_some_and(|end| end == "md"));
    pages
        .chain(["README.md", "CHANGELOG.md", "SECURITY.md"].map(|name| root().join(name)))
        .collect()
}

/// The anchor that a heading has on a rendered page.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Whether a Markdown file has a heading with this anchor.
fn has_anchor(page: &Path, wanted: &str) -> bool {
    let text = fs::read_to_string(page).unwrap();
    text.lines()
        .filter(|line| line.starts_with('#'))
        .any(|line| anchor(line.trim_start_matches('#')) == wanted)
}

#[test]
fn links_lead_to_something() {
    let mut seen = 0;
    for page in documents() {
        let text = fs::read_to_string(&page).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap();
            if target.contains(':') {
                continue;
            }
            let (file, place) = target.split_once('#').unwrap_or((target, ""));
            let led =
                if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(led.exists(), "{}: there is no {target}", page.display());
            let found = place.is_empty() || has_anchor(&led, place);
            assert!(found, "{}: nothing is at {target}", page.display());
            seen += 1;
        }
    }
    assert!(seen > 15, "{seen} links");
}

fn sources(folder: &Path, out: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            if entry.file_name() != "target" {
                sources(&path, out);
            }
        } else if path.extension().is_some_and(|end| end == "rs") {
            out.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// The table of crashes names the test that proves each line.
#[test]
fn the_tests_that_the_spools_page_names_are_there() {
    let page = fs::read_to_string(root().join("docs/SPOOL.md")).unwrap();
    let mut all = String::new();
    for folder in ["crates", "examples"] {
        sources(&root().join(folder), &mut all);
    }
    let mut seen = 0;
    for name in page.split('`').skip(1).step_by(2).filter(|word| word.matches('_').count() > 3) {
        let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if plain && !name.starts_with("waypost_") {
            assert!(all.contains(&format!("fn {name}(")), "there is no test {name}");
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen} names");
    let (_, crashes) = page.split_once("## Crashes").unwrap();
    let (crashes, _) = crashes.split_once("\n## ").unwrap();
    let lines = crashes.lines().filter(|line| line.starts_with("| ")).skip(2);
    lines.for_each(|line| assert!(line.trim_end().ends_with("` |"), "no test: {line}"));
}

/// The table of requirements names the tests that prove each.
#[test]
fn the_tests_that_the_page_on_gateways_names_are_there() {
    let page = fs::read_to_string(root().join("docs/INBOUND.md")).unwrap();
    let (_, proof) = page.split_once("## Proof").unwrap();
    let (proof, _) = proof.split_once("\n## ").unwrap();
    let mut all = String::new();
    for folder in ["crates", "examples"] {
        sources(&root().join(folder), &mut all);
    }
    let scenarios = root().join("crates/waypost-config/testdata/scenarios");
    let scenarios: Vec<_> = fs::read_dir(scenarios)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    let mut seen = 0;
    for name in proof.split('`').skip(1).step_by(2) {
        if let Some(prefix) = name.strip_suffix('*') {
            assert!(scenarios.iter().any(|file| file.starts_with(prefix)), "no scenario {name}");
        } else if name.matches('_').count() >= 1 {
            assert!(all.contains(&format!("fn {name}(")), "there is no test {name}");
            seen += 1;
        }
    }
    assert!(seen > 25, "{seen} names");
    for number in 1..=12 {
        assert!(proof.contains(&format!("E{number}")), "E{number}");
    }
}

#[test]
fn the_readmes_commands_work() {
    let text = fs::read_to_string(root().join("README.md")).unwrap().replace("\\\n", " ");
    let lines = text.lines().filter(|line| line.starts_with("waypost "));
    let mut ran = 0;
    for line in lines {
        let words = line.split_whitespace().take_while(|word| *word != "#").skip(1);
        let words: Vec<&str> = words.collect();
        // Those want a server.
        if words.contains(&"serve") || words.contains(&"CONFIG") {
            continue;
        }
        let output = Command::new(env!("CARGO_BIN_EXE_waypost"))
            .args(&words)
            .current_dir(root())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {errors}");
        ran += 1;
    }
    assert_eq!(ran, 4);
}
