//! The sample of real lines.

use std::net::IpAddr;

use serde_json::Value;
use waypost_inbound::{Because, GatewaySettings, InboundGateway, OwnLine, Reading};
use waypost_types::HeaderBlock;

/// `line` and `headers` hold bytes as code points.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

#[test]
fn every_line_is_read_as_expected_e4() {
    let (mut right, mut wrong) = (0, Vec::new());
    for row in include_str!("../../testdata/lines.jsonl").lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        let line = latin1(row["line"].as_str().unwrap());
        let colon = line.iter().position(|b| *b == b':').unwrap();
        let reading = Reading::of(&line[colon + 1..]);
        let expected: Option<IpAddr> = row["expected_ip"].as_str().map(|ip| ip.parse().unwrap());
        let kind = row["kind"].as_str().unwrap() == "from";
        if reading.ip() == expected && kind == (reading != Reading::By) {
            right += 1;
        } else {
            wrong.push(format!("{} -> {reading:?}", String::from_utf8_lossy(&line)));
        }
    }
    println!("lines: {right} right, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_message_has_the_expected_source_e3_e4_e5_e6() {
    let (mut right, mut wrong) = (0, Vec::new());
    for row in include_str!("../../testdata/messages.jsonl").lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        let headers = latin1(&text("headers"));
        let gateway = InboundGateway::new(&GatewaySettings {
            addresses: row["gateway_ips"]
                .as_array()
                .unwrap()
                .iter()
                .map(|ip| ip.as_str().unwrap().to_owned())
                .collect(),
            detect_external_ip: row["auto_detect"].as_bool().unwrap(),
            allow_private: true,
            ..GatewaySettings::default()
        })
        .unwrap();
        let client: IpAddr = text("connecting_ip").parse().unwrap();
        let expected = &row["expected"];
        let ip: Option<IpAddr> = expected["ip"].as_str().map(|ip| ip.parse().unwrap());
        let because = match expected["reason"].as_str().unwrap() {
            "not_configured" | "not_gateway" => Because::NotFromGateway,
            "external_hop" => Because::FirstExternal,
            "previous_hop" => Because::PreviousHop,
            "fallback" => Because::NothingReadable,
            "internal" => Because::Internal,
            other => panic!("{other}"),
        };
        // What is found out must be what is known.
        let known =
            if row["own_line"].as_bool().unwrap() { OwnLine::Present } else { OwnLine::Absent };
        for own in [known, OwnLine::FindOut] {
            let source = gateway.source(client, own, &HeaderBlock::of(&headers));
            if (source.ip, source.because) == (ip, because) {
                right += 1;
            } else {
                wrong.push(format!("{} {own:?} -> {source:?}, not {ip:?} {because:?}", text("id")));
            }
        }
    }
    println!("messages: {right} right, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
