//! E3 to E5 beside a naive model: the requirement's text, written down once more over structured hops.

use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::select;
use waypost_inbound::{GatewaySettings, InboundGateway, OwnLine, Skipped};
use waypost_types::HeaderBlock;

/// Addresses of clients, gateways and hops.
const PUBLIC: &[&str] =
    &["192.0.2.1", "192.0.2.2", "198.51.100.7", "8.8.8.8", "2001:db8::1", "2a00::5"];
const PRIVATE: &[&str] =
    &["10.0.0.1", "127.0.0.1", "169.254.9.9", "100.64.1.1", "::1", "fd00::1", "fe80::1"];

/// What may be configured, and the addresses above that it lists.
const GATEWAYS: &[(&str, &[&str])] = &[
    ("192.0.2.1", &["192.0.2.1"]),
    ("192.0.2.0/30", &["192.0.2.1", "192.0.2.2"]),
    ("198.51.100.0/24", &["198.51.100.7"]),
    ("2001:db8::/64", &["2001:db8::1"]),
    ("::ffff:192.0.2.2", &["192.0.2.2"]),
    ("10.0.0.0/8", &["10.0.0.1"]),
    ("fd00::1", &["fd00::1"]),
];

/// One `Received` line.
#[derive(Clone, Debug)]
enum Line {
    From(IpAddr),
    Unreadable,
    By,
}

