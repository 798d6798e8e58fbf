//! Reading the hops of a typical header of 5.5 KB and eight hops, beside `mail-parser` and a regular
//! expression a line; and a hostile header of a megabyte.

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mail_parser::{HeaderName, MessageParser};
use regex::bytes::Regex;
use waypost_inbound::{GatewaySettings, InboundGateway, OwnLine, Reading, Source};
use waypost_types::Fields;

const MESSAGE: &[u8] = include_bytes!("../../crates/waypost-inbound/testdata/bench8.eml");

/// The peer's expression for the client information: `(name [ip])` or `(ip)`.
const CLIENT: &str = r"(?i)^\s*from\s+\S+\s+\((?:[^()\[]*\[)?(?:ipv6:)?([0-9a-f.:]+)";

fn ours(message: &[u8]) -> usize {
    Fields::of(message)
        .named("Received")
        .filter(|field| Reading::of(field.raw).ip().is_some())
        .count()
}

fn regex(expression: &Regex, message: &[u8]) -> usize {
    let lines = Fields::of(message).named("Received");
    let found = lines.filter_map(|line| {
        let text = expression.captures(line.raw)?.get(1)?;
        std::str::from_utf8(text.as_bytes()).ok()?.parse::<IpAddr>().ok()
    });
    found.count()
}

fn mail_parser(parser: &MessageParser, message: &[u8]) -> Vec<IpAddr> {
    let parsed = parser.parse_headers(message);
    let received = parsed.as_ref().map(|m| m.header_values("Received")).into_iter().flatten();
    received.filter_map(|value| value.as_received().and_then(|hop| hop.from_ip())).collect()
}

/// Its best mode: nothing but `Received` is read.
fn only_received() -> MessageParser {
    MessageParser::new().header_received(HeaderName::Received).default_header_ignore()
}

fn hops(criterion: &mut Criterion) {
    let (parser, whole) = (only_received(), MessageParser::default());
    let expression = Regex::new(CLIENT).expect("the expression is a constant");
    assert_eq!(ours(MESSAGE), mail_parser(&parser, MESSAGE).len());
    assert!(regex(&expression, MESSAGE) > 4, "the peer reads most lines");
    let mut group = criterion.benchmark_group("hops of an 8-hop header");
    group.bench_function("waypost-inbound", |b| b.iter(|| ours(black_box(MESSAGE))));
    group.bench_function("mail-parser, Received only", |b| {
        b.iter(|| mail_parser(&parser, black_box(MESSAGE)));
    });
    group.bench_function("mail-parser, whole header", |b| {
        b.iter(|| mail_parser(&whole, black_box(MESSAGE)));
    });
    group.bench_function("a regex a line", |b| b.iter(|| regex(&expression, black_box(MESSAGE))));
    group.finish();
}

/// The client is the gateway whose own line is the first; four hops lie before the external one.
fn first_external(criterion: &mut Criterion) {
    let settings = GatewaySettings {
        addresses: vec!["198.51.100.25".to_owned()],
        detect_external_ip: true,
        ..GatewaySettings::default()
    };
    let gateway = InboundGateway::new(&settings).expect("the settings are constants");
    let client = IpAddr::from([198, 51, 100, 25]);
    let external = IpAddr::from([104, 47, 18, 104]);
    let ours = |message| gateway.source(client, OwnLine::FindOut, Fields::of(message));
    let parser = only_received();
    let theirs = |message| {
        let hops = mail_parser(&parser, message).into_iter();
        let ip = { hops }.find(|ip| !gateway.lists(*ip) && gateway.public().contains(*ip));
        ip.map(Source::of_client)
    };
    assert_eq!(ours(MESSAGE).ip, Some(external));
    assert_eq!(theirs(MESSAGE).and_then(|source| source.ip), Some(external));
    let mut group = criterion.benchmark_group("first external hop of an 8-hop header");
    group.bench_function("waypost-inbound", |b| b.iter(|| ours(black_box(MESSAGE))));
    group.bench_function("mail-parser, Received only", |b| b.iter(|| theirs(black_box(MESSAGE))));
    group.finish();
}

fn hostile(criterion: &mut Criterion) {
    const LENGTH: usize = 1 << 20;
    let mut group = criterion.benchmark_group("hostile header of 1 MiB");
    group.throughput(Throughput::Bytes(LENGTH as u64));
    for (name, head, piece) in [
        ("short lines", "", "Received: from x (x [1.2.3.4]) by y\r\n"),
        ("folds", "Received: from x", "\r\n "),
        ("open parentheses", "Received: from x (", "("),
        ("empty comments", "Received: from x ", "()"),
        ("open brackets", "Received: from x (r [", "[a"),
        ("quotes", "Received: from x (", "\"a\" "),
        ("words", "Received: from ", "a "),
        ("semicolons", "Received: from x; ", "; by"),
        ("no line end", "Received: from ", "a"),
        ("NULs", "Received: from x (", "\0"),
    ] {
        let header = format!("{head}{}", piece.repeat(LENGTH / piece.len()));
        group.bench_with_input(BenchmarkId::from_parameter(name), &header, |b, header| {
            b.iter(|| ours(black_box(header.as_bytes())));
        });
    }
    group.finish();
}

criterion_group!(benches, hops, first_external, hostile);
criterion_main!(benches);
