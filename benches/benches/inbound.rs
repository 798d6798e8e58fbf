//! Reading the hops of a typical header of 5.5 KB and eight hops, beside `mail-parser`.

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{Criterion, criterion_group, criterion_main};
use mail_parser::MessageParser;
use waypost_inbound::Reading;
use waypost_types::HeaderBlock;

const MESSAGE: &[u8] = include_bytes!("../../crates/waypost-inbound/testdata/bench8.eml");

fn ours(message: &[u8]) -> usize {
    let fields = HeaderBlock::of(message).fields().filter(|field| field.is("received"));
    fields.filter(|field| matches!(Reading::of(field.raw), Reading::From(_))).count()
}

fn mail_parser(parser: &MessageParser, message: &[u8]) -> Vec<IpAddr> {
    let parsed = parser.parse_headers(message);
    let received = parsed.as_ref().map(|m| m.header_values("Received")).into_iter().flatten();
    received.filter_map(|value| value.as_received().and_then(|hop| hop.from_ip())).collect()
}

fn hops(criterion: &mut Criterion) {
    let parser = MessageParser::new()
        .header_received(mail_parser::HeaderName::Received)
        .default_header_ignore();
    assert_eq!(ours(MESSAGE), mail_parser(&parser, MESSAGE).len());
    let mut group = criterion.benchmark_group("hops of an 8-hop header");
    group.bench_function("waypost-inbound", |b| b.iter(|| ours(black_box(MESSAGE))));
    group.bench_function("mail-parser, Received only", |b| {
        b.iter(|| mail_parser(&parser, black_box(MESSAGE)));
    });
    group.finish();
}

criterion_group!(benches, hops);
criterion_main!(benches);
