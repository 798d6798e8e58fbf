//! What the documents point at is there, and the README's commands do what they say.

#![allow(clippy::unwrap_used, reason = "a test says what it means")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn documents() -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = folder.filter(|path| path.extension().is_some_and(|end| end == "md"));
    pages.chain(["README.md", "CHANGELOG.md"].map(|name| root().join(name))).collect()
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
    assert_eq!(ran, 3);
}
