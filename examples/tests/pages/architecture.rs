//! `docs/ARCHITECTURE.md` says which crates there are and what each may see; the manifests agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Crate to kind and what it may see, from the table.
fn table() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let text = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `waypost"));
    let mut table = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, _, sees] = cells.as_slice() else { panic!("{row}") };
        let above: BTreeSet<String> = table.keys().cloned().collect();
        let sees = match *sees {
            "all of the above" => above,
            list => list
                .split(',')
                .map(|name| format!("waypost-{}", name.trim()))
                .filter(|name| name != "waypost-")
                .collect(),
        };
        table.insert(name.trim_matches('`').to_owned(), ((*kind).to_owned(), sees));
    }
    table
}

/// The Waypost crates that a manifest depends on, tests excepted.
fn dependencies(name: &str) -> BTreeSet<String> {
    let manifest = root().join("crates").join(name).join("Cargo.toml");
    let text = fs::read_to_string(manifest).unwrap();
    let mut found = BTreeSet::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && line.starts_with("waypost-") {
            let end = line.find(['.', ' ', '=']).unwrap();
            found.insert(line[..end].to_owned());
        }
    }
    found
}

#[test]
fn the_crate_list_and_the_direction_of_dependencies_are_true() {
    let table = table();
    let on_disk: BTreeSet<String> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(table.keys().cloned().collect::<BTreeSet<_>>(), on_disk);
    for (name, (_, sees)) in &table {
        let seen = dependencies(name);
        assert!(seen.is_subset(sees), "{name} sees {seen:?}, the map allows {sees:?}");
    }
}

#[test]
fn pure_crates_ban_clock_sleep_files_and_sockets() {
    for (name, (kind, _)) in table() {
        let lints = root().join("crates").join(&name).join("clippy.toml");
        let bans = fs::read_to_string(lints).is_ok_and(|text| {
            [
                "SystemTime::now",
                "Instant::now",
                "thread::sleep",
                "fs::File::open",
                "TcpStream::connect",
            ]
            .iter()
            .all(|banned| text.contains(banned))
        });
        assert_eq!(bans, kind == "pure", "{name}");
    }
}
