//! The source IP: the seed's example, truth tables, and a naive model beside the real thing.

use std::net::IpAddr;

use proptest::prelude::*;
use waypost_inbound::{
    Admission, Because, GatewaySettings, HopReport, InboundGateway, OwnLine, PublicAddresses,
    RefusedBecause, RejectCode, Skipped, Source, SpamEvaluation, SpamTagSettings, Switch,
};
use waypost_types::{HeaderBlock, TlsState};

const SEED: &str = "Delivered-To: M.Paul@solarmora.com\r\n\
    Received: by 192.0.2.205 with SMTP id e3cs239nzb; Tue, 24 Mar 2020 15:11:47 -0800 (PST)\r\n\
    Return-Path: M.Jean@bix-business.com\r\n\
    Received: from mail.emailprovider.com (mail.emailprovider.com [192.0.2.2]) by mx.gmail.com with SMTP id h19; Tue, 24 Mar 2020 15:11:47 -0800 (PST)\r\n\
    Message-ID: <20200329231145.62086.mail@mail.fournisseur.com>\r\n\
    Received: from [192.0.2.55] by mail.emailprovider.com via HTTP; Tue, 24 Mar 2020 15:11:45 PST\r\n\
    Received: from [192.0.2.110] by mail.emailprovider.com via HTTP; Tue, 24 Mar 2020 15:11:44 PST\r\n\
    Received: from [192.0.2.136] by mail.emailprovider.com via HTTP; Tue, 24 Mar 2020 15:11:44 PST\r\n\
    Received: from [192.0.2.152] by mail.emailprovider.com via HTTP; Tue, 24 Mar 2020 15:11:44 PST\r\n\
    From: M. Jean\r\n\r\n";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn gateway(addresses: &[&str], detect_external_ip: bool) -> InboundGateway {
    InboundGateway::new(&settings(addresses, detect_external_ip)).unwrap()
}

fn settings(addresses: &[&str], detect_external_ip: bool) -> GatewaySettings {
    GatewaySettings {
        addresses: addresses.iter().map(|text| (*text).to_owned()).collect(),
        detect_external_ip,
        ..GatewaySettings::default()
    }
}

#[test]
fn the_seeds_example_e6() {
    let header = HeaderBlock::of(SEED.as_bytes());
    let table: &[(&[&str], bool, &str, Because)] = &[
        (&[], true, "192.0.2.2", Because::NotFromGateway),
        (&["192.0.2.2", "192.0.2.55"], true, "192.0.2.110", Because::FirstExternal),
        (&["192.0.2.2", "192.0.2.55"], false, "192.0.2.55", Because::PreviousHop),
    ];
    for (gateways, detect, want, because) in table {
        let source = gateway(gateways, *detect).source(ip("192.0.2.2"), OwnLine::FindOut, &header);
        assert_eq!(source, Source { ip: Some(ip(want)), because: *because, spf: true });
    }
}

#[test]
fn the_hop_table_leaves_out_our_own_line_e4() {
    let gateway = gateway(&["192.0.2.2", "192.0.2.55"], true);
    let header = HeaderBlock::of(SEED.as_bytes());
    let hop = |text, skipped| HopReport { ip: Some(ip(text)), skipped };
    let (_, hops) = gateway.source_with_hops(ip("192.0.2.2"), OwnLine::FindOut, &header);
    assert_eq!(hops.listed, [hop("192.0.2.55", Some(Skipped::Gateway)), hop("192.0.2.110", None)]);
    let (_, hops) = gateway.source_with_hops(ip("192.0.2.2"), OwnLine::Absent, &header);
    assert_eq!(hops.listed.len(), 3);
}