#[derive(Clone, Debug)]
struct Case {
    gateways: Vec<(&'static str, &'static [&'static str])>,
    client: IpAddr,
    detect: bool,
    strict: bool,
    documentation_is_public: bool,
    own: OwnLine,
    lines: Vec<Line>,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The answer: source, because, SPF, and the hops with why each was passed over.
type Answer = (Option<IpAddr>, &'static str, bool, Vec<(Option<IpAddr>, Option<Skipped>)>);

fn model(case: &Case) -> Answer {
    let listed = |ip: IpAddr| case.gateways.iter().any(|(_, all)| all.contains(&&*ip.to_string()));
    let public = |address: IpAddr| {
        let text = address.to_string();
        let documented =
            ["192.0.2.", "198.51.100.", "2001:db8:"].iter().any(|block| text.starts_with(block));
        !PRIVATE.contains(&&*text) && (case.documentation_is_public || !documented)
    };
    // E3
    if !listed(case.client) {
        return (Some(case.client), "not-from-gateway", true, vec![]);
    }
    // "Lines that do not start with `from` are no hops."
    let mut hops: Vec<Option<IpAddr>> = Vec::new();
    for line in &case.lines {
        match line {
            Line::From(ip) => hops.push(Some(*ip)),
            Line::Unreadable => hops.push(None),
            Line::By => {}
        }
    }
    // "The own hop: the first from line of a stored header … when its address is the client's IP."
    let first_is_own = match case.own {
        OwnLine::Absent => false,
        OwnLine::Present => true,
        OwnLine::FindOut => hops.first() == Some(&Some(case.client)),
    };
    if first_is_own && !hops.is_empty() {
        hops.remove(0);
    }
    let fallen_back = (Some(case.client), "nothing-readable", false);
    // E5
    if !case.detect {
        return match hops.first() {
            Some(Some(hop)) => (Some(*hop), "previous-hop", public(*hop), vec![(Some(*hop), None)]),
            found => {
                let table = found.map(|_| (None, Some(Skipped::Unreadable)));
                (fallen_back.0, fallen_back.1, fallen_back.2, table.into_iter().collect())
            }
        };
    }
    // E4
    let mut table = Vec::new();
    let mut all_understood = true;
    for hop in hops {
        let Some(hop) = hop else {
            table.push((None, Some(Skipped::Unreadable)));
            all_understood = false;
            if case.strict {
                break;
            }
            continue;
        };
        if public(hop) && !listed(hop) {
            table.push((Some(hop), None));
            return (Some(hop), "first-external", true, table);
        }
        table
            .push((Some(hop), Some(if listed(hop) { Skipped::Gateway } else { Skipped::Private })));
    }
    match all_understood {
        true => (None, "internal", false, table),
        false => (fallen_back.0, fallen_back.1, fallen_back.2, table),
    }
}

/// A line in one of several layouts; its client, and other addresses where a forger writes them.
fn written(line: &Line, layout: usize) -> String {
    let bait = "203.0.113.66";
    match line {
        Line::From(ip) => {
            let tagged = if ip.is_ipv6() { format!("IPv6:{ip}") } else { ip.to_string() };
            match layout % 5 {
                0 => format!(
                    "from {bait} (host.example [{tagged}]) by mx.example ([{bait}]) id 1; d"
                ),
                1 => format!("from host.example ([{ip}] helo=[{bait}])\r\n\tby mx.example; d"),
                2 => format!("from host.example (HELO {bait}) ({ip}) by {bait} with SMTP; d"),
                3 => format!("from [{ip}] by mx.example via HTTP; d"),
                _ => format!("from [{bait}] ([{tagged}])\n by mx.example for <a@[{bait}]>; d"),
            }
        }
        Line::Unreadable => match layout % 3 {
            0 => format!("from [{bait}] (unknown []) by mx.example; d"),
            1 => format!("from host.example by mx.example ([{bait}]) with SMTP; d"),
            _ => format!("from {bait} ([unix socket]) by mx.example; d"),
        },
        Line::By => match layout % 3 {
            0 => format!("by {bait} with SMTP id x; d"),
            1 => "(qmail 7 invoked from network); d".to_owned(),
            _ => format!("(from a@localhost) by mx.example ([{bait}]); d"),
        },
    }
}

fn cases() -> impl Strategy<Value = (Case, Vec<usize>)> {
    let address = || prop_oneof![select(PUBLIC), select(PRIVATE)].prop_map(ip);
    let line = prop_oneof![
        6 => address().prop_map(Line::From),
        1 => Just(Line::Unreadable),
        1 => Just(Line::By),
    ];
    let own = select(&[OwnLine::Absent, OwnLine::Present, OwnLine::FindOut][..]);
    (
        proptest::collection::vec(select(GATEWAYS), 0..5),
        address(),
        any::<[bool; 3]>(),
        own,
        proptest::collection::vec((line, any::<usize>()), 0..9),
        any::<bool>(),
    )
        .prop_map(|(gateways, client, [detect, strict, documentation], own, lines, listed)| {
            // Half of the time the client is listed.
            let client = match gateways.first() {
                Some((_, all)) if listed => ip(all[0]),
                _ => client,
            };
            let (lines, layouts) = lines.into_iter().unzip();
            let documentation_is_public = documentation;
            (
                Case { gateways, client, detect, strict, documentation_is_public, own, lines },
                layouts,
            )
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_source_is_that_of_the_requirement_e3_e4_e5((case, layouts) in cases()) {
        let gateway = InboundGateway::new(&GatewaySettings {
            addresses: case.gateways.iter().map(|(text, _)| (*text).to_owned()).collect(),
            detect_external_ip: case.detect,
            strict: case.strict,
            documentation_ranges_public: case.documentation_is_public,
            allow_private: true,
            ..GatewaySettings::default()
        })
        .unwrap();
        let mut header = String::from("X-Other: from a ([203.0.113.66]) by b; d\r\n");
        for (line, layout) in case.lines.iter().zip(layouts) {
            header += &format!("Received: {}\r\n", written(line, layout));
        }
        header += "Subject: x\r\n\r\nReceived: from a ([203.0.113.66]) by b; d\r\n";
        let header = HeaderBlock::of(header.as_bytes());
        let (source, hops) = gateway.source_with_hops(case.client, case.own, &header);
        let (ip, because, spf, table) = model(&case);
        prop_assert_eq!((source.ip, source.because.as_str(), source.spf), (ip, because, spf));
        let found: Vec<_> = hops.listed.iter().map(|hop| (hop.ip, hop.skipped)).collect();
        prop_assert_eq!(found, table);
        prop_assert_eq!(gateway.source(case.client, case.own, &header), source);
        prop_assert_eq!(hops.left_out, 0);
    }
}
