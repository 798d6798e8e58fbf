//! The fuzzer's dictionary of configurations holds every key of the format, from the format itself.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use waypost_config::raw::{KeyInfo, Kind, RawConfig, RawDirectory};

/// Words that no key has: heads of tables, what parts files, quotes.
const BESIDE: [&str; 8] = ["\x0c", "\"\"\"", "'''", "true", "[[", "]]", "{ ", " }"];

fn words(keys: &[KeyInfo], above: &str, out: &mut BTreeSet<String>) {
    for key in keys {
        let path = match above {
            "" => key.name.to_owned(),
            above => format!("{above}.{}", key.name),
        };
        match &key.kind {
            Kind::Leaf { example, words, .. } => {
                out.insert(format!("{} = {example}", key.name));
                out.insert(format!("{} = [{example}]", key.name));
                out.extend(words.iter().map(|word| format!("\"{word}\"")));
            }
            Kind::Table { keys, .. } => {
                out.insert(format!("[[{path}]]\n"));
                out.insert(format!("[{path}]\n"));
                out.insert(format!("{} = {{ ", key.name));
                self::words(keys, &path, out);
            }
        }
    }
}

/// A line of libFuzzer's dictionary.
fn line(word: &str) -> String {
    let mut text = String::from("\"");
    for octet in word.bytes() {
        match octet {
            b'"' | b'\\' => text.extend(['\\', char::from(octet)]),
            b' '..=b'~' => text.push(char::from(octet)),
            // Writing to a String cannot fail.
            _ => drop(write!(text, "\\x{octet:02x}")),
        }
    }
    text + "\"\n"
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the dictionary is a file")]
fn the_dictionary_holds_every_key() {
    let mut found: BTreeSet<String> = BESIDE.iter().map(|word| (*word).to_owned()).collect();
    words(&RawConfig::keys(), "", &mut found);
    words(&RawDirectory::keys(), "", &mut found);
    let wanted: String = found.iter().map(|word| line(word)).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dictionaries/config");
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let held = std::fs::read_to_string(&path).unwrap();
    assert!(held == wanted, "fuzz/dictionaries/config is stale; UPDATE_GOLDENS=1 rewrites it");
}