/// One letter a line, newest first: g a gateway (the client), G another gateway, p private, e and f
/// external, u unreadable, b no hop.
fn header(lines: &str) -> String {
    let line = |c| match c {
        'g' => "from x (x [198.51.100.1]) by mx; d",
        'G' => "from x (x [198.51.100.2]) by mx; d",
        'p' => "from x (x [10.1.2.3]) by mx; d",
        'e' => "from x (x [192.0.2.7]) by mx; d",
        'f' => "from x (x [2001:db8::7]) by mx; d",
        'u' => "from x (x [unix socket]) by mx; d",
        'b' => "by 192.0.2.9 with SMTP id x; d",
        other => panic!("{other}"),
    };
    lines.chars().map(|c| format!("Received: {}\r\n", line(c))).collect()
}

#[test]
fn truth_table_e3_e4_e5() {
    use OwnLine::{Absent, FindOut, Present};
    const E: Option<&str> = Some("192.0.2.7");
    const F: Option<&str> = Some("2001:db8::7");
    const CLIENT: Option<&str> = Some("198.51.100.1");
    const G2: Option<&str> = Some("198.51.100.2");
    const P: Option<&str> = Some("10.1.2.3");
    let first = Because::FirstExternal;
    let back = Because::PreviousHop;
    let fall = Because::NothingReadable;
    let internal = Because::Internal;
    // (detect, strict, own, lines, source, because, spf)
    let table = [
        (true, false, Absent, "", None, internal, false),
        (true, false, Absent, "b", None, internal, false),
        (true, false, Absent, "g", None, internal, false),
        (true, false, Absent, "gGp", None, internal, false),
        (true, false, Absent, "gGpef", E, first, true),
        (true, false, Absent, "fe", F, first, true),
        (true, false, Absent, "ue", E, first, true),
        (true, false, Absent, "u", CLIENT, fall, false),
        (true, false, Absent, "gup", CLIENT, fall, false),
        (true, false, FindOut, "g", None, internal, false),
        (true, false, FindOut, "bgbe", E, first, true),
        (true, false, Present, "ue", E, first, true),
        (true, false, Present, "u", None, internal, false),
        (true, false, Present, "e", None, internal, false),
        (true, true, Absent, "ue", CLIENT, fall, false),
        (true, true, Absent, "gue", CLIENT, fall, false),
        (true, true, Absent, "eu", E, first, true),
        (true, true, Present, "ue", E, first, true),
        (false, false, Absent, "", CLIENT, fall, false),
        (false, false, Absent, "e", E, back, true),
        (false, false, Absent, "ge", CLIENT, back, true),
        (false, false, Absent, "Ge", G2, back, true),
        (false, false, Absent, "pe", P, back, false),
        (false, false, Absent, "ue", CLIENT, fall, false),
        (false, false, Absent, "bbe", E, back, true),
        (false, false, FindOut, "ge", E, back, true),
        (false, false, FindOut, "gGe", G2, back, true),
        (false, false, FindOut, "g", CLIENT, fall, false),
        (false, false, FindOut, "gb", CLIENT, fall, false),
        (false, false, FindOut, "gue", CLIENT, fall, false),
        (false, false, FindOut, "ege", E, back, true), // a forged copy lower down shifts nothing
        (false, false, FindOut, "gge", CLIENT, back, true),
        (false, false, Present, "uge", CLIENT, back, true),
        (false, false, Present, "ue", E, back, true),
        (false, true, Absent, "e", E, back, true),
    ];
    for (detect, strict, own, lines, want, because, spf) in table {
        let settings =
            GatewaySettings { strict, ..settings(&["198.51.100.1", "198.51.100.2"], detect) };
        let gateway = InboundGateway::new(&settings).unwrap();
        let header = header(lines);
        let header = HeaderBlock::of(header.as_bytes());
        let source = gateway.source(ip("198.51.100.1"), own, &header);
        let want = Source { ip: want.map(ip), because, spf };
        assert_eq!(source, want, "detect {detect} strict {strict} {own:?} {lines}");
        let mapped = gateway.source(ip("::ffff:198.51.100.1"), own, &header);
        assert_eq!(mapped, want, "mapped client, {lines}");
        let other = gateway.source(ip("192.0.2.99"), own, &header);
        assert_eq!(other, Source::of_client(ip("192.0.2.99")), "not a gateway, {lines}");
    }
}

