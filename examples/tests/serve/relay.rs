//! `waypost serve`: no open relay; who may relay, as whom, how much.

use crate::support;

use support::serving::{Folder, Serve, queue_id};
use support::sink::Sink;
use support::waypost;

/// An organization whose outbound mail goes to one gateway; licences, limits and relay entries follow.
fn organization(gateway: &Sink, more: &str) -> String {
    format!(
        r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com", "solarmora.fr"]
outbound_gateway = "{}"
{more}"#,
        gateway.address
    )
}

const USERS: &str = r#"
[[organization.user]]
address = "marie@solarmora.com"
aliases = ["m.paul@solarmora.com", "postmaster@solarmora.com"]

[[organization.user]]
address = "paul@solarmora.com"
"#;

/// Loopback may relay for senders of this kind.
fn loopback(senders: &str) -> String {
    format!(
        r#"
[[organization.relay]]
description = "Loopback"
allowed_senders = "{senders}"
addresses = [{{ range = "127.0.0.1" }}]
require_tls = false
"#
    )
}

/// The reply to RCPT, after an accepted MAIL; nothing is left open.
fn rcpt(serve: &Serve, listener: &str, from: &str, to: &str) -> String {
    let mut client = serve.session(listener);
    let mail = client.say(&format!("MAIL FROM:<{from}>"));
    let reply = match mail.starts_with("250") {
        true => client.say(&format!("RCPT TO:<{to}>")),
        false => mail,
    };
    if reply.starts_with("250") {
        queue_id(&client.data(b"Subject: taken\r\n\r\nx\r\n"));
    }
    reply
}

#[test]
fn an_mx_listener_relays_for_nobody() {
    let gateway = Sink::start();
    let more = format!("licences = 10\n{USERS}{}", loopback("any"));
    let folder = Folder::new(&organization(&gateway, &more));
    let serve = folder.serve();
    for (to, want) in [
        ("victim@victim.example", "550 5.7.1"),
        ("@solarmora.com:victim@victim.example", "550 5.7.1"),
        ("@solarmora.com,@solarmora.fr:victim@victim.example", "550 5.7.1"),
        ("victim%victim.example@solarmora.com", "550 5.1.1"),
        ("victim.example!victim@solarmora.com", "550 5.1.1"),
        ("\"victim@victim.example\"@solarmora.com", "550 5.1.1"),
        ("\"marie@solarmora.com\"@victim.example", "550 5.7.1"),
        ("victim@victim.example@solarmora.com", "501 5.1.3"),
        ("victim@[127.0.0.1]", "550 5.7.1"),
        ("victim@[IPv6:::1]", "550 5.7.1"),
        ("marie@sub.solarmora.com", "550 5.7.1"),
        ("marie@com", "550 5.7.1"),
        ("marie@xsolarmora.com", "550 5.7.1"),
        ("marie@solarmora.com.", "250"),
        ("victim", "501 5.1.3"),
        ("marie@solarmora.com", "250"),
        ("MARIE@SOLARMORA.FR", "550 5.1.1"),
    ] {
        for from in ["spammer@elsewhere.example", "marie@solarmora.com", ""] {
            let reply = rcpt(&serve, "mx", from, to);
            assert!(reply.starts_with(want), "{from} {to}: wanted {want}, got {reply}");
        }
    }
    for to in ["Postmaster", "postmaster@mx.solarmora.com", "POSTMASTER@solarmora.com"] {
        let reply = rcpt(&serve, "mx", "a@elsewhere.example", to);
        assert!(reply.starts_with("250"), "RFC 5321 section 4.5.1: {to}: {reply}");
    }
    folder.mailbox("marie@solarmora.com", "", 9);
    serve.terminate();
    let out = gateway.received();
    assert!(out.iter().all(|one| one.to.iter().all(|to| !to.contains("victim"))), "{out:?}");
}

