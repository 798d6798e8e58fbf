//! What the answer costs in memory: nothing (E12).

use waypost_inbound::{GatewaySettings, InboundGateway, OwnLine, Reading};
use waypost_types::Fields;

const HEADER: &[u8] = include_bytes!("../../testdata/bench8.eml");

fn allocations(run: impl FnOnce()) -> u64 {
    allocation_counter::measure(run).count_total
}

#[test]
fn reading_every_hop_allocates_nothing_e12() {
    let mut read = 0;
    let count = allocations(|| {
        let lines = Fields::of(HEADER).named("Received");
        read = lines.filter(|line| Reading::of(line.raw).ip().is_some()).count();
    });
    assert_eq!((read, count), (8, 0));
}

#[test]
fn finding_the_source_allocates_nothing_e12() {
    let settings = GatewaySettings {
        addresses: vec!["198.51.100.25".to_owned()],
        detect_external_ip: true,
        ..GatewaySettings::default()
    };
    let gateway = InboundGateway::new(&settings).unwrap();
    let client = [198, 51, 100, 25].into();
    let mut source = None;
    let count = allocations(|| {
        source = Some(gateway.source(client, OwnLine::FindOut, Fields::of(HEADER)));
    });
    assert_eq!(source.and_then(|source| source.ip), Some([104, 47, 18, 104].into()));
    assert_eq!(count, 0);
}

#[test]
fn a_hostile_header_allocates_nothing_e12() {
    for line in ["Received: from ", "Received: from x (((", "Received: from [[[ (\"\\", "\r\n ("] {
        let header = line.repeat((1 << 20) / line.len());
        let count = allocations(|| {
            for line in Fields::of(header.as_bytes()).named("Received") {
                assert_eq!(Reading::of(line.raw).ip(), None);
            }
        });
        assert_eq!(count, 0, "{line:?}");
    }
}