/// E3 to E5 as they are written, over letters.
fn model(detect: bool, strict: bool, own: OwnLine, lines: &str) -> (Option<char>, Because) {
    let mut from: Vec<char> = lines.chars().filter(|c| *c != 'b').collect();
    let ours = match own {
        OwnLine::Absent => false,
        OwnLine::Present => !from.is_empty(),
        OwnLine::FindOut => from.first() == Some(&'g'),
    };
    if ours {
        from.remove(0);
    }
    if !detect {
        return match from.first() {
            None | Some('u') => (Some('g'), Because::NothingReadable),
            Some(hop) => (Some(*hop), Because::PreviousHop),
        };
    }
    if strict && let Some(stop) = from.iter().position(|c| *c == 'u') {
        from.truncate(stop + 1);
    }
    match from.iter().find(|c| "ef".contains(**c)) {
        Some(hop) => (Some(*hop), Because::FirstExternal),
        None if from.contains(&'u') => (Some('g'), Because::NothingReadable),
        None => (None, Because::Internal),
    }
}

proptest! {
    #[test]
    fn the_source_is_what_the_model_says_e3_e4_e5(
        detect in any::<bool>(),
        strict in any::<bool>(),
        own in prop_oneof![Just(OwnLine::Absent), Just(OwnLine::Present), Just(OwnLine::FindOut)],
        lines in "[gGpefub]{0,8}",
        older in "[gGpefub]{1,3}",
    ) {
        let settings =
            GatewaySettings { strict, ..settings(&["198.51.100.1", "198.51.100.2"], detect) };
        let gateway = InboundGateway::new(&settings).unwrap();
        let block = header(&lines);
        let (source, hops) =
            gateway.source_with_hops(ip("198.51.100.1"), own, &HeaderBlock::of(block.as_bytes()));
        let (hop, because) = model(detect, strict, own, &lines);
        let want = hop.map(|c| match c {
            'g' => ip("198.51.100.1"),
            'G' => ip("198.51.100.2"),
            'p' => ip("10.1.2.3"),
            'e' => ip("192.0.2.7"),
            _ => ip("2001:db8::7"),
        });
        prop_assert_eq!((source.ip, source.because), (want, because));
        // The hop table ends with the one chosen, and with no other.
        let chosen: Vec<_> = hops.listed.iter().filter(|hop| hop.skipped.is_none()).collect();
        let from_hop = matches!(because, Because::FirstExternal | Because::PreviousHop);
        prop_assert_eq!(chosen.len(), usize::from(from_hop));
        prop_assert!(hops.listed.iter().rev().skip(1).all(|hop| hop.skipped.is_some()));
        // An older line never changes what a newer one gave.
        if from_hop {
            let longer = header(&(lines + &older));
            let longer = HeaderBlock::of(longer.as_bytes());
            prop_assert_eq!(gateway.source(ip("198.51.100.1"), own, &longer), source);
        }
        // The first external address is neither listed nor private.
        if because == Because::FirstExternal {
            prop_assert!(!gateway.lists(source.ip.unwrap()));
            prop_assert!(gateway.public().contains(source.ip.unwrap()));
        }
    }
}

#[test]
fn a_hundred_thousand_lines_are_looked_at_once_e12() {
    let gateway = gateway(&["198.51.100.1"], true);
    let mut block = header(&"p".repeat(100_000));
    block.push_str(&header("e"));
    let header = HeaderBlock::of(block.as_bytes());
    let mut looked = 0;
    let source = gateway.trace(ip("198.51.100.1"), OwnLine::Absent, &header, |_| looked += 1);
    assert_eq!((source.ip, looked), (Some(ip("192.0.2.7")), 100_001));
    // The first external one ends the search.
    let mut looked = 0;
    let first = format!("Received: from [192.0.2.8] by x\r\n{block}");
    let header = HeaderBlock::of(first.as_bytes());
    let _ = gateway.trace(ip("198.51.100.1"), OwnLine::Absent, &header, |_| looked += 1);
    assert_eq!(looked, 1);
}

