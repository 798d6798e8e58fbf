//! Each file in `testdata/errors` and `testdata/lints` beside what is said of it, and the format's whole sample.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it means"
)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use waypost_config::Compiled;
use waypost_config::diagnostics::{Report, SourceFile};
use waypost_config::raw::{self, FileKind};

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// Reads and compiles a text; every file that it names is there, directories as `testdata` has them.
fn compiled(name: &str, text: String) -> (Option<Compiled>, Report) {
    let (config, mut report) = match raw::read(SourceFile::new(name, text), Vec::new()) {
        Ok(read) => read,
        Err(not_toml) => return (None, not_toml.report),
    };
    let mut files = HashMap::new();
    for file in config.needed_files() {
        let path = file.path.as_str();
        match file.kind {
            FileKind::Directory => {
                if let Ok(bytes) = std::fs::read(testdata().join(path)) {
                    files.insert(path.to_owned(), bytes);
                }
            }
            _ if path.starts_with("missing") => {}
            FileKind::Password => drop(files.insert(path.to_owned(), b"secret\n".to_vec())),
            FileKind::Roots if path.ends_with(".pem") => {
                drop(files.insert(path.to_owned(), b"-----BEGIN CERTIFICATE-----\n".to_vec()));
            }
            _ => drop(files.insert(path.to_owned(), Vec::new())),
        }
    }
    let compiled = waypost_config::compile(&config, &files, &mut report);
    (compiled, report)
}

#[test]
fn every_error_says_where_by_which_rule_and_what_to_do() {
    let update = std::env::var_os("UPDATE_GOLDENS").is_some();
    let mut files: Vec<_> = ["errors", "lints"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(testdata().join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == "toml"))
        .collect();
    files.sort();
    assert!(files.len() > 8, "the goldens are gone");
    let mut wrong = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let (found, report) = compiled(&name, text);
        assert_eq!(found.is_none(), report.has_errors(), "{name}");
        let is_lint = path.parent().is_some_and(|folder| folder.ends_with("lints"));
        assert!(!(is_lint && report.has_errors()), "{name}: {}", report.render(false));
        let got = report.render(false);
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
fn the_sample_compiles() {
    let text = std::fs::read_to_string(testdata().join("sample.toml")).unwrap();
    let (compiled, report) = compiled("sample.toml", text);
    let compiled = compiled.unwrap_or_else(|| panic!("{}", report.render(false)));
    let solarmora = &compiled.organizations[0];
    assert_eq!(solarmora.routes.len(), 3);
    assert_eq!(solarmora.rules.rules().len(), 2);
    assert!(solarmora.inbound_gateway.is_some());
    assert_eq!(compiled.server.listeners.len(), 2);
    assert_eq!(compiled.directories[0].active_users().count(), 2);
    let policy = compiled.into_policy("1");
    let marie = "m.paul@solarmora.com".parse().unwrap();
    let user = policy.active_user(&marie).unwrap().unwrap();
    assert_eq!(user.to_string(), "marie@solarmora.com");
}
