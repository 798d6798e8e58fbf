//! What the record costs a message, and `diff` a line (C9): a typical header, 10 and 1,000 rules.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use waypost_config::diagnostics::SourceFile;
use waypost_config::policy::Policy;
use waypost_config::raw;
use waypost_config::replay::{Comparison, LocalPartKey, Recorded, kept_header};
use waypost_types::HeaderBlock;

const HEADER: &str = "Received: from a.example (b.example [198.51.100.7])\r\n\tby c.example (Postfix) \
    with ESMTPS id 4XyZ1234\r\n\tfor <u7@s.example>; Tue, 24 Mar 2020 15:11:47 -0800\r\n";

fn header() -> String {
    let signature =
        "DKIM-Signature: v=1; a=rsa-sha256; d=b.example; s=s1; h=from:to:subject; b=xyz\r\n";
    let rest = "From: Xavier <x@b.example>\r\nTo: u7@s.example\r\nSubject: hello\r\n\r\n";
    format!("{}{signature}{rest}", HEADER.repeat(4))
}

/// A thousand users, and rules for single recipients.
fn policy(rules: usize, value: &str) -> Policy {
    let mut text = String::from(
        "[server]\nhostname = \"mx.s.example\"\n[[listener]]\nname = \"mx\"\nrole = \"mx\"\n\
         bind = \"127.0.0.1:25\"\n[[organization]]\nname = \"S\"\ndomains = [\"s.example\"]\n",
    );
    // Writing to a String cannot fail.
    for i in 0..1000 {
        let _ = writeln!(text, "[[organization.user]]\naddress = \"u{i}@s.example\"");
    }
    for i in 0..rules {
        let _ = writeln!(
            text,
            "[[organization.rule]]\ndescription = \"r{i}\"\naffects = [\"inbound\"]\n\
             envelope = {{ recipients = [{{ address = \"u{i}@s.example\" }}] }}\n\
             then = {{ modify = {{ add_headers = [{{ name = \"X-A\", value = \"{value}\" }}] }} }}"
        );
    }
    let (raw, mut report) = raw::read(SourceFile::new("bench", text), Vec::new()).expect("TOML");
    let files = HashMap::<String, Vec<u8>>::new();
    let compiled = waypost_config::compile(&raw, &files, &mut report);
    compiled.expect("a configuration without errors").into_policy("bench")
}

fn recorded(policy: &Policy) -> Recorded {
    let kept = kept_header(&HeaderBlock::of(header().as_bytes()), policy, None);
    Recorded {
        id: "0F3Z9K2M4T7QA".into(),
        client_ip: [192, 0, 2, 1].into(),
        listener: Some("mx".into()),
        helo: Some("b.example".into()),
        tls: Some(true),
        mail_from: Some("x@b.example".into()),
        rcpt_to: vec!["u500@s.example".into()],
        message: kept.text,
        ..Recorded::default()
    }
}

fn record(criterion: &mut Criterion) {
    let policy = policy(10, "one");
    let text = header();
    let header = HeaderBlock::of(text.as_bytes());
    let key = LocalPartKey::new([7; 16]);
    let mut group = criterion.benchmark_group("record of envelopes");
    for (name, key) in [("plain", None), ("hashed", Some(&key))] {
        group.bench_function(BenchmarkId::new("header", name), |b| {
            b.iter(|| kept_header(black_box(&header), &policy, key));
        });
    }
    let line = recorded(&policy);
    group.bench_function("line", |b| b.iter(|| black_box(&line).to_line()));
    group.finish();
}

fn diff(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("diff");
    group.throughput(Throughput::Elements(1));
    for rules in [10, 1_000] {
        let (old, new) = (policy(rules, "one"), policy(rules, "two"));
        let comparison = Comparison::new(&old, &new);
        let line = recorded(&old).to_line();
        group.bench_function(BenchmarkId::new("a line", rules), |b| {
            b.iter(|| {
                let recorded = Recorded::read(black_box(line.as_bytes())).expect("a line");
                comparison.compare(&recorded).expect("an envelope").change.is_some()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, record, diff);
criterion_main!(benches);
