//! The pages of docs/clients: each has its parts, their configuration is right, and the replies that they
//! quote are the server's (D18). `scripts/interop` runs the programs that they are about.

use crate::support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::{file, waypost};
use waypost_net::server::{ConnectionRefusal, LoginRefusal};
use waypost_relay::{RefusalReason, at_recipient};
use waypost_smtp::end_of_data::DataFault;
use waypost_types::{Reply, ReversePath};

const PARTS: [&str; 9] = [
    "What you need",
    "By address",
    "By password, STARTTLS",
    "By password, TLS from the start",
    "Try it",
    "When it is refused",
    "Bounces",
    "HELO name",
    "Connections",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/clients")
}

/// Names and texts of the pages, the index left out.
fn pages() -> Vec<(String, String)> {
    let entries = fs::read_dir(folder()).unwrap().map(Result::unwrap);
    let named = entries.map(|entry| entry.file_name().into_string().unwrap());
    let pages = named.filter(|name| name != "README.md");
    pages.map(|name| (name.clone(), fs::read_to_string(folder().join(&name)).unwrap())).collect()
}

fn index() -> String {
    file("docs/clients/README.md")
}

/// Fenced blocks that are files: path and text.
fn files(page: &str) -> Vec<(&str, &str)> {
    let blocks = page.split("\n```").skip(1).step_by(2);
    let parted = blocks.filter_map(|block| block.split_once('\n'));
    parted.filter_map(|(head, text)| Some((head.split_once(' ')?.1, text))).collect()
}

#[test]
fn each_page_has_its_parts_in_order_d18() {
    let pages = pages();
    assert!(pages.len() >= 16, "{}", pages.len());
    for (name, text) in &pages {
        let parts: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(parts, PARTS, "{name}");
        assert!(text.starts_with("# "), "{name}");
    }
}

#[test]
fn the_index_names_each_page_and_the_ways_that_it_describes_d18() {
    let index = index();
    for (name, text) in pages() {
        let row = index
            .lines()
            .find(|line| line.starts_with("| [") && line.contains(&format!("({name})")));
        let row = row.unwrap_or_else(|| panic!("{name} is not in the index"));
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        for (part, cell) in PARTS[1..4].iter().zip(&cells[2..5]) {
            let (_, section) = text.split_once(&format!("## {part}\n")).unwrap();
            let (section, _) = section.split_once("\n## ").unwrap();
            let has_files = section.contains("\n```");
            assert!(*cell != "tested" || has_files, "{name}: {part}: tested by which file?");
            assert!(*cell != "no" || !has_files, "{name}: {part}: a file for nothing?");
        }
    }
}

/// A file that names the server names it as the index says, and so with the user.
#[test]
fn the_files_use_the_names_of_the_index() {
    let mut seen = 0;
    for (name, text) in pages() {
        for (path, content) in files(&text) {
            for word in content.split(|c: char| !(c.is_alphanumeric() || ".-@".contains(c))) {
                let known = index().contains(word)
                    || ["internal.solarmora.example", "@relay.solarmora.example"]
                        .iter()
                        .any(|end| word.ends_with(end));
                assert!(!word.contains(".example") || known, "{name}: {path}: {word}");
                seen += usize::from(word.contains("relay.solarmora.example"));
            }
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn the_configuration_of_the_index_is_right_d18() {
    let index = index();
    let files = files(&index);
    let [("waypost.toml", text)] = files[..] else { panic!("{files:?}") };
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["relay.solarmora.example".to_owned()]).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("relay.pem", &made.cert.pem());
    write("relay.key", &made.signing_key.serialize_pem());
    write("waypost.toml", text);
    let path = folder.path().join("waypost.toml").display().to_string();
    let ran = waypost(&["check", &path], "");
    assert_eq!(ran.status, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(!ran.stdout.contains("error["), "{}", ran.stdout);
}

/// Texts in backquotes that begin with a reply code and an enhanced status code.
fn quoted(page: &str) -> Vec<&str> {
    let marked = page.split('`').skip(1).step_by(2);
    let replies = marked.filter(|text| {
        let digits = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
        (0..3).all(digits)
            && text.get(3..4) == Some(" ")
            && digits(4)
            && text.get(5..6) == Some(".")
    });
    // What is not the same each time is left out.
    replies.map(|text| text.split('…').next().unwrap().trim_end()).collect()
}

fn sources(folder: &Path, out: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            sources(&entry.path(), out);
        } else if entry.path().extension().is_some_and(|end| end == "rs") {
            out.push_str(&fs::read_to_string(entry.path()).unwrap());
        }
    }
}

#[test]
fn quoted_replies_are_those_of_the_server() {
    let mut replies: Vec<Reply> = [
        RefusalReason::TlsRequired,
        RefusalReason::AuthenticationRequired,
        RefusalReason::AuthenticationFailed,
        RefusalReason::AddressDeferred,
        RefusalReason::AddressNotListed,
        RefusalReason::SenderNotRegistered,
        RefusalReason::SenderNotInDomains,
        RefusalReason::Unidentified,
    ]
    .map(RefusalReason::reply)
    .to_vec();
    replies.extend(
        [
            ConnectionRefusal::GenericHello { limit: 10 },
            ConnectionRefusal::TooOften { limit: 600 },
            ConnectionRefusal::PerClient { limit: 100 },
            ConnectionRefusal::PerNetwork { limit: 1000 },
        ]
        .map(ConnectionRefusal::reply),
    );
    let window = Duration::from_secs(900);
    let too_many = LoginRefusal::TooManyFailures { limit: 20, window, wait: window };
    replies.extend([LoginRefusal::WrongCredentials, too_many].map(LoginRefusal::reply));
    replies.extend(at_recipient(&ReversePath::Null, 1, 1000).err());
    replies.push(DataFault::BareLf.reply());
    let known: Vec<String> = replies.iter().map(ToString::to_string).collect();
    // Those of types that are not public stand in the sources, the text behind the code.
    let mut all = String::new();
    for name in ["waypost-relay", "waypost-server", "waypost-smtp"] {
        sources(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates").join(name).join("src"),
            &mut all,
        );
    }
    let in_sources = |text: &str| {
        let (code, rest) = text.split_once(' ').unwrap();
        let (status, words) = rest.split_once(' ').unwrap_or((rest, ""));
        let status = format!("({})", status.replace('.', ", "));
        all.match_indices(words).any(|(at, _)| {
            let before: String = all[..at].chars().rev().take(120).collect();
            let before: String = before.chars().rev().collect();
            before.contains(code) && before.contains(&status)
        })
    };
    let mut seen = 0;
    for (name, page) in pages().into_iter().chain([("README.md".to_owned(), index())]) {
        for text in quoted(&page) {
            let there = known.iter().any(|reply| reply.starts_with(text)) || in_sources(text);
            assert!(there, "{name}: the server does not say {text:?}");
            seen += 1;
        }
    }
    assert!(seen > 60, "{seen} replies");
}
