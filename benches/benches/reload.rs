//! The stages of a reload with 10,000 rules and 100,000 users, beside a parser of TOML alone (A12).

use std::collections::HashMap;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use waypost_config::diagnostics::SourceFile;
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
    let whole = || {
        let (config, mut report) = raw::read(main(), Vec::new()).expect("TOML");
        let compiled = compile(&config, &files, &mut report);
        let policy = compiled.map(|compiled| compiled.into_policy("1"));
        (config, policy.unwrap_or_else(|| panic!("{}", report.render(false))))
    };
    let (config, policy) = whole();
    assert!(run_expectations(&policy, &config).iter().all(|test| test.passed));

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
            let mut report = waypost_config::diagnostics::Report::default();
            let source = SourceFile::new("directory.toml", black_box(&large.toml).clone());
            raw::read_directory(source, &mut report).expect("TOML")
        });
    });
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
    group.bench_function("whole", |b| b.iter(whole));
    group.finish();
}

criterion_group!(benches, reload);
criterion_main!(benches);
