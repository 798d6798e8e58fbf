//! `waypost serve` behind a gateway: E1 to E12 from end to end. Where the source IP is seen: the
//! explanation, the log, `queue show`, header lines for filters, metrics.

use crate::support;

use std::net::SocketAddr;

use serde_json::Value;
use support::control::{Gate, done, lines};
use support::serving::{Folder, Serve, queue_id};
use support::sink::{Sink, reserved};

const FROM: &str = "a@elsewhere.example";
const MARIE: &str = "marie@solarmora.com";
const STRANGER: &str = "Received: from laptop (host.example [192.0.2.7]) by gw.example; d\r\n";
const INSIDE: &str = "Received: from inside (inside.example [10.1.2.3]) by gw.example; d\r\n";
const OTHER_GATEWAY: &str = "Received: from gw2 (gw2.example [198.51.100.2]) by gw.example; d\r\n";
const NO_ADDRESS: &str = "Received: from [192.0.2.7] (unknown []) by gw.example; d\r\n";

/// Marie's mail goes to a next hop, with header lines for its spam filter.
fn configuration(admin: SocketAddr, hop: SocketAddr, gateway: &str, more: &str) -> String {
    format!(
        r#"
admin = "{admin}"

[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250
mailbox_route = "mailboxes"
{gateway}
[[organization.user]]
address = "{MARIE}"

[[organization.route]]
name = "mailboxes"
host = "{}"
port = {}
require_tls = false
retry = {{ delays = ["1h"] }}

[[organization.rule]]
description = "For the filter"
affects = ["inbound"]
then = {{ modify = {{ spam_headers = true }} }}
{more}"#,
        hop.ip(),
        hop.port()
    )
}

/// A gateway on loopback, so that the client of these tests is one.
fn gateway(settings: &str) -> String {
    format!(
        "[organization.inbound_gateway]\n\
         addresses = [\"127.0.0.1\", \"198.51.100.0/24\"]\nallow_private = true\n{settings}\n"
    )
}

fn letter(lines: &str) -> Vec<u8> {
    format!("{lines}From: {FROM}\r\nSubject: x\r\n\r\nHello\r\n").into_bytes()
}

/// The explanation that the queue keeps.
fn decision(folder: &Folder, id: &str) -> Value {
    lines(folder, &["queue", "show", id])[0]["decision"].clone()
}

/// A message: its trace lines, the source that is found, by which rule, and whether SPF is to be checked.
struct Sent<'a> {
    lines: &'a str,
    source: Option<&'a str>,
    /// Empty where no gateway is configured.
    because: &'a str,
    spf: bool,
}