#[test]
fn d2_d3_d5_a_relay_listener_relays_only_for_those_admitted() {
    let gateway = Sink::start();
    let elsewhere = loopback("any").replace("127.0.0.1", "203.0.113.0/28");
    let disabled = loopback("any").replace(
        "\"127.0.0.1\" }",
        "\"127.0.0.1\", enabled = false }, { range = \"203.0.113.9\" }",
    );
    let tls = loopback("any").replace("require_tls = false", "require_tls = true");
    let auth = loopback("any").replace("require_tls = false", "require_auth = true");
    let mine = "marie@solarmora.com";
    for (entry, from, want) in [
        ("", mine, "550 5.7.1"),
        (elsewhere.as_str(), mine, "550 5.7.1"),
        (disabled.as_str(), mine, "550 5.7.1"),
        (tls.as_str(), mine, "530 5.7.0"),
        (auth.as_str(), mine, "530 5.7.0"),
        (&loopback("registered-users"), mine, "250"),
        (&loopback("registered-users"), "m.paul@solarmora.com", "250"),
        (&loopback("registered-users"), "app@solarmora.com", "550 5.7.1"),
        (&loopback("registered-users"), "a@elsewhere.example", "550 5.7.1"),
        (&loopback("my-domains"), "app@solarmora.com", "250"),
        (&loopback("my-domains"), "app@deep.sub.solarmora.fr", "250"),
        (&loopback("my-domains"), "app@xsolarmora.com", "550 5.7.1"),
        (&loopback("my-domains"), "a@elsewhere.example", "550 5.7.1"),
        (&loopback("any"), "app@solarmora.com", "250"),
        (&loopback("any"), "a@elsewhere.example", "550 5.7.1"),
        (&loopback("any"), "", "550 5.7.1"),
    ] {
        let before = gateway.received().len();
        let more = format!("licences = 10\n{USERS}{entry}");
        let folder = Folder::new(&organization(&gateway, &more));
        let serve = folder.serve();
        let reply = rcpt(&serve, "relay", from, "friend@friend.example");
        assert!(reply.starts_with(want), "{entry} {from}: wanted {want}, got {reply}");
        if want == "250" {
            let came = gateway.wait(before + 1);
            assert!(came[before].from.starts_with(&format!("<{from}>")), "{came:?}");
        }
        serve.terminate();
    }
}

#[test]
fn d6_auth_inside_starttls_relays_and_never_in_clear() {
    let gateway = Sink::start();
    let hashed = waypost(&["hash-password"], "correct horse\n").stdout;
    let more = format!(
        r#"licences = 10

[[organization.user]]
address = "marie@solarmora.com"
password = "{}"

[[organization.relay]]
description = "Users anywhere"
allowed_senders = "registered-users"
require_auth = true
require_tls = true
"#,
        hashed.trim_end()
    );
    let folder = Folder::new(&organization(&gateway, &more));
    let serve = folder.serve();

    let mut client = serve.session("relay");
    let offer = client.say("EHLO client.elsewhere.example");
    assert!(offer.contains("STARTTLS") && !offer.contains("AUTH"), "{offer}");
    let reply = client.auth_plain("marie@solarmora.com", "correct horse");
    assert!(reply.starts_with("538 5.7.11"), "{reply}");
    client.ask("MAIL FROM:<marie@solarmora.com>", "530 5.7.0");

    let mut client = client.start_tls(folder.certificate(), "client.elsewhere.example");
    let offer = client.say("EHLO client.elsewhere.example");
    assert!(offer.contains("AUTH PLAIN LOGIN") && !offer.contains("STARTTLS"), "{offer}");
    client.ask("MAIL FROM:<marie@solarmora.com>", "5");
    let mut replies = Vec::new();
    for (user, password) in [
        ("marie@solarmora.com", "wrong horse"),
        ("nobody@solarmora.com", "correct horse"),
        ("marie@solarmora.com", "correct horse\0"),
    ] {
        replies.push(client.auth_plain(user, password));
    }
    assert!(replies[0].starts_with("535 5.7.8"), "{replies:?}");
    assert_eq!(replies[0], replies[1], "a reply tells whether a user exists");
    assert!(replies[2].starts_with('5'), "{replies:?}");
    let reply = client.auth_login("marie@solarmora.com", "correct horse");
    assert!(reply.starts_with("235"), "{reply}");
    let message = b"From: marie@solarmora.com\r\n\r\nHello\r\n";
    let to = ["friend@friend.example"];
    queue_id(&client.message("marie@solarmora.com", &to, message));
    let came = gateway.only();
    assert!(came.text().contains(" with ESMTPSA id "), "{}", came.text());
    assert_eq!(came.behind_trace(), message);

    let client = serve.session("relay");
    let mut client = client.start_tls(folder.certificate(), "client.elsewhere.example");
    let reply = client.auth_plain("marie@solarmora.com", "correct horse");
    assert!(reply.starts_with("235"), "{reply}");
    // A password never reaches the log.
    assert!(!serve.log.holds("correct horse") && !serve.log.holds("wrong horse"), "{}", serve.log);
    let offer = serve.session("mx").say("EHLO client.elsewhere.example");
    assert!(!offer.contains("AUTH"), "{offer}");
    serve.terminate();
}