#[test]
fn every_wrong_setting_is_told_with_value_and_cure_e1_e9_e10() {
    let table: &[(&str, &str)] = &[
        ("10.1.2.3", "addresses[0]: `10.1.2.3` is not public but private (E1, 10.0.0.0/8)"),
        ("127.0.0.1", "is not public but loopback (E1"),
        ("169.254.1.1", "is not public but link-local (E1"),
        ("100.64.0.1", "is not public but shared (carrier-grade NAT) (E1"),
        ("224.0.0.1", "is not public but multicast (E1"),
        ("0.0.0.0", "is not public but unspecified (E1"),
        ("::", "is not public but unspecified (E1"),
        ("::1", "is not public but loopback (E1"),
        ("fe80::1", "is not public but link-local (E1"),
        ("fd00::/8", "is not public but unique-local (E1"),
        ("::ffff:10.0.0.1", "is not public but private (E1"),
        ("8.0.0.0/5", "`8.0.0.0/5` holds the private block 10.0.0.0/8 (E1); list smaller ranges"),
        ("0.0.0.0/0", "`0.0.0.0/0` holds every address there is (E1); list single addresses"),
        ("::/0", "`::/0` holds every address there is"),
        ("198.51.100.7/24", "did you mean `198.51.100.0/24`"),
        ("2001:db8::1/32", "did you mean `2001:db8::/32`"),
        ("1.2.3.4/0", "`1.2.3.4/0` holds every address there is"),
        ("::ffff:1.2.3.4/96", "`::ffff:1.2.3.4/96` holds every address there is"),
        ("::ffff:0:0/96", "`::ffff:0:0/96` holds every address there is"),
        ("::ffff:1.2.3.4/120", "has host bits behind its prefix (E1); did you mean `1.2.3.0/24`"),
        ("::ffff:10.0.0.0/104", "is not public but private (E1, 10.0.0.0/8)"),
        ("::/80", "`::/80` holds the"),
        ("10.0.0.0/33", "`10.0.0.0/33` is no IP address or CIDR range (E1); write"),
        ("1.2.3", "`1.2.3` is no IP address or CIDR range (E1); write"),
        ("1.2.3/24", "is no IP address or CIDR range"),
        ("010.1.2.3", "is no IP address or CIDR range"),
        ("1.2.3.4/24/24", "is no IP address or CIDR range"),
        ("1.2.3.4-1.2.3.9", "is no IP address or CIDR range"),
        ("fe80::1%eth0", "is no IP address or CIDR range"),
        ("[2001:db8::1]", "is no IP address or CIDR range"),
        (" 192.0.2.1", "is no IP address or CIDR range"),
        ("198.51.100.0/33", "is no IP address or CIDR range"),
        ("198.51.100", "is no IP address or CIDR range"),
        ("gw.example", "`gw.example` is no IP address or CIDR range (E1); write 198.51.100.7"),
        ("", "`` is no IP address or CIDR range"),
    ];
    for (address, want) in table {
        let errors = InboundGateway::new(&settings(&[address], true)).unwrap_err();
        assert_eq!(errors.len(), 1, "{address}");
        assert!(errors[0].to_string().contains(want), "{address}: {}", errors[0]);
    }
    let settings = GatewaySettings {
        allow_list: vec!["10.0.0.1".to_owned(), "nowhere".to_owned()],
        spam_tag: Some(SpamTagSettings { regex: "(".to_owned(), score_at_least: None }),
        ..settings(&["10.0.0.1", "192.0.2.1", "x"], true)
    };
    let errors = InboundGateway::new(&settings).unwrap_err();
    let places: Vec<_> = errors.iter().map(|error| error.setting.to_string()).collect();
    assert_eq!(places, ["addresses[0]", "addresses[2]", "allow_list[1]", "spam_tag"]);
    let settings = GatewaySettings {
        only_spam_tag: true,
        reject_other_clients: Switch::On,
        ..GatewaySettings::default()
    };
    let errors = InboundGateway::new(&settings).unwrap_err();
    assert_eq!(errors.len(), 2);
}