#[test]
fn e2_e3_e4_e5_the_source_is_in_explanation_log_queue_header_and_metrics() {
    let detect = "detect_external_ip = true";
    let strict = "detect_external_ip = true\nstrict = true";
    let client = Some("127.0.0.1");
    let host = Some("192.0.2.7");
    let both = format!("{OTHER_GATEWAY}{INSIDE}{STRANGER}");
    let unread = format!("{NO_ADDRESS}{STRANGER}");
    let private_first = format!("{INSIDE}{STRANGER}");
    let letters: &[(&str, &str, &[Sent<'_>])] = &[
        (
            "",
            "E3 without a gateway",
            &[Sent { lines: STRANGER, source: client, because: "", spf: true }],
        ),
        (
            "other",
            "E3 of a client that is none",
            &[Sent { lines: STRANGER, source: client, because: "not-from-gateway", spf: true }],
        ),
        (
            detect,
            "E4",
            &[
                Sent { lines: STRANGER, source: host, because: "first-external", spf: true },
                Sent { lines: &both, source: host, because: "first-external", spf: true },
                Sent { lines: &unread, source: host, because: "first-external", spf: true },
                Sent { lines: NO_ADDRESS, source: client, because: "nothing-readable", spf: false },
                Sent { lines: INSIDE, source: None, because: "internal", spf: false },
                Sent { lines: "", source: None, because: "internal", spf: false },
            ],
        ),
        (
            strict,
            "E4 strict",
            &[Sent { lines: &unread, source: client, because: "nothing-readable", spf: false }],
        ),
        (
            "detect_external_ip = true\ndocumentation_ranges_public = false",
            "E6",
            &[Sent { lines: STRANGER, source: None, because: "internal", spf: false }],
        ),
        (
            "detect_external_ip = false",
            "E5",
            &[
                Sent {
                    lines: &both,
                    source: Some("198.51.100.2"),
                    because: "previous-hop",
                    spf: true,
                },
                Sent {
                    lines: &private_first,
                    source: Some("10.1.2.3"),
                    because: "previous-hop",
                    spf: false,
                },
                Sent { lines: &unread, source: client, because: "nothing-readable", spf: false },
                Sent { lines: "", source: client, because: "nothing-readable", spf: false },
            ],
        ),
    ];
    for (settings, name, messages) in letters {
        let table = match *settings {
            "" => String::new(),
            "other" => {
                "[organization.inbound_gateway]\naddresses = [\"198.51.100.7\"]\n".to_owned()
            }
            settings => gateway(settings),
        };
        // The next hop says "later", so that the queue can be asked.
        let hop = Gate::closed();
        let folder = Folder::new(&configuration(reserved(), hop.sink.address, &table, ""));
        let serve = folder.serve();
        let mut session = serve.session("mx");
        let mut counted: Vec<(&str, usize)> = Vec::new();
        for Sent { lines, source, because, spf } in *messages {
            let what = format!("{name}: {lines}");
            let reply = session.message(FROM, &[MARIE], &letter(lines));
            let id = queue_id(&reply).to_owned();

            let kept = decision(&folder, &id);
            assert_eq!(kept["source_ip"].as_str(), *source, "{what}");
            assert_eq!(kept["deliveries"][0]["source_ip"].as_str(), *source, "{what}");
            let found = &kept["inbound_gateway"];
            let shown = done(&folder, &["queue", "show", &id]);
            let text = format!("source IP     {}\n", source.unwrap_or("none (internal)"));
            assert!(shown.contains(&text), "{what}: {shown}");
            if because.is_empty() {
                assert!(found.is_null(), "{what}: {found}");
            } else {
                assert_eq!(
                    (&found["because"], &found["spf"]),
                    (&(*because).into(), &(*spf).into())
                );
                let due = if *spf { "due" } else { "not due" };
                let text = format!("  because     {because}, SPF check {due}\n");
                assert!(shown.contains(&text), "{what}: {shown}");
                match counted.iter_mut().find(|(word, _)| word == because) {
                    Some((_, count)) => *count += 1,
                    None => counted.push((because, 1)),
                }
            }

            let line = serve.log.wait_text(&format!("accepted id={id}"));
            let word = if because.is_empty() { "not-from-gateway" } else { because };
            assert!(line.contains(&format!("source_because=\"{word}\"")), "{what}: {line}");
            match source {
                Some(ip) => assert!(line.contains(&format!(" source={ip} ")), "{what}: {line}"),
                None => assert!(!line.contains(" source="), "{what}: {line}"),
            }

            let headers = kept["deliveries"][0]["added_headers"].to_string();
            let told = match source {
                Some(ip) if *source == client => format!("\"{ip}\""),
                Some(ip) => format!("[\"X-Gm-Source-IP\",\"{ip}\"]"),
                None => "[\"X-Gm-Source-IP\",\"internal\"]".to_owned(),
            };
            assert_eq!(headers.contains(&told), *source != client, "{what}: {headers}");
        }
        for because in
            ["not-from-gateway", "first-external", "previous-hop", "nothing-readable", "internal"]
        {
            let want = counted.iter().find(|(word, _)| *word == because).map_or(0, |(_, n)| *n);
            let series = format!("waypost_sources_total{{because=\"{because}\"}}");
            assert_eq!(serve.metric(&series), want, "{name}");
        }
        drop(session);
        serve.terminate();
    }
}

#[test]
fn e2_the_header_line_with_the_source_reaches_the_next_hop() {
    let hop = Sink::start();
    let table = gateway("detect_external_ip = true");
    let folder = Folder::new(&configuration(reserved(), hop.address, &table, ""));
    let serve = folder.serve();
    queue_id(&serve.session("mx").message(FROM, &[MARIE], &letter(STRANGER)));
    let came = hop.only().text();
    assert!(came.contains("\r\nX-Gm-Spam: 0\r\nX-Gm-Source-IP: 192.0.2.7\r\n"), "{came}");
    serve.terminate();
}

/// What `explain` says of a message from loopback.
fn explain(folder: &Folder, lines: &str) -> (Value, String) {
    folder.write("letter.eml", &String::from_utf8(letter(lines)).unwrap());
    let (path, letter) = (folder.configuration(), folder.path("letter.eml"));
    let letter = letter.to_string_lossy();
    let asked = ["explain", &path, "--client-ip", "127.0.0.1", "--listener", "mx"];
    let rest = ["--from", FROM, "--to", MARIE, &letter];
    let text = support::waypost(&[&asked[..], &rest].concat(), "");
    let json = support::waypost(&[&asked[..], &["--json"], &rest].concat(), "");
    (json.json_lines().remove(0), text.stdout)
}

#[test]
fn e9_e10_e11_tags_their_numbers_and_the_allow_list_are_explained() {
    let score = "spam_tag = { regex = '^X-Score: (\\S+)$', score_at_least = 0.5 }";
    let only = format!("{score}\nonly_spam_tag = true");
    let allow = "detect_external_ip = true\nallow_list = [\"192.0.2.7\", \"198.51.100.2\"]";
    let tag = "spam_tag = { regex = '^X-Spam-Gw:' }";
    // (settings, lines, spam, key of the explanation, its value, text)
    let rows: &[(&str, &str, bool, &str, Value, &str)] = &[
        (
            score,
            "X-Score: 0.2\r\nX-Score: 0.7\r\nX-Score: .5\r\n",
            true,
            "tag_line",
            "X-Score: 0.7".into(),
            "  tag         X-Score: 0.7, number 0.7\n",
        ),
        (
            score,
            "X-Score: 0.2\r\nX-Score: 0.7\r\n",
            true,
            "tag_score",
            0.7.into(),
            "spam          yes\n",
        ),
        (score, "X-Score: 0.2\r\n", false, "tag_score", 0.2.into(), "spam          no\n"),
        (score, "X-Score:\r\n .50\r\n", true, "tag_score", 0.5.into(), "number 0.5\n"),
        (
            score,
            "X-Score: high\r\n",
            false,
            "tag_not_a_number",
            "high".into(),
            "`high` is no number, so its line is no match\n",
        ),
        (score, "X-Score: inf\r\n", false, "tag_not_a_number", "inf".into(), "spam          no\n"),
        (
            score,
            "X-Score: much\r\nX-Score: 0.9\r\n",
            true,
            "tag_not_a_number",
            "much".into(),
            "number 0.9\n",
        ),
        (score, "x-score: 0.9\r\n", false, "tag_line", Value::Null, "spam          no\n"),
        (
            tag,
            "X-Spam-Gw: anything\r\n",
            true,
            "tag_line",
            "X-Spam-Gw: anything".into(),
            "  tag         X-Spam-Gw: anything\n",
        ),
        (tag, "", false, "only_spam_tag", false.into(), "spam          no\n"),
        (&only, "", false, "only_spam_tag", true.into(), "  by          the gateway's tag alone\n"),
        (&only, "X-Score: 0.5\r\n", true, "only_spam_tag", true.into(), "spam          yes\n"),
        (
            allow,
            STRANGER,
            false,
            "allow_listed",
            true.into(),
            "  allow list  the source IP is on it\n",
        ),
        (allow, INSIDE, false, "allow_listed", false.into(), "source IP     none (internal)\n"),
        // One hop back is a gateway that is on both lists.
        (
            "allow_list = [\"198.51.100.2\"]",
            OTHER_GATEWAY,
            false,
            "allow_listed",
            false.into(),
            "source IP     198.51.100.2\n",
        ),
    ];
    let hop = Sink::start();
    let folder = Folder::new(&configuration(reserved(), hop.address, "", ""));
    for (settings, lines, spam, key, value, text) in rows {
        folder.configure(&configuration(reserved(), hop.address, &gateway(settings), ""));
        let (json, shown) = explain(&folder, lines);
        assert_eq!(json["spam"], *spam, "{settings} {lines}");
        assert_eq!(json["inbound_gateway"][key], *value, "{settings} {lines}: {json}");
        assert!(shown.contains(text), "{settings} {lines}: {shown}");
    }
}

#[test]
fn e11_check_warns_of_an_entry_of_the_allow_list_that_is_a_gateway() {
    let table = gateway("allow_list = [\"203.0.113.7\", \"198.51.100.9\"]\nstrict = true");
    let folder = Folder::new(&configuration(reserved(), reserved(), &table, ""));
    let checked = support::waypost(&["check", &folder.configuration()], "");
    assert_eq!(checked.status, 0, "{}", checked.stdout);
    for part in [
        "warning[allow-list-and-gateway]",
        "\"198.51.100.9\"",
        "rule E11",
        "warning[strict-without-detection]",
    ] {
        assert!(checked.stdout.contains(part), "{part}: {}", checked.stdout);
    }
    assert_eq!(checked.stdout.matches("warning[allow-list-and-gateway]").count(), 1);
}

/// One RCPT in a session of its own.
fn rcpt(serve: &Serve, folder: &Folder, tls: bool, want: &str) {
    let mut client = serve.session("mx");
    if tls {
        client = client.start_tls(folder.certificate(), "client.example");
    }
    client.ask(&format!("MAIL FROM:<{FROM}>"), "250");
    client.ask(&format!("RCPT TO:<{MARIE}>"), want);
}

#[test]
fn e7_e8_switches_refuse_observe_and_are_counted() {
    let others = "addresses = [\"198.51.100.7\"]\n";
    let own = "addresses = [\"127.0.0.1\"]\nallow_private = true\n";
    // (settings, TLS, reply, series, its value)
    let rows = [
        (
            format!("{others}reject_other_clients = true"),
            false,
            "550 5.7.1",
            r#"waypost_refusals_total{at="rcpt",code="550",enhanced="5.7.1",reason="not-a-gateway"}"#,
        ),
        (
            format!("{others}reject_other_clients = true\nreject_code = 421"),
            true,
            "421 4.7.0",
            r#"waypost_refusals_total{at="rcpt",code="421",enhanced="4.7.0",reason="not-a-gateway"}"#,
        ),
        (
            format!("{others}reject_other_clients = \"observe\""),
            false,
            "250",
            r#"waypost_observed_total{organization="Solarmora",kind="gateway",name="inbound_gateway: not-a-gateway"}"#,
        ),
        (
            format!("{own}require_tls = true"),
            false,
            "530 5.7.0",
            r#"waypost_refusals_total{at="rcpt",code="530",enhanced="5.7.0",reason="gateway-in-clear-text"}"#,
        ),
        (
            format!("{own}require_tls = \"observe\""),
            false,
            "250",
            r#"waypost_observed_total{organization="Solarmora",kind="gateway",name="inbound_gateway: clear-text"}"#,
        ),
    ];
    for (settings, tls, want, series) in rows {
        let hop = Sink::start();
        let table = format!("[organization.inbound_gateway]\n{settings}\n");
        let folder = Folder::new(&configuration(reserved(), hop.address, &table, ""));
        let serve = folder.serve();
        rcpt(&serve, &folder, tls, want);
        assert_eq!(serve.metric(series), 1, "{settings}");
        if want == "250" {
            let line = serve.log.wait_text("only observed");
            assert!(line.contains("inbound_gateway: "), "{line}");
        }
        serve.terminate();
    }
    // Off, and inside TLS, nobody is refused.
    for (settings, tls) in [(others.to_owned(), false), (format!("{own}require_tls = true"), true)]
    {
        let hop = Sink::start();
        let table = format!("[organization.inbound_gateway]\n{settings}\n");
        let folder = Folder::new(&configuration(reserved(), hop.address, &table, ""));
        let serve = folder.serve();
        rcpt(&serve, &folder, tls, "250");
        serve.terminate();
    }
}

#[test]
fn e7_relay_addresses_and_authenticated_clients_are_exempt() {
    let table = "[organization.inbound_gateway]\naddresses = [\"198.51.100.7\"]\nreject_other_clients = true\n";
    let relay = |range: &str, auth: bool| {
        format!(
            "\n[[organization.relay]]\ndescription = \"Here\"\nallowed_senders = \"any\"\n\
             addresses = [{range}]\nrequire_auth = {auth}\nrequire_tls = false\n"
        )
    };
    for (more, mx) in [
        (relay("{ range = \"127.0.0.1\" }", false), "250"),
        (relay("{ range = \"203.0.113.9\" }", false), "550 5.7.1"),
        (relay("{ range = \"127.0.0.1\", enabled = false }", true), "550 5.7.1"),
    ] {
        let hop = Sink::start();
        let folder = Folder::new(&configuration(reserved(), hop.address, table, &more));
        let serve = folder.serve();
        rcpt(&serve, &folder, false, mx);
        serve.terminate();
    }

    // Authenticated on the relay listener: its own recipients are no matter of the gateway.
    let hash = support::waypost(&["hash-password"], "correct horse\n").stdout;
    let hop = Sink::start();
    let text = configuration(reserved(), hop.address, table, &relay("", true));
    let user = format!("address = \"{MARIE}\"\npassword = \"{}\"", hash.trim_end());
    let folder = Folder::new(&text.replace(&format!("address = \"{MARIE}\""), &user));
    let serve = folder.serve();
    let mut client =
        serve.session("relay").start_tls(folder.certificate(), "client.elsewhere.example");
    assert!(client.auth_plain(MARIE, "correct horse").starts_with("235"));
    queue_id(&client.message(MARIE, &[MARIE], &letter("")));
    let _ = hop.only();
    serve.terminate();
}

#[test]
fn e12_hostile_headers_are_refused_or_read_and_the_server_goes_on() {
    let hop = Sink::start();
    let table = gateway("detect_external_ip = true");
    let limits = "\n[server.limits]\nheader_size = 1000000\nhops = 20000\n\n[[organization]]";
    let text = configuration(reserved(), hop.address, &table, "");
    let folder = Folder::new(&text.replacen("\n[[organization]]", limits, 1));
    let serve = folder.serve();
    let mut client = serve.session("mx");
    let long = |piece: &str, size: usize| {
        // Lines of mail are at most 998 octets long, so a long field is folded.
        let folded = format!("{}\r\n ", piece.repeat(900 / piece.len()));
        format!("Received: from a ({}\r\n", folded.repeat(size / folded.len()))
    };
    let many = INSIDE.repeat(100_000);
    let allowed = INSIDE.repeat(14_000);
    let rows: &[(&str, &str, &str)] = &[
        ("100,000 lines", &many, "552 5.3.4"),
        ("a field of a megabyte", &long("a", 1_100_000), "552 5.3.4"),
        ("20,001 short lines", &"Received: by x\r\n".repeat(20_001), "554 5.4.6"),
        ("14,000 hops", &allowed, "250"),
        ("900 KB of parentheses", &long("(", 900_000), "250"),
        ("900 KB of brackets", &long("[", 900_000), "250"),
        ("900 KB of blanks", &long(" ", 900_000), "250"),
        ("900 KB of addresses", &long("192.0.2.1 ", 900_000), "250"),
    ];
    for (name, header, want) in rows {
        let reply = client.message(FROM, &[MARIE], &letter(header));
        assert!(reply.starts_with(want), "{name}: {reply}");
    }
    let lone = [b"X: a\rb\r\n".as_slice(), &letter("")].concat();
    let reply = client.message(FROM, &[MARIE], &lone);
    assert!(reply.starts_with("550 5.6.0"), "{reply}");
    // It goes on as before.
    let reply = client.message(FROM, &[MARIE], &letter(STRANGER));
    let line = serve.log.wait_text(&format!("accepted id={}", queue_id(&reply)));
    assert!(line.contains(" source=192.0.2.7 "), "{line}");
    serve.terminate();
}