#[test]
fn d7_d8_d9_foreign_and_empty_senders_need_a_name_and_are_rewritten() {
    let gateway = Sink::start();
    let more = format!("licences = 10\n{USERS}{}", loopback("any"));
    let folder = Folder::new(&organization(&gateway, &more));
    let serve = folder.serve();
    let message = b"From: list@elsewhere.example\r\n\r\nHello\r\n";
    for (number, (helo, from, want)) in [
        ("solarmora.com", "list@elsewhere.example", "<postmaster@solarmora.com>"),
        ("mail.solarmora.fr", "list@elsewhere.example", "<postmaster@solarmora.fr>"),
        ("mail.solarmora.fr", "marie@solarmora.com", "<marie@solarmora.com>"),
        ("solarmora.com", "", "<>"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = serve.session("relay");
        client.ask(&format!("EHLO {helo}"), "250");
        queue_id(&client.message(from, &["friend@friend.example"], message));
        let came = &gateway.wait(number + 1)[number];
        assert_eq!(came.from.split(' ').next(), Some(want), "{helo} {from}");
        assert_eq!(came.behind_trace(), message);
    }
    let mut client = serve.session("relay");
    let refused = client.say("MAIL FROM:<list@elsewhere.example>");
    assert!(refused.starts_with("550 5.7.1"), "{refused}");
    assert!(refused.contains("HELO") || refused.contains("EHLO"), "how to be known: {refused}");

    client.ask("EHLO solarmora.com", "250");
    client.ask("MAIL FROM:<>", "250");
    client.ask("RCPT TO:<one@friend.example>", "250");
    client.ask("RCPT TO:<two@friend.example>", "452 4.5.3");
    queue_id(&client.data(b"\r\nbounce\r\n"));
    assert_eq!(gateway.wait(5)[4].to, ["<one@friend.example>"]);
    serve.terminate();
}

/// Replies to RCPT, for these recipients in one transaction that is then sent or given up.
fn transaction(serve: &Serve, from: &str, to: &[&str], sent: bool) -> Vec<String> {
    let mut client = serve.session("relay");
    client.ask(&format!("MAIL FROM:<{from}>"), "250");
    let replies: Vec<String> = to.iter().map(|to| client.say(&format!("RCPT TO:<{to}>"))).collect();
    if sent && replies.iter().any(|reply| reply.starts_with("250")) {
        queue_id(&client.data(b"\r\nx\r\n"));
    } else {
        client.ask("RSET", "250");
    }
    replies.iter().map(|reply| code(reply)).collect()
}

/// Code and enhanced code of a refusal; the code alone of a 250.
fn code(reply: &str) -> String {
    let words: Vec<&str> = reply.split_whitespace().take(2).collect();
    if reply.starts_with("250") { "250".to_owned() } else { words.join(" ") }
}

/// What happens between two transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Restart {
    None,
    InOrder,
    Killed,
}