#[test]
fn private_gateways_and_documentation_ranges_have_switches_e1_e6() {
    let private = GatewaySettings { allow_private: true, ..settings(&["10.0.0.0/8"], true) };
    let gateway = InboundGateway::new(&private).unwrap();
    assert!(gateway.lists(ip("10.1.2.3")) && gateway.lists(ip("::ffff:10.1.2.3")));
    let all = GatewaySettings { allow_private: true, ..settings(&["0.0.0.0/0"], true) };
    assert!(InboundGateway::new(&all).is_err());

    let documented =
        GatewaySettings { documentation_ranges_public: false, ..settings(&["192.0.2.2"], true) };
    assert!(InboundGateway::new(&documented).unwrap_err()[0].to_string().contains("documentation"));
    let documented = GatewaySettings { allow_private: true, ..documented };
    let source = InboundGateway::new(&documented).unwrap().source(
        ip("192.0.2.2"),
        OwnLine::FindOut,
        &HeaderBlock::of(SEED.as_bytes()),
    );
    assert_eq!(source.because, Because::Internal);

    let own = PublicAddresses::all_but(["192.0.2.0/24".parse().unwrap()]);
    let gateway = InboundGateway::with_public(&settings(&["10.0.0.1"], true), own).unwrap();
    let source = gateway.source(ip("10.0.0.1"), OwnLine::Absent, &HeaderBlock::of(SEED.as_bytes()));
    assert_eq!(source.because, Because::Internal);
}

#[test]
fn admission_e7_e8() {
    use TlsState::{Clear, Encrypted};
    // (reject others, require TLS, code, client is a gateway, TLS, reply, observed)
    let table = [
        (Switch::Off, Switch::Off, RejectCode::Permanent, false, Clear, "", false),
        (Switch::Off, Switch::Off, RejectCode::Permanent, true, Clear, "", false),
        (Switch::On, Switch::Off, RejectCode::Permanent, true, Clear, "", false),
        (Switch::On, Switch::Off, RejectCode::Permanent, false, Encrypted, "550 5.7.1", false),
        (Switch::On, Switch::Off, RejectCode::Transient, false, Clear, "421 4.7.0", false),
        (Switch::Observe, Switch::Off, RejectCode::Permanent, false, Clear, "550 5.7.1", true),
        (Switch::Off, Switch::On, RejectCode::Permanent, true, Clear, "530 5.7.0", false),
        (Switch::Off, Switch::On, RejectCode::Permanent, true, Encrypted, "", false),
        (Switch::Off, Switch::On, RejectCode::Permanent, false, Clear, "", false),
        (Switch::Off, Switch::Observe, RejectCode::Permanent, true, Clear, "530 5.7.0", true),
        (Switch::On, Switch::On, RejectCode::Permanent, false, Clear, "550 5.7.1", false),
    ];
    for (reject, tls_switch, code, listed, tls, want, observed) in table {
        let gateway = InboundGateway::new(&GatewaySettings {
            reject_other_clients: reject,
            reject_code: code,
            require_tls: tls_switch,
            ..settings(&["198.51.100.0/24"], true)
        })
        .unwrap();
        let client = ip(if listed { "198.51.100.77" } else { "192.0.2.1" });
        let (refusal, is_observed) = match gateway.admits(client, tls) {
            Admission::Admitted => (None, false),
            Admission::Observed(refusal) => (Some(refusal), true),
            Admission::Refused(refusal) => (Some(refusal), false),
        };
        let reply = refusal.as_ref().map_or(String::new(), |refusal| refusal.reply.to_string());
        assert!(reply.starts_with(want) && reply.is_empty() == want.is_empty(), "{reply}, {want}");
        assert_eq!(is_observed, observed, "{want}");
        let because = refusal.map(|refusal| refusal.because);
        let rule = if listed { RefusedBecause::ClearText } else { RefusedBecause::NotAGateway };
        assert!(because.is_none_or(|because| because == rule));
    }
}

