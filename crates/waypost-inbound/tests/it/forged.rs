//! What a forger can write is never read as the client's address (E4, E12).

use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::Value;
use waypost_inbound::Reading;

/// The address that stands only where a forger may write.
const PLANTED: &str = "8.8.4.4";

fn planted() -> [IpAddr; 2] {
    [PLANTED.parse().unwrap(), "2001:db8:bad::1".parse().unwrap()]
}

/// HELO, ident, envelope, login, id, for and by texts, some with parentheses, quotes and brackets.
#[test]
fn planted_addresses_are_never_read_e4() {
    let table: &[(&str, Option<&str>)] = &[
        // (line, the client; None: unreadable)
        ("from [8.8.4.4] (r.example [192.0.2.1]) by mx; d", Some("192.0.2.1")),
        ("from x (HELO [IPv6:2001:db8:bad::1]) (192.0.2.1) by mx; d", Some("192.0.2.1")),
        ("from x (HELO 8.8.4.4) (192.0.2.1) by mx; d", Some("192.0.2.1")),
        ("from x (HELO a 8.8.4.4) (192.0.2.1) by mx; d", Some("192.0.2.1")),
        ("from x (HELO a [8.8.4.4]) (192.0.2.1) by mx; d", Some("192.0.2.1")),
        ("from x (HELO a [8.8.4.4]) by mx; d", None),
        ("from x (HELO (8.8.4.4)) (192.0.2.1) by mx; d", Some("192.0.2.1")),
        ("from [192.0.2.1] (helo=8.8.4.4) by mx; d", Some("192.0.2.1")),
        ("from [192.0.2.1] (helo=[8.8.4.4] ident=8.8.4.4) by mx; d", Some("192.0.2.1")),
        ("from r ([192.0.2.1] helo=[8.8.4.4] ident=[8.8.4.4]) by mx; d", Some("192.0.2.1")),
        ("from x (IDENT:8.8.4.4@r [192.0.2.1]) by mx; d", Some("192.0.2.1")),
        ("from x (IDENT:[8.8.4.4]@r [192.0.2.1]) by mx; d", Some("192.0.2.1")),
        ("from x (IDENT:a [8.8.4.4] b@r [192.0.2.1]) by mx; d", Some("192.0.2.1")),
        ("from x (a@[8.8.4.4] [192.0.2.1]) by mx; d", Some("192.0.2.1")),
        ("from x (a@8.8.4.4 [192.0.2.1]) by mx; d", Some("192.0.2.1")),
        ("from x (a@[8.8.4.4] b@[192.0.2.1]) by mx; d", None),
        ("from x (a@[8.8.4.4] [192.0.2.1] c d@[192.0.2.2]) by mx; d", None),
        ("from x (a [8.8.4.4] b@[192.0.2.1]) by mx; d", None),
        ("from x (a@[192.0.2.1] (may be forged)) by mx; d", Some("192.0.2.1")),
        ("from x (8.8.4.4@192.0.2.1) by mx; d", Some("192.0.2.1")),
        ("from x (a@8.8.4.4@192.0.2.1) by mx; d", Some("192.0.2.1")),
        ("from x (a@[8.8.4.4]@192.0.2.1) by mx; d", Some("192.0.2.1")),
        ("from x (8.8.4.4 [192.0.2.1]) by mx; d", Some("192.0.2.1")),
        ("from x (r [192.0.2.1]) (envelope-from <a@[8.8.4.4]>) by mx; d", Some("192.0.2.1")),
        ("from x (r [192.0.2.1]) (Authenticated sender: [8.8.4.4]) by mx; d", Some("192.0.2.1")),
        ("from x (r [192.0.2.1]) ([8.8.4.4]) by mx; d", Some("192.0.2.1")),
        ("from x (r [192.0.2.1]) (8.8.4.4) by mx; d", Some("192.0.2.1")),
        ("from x (envelope-from <a@[8.8.4.4]>) (r [192.0.2.1]) by mx; d", Some("192.0.2.1")),
        ("from x (AUTH: 8.8.4.4) (r [192.0.2.1]) by mx; d", Some("192.0.2.1")),
        (
            "from x (r [192.0.2.1]) by mx ([8.8.4.4]) with SMTP id 8.8.4.4 for <a@[8.8.4.4]>; d",
            Some("192.0.2.1"),
        ),
        ("from x by mx ([8.8.4.4]) with SMTP id 8.8.4.4 for <a@[8.8.4.4]>; d", None),
        ("from 8.8.4.4 (r [unix socket]) by mx; d", None),
        ("from 8.8.4.4 (r [192.0.2.01]) by mx; d", None),
        ("from 8.8.4.4 (r [192.0.2.1) by mx; d", None),
        ("from 8.8.4.4 (r) by mx.example; d", None),
        ("from 8.8.4.4 [hidden] by mx.example; d", None),
        ("from 8.8.4.4 [] by mx.example; d", None),
        ("from 192.0.2.1 (authenticated) by mx.example; d", Some("192.0.2.1")),
        ("from 8.8.4.4 (r.example) by mx.example; d", None),
        ("from [8.8.4.4] (envelope-from <a@b>) (r [192.0.2.1]) by mx; d", Some("192.0.2.1")),
        ("from [8.8.4.4] (X-IP: [8.8.4.4]) (r [192.0.2.1]) by mx; d", Some("192.0.2.1")),
        ("from 8.8.4.4 (HELO x) (192.0.2.1) by mx; d", Some("192.0.2.1")),
        ("from [192.0.2.1] (helo=x) (r [8.8.4.4]) by mx; d", None),
        ("from [192.0.2.1] (using TLSv1) ([8.8.4.4]) by mx; d", None),
        ("from x 8.8.4.4 by y (r [192.0.2.1]) by mx; d", None),
        ("from [8.8.4.4] by (r [192.0.2.1]) by mx; d", None),
        ("from 192.0.2.1 by y (qmail-scanner [8.8.4.4]) by uid 5; d", None),
        ("from 192.0.2.1 by y by uid 501 with qmail-scanner; d", Some("192.0.2.1")),
        ("from x (8.8.4.4) (r [192.0.2.1]) by mx; d", None),
        ("from x (HELO y) (192.0.2.1) ([8.8.4.4]) by mx; d", Some("192.0.2.1")),
        ("from 8.8.4.4 (smtp.r.example) by mx; d", None),
        ("from 8.8.4.4 (auth.r.example) by mx; d", None),
        ("from 8.8.4.4 (<unknown> [local]) by mx; d", None),
        ("from 8.8.4.4 (a@hidden with login) by mx; d", None),
        // HELO with marks in it
        ("from a([8.8.4.4]) (r [192.0.2.1]) by mx; d", None),
        ("from a(8.8.4.4) (r [192.0.2.1]) by mx; d", None),
        ("from a([8.8.4.4]) (r [unix]) by mx; d", None),
        ("from a[8.8.4.4] (r [192.0.2.1]) by mx; d", Some("192.0.2.1")),
        ("from [192.0.2.1] (helo=a)([8.8.4.4]) by mx; d", None),
        ("from r ([192.0.2.1] helo=a)([8.8.4.4]) by mx; d", Some("192.0.2.1")),
        ("from r ([192.0.2.1]:4 \"EHLO a) ([8.8.4.4]\") by mx; d", Some("192.0.2.1")),
        ("from a( (r [192.0.2.1]) by mx with SMTP id 1 for <\")([8.8.4.4])\"@b>; d", None),
        ("from (8.8.4.4) (r [192.0.2.1]) by mx; d", None),
        ("from ([8.8.4.4]) by mx; d", Some("8.8.4.4")),
        ("from a(8.8.4.4)by (r [192.0.2.1]) by mx; d", None),
        ("from [8.8.4.4]by (r [192.0.2.1]) by mx; d", Some("192.0.2.1")),
        ("from [8.8.4.4]by [192.0.2.1] by mx; d", Some("192.0.2.1")),
        ("from a(8.8.4.4) (r.example) by mx; d", None),
        ("from [192.0.2.1] (account a)(8.8.4.4)) by mx; d", None),
        ("from [192.0.2.1] (account a)@b HELO [8.8.4.4]) by mx; d", None),
        ("from h (IDENT:a)(8.8.4.4)@[192.0.2.1]) by mx; d", None),
        ("from h (r [192.0.2.1] by mx (a [8.8.4.4]); d", Some("192.0.2.1")),
        ("from h( r [8.8.4.4] by mx (a [8.8.4.4]); d", None),
        ("from h (IDENT:a by mx [8.8.4.4]; d", None),
        ("from [192.0.2.1] (helo=a\\) by mx (x) for <a)([8.8.4.4])@b>; d", None),
        ("from [192.0.2.1] (helo=a\\) \\([8.8.4.4]) by mx; d", None),
        ("from \" (r [192.0.2.1]) by mx for <\"([8.8.4.4])\"@b>; d", Some("192.0.2.1")),
        ("from [192.0.2.1] (helo=\") by mx for <\")([8.8.4.4])\"@b>; d", Some("192.0.2.1")),
        ("from \"x (y [8.8.4.4])\" (r [192.0.2.1]) by mx; d", None),
        ("from \"x (y [8.8.4.4]) z\" (r [192.0.2.1]) by mx; d", None),
        ("from \"x y\" (r [192.0.2.1]) by mx; d", Some("192.0.2.1")),
        ("from \" (r [192.0.2.1]) (using TLSv1) by mx; d", Some("192.0.2.1")),
        ("from x([8.8.4.4])with (r [192.0.2.1]) by mx; d", None),
        ("from x([8.8.4.4])via(a (r [192.0.2.1]) by mx; d", None),
        ("from ([8.8.4.4])by[8.8.4.4] (r [192.0.2.1]) by mx; d", None),
        ("from [192.0.2.1] (helo=a)[8.8.4.4](b) by mx; d", None),
        // ident answers with marks in them
        ("from x ([8.8.4.4])@[192.0.2.1]) by mx; d", None),
        ("from x ([8.8.4.4](a)@[192.0.2.1]) by mx; d", None),
        ("from x ([8.8.4.4](a)@r [192.0.2.1]) by mx; d", None),
        ("from x (HELO y) ([8.8.4.4])@192.0.2.1) by mx; d", None),
        ("from [x by mx for <\"a]([8.8.4.4])\"@b>; d", None),
        ("from [8.8.4.4]; (r [192.0.2.1]) by mx; d", None),
        ("from 8.8.4.4; (192.0.2.1) by mx; d", None),
        ("from by ([8.8.4.4]) by mx; d", None),
        ("from [192.0.2.1]by mx ([8.8.4.4]); d", Some("192.0.2.1")),
        ("from x by[8.8.4.4] ([8.8.4.4]); d", None),
        ("from x by: mx ([8.8.4.4]); d", None),
        ("from 8.8.4.4 (localhost 127.0.0.1) by mx; d", Some("127.0.0.1")),
        ("from 8.8.4.4 (h 192.0.2.1) by mx; d", None),
        ("from 8.8.4.4 (IDENT:a@r.example) by mx; d", None),
        ("from 8.8.4.4 (IDENT:a b c d e f g [192.0.2.1]) by mx; d", None),
        ("from [8.8.4.4](r [192.0.2.1]) by mx; d", Some("192.0.2.1")),
        ("from a) (r [192.0.2.1]) by mx; d", Some("192.0.2.1")),
        ("from ) ([192.0.2.1]) by mx; d", None),
        ("from \0 ([192.0.2.1]) by mx; d", Some("192.0.2.1")),
        ("from \u{e9}\u{ff} (r [192.0.2.1]) by mx; d", Some("192.0.2.1")),
        ("from x ([192.0.2.1\0]) by mx; d", None),
        ("from x ([192.0.2.1] [8.8.4.4]) by mx; d", None),
        ("from x [192.0.2.1] (r [8.8.4.4]) by mx; d", None),
        ("from x (AVG 8.8.4.4) by mx; d", None),
        ("from x (a\"b [8.8.4.4]) by mx; d", None),
        ("from x (a@b\"c[8.8.4.4]) by mx; d", None),
        ("from [ by ] (r [8.8.4.4]) by mx; d", None),
        ("from x [ 192.0.2.1 ] by mx; d", Some("192.0.2.1")),
    ];
    let mut wrong = Vec::new();
    for (line, want) in table {
        let want: Option<IpAddr> = want.map(|ip| ip.parse().unwrap());
        let reading = Reading::of(line.as_bytes());
        if reading.ip() != want {
            wrong.push(format!("{line} -> {reading:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A small generator, seeded: the mutants are the same on every run.
struct Draw(u64);

impl Draw {
    fn next(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % u64::try_from(below).unwrap()).unwrap()
    }
}

/// Every sample line with other folds, other letter case, and addresses planted into HELO, ident, id,
/// for, by and comments: never a planted one, and never another than before.
#[test]
fn mutants_of_the_sample_are_read_alike_e4() {
    let mut draw = Draw(4);
    let (mut same, mut missed) = (0, Vec::new());
    for row in include_str!("../../testdata/lines.jsonl").lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        let line = row["line"].as_str().unwrap();
        let value = line.split_once(':').unwrap().1;
        let expected: Option<IpAddr> = row["expected_ip"].as_str().map(|ip| ip.parse().unwrap());
        for _ in 0..40 {
            let mutant = mutate(value, &mut draw);
            let bytes: Vec<u8> =
                mutant.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
            let ip = Reading::of(&bytes).ip();
            assert!(ip.is_none_or(|ip| !planted().contains(&ip)), "{mutant} -> {ip:?}");
            assert!(ip.is_none() || ip == expected, "{mutant} -> {ip:?}, not {expected:?}");
            if ip == expected {
                same += 1;
            } else {
                missed.push(mutant);
            }
        }
    }
    println!("mutants: {same} as before, {} missed", missed.len());
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

fn mutate(value: &str, draw: &mut Draw) -> String {
    let mut line = value.to_owned();
    let literal = ["8.8.4.4", "[8.8.4.4]", "[IPv6:2001:db8:bad::1]"][draw.next(3)];
    // Behind `by` anything may stand.
    if draw.next(2) == 0
        && let Some((head, tail)) = line.split_once(" by ")
    {
        line = match draw.next(2) {
            0 => format!("{head} by {tail} id {literal} for <a@{literal}> (x [8.8.4.4])"),
            _ => format!("{head} by mx ({literal}) {tail}"),
        };
    }
    for (label, text) in [
        ("(HELO ", format!("(HELO {literal} ")),
        ("(EHLO ", format!("(EHLO {literal} ")),
        ("helo=", format!("helo={literal} x=")),
        ("ident=", format!("ident={literal} x=")),
        ("IDENT:", format!("IDENT:{literal}.")),
    ] {
        line = line.replace(label, &text);
    }
    if draw.next(3) == 0 {
        let comment = [
            "(envelope-from <a@[8.8.4.4]>)",
            "(Authenticated sender: 8.8.4.4)",
            "(using TLSv1.2 with cipher 8.8.4.4)",
            "(X-Originating-IP: [8.8.4.4])",
            "(helo=[8.8.4.4])",
        ][draw.next(5)];
        line = line.replacen(") by ", &format!(") {comment} by "), 1);
    }
    match draw.next(4) {
        0 => line = line.replace(' ', "\r\n\t"),
        1 => line = line.replace(' ', "\n "),
        2 => line = line.replace(' ', "  "),
        _ => {}
    }
    match draw.next(3) {
        0 => line.make_ascii_uppercase(),
        1 => line.make_ascii_lowercase(),
        _ => {}
    }
    line
}

/// Words of trace lines, so that random lines are near real ones.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("from ".to_owned()),
        Just(" by ".to_owned()),
        Just("(".to_owned()),
        Just(")".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just("192.0.2.1".to_owned()),
        Just("[192.0.2.2]".to_owned()),
        Just("([192.0.2.3])".to_owned()),
        Just("2001:db8::1".to_owned()),
        Just("HELO ".to_owned()),
        Just("helo=".to_owned()),
        Just("unknown ".to_owned()),
        Just("a@".to_owned()),
        Just("\"".to_owned()),
        Just("\\".to_owned()),
        Just(";".to_owned()),
        Just(" ".to_owned()),
        Just("\r\n\t".to_owned()),
        "[ -~]{0,3}",
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic_e12(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Reading::of(&bytes);
    }

    #[test]
    fn the_address_is_a_text_of_the_from_clause_e4(pieces in proptest::collection::vec(piece(), 0..24)) {
        let line = format!("from {}", pieces.concat());
        if let Reading::From(hop) = Reading::of(line.as_bytes()) {
            let text = &line[hop.text.clone()];
            prop_assert_eq!(text.parse::<IpAddr>().unwrap().to_canonical(), hop.ip);
            // What stands behind the address's clause changes nothing.
            let longer = format!("{line} by mx.example ([8.8.4.4]); d");
            if let Some(ip) = Reading::of(longer.as_bytes()).ip() {
                prop_assert_eq!(ip, hop.ip);
            }
        }
    }

    #[test]
    fn refolding_changes_nothing_e4(pieces in proptest::collection::vec(piece(), 0..24)) {
        let line = format!("from {}", pieces.concat());
        let flat = line.replace("\r\n\t", " ");
        let folded = flat.replace(' ', "\r\n\t");
        let ip = Reading::of(flat.as_bytes()).ip();
        prop_assert_eq!(Reading::of(line.as_bytes()).ip(), ip);
        prop_assert_eq!(Reading::of(folded.as_bytes()).ip(), ip);
    }

    #[test]
    fn what_stands_behind_by_is_never_read_e4(
        host in "[a-z.]{1,12}",
        tail in proptest::collection::vec(piece(), 0..24),
    ) {
        let line = format!("from {host} by {}", tail.concat());
        prop_assert_eq!(Reading::of(line.as_bytes()).ip(), None);
    }
}
