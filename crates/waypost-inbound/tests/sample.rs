//! The sample of real lines.

use std::net::IpAddr;

use serde_json::Value;
use waypost_inbound::Reading;

/// `line` and `headers` hold bytes as code points.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

#[test]
fn every_line_is_read_as_expected_e4() {
    let (mut right, mut wrong) = (0, Vec::new());
    for row in include_str!("../testdata/lines.jsonl").lines() {
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