#[test]
fn d10_d11_d13_quota_edges_and_a_restart_keeps_the_counts() {
    let gateway = Sink::start();
    let (marie, app) = ("marie@solarmora.com", "app@solarmora.com");
    let (a, b, c, d) = ("a@f.example", "b@f.example", "c@f.example", "d@f.example");
    let ok = "250";
    type Step<'a> = (&'a str, &'a [&'a str], bool, &'a [&'a str]);
    let cases: &[(&str, &[Step<'_>])] = &[
        (
            "recipients_per_10_minutes = 3",
            &[
                (marie, &[a, b, c, d], false, &[ok, ok, ok, "450 4.2.1"]),
                (marie, &[a, a], true, &[ok, ok]),
                (app, &[a, b], true, &[ok, "450 4.2.1"]),
                (app, &[a], true, &["450 4.2.1"]),
            ],
        ),
        (
            "recipients_per_day = 2",
            &[
                (app, &[a], true, &[ok]),
                (app, &[a, b], true, &[ok, "550 5.7.1"]),
                (marie, &[a], true, &["550 5.7.1"]),
            ],
        ),
        (
            "unique_recipients_per_user_per_day = 2",
            &[
                (marie, &[a, b, c], true, &[ok, ok, "550 5.4.5"]),
                ("M.Paul@solarmora.com", &[a, b, c], true, &[ok, ok, "550 5.4.5"]),
                ("paul@solarmora.com", &[c], true, &[ok]),
                (app, &[a, b, c], true, &[ok, ok, ok]),
            ],
        ),
        (
            "messages_per_user_per_day = 2",
            &[
                (marie, &[a], true, &[ok]),
                (marie, &[a], false, &[ok]),
                (marie, &[b], true, &[ok]),
                (marie, &[c], true, &["550 5.4.5"]),
                ("paul@solarmora.com", &[c], true, &[ok]),
            ],
        ),
        (
            "messages_per_user_per_day = 0\nrecipients_per_day = 0\nrecipients_per_10_minutes = 0",
            &[(marie, &[a], true, &["550 5.4.5"]), (app, &[a], true, &["550 5.7.1"])],
        ),
    ];
    for (limits, steps) in cases {
        for restart in [Restart::None, Restart::InOrder, Restart::Killed] {
            let relay = loopback("my-domains");
            let more =
                format!("licences = 1000\n{USERS}{relay}\n[organization.limits]\n{limits}\n");
            let folder = Folder::new(&organization(&gateway, &more));
            let mut serve = folder.serve();
            for (number, (from, to, sent, want)) in steps.iter().enumerate() {
                if number > 0 && restart != Restart::None {
                    match restart {
                        Restart::Killed => serve.kill(),
                        _ => serve.terminate(),
                    }
                    serve = folder.serve();
                }
                let got = transaction(&serve, from, to, *sent);
                assert_eq!(got, *want, "{limits}, step {number}, {restart:?}");
            }
            serve.terminate();
        }
    }
}

#[test]
fn d14_more_than_a_hundred_recipients_go_in_one_transaction() {
    let gateway = Sink::start();
    let more = format!("licences = 1000\n{USERS}{}", loopback("my-domains"));
    let limits = "\n[server.limits]\nrecipients = 150\n";
    let folder = Folder::new(&format!("{limits}{}", organization(&gateway, &more)));
    let serve = folder.serve();
    let to: Vec<String> = (0..151).map(|number| format!("r{number}@f.example")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let replies = transaction(&serve, "app@solarmora.com", &to, true);
    assert!(replies[..150].iter().all(|reply| reply == "250"), "{replies:?}");
    assert_eq!(replies[150], "452 4.5.3");
    let came = gateway.wait_until("150 recipients", |all| {
        all.iter().map(|one| one.to.len()).sum::<usize>() >= 150
    });
    assert_eq!(came.iter().map(|one| one.to.len()).sum::<usize>(), 150);
    serve.terminate();
}