#[test]
fn the_allow_list_is_held_against_the_source_e11() {
    let gateway = InboundGateway::new(&GatewaySettings {
        allow_list: vec!["198.51.100.1".to_owned(), "192.0.2.0/28".to_owned()],
        ..settings(&["198.51.100.1"], true)
    })
    .unwrap();
    let source = |text| Source { ip: Some(ip(text)), because: Because::FirstExternal, spf: true };
    assert!(gateway.allows(&source("192.0.2.7")));
    assert!(!gateway.allows(&source("192.0.2.99")));
    assert!(!gateway.allows(&source("198.51.100.1")), "listed as a gateway, too");
    let internal = Source { ip: None, because: Because::Internal, spf: false };
    assert!(!gateway.allows(&internal));
}

#[test]
fn entries_of_the_allow_list_that_are_gateways_have_no_effect_e11() {
    let allow =
        ["198.51.100.0/26", "198.51.100.0/24", "192.0.2.1", "::ffff:198.51.100.9", "2001:db8::1"];
    let gateway = InboundGateway::new(&GatewaySettings {
        allow_list: allow.map(str::to_owned).to_vec(),
        ..settings(&["198.51.100.0/25", "2001:db8::/64"], true)
    })
    .unwrap();
    assert_eq!(gateway.allowed_without_effect(), [0, 3, 4]);
    let source = |text| Source { ip: Some(ip(text)), because: Because::FirstExternal, spf: true };
    assert!(gateway.allows(&source("198.51.100.200")), "the part that is no gateway");
}

#[test]
fn tags_count_for_mail_from_gateways_only_e9_e10() {
    let gateway = InboundGateway::new(&GatewaySettings {
        spam_tag: Some(SpamTagSettings { regex: "^X-spam-gw:".to_owned(), score_at_least: None }),
        only_spam_tag: true,
        ..settings(&["198.51.100.1"], true)
    })
    .unwrap();
    let header = HeaderBlock::of(b"X-spam-gw: yes\r\n\r\n");
    assert!(gateway.tag_verdict(ip("198.51.100.1"), &header).unwrap().spam);
    assert_eq!(gateway.tag_verdict(ip("192.0.2.1"), &header), None);
    assert_eq!(gateway.spam_evaluation(ip("198.51.100.1")), SpamEvaluation::OnlyTag);
    assert_eq!(gateway.spam_evaluation(ip("192.0.2.1")), SpamEvaluation::All);
}

#[cfg(feature = "serde")]
#[test]
fn printed_forms_are_those_of_the_command_line() {
    let gateway = gateway(&["192.0.2.2", "192.0.2.55"], true);
    let header = HeaderBlock::of(SEED.as_bytes());
    let (source, hops) = gateway.source_with_hops(ip("192.0.2.2"), OwnLine::FindOut, &header);
    assert_eq!(
        serde_json::to_string(&source).unwrap(),
        r#"{"source_ip":"192.0.2.110","because":"first-external","spf":true}"#
    );
    assert_eq!(
        serde_json::to_string(&hops.listed).unwrap(),
        r#"[{"ip":"192.0.2.55","skipped":"gateway"},{"ip":"192.0.2.110","skipped":null}]"#
    );
    let settings: GatewaySettings = serde_json::from_str(
        r#"{"addresses":["198.51.100.0/24"],"reject_other_clients":"observe","reject_code":421,
            "require_tls":true,"spam_tag":{"regex":"^X:"}}"#,
    )
    .unwrap();
    assert_eq!(settings.reject_other_clients, Switch::Observe);
    assert_eq!(settings.reject_code, RejectCode::Transient);
    assert_eq!(settings.require_tls, Switch::On);
    for wrong in [r#"{"reject_code":500}"#, r#"{"require_tls":"maybe"}"#, r#"{"unknown":1}"#] {
        assert!(serde_json::from_str::<GatewaySettings>(wrong).is_err(), "{wrong}");
    }
}
