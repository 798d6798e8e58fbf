//! Each file in `testdata/errors` beside what is said of it, and the format's whole sample.
#![allow(clippy::disallowed_methods, reason = "the goldens are files")]

use std::path::{Path, PathBuf};

use waypost_config::diagnostics::{Report, SourceFile};
use waypost_config::raw;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

fn report(name: &str, text: String) -> Report {
    match raw::read(SourceFile::new(name, text), Vec::new()) {
        Ok((_, report)) => report,
        Err(not_toml) => not_toml.report,
    }
}

#[test]
fn every_error_says_where_by_which_rule_and_what_to_do() {
    let update = std::env::var_os("UPDATE_GOLDENS").is_some();
    let mut files: Vec<_> = std::fs::read_dir(testdata().join("errors"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == "toml"))
        .collect();
    files.sort();
    assert!(files.len() > 3, "the goldens are gone");
    let mut wrong = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let got = report(&name, std::fs::read_to_string(&path).unwrap()).render(false);
        let golden = path.with_extension("expected");
        if update {
            std::fs::write(&golden, &got).unwrap();
        }
        if std::fs::read_to_string(&golden).unwrap_or_default() != got {
            wrong.push(format!("{name}\n{got}"));
        }
    }
    assert!(wrong.is_empty(), "UPDATE_GOLDENS=1 rewrites the goldens:\n{}", wrong.join("\n"));
}

#[test]
fn every_key_of_the_sample_is_known() {
    let text = std::fs::read_to_string(testdata().join("sample.toml")).unwrap();
    let report = report("sample.toml", text);
    let mut ids: Vec<_> = report.diagnostics().iter().map(|found| found.id).collect();
    ids.dedup();
    assert_eq!(ids, ["not-supported-yet"], "{}", report.render(false));
}
