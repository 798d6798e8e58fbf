//! E12 through the gateway: headers of any size or shape cost one look at each line and no memory.

use std::net::IpAddr;

use allocation_counter::measure;
use waypost_inbound::{Because, GatewaySettings, Hops, InboundGateway, OwnLine, TraceLine};
use waypost_types::HeaderBlock;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));
const MIB: usize = 1 << 20;

fn gateway(detect_external_ip: bool, strict: bool) -> InboundGateway {
    let addresses = vec!["198.51.100.0/24".to_owned()];
    let settings =
        GatewaySettings { addresses, detect_external_ip, strict, ..GatewaySettings::default() };
    InboundGateway::new(&settings).unwrap()
}

/// Hostile headers: a name, the header, how many lines are hops, the answer.
fn headers() -> Vec<(&'static str, Vec<u8>, usize, Because)> {
    let private = "Received: from a (b [10.0.0.1]) by c; d\r\n";
    let unreadable = "Received: from a (unknown []) by c; d\r\n";
    let repeated = |line: &str, size: usize| line.repeat(size / line.len()).into_bytes();
    let long = |piece: &str| format!("Received: from a ({}\r\n", piece.repeat(MIB / piece.len()));
    let folds =
        format!("Received: from a\r\n{} (b [10.0.0.1]) by c; d\r\n", " \r\n".repeat(MIB / 3));
    vec![
        ("10 MB of hops", repeated(private, 10 * MIB), 10 * MIB / private.len(), Because::Internal),
        ("100,000 lines", private.repeat(100_000).into_bytes(), 100_000, Because::Internal),
        (
            "100,000 lines not understood",
            unreadable.repeat(100_000).into_bytes(),
            100_000,
            Because::NothingReadable,
        ),
        (
            "100,000 lines that are no hops",
            "Received: by 192.0.2.1 with SMTP id x; d\r\n".repeat(100_000).into_bytes(),
            0,
            Because::Internal,
        ),
        ("one line of a megabyte", long("a").into_bytes(), 1, Because::NothingReadable),
        ("a megabyte of parentheses", long("(").into_bytes(), 1, Because::NothingReadable),
        ("a megabyte of brackets", long("[").into_bytes(), 1, Because::NothingReadable),
        ("a megabyte of folds", folds.into_bytes(), 1, Because::Internal),
        ("a megabyte of NULs", long("\0").into_bytes(), 1, Because::NothingReadable),
        ("NULs alone", vec![0; 10 * MIB], 0, Because::Internal),
        ("lone CRs", long("\r").into_bytes(), 1, Because::NothingReadable),
        ("lone CRs alone", vec![b'\r'; 10 * MIB], 0, Because::Internal),
        ("line ends alone", vec![b'\n'; 10 * MIB], 0, Because::Internal),
        ("colons", b":\r\n".repeat(100_000), 0, Because::Internal),
        ("folds of nothing", b" \r\n".repeat(100_000), 0, Because::Internal),
        ("one byte a line", b"a\n".repeat(100_000), 0, Because::Internal),
    ]
}

#[test]
fn a_header_of_any_shape_costs_a_look_at_each_line_and_no_memory_e12() {
    let headers = headers();
    let gateway_of = gateway(true, false);
    for (name, bytes, hops, because) in &headers {
        let header = HeaderBlock::of(bytes);
        // Fields lie behind one another, so splitting takes one pass.
        let (mut end, mut received) = (0, 0);
        for field in header.fields() {
            assert!(field.offset >= end, "{name}");
            end = field.offset + field.name.len() + field.raw.len();
            received += usize::from(field.is("Received"));
        }
        assert!(received >= *hops && end <= bytes.len(), "{name}");
        // One visit a hop, whatever it is.
        let mut visits = 0;
        let mut source = None;
        let spent = measure(|| {
            source = Some(gateway_of.trace(CLIENT, OwnLine::Absent, &header, |_| visits += 1));
        });
        let source = source.unwrap();
        assert_eq!((visits, source.because), (*hops, *because), "{name}");
        assert_eq!(spent.count_total, 0, "{name}");
        // The table is short however long the header is.
        let mut table = Hops::default();
        let spent = measure(|| {
            let (same, hops) = gateway_of.source_with_hops(CLIENT, OwnLine::Absent, &header);
            assert_eq!(same, source, "{name}");
            table = hops;
        });
        assert!(spent.bytes_max < 100_000, "{name}: {} octets", spent.bytes_max);
        assert_eq!(table.listed.len(), (*hops).min(Hops::MOST), "{name}");
        assert_eq!(table.listed.len() + table.left_out, *hops, "{name}");
        // One hop back looks at one line, strictness at those up to the first not understood.
        let mut visits = 0;
        let _ = gateway(false, false).trace(CLIENT, OwnLine::Absent, &header, |_| visits += 1);
        assert_eq!(visits, (*hops).min(1), "{name}");
        if *because == Because::NothingReadable {
            let mut visits = 0;
            let _ = gateway(true, true).trace(CLIENT, OwnLine::Absent, &header, |_| visits += 1);
            assert_eq!(visits, 1, "{name}");
        }
    }

    // An external address on top ends the search: what lies below is not looked at.
    let (_, below, count, _) = &headers[0];
    let external: &[u8] = b"Received: from a (b [192.0.2.7]) by c; d\r\n";
    let header = [external, below].concat();
    let mut visits = 0;
    let source =
        gateway_of.trace(CLIENT, OwnLine::Absent, &HeaderBlock::of(&header), |_| visits += 1);
    assert_eq!((source.because, visits), (Because::FirstExternal, 1));
    // At the bottom it is found, and listed behind the first thousand.
    let header = [below, external].concat();
    let (source, table) =
        gateway_of.source_with_hops(CLIENT, OwnLine::Absent, &HeaderBlock::of(&header));
    assert_eq!(source.ip, Some([192, 0, 2, 7].into()));
    assert_eq!(table.listed.len(), Hops::MOST + 1);
    assert_eq!(table.listed.last().unwrap().skipped, None);
    assert_eq!(table.left_out, count - Hops::MOST);
}

#[test]
fn what_a_line_tells_is_borrowed_e12() {
    for (name, bytes, ..) in headers() {
        let header = HeaderBlock::of(&bytes);
        let spent = measure(|| {
            for field in header.fields().filter(|field| field.is("Received")).take(100) {
                let _ = TraceLine::of(field.raw);
            }
        });
        assert_eq!(spent.count_total, 0, "{name}");
    }
}
