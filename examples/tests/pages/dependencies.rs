//! What a crate draws in when it is added alone, as `cargo tree` tells it.

use std::collections::BTreeSet;
use std::process::Command;

/// The names of all crates, own ones included, that `package` is built with on this machine.
fn tree(package: &str, options: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", package, "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}"])
        .args(options)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree of {package}: {errors}");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn outside(crates: BTreeSet<String>) -> Vec<String> {
    crates.into_iter().filter(|name| !name.starts_with("waypost")).collect()
}

#[test]
fn pure_crates_draw_in_no_runtime_tls_or_dns() {
    let pure = [
        "types", "auth", "inbound", "route", "rules", "relay", "queue", "smtp", "milter", "mime",
        "postfix", "config",
    ];
    for name in pure.map(|name| format!("waypost-{name}")) {
        let crates = tree(&name, &["--all-features"]);
        assert!(crates.contains(&name), "{crates:?}");
        let unwanted =
            ["tokio", "mio", "rustls", "ring", "hickory", "socket2", "fjall", "getrandom"];
        let found: Vec<_> = crates
            .iter()
            .filter(|found| unwanted.iter().any(|unwanted| found.starts_with(unwanted)))
            .collect();
        assert!(found.is_empty(), "{name} draws in {found:?}");
    }
}

#[test]
fn redis_comes_with_one_tls_library_and_no_other_ledger_o5() {
    let crates = tree("waypost-redis", &["--all-features"]);
    for wanted in ["redis", "rustls", "ring", "waypost-relay"] {
        assert!(crates.contains(wanted), "{wanted} is not in {crates:?}");
    }
    let unwanted =
        ["aws-lc-rs", "aws-lc-sys", "native-tls", "openssl-sys", "fjall", "waypost-store"];
    let found: Vec<_> = unwanted.iter().filter(|name| crates.contains(**name)).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn inbound_needs_few_crates() {
    let name = "waypost-inbound";
    let direct = ["ipnet", "memchr", "regex", "thiserror"];
    assert_eq!(outside(tree(name, &["--depth", "1"])), direct);
    let with_serde = ["ipnet", "memchr", "regex", "serde", "thiserror"];
    assert_eq!(outside(tree(name, &["--depth", "1", "--all-features"])), with_serde);
    // The parts of `regex`, and what the derive macros of `thiserror` are built with.
    let all = [
        "aho-corasick",
        "ipnet",
        "memchr",
        "proc-macro2",
        "quote",
        "regex",
        "regex-automata",
        "regex-syntax",
        "syn",
        "thiserror",
        "thiserror-impl",
        "unicode-ident",
    ];
    assert_eq!(outside(tree(name, &[])), all);
    let own = |name: &String| name.starts_with("waypost");
    assert_eq!(tree(name, &[]).iter().filter(|name| own(name)).count(), 2, "itself and types");
}

/// How many crates of others each may draw in, without and with all its features: named by itself, and
/// in all. More is a decision, and is made here.
#[rustfmt::skip]
const BUDGETS: [(&str, [usize; 2], [usize; 2]); 17] = [
    ("waypost-types", [2, 7], [4, 36]),
    ("waypost-route", [2, 8], [3, 11]),
    ("waypost-rules", [9, 18], [9, 18]),
    ("waypost-relay", [9, 33], [10, 36]),
    ("waypost-auth", [0, 7], [1, 10]),
    ("waypost-inbound", [4, 12], [5, 15]),
    ("waypost-queue", [5, 15], [5, 15]),
    ("waypost-smtp", [4, 9], [4, 9]),
    ("waypost-milter", [2, 7], [3, 11]),
    ("waypost-mime", [3, 13], [3, 13]),
    ("waypost-postfix", [2, 7], [2, 7]),
    ("waypost-redis", [8, 97], [8, 97]),
    ("waypost-config", [14, 91], [14, 91]),
    ("waypost-store", [6, 53], [6, 53]),
    ("waypost-net", [12, 119], [14, 148]),
    ("waypost-server", [15, 203], [15, 218]),
    ("waypost", [0, 92], [0, 206]),
];

#[test]
fn each_crate_keeps_to_its_budget() {
    let mut wrong = Vec::new();
    for (name, plain, all) in BUDGETS {
        for (options, budget) in [(&[][..], plain), (&["--all-features"], all)] {
            let direct = outside(tree(name, &[options, &["--depth", "1"]].concat())).len();
            let found = [direct, outside(tree(name, options)).len()];
            if found[0] > budget[0] || found[1] > budget[1] {
                wrong.push(format!("{name} {options:?}: {found:?}, more than {budget:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let folders = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../crates")).unwrap();
    let names = folders.map(|folder| folder.unwrap().file_name().into_string().unwrap());
    let listed: BTreeSet<String> = BUDGETS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(names.collect::<BTreeSet<_>>(), listed, "each crate has a budget");
}
