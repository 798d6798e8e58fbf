//! `docs/THREATS.md` names a test for each attack, and each of them is there.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The rows of the tables: their cells.
fn rows() -> Vec<Vec<String>> {
    let page = fs::read_to_string(root().join("docs/THREATS.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    rows.filter(|line| !line.starts_with("| attack |"))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// Whether a file has a test of this name: a function with the attribute above it.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    let function = format!("fn {name}(");
    lines.iter().enumerate().any(|(place, line)| {
        // Inside `proptest!` and elsewhere attributes and comments stand between.
        let above = lines[place.saturating_sub(6)..place].iter().rev();
        line.contains(&function)
            && above
                .take_while(|line| !line.trim_end().ends_with('}'))
                .any(|line| line.contains("#[test]") || line.contains("#[tokio::test"))
    })
}

#[test]
fn each_attack_has_a_test_that_is_there() {
    let rows = rows();
    assert!(rows.len() > 45, "{} attacks", rows.len());
    let mut seen = 0;
    for row in rows {
        assert_eq!(row.len(), 4, "{row:?}");
        let [attack, enters, stops, tests] = &row[..] else { unreachable!() };
        assert!([attack, enters, stops].iter().all(|cell| !cell.is_empty()), "{row:?}");
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test: {attack}");
        for name in names {
            let (file, test) = name.split_once("::").unwrap();
            let text = fs::read_to_string(root().join(file));
            let text = text.unwrap_or_else(|error| panic!("{attack}: {file}: {error}"));
            assert!(has_test(&text, test), "{attack}: {file} has no test {test}");
            seen += 1;
        }
    }
    assert!(seen > 90, "{seen} tests");
}

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|end| end == "rs") {
            out.push(path);
        }
    }
}

fn crates() -> Vec<PathBuf> {
    fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn no_crate_starts_a_program() {
    let mut files = Vec::new();
    crates().iter().for_each(|one| sources(&one.join("src"), &mut files));
    assert!(files.len() > 100);
    // Tests start the Redis that they talk to.
    let of_tests = |file: &Path| file.components().any(|part| part.as_os_str() == "tests");
    for file in files.iter().filter(|file| !of_tests(file)) {
        let text = fs::read_to_string(file).unwrap();
        for way in ["process::Command", "Command::new", "execve", "posix_spawn"] {
            assert!(!text.contains(way), "{}: {way}", file.display());
        }
    }
}

#[test]
fn every_crate_forbids_unsafe_code() {
    let workspace = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(workspace.contains("unsafe_code = \"forbid\""));
    let mut manifests = crates();
    manifests.push(root().join("examples"));
    for folder in manifests {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{}", folder.display());
    }
}
