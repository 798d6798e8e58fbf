//! What the pages for administrators show is what the commands say.
//!
//! In these pages a fence with `file=NAME` is a file (`after=OTHER`: behind the text of another), and a fence
//! of `console` holds commands behind `$`, each with its answer below it. The commands are run in a folder with the
//! page's files; `UPDATE_GOLDENS=1` writes the answers anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may say what they mean"
)]

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A page of Markdown, cut at its fences.
enum Part<'t> {
    /// Words, and fences that are only to be read; as they are.
    Text(&'t str),
    /// A file: its name, the one that it comes behind, its text.
    File { name: &'t str, after: Option<&'t str>, text: &'t str, whole: &'t str },
    /// Commands with their answers.
    Console(&'t str),
}

fn parts(page: &str) -> Vec<Part<'_>> {
    let (mut parts, mut rest) = (Vec::new(), page);
    while let Some(start) = rest.find("\n```") {
        let (before, fence) = rest.split_at(start + 1);
        let (info, text) = fence[3..].split_once('\n').unwrap();
        let end = text.find("\n```").map_or(0, |end| end + 1);
        let (text, behind) = text.split_at(end);
        let (close, behind) =
            behind.split_at(behind.find('\n').map_or(behind.len(), |end| end + 1));
        let whole = &fence[..fence.len() - behind.len()];
        assert!(close.starts_with("```"), "a fence is open behind: {before}");
        parts.push(Part::Text(before));
        let value = |key: &str| info.split(' ').find_map(|word| word.strip_prefix(key));
        parts.push(match value("file=") {
            Some(name) => Part::File { name, after: value("after="), text, whole },
            None if info == "console" => Part::Console(text),
            None => Part::Text(whole),
        });
        rest = behind;
    }
    parts.push(Part::Text(rest));
    parts
}

/// Runs a command line of the page: words, quoted ones, a file for its input.
fn answer(line: &str, folder: &Path) -> String {
    let (line, input) =
        line.split_once(" < ").map_or((line, None), |(line, file)| (line, Some(file)));
    let mut words = Vec::new();
    for (i, piece) in line.split('\'').enumerate() {
        if i % 2 == 1 {
            words.push(piece);
        } else {
            words.extend(piece.split_whitespace());
        }
    }
    assert_eq!(words.first(), Some(&"waypost"), "{line}");
    let input = input.map_or(Stdio::null(), |file| File::open(folder.join(file)).unwrap().into());
    let output = Command::new(env!("CARGO_BIN_EXE_waypost"))
        .args(&words[1..])
        .current_dir(folder)
        .stdin(input)
        .output()
        .unwrap();
    let status = match output.status.code() {
        Some(0) => String::new(),
        code => format!("(exit status {})\n", code.unwrap_or(-1)),
    };
    let said = [output.stdout, output.stderr].concat();
    format!("{}{status}", String::from_utf8(said).unwrap())
}

/// The page with the answers that the commands give now.
fn played(page: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut files: HashMap<&str, String> = HashMap::new();
    let mut out = String::new();
    for part in parts(page) {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::File { name, after, text, whole } => {
                let before = after.map_or(String::new(), |after| format!("{}\n", files[after]));
                let text = before + text;
                fs::write(folder.path().join(name), &text).unwrap();
                files.insert(name, text);
                out.push_str(whole);
            }
            Part::Console(text) => {
                out.push_str("```console\n");
                let commands: Vec<&str> =
                    text.lines().filter(|line| line.starts_with("$ ")).collect();
                for (i, command) in commands.iter().enumerate() {
                    let said = answer(&command[2..], folder.path());
                    let gap = if i + 1 < commands.len() { "\n" } else { "" };
                    let said = said.trim_end();
                    let end = if said.is_empty() { "" } else { "\n" };
                    out.push_str(&format!("{command}\n{said}{end}{gap}"));
                }
                out.push_str("```\n");
            }
        }
    }
    out
}

fn pages() -> Vec<PathBuf> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs");
    let mut pages: Vec<_> =
        fs::read_dir(docs.join("migration")).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.push(docs.join("GUIDE.md"));
    pages
}

#[test]
fn the_answers_on_the_pages_are_those_of_the_commands() {
    let mut commands = 0;
    for page in pages() {
        let held = fs::read_to_string(&page).unwrap();
        let now = played(&held);
        if std::env::var_os("UPDATE_GOLDENS").is_some() {
            fs::write(&page, &now).unwrap();
        } else {
            let other = held.lines().zip(now.lines()).find(|(held, now)| held != now);
            assert!(
                held == now,
                "{}: the first other line is {other:?}; UPDATE_GOLDENS=1 writes it anew",
                page.display()
            );
        }
        commands += now.lines().filter(|line| line.starts_with("$ ")).count();
    }
    assert!(commands > 15, "{commands} commands");
}

#[test]
fn a_page_is_cut_at_its_fences() {
    let page = "a\n```toml file=x\nk = 1\n```\nb\n```console\n$ waypost --version\nold\n```\nc\n```text\nas it is\n```\n";
    let now = played(page);
    assert_eq!(now, page.replace("old", &format!("waypost {}", env!("CARGO_PKG_VERSION"))));
}
