//! The stages of a reload with 10,000 rules and 100,000 users, beside a parser of TOML alone (A12).

use std::collections::HashMap;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use waypost_config::diagnostics::{Report, SourceFile};
use waypost_config::difference::Snapshot;
use waypost_config::{compile, raw, run_expectations};

#[path = "../../crates/waypost-config/testdata/large/mod.rs"]
mod large;

const RULES: usize = 10_000;
const USERS: usize = 100_000;

fn reload(criterion: &mut Criterion) {
    let large = large::large(RULES, USERS);
    let main = || SourceFile::new("waypost.toml", large.main.clone());
    let files: HashMap<String, Vec<u8>> = [
        ("directory.toml".to_owned(), large.toml.clone().into_bytes()),
        ("directory.csv".to_owned(), large.csv.clone().into_bytes()),
    ]
    .into();
    // As `serve` does it; what changed is told against the same configuration.
    let whole = |in_force: Option<&Snapshot>| {
        let (config, mut report) = raw::read(main(), Vec::new()).expect("TOML");
        let compiled = compile(&config, &files, &mut report);
        let mut compiled = compiled.unwrap_or_else(|| panic!("{}", report.render(false)));
        let written = std::mem::take(&mut compiled.written);
        let policy = compiled.into_policy("1");
        assert!(run_expectations(&policy, &config).iter().all(|test| test.passed));
        let snapshot = Snapshot::new(&config, &written);
        let lines = in_force.map_or(Vec::new(), |in_force| in_force.difference(&snapshot));
        assert_eq!(lines, Vec::<String>::new());
        (policy, config, written, snapshot)
    };
    let (policy, config, written, in_force) = whole(None);
    let read_table = || {
        let mut report = Report::default();
        let source = SourceFile::new("directory.csv", large.csv.clone());
        raw::read_directory_csv(source, &mut report).expect("CSV")
    };
    assert_eq!(in_force.difference(&Snapshot::new(&config, &[vec![read_table()]])).len(), 0);

    let mut group = criterion.benchmark_group("reload, 10,000 rules, 100,000 users");
    group.sample_size(10);
    group.bench_function("peer: toml alone, main file and directory", |b| {
        b.iter(|| {
            let main = black_box(&large.main).parse::<toml::Table>().expect("TOML");
            (main, black_box(&large.toml).parse::<toml::Table>().expect("TOML"))
        });
    });
    group.bench_function("read the main file", |b| {
        b.iter(|| raw::read(black_box(main()), Vec::new()).expect("TOML"));
    });
    group.bench_function("read the directory", |b| {
        b.iter(|| {
            let mut report = Report::default();
            let source = SourceFile::new("directory.toml", black_box(&large.toml).clone());
            raw::read_directory(source, &mut report).expect("TOML")
        });
    });
    group.bench_function("read the directory as CSV", |b| b.iter(read_table));
    group.bench_function("compile, with the directory", |b| {
        let read = || raw::read(main(), Vec::new()).expect("TOML");
        b.iter_batched(
            read,
            |(config, mut report)| (compile(&config, &files, &mut report), config, report),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("ten tests", |b| {
        b.iter(|| run_expectations(black_box(&policy), &config));
    });
    group.bench_function("normal form", |b| {
        b.iter(|| Snapshot::new(black_box(&config), &written));
    });
    let other = Snapshot::new(&config, &written);
    group.bench_function("difference", |b| b.iter(|| in_force.difference(black_box(&other))));
    group.bench_function("whole", |b| b.iter_with_large_drop(|| whole(Some(&in_force))));
    group.finish();
}

criterion_group!(benches, reload);
criterion_main!(benches);
