//! Whatever the text: nothing panics, each finding lies inside its file, and errors leave no policy.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it means"
)]

use std::collections::HashMap;
use std::path::Path;

use proptest::prelude::*;
use waypost_config::diagnostics::{Report, SourceFile};
use waypost_config::raw;

fn holds(text: &str) -> Result<(), TestCaseError> {
    let (compiled, report) = match raw::read(SourceFile::new("any.toml", text), Vec::new()) {
        Err(not_toml) => (None, not_toml.report),
        Ok((config, mut report)) => {
            let files = HashMap::<String, Vec<u8>>::new();
            (waypost_config::compile(&config, &files, &mut report), report)
        }
    };
    prop_assert_eq!(compiled.is_none(), report.has_errors(), "{}", report.render(false));
    inside(text, &report)
}

fn inside(text: &str, report: &Report) -> Result<(), TestCaseError> {
    for found in report.diagnostics() {
        let (start, end) = (found.place.start as usize, found.place.end as usize);
        prop_assert!(start <= end && end <= text.len(), "{found:?}");
        prop_assert!(text.is_char_boundary(start) && text.is_char_boundary(end), "{found:?}");
        prop_assert!(!found.message.is_empty() && !found.cure.is_empty(), "{found:?}");
    }
    let shown = report.render(false);
    prop_assert!(!shown.contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
    let parsed: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    prop_assert_eq!(parsed.as_array().unwrap().len(), report.diagnostics().len());
    Ok(())
}

fn sample() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/sample.toml");
    std::fs::read_to_string(path).unwrap()
}

/// One change of the sample: lines swapped or taken away, values replaced.
fn damaged(text: &str, damage: &[(usize, u8, String)]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (at, kind, replacement) in damage {
        let at = at % lines.len();
        match kind % 4 {
            0 => drop(lines.remove(at)),
            1 => lines.swap(at, 0),
            2 => {
                if let Some((key, _)) = lines[at].split_once('=') {
                    lines[at] = format!("{key}= {replacement}");
                }
            }
            _ => {
                if let Some((key, value)) = lines[at].split_once('=') {
                    lines[at] = format!("{}x ={value}", key.trim_end());
                }
            }
        }
        if lines.is_empty() {
            lines.push(String::new());
        }
    }
    lines.join("\n")
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("\"\"".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("[[]]".to_owned()),
        Just("[{}]".to_owned()),
        Just("-1".to_owned()),
        Just("nan".to_owned()),
        Just("99999999999999999999".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("\"\\u0000\\n\\u001b[2J\"".to_owned()),
        Just("'\u{9b}é\u{202e}'".to_owned()),
        "'[ -~&&[^']]{0,12}'",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_text(text in "\\PC*|[\\[\\]{}=\"'.a-c\\n\r\t #0-9\u{0}é]{0,60}") {
        holds(&text)?;
    }

    #[test]
    fn a_damaged_sample(
        damage in proptest::collection::vec((any::<usize>(), any::<u8>(), value()), 1..12)
    ) {
        holds(&damaged(&sample(), &damage))?;
    }
}

#[test]
fn odd_texts() {
    for text in
        ["", "\u{feff}", "\r", "a", "[", "[[", "é", "a.b.c=1", "a=1\na=2", "\u{0}", "[[server]]"]
    {
        holds(text).unwrap();
    }
    holds(&format!("a = {}", "[".repeat(10_000))).unwrap();
    holds(&format!("[{}]", "a.".repeat(10_000))).unwrap();
    holds(&format!("server = {}1", "{ limits = ".repeat(5_000))).unwrap();
    holds(&format!("server = {}1", "{ x.".repeat(70))).unwrap();
}
