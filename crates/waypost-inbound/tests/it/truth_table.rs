//! The truth table of E3 to E5 on the page about the inbound gateway, as the code answers. What the
//! answers have to be stands in `source.rs` and `model.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may say what they mean"
)]

use crate::document;

use waypost_inbound::{GatewaySettings, InboundGateway, OwnLine};
use waypost_types::HeaderBlock;

/// What a row is about: the setting, and the lines newest first.
struct Row {
    configured: bool,
    client_listed: bool,
    mode: Mode,
    own: OwnLine,
    lines: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Detect,
    Strict,
    OneHopBack,
}

const CLIENT: &str = "198.51.100.1";

/// The words for lines, and a line of each kind.
const WORDS: &[(&str, &str)] = &[
    ("client", "from gw1.example (gw1.example [198.51.100.1]) by mx.example; d"),
    ("gateway", "from gw2.example (gw2.example [198.51.100.2]) by gw1.example; d"),
    ("private", "from inside.example (inside.example [10.1.2.3]) by gw1.example; d"),
    ("external", "from host.example (host.example [192.0.2.7]) by gw2.example; d"),
    ("other external", "from other.example (other.example [203.0.113.9]) by host.example; d"),
    ("not understood", "from host.example (unknown []) by gw2.example; d"),
    ("no hop", "by mx.example with SMTP id x; d"),
];

fn rows() -> Vec<Row> {
    use Mode::{Detect, OneHopBack, Strict};
    use OwnLine::{Absent, FindOut, Present};
    let row = |mode, own, lines| Row { configured: true, client_listed: true, mode, own, lines };
    vec![
        Row { configured: false, ..row(Detect, Absent, &["external"]) },
        Row { client_listed: false, ..row(Detect, Absent, &["external"]) },
        Row { client_listed: false, ..row(OneHopBack, Absent, &["external"]) },
        row(Detect, Absent, &["external"]),
        row(Detect, Absent, &["external", "other external"]),
        row(Detect, Absent, &["gateway", "private", "external", "other external"]),
        row(Detect, Absent, &["no hop", "gateway", "no hop", "external"]),
        row(Detect, Absent, &["not understood", "external"]),
        row(Detect, Absent, &["not understood"]),
        row(Detect, Absent, &["gateway", "not understood", "private"]),
        row(Detect, Absent, &["gateway", "private"]),
        row(Detect, Absent, &["no hop"]),
        row(Detect, Absent, &[]),
        row(Detect, FindOut, &["client", "external"]),
        row(Detect, FindOut, &["client"]),
        row(Detect, Present, &["not understood", "external"]),
        row(Detect, Present, &["external"]),
        row(Strict, Absent, &["external", "not understood"]),
        row(Strict, Absent, &["not understood", "external"]),
        row(Strict, Absent, &["gateway", "not understood", "external"]),
        row(Strict, Absent, &["gateway", "private"]),
        row(OneHopBack, Absent, &["external"]),
        row(OneHopBack, Absent, &["gateway", "external"]),
        row(OneHopBack, Absent, &["client", "external"]),
        row(OneHopBack, Absent, &["private", "external"]),
        row(OneHopBack, Absent, &["no hop", "external"]),
        row(OneHopBack, Absent, &["not understood", "external"]),
        row(OneHopBack, Absent, &["no hop"]),
        row(OneHopBack, Absent, &[]),
        row(OneHopBack, FindOut, &["client", "external"]),
        row(OneHopBack, FindOut, &["client", "gateway", "external"]),
        row(OneHopBack, FindOut, &["client"]),
        row(OneHopBack, FindOut, &["external", "client"]),
        row(OneHopBack, Present, &["not understood", "external"]),
        row(OneHopBack, Present, &["external", "gateway"]),
    ]
}

#[test]
fn the_page_has_the_truth_table_of_the_code_e3_e4_e5() {
    let mut table = String::from(
        "| client | mode | first line our own? | lines, newest first | source IP | because | SPF |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in rows() {
        let gateways: &[&str] = if row.configured { &[CLIENT, "198.51.100.2"] } else { &[] };
        let gateway = InboundGateway::new(&GatewaySettings {
            addresses: gateways.iter().map(|text| (*text).to_owned()).collect(),
            detect_external_ip: row.mode != Mode::OneHopBack,
            strict: row.mode == Mode::Strict,
            ..GatewaySettings::default()
        })
        .unwrap();
        let line = |word: &str| WORDS.iter().find(|(known, _)| *known == word).unwrap().1;
        let header: String =
            row.lines.iter().map(|word| format!("Received: {}\r\n", line(word))).collect();
        let client = if row.client_listed { CLIENT } else { "203.0.113.99" };
        let header = HeaderBlock::of(header.as_bytes());
        let source = gateway.source(client.parse().unwrap(), row.own, &header);
        let found = source.ip.map(|ip| ip.to_string());
        let word = match &found {
            None => "none",
            Some(ip) if ip == client => "the client",
            Some(ip) => {
                let named = WORDS.iter().find(|(_, line)| line.contains(&format!("[{ip}]")));
                named.unwrap().0
            }
        };
        let who = match (row.configured, row.client_listed) {
            (false, _) => "any; no gateway is configured",
            (true, false) => "not listed",
            (true, true) => "listed",
        };
        let mode = match row.mode {
            Mode::Detect => "detect",
            Mode::Strict => "detect, strict",
            Mode::OneHopBack => "one hop back",
        };
        let own = match row.own {
            OwnLine::Absent => "no: live session",
            OwnLine::Present => "yes: told so",
            OwnLine::FindOut => "found out",
        };
        let lines = if row.lines.is_empty() { "none".to_owned() } else { row.lines.join(", ") };
        let spf = if source.spf { "due" } else { "no" };
        let because = source.because.as_str();
        table += &format!("| {who} | {mode} | {own} | {lines} | {word} | `{because}` | {spf} |\n");
    }
    document::section("../../docs/INBOUND.md", "truth table", &table);
}
