//! `waypost serve` behind proxies: PROXY protocol and XCLIENT from listed addresses (D15, E3).

use crate::support;

use std::net::SocketAddr;

use serde_json::Value;
use support::serving::{Folder, Serve, queue_id};
use support::sink::Sink;
use support::smtp_client::SmtpClient;
use support::waypost;
use waypost_smtp::proxy_header::Announced;

const FROM_HERE: &str = "proxy_protocol_from = [\"127.0.0.0/24\"]\n";
const XCLIENT_HERE: &str = "xclient_from = [\"127.0.0.1\"]\n";
const MARIE: &str = "marie@solarmora.com";
const STRANGER: &str = "a@elsewhere.example";
const MESSAGE: &[u8] = b"From: a@elsewhere.example\r\nX-spam-gw: spam\r\n\r\nx\r\n";

/// One user; whatever else is given stands in `[server]`, or in the organization.
fn configuration(server: &str, organization: &str) -> String {
    format!(
        r#"{server}
[[listener]]
name = "implicit"
role = "mx"
bind = "127.0.0.1:0"
tls = {{ certificate = "mx.pem", key = "mx.key", implicit = true }}

[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250

[[organization.user]]
address = "marie@solarmora.com"
{organization}"#
    )
}

fn serving(server: &str, organization: &str) -> (Folder, Serve) {
    let folder = Folder::new(&configuration(server, organization));
    let serve = folder.serve();
    (folder, serve)
}

fn announced(client: &str) -> Announced {
    let server: SocketAddr =
        if client.starts_with('[') { "[2001:db8::1]:25" } else { "203.0.113.1:25" }
            .parse()
            .unwrap();
    Announced::Client { client: client.parse().unwrap(), server }
}

fn line(client: &str) -> Vec<u8> {
    announced(client).to_line()
}

fn binary(client: &str) -> Vec<u8> {
    announced(client).to_binary()
}

/// A header of version 2 with these TLVs behind the addresses.
fn with_tlvs(mut header: Vec<u8>, tlvs: &[u8]) -> Vec<u8> {
    header.extend_from_slice(tlvs);
    let length = u16::try_from(header.len() - 16).unwrap();
    header[14..16].copy_from_slice(&length.to_be_bytes());
    header
}

/// The trace line of the message that this session hands over.
fn trace(folder: &Folder, client: &mut SmtpClient) -> String {
    let before = folder.mailbox_size(MARIE, "");
    queue_id(&client.message(STRANGER, &[MARIE], MESSAGE));
    let texts = folder.mailbox(MARIE, "", before + 1);
    // Names of files grow with time.
    let newest = texts.iter().max_by_key(|text| text.split("id ").nth(1)).unwrap();
    let newest = &newest[newest.find("Received: ").unwrap()..];
    newest.split("\r\n").take(2).collect::<Vec<_>>().join("")
}

#[test]
fn d15_the_client_of_a_header_is_the_one_that_is_stamped_and_logged() {
    let (folder, serve) = serving(FROM_HERE, "");
    let address = serve.address("mx");
    let ssl = [0x20, 0, 15, 7, 0, 0, 0, 0, 0x21, 0, 7, b'T', b'L', b'S', b'v', b'1', b'.', b'3'];
    for (header, from) in [
        (line("192.0.2.7:40000"), "([192.0.2.7])"),
        (binary("192.0.2.8:40000"), "([192.0.2.8])"),
        (line("[2001:db8::7]:40000"), "([IPv6:2001:db8::7])"),
        (binary("[2001:db8::8]:40000"), "([IPv6:2001:db8::8])"),
        (b"PROXY TCP6 ::ffff:192.0.2.9 ::1 1 25\r\n".to_vec(), "([192.0.2.9])"),
        (with_tlvs(binary("192.0.2.10:1"), &ssl), "([192.0.2.10])"),
        // A health check, and a proxy that cannot say for whom: its own address.
        (Announced::Nobody.to_line(), "([127.0.0.1])"),
        (Announced::Nobody.to_binary(), "([127.0.0.1])"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x00\x00\x05other".to_vec(), "([127.0.0.1])"),
    ] {
        let mut client = SmtpClient::behind(address, &header, "client.example");
        let stamped = trace(&folder, &mut client);
        assert!(stamped.contains(from), "{}: {stamped}", header.escape_ascii());
        // Announced TLS is not TLS with us.
        assert!(stamped.contains("with ESMTP id"), "{stamped}");
    }
    let logged = serve.log.wait_for("both addresses", |line| {
        line.contains("client=192.0.2.7 ") && line.contains("proxy=127.0.0.1 ")
    });
    assert!(logged.contains("accepted"), "{logged}");
    let own = serve.log.wait_for("the proxy's own", |line| line.contains("client=127.0.0.1 "));
    assert!(!own.contains("proxy="), "{own}");
    serve.terminate();
}

#[test]
fn d15_a_header_may_come_octet_by_octet() {
    let (folder, serve) = serving(FROM_HERE, "");
    for header in [line("192.0.2.7:40000"), with_tlvs(binary("192.0.2.7:1"), &[4, 0, 3, 0, 0, 0])] {
        let mut client = SmtpClient::silent(serve.address("mx"));
        for octet in &header {
            client.send(&[*octet]);
        }
        assert!(client.reply().starts_with("220 "));
        client.ask("EHLO client.example", "250");
        let stamped = trace(&folder, &mut client);
        assert!(stamped.contains("([192.0.2.7])"), "{stamped}");
    }
    serve.terminate();
}

#[test]
fn d15_octets_behind_the_header_are_for_smtp() {
    let (_folder, serve) = serving(FROM_HERE, "");
    // Who talks before the greeting is turned away as without a proxy: the header ends where it ends.
    for header in [line("192.0.2.7:1"), binary("192.0.2.7:1")] {
        let mut client = SmtpClient::silent(serve.address("mx"));
        client.send(&[&header[..], b"EHLO client.example\r\n"].concat());
        let reply = client.reply();
        assert!(reply.starts_with("554 5.5.1 Wait for the greeting"), "{reply}");
    }
    serve.terminate();
}

#[test]
fn d15_tls_behind_a_header() {
    let (folder, serve) = serving(FROM_HERE, "");
    let header = binary("192.0.2.7:40000");
    let client = SmtpClient::behind(serve.address("mx"), &header, "client.example");
    let mut client = client.start_tls(folder.certificate(), "client.example");
    let stamped = trace(&folder, &mut client);
    assert!(stamped.contains("([192.0.2.7])") && stamped.contains("with ESMTPS"), "{stamped}");

    // The header is in clear text, and the handshake follows it in the same packets.
    for header in [line("192.0.2.9:1"), binary("192.0.2.9:1")] {
        let mut client = SmtpClient::silent(serve.address("implicit"));
        client.send(&header);
        let mut client = client.handshake(folder.certificate());
        assert!(client.reply().starts_with("220 "));
        client.ask("EHLO client.example", "250");
        let stamped = trace(&folder, &mut client);
        assert!(stamped.contains("([192.0.2.9])") && stamped.contains("with ESMTPS"), "{stamped}");
    }
    serve.terminate();
}

#[test]
fn d15_a_header_from_who_is_not_listed_is_an_unknown_command() {
    let (folder, serve) = serving("proxy_protocol_from = [\"192.0.2.1\", \"::/127\"]\n", "");
    let mut client = SmtpClient::connect(serve.address("mx"));
    client.ask("PROXY TCP4 192.0.2.7 203.0.113.1 40000 25", "500 5.5.2");
    client.ask("EHLO client.example", "250");
    let stamped = trace(&folder, &mut client);
    assert!(stamped.contains("([127.0.0.1])"), "{stamped}");
    // Sent at once, as proxies do, it comes before the greeting.
    for header in [line("192.0.2.7:1"), binary("192.0.2.7:1")] {
        let mut client = SmtpClient::silent(serve.address("mx"));
        client.send(&header);
        let reply = client.reply();
        assert!(reply.starts_with("554 5.5.1") || reply.starts_with("220"), "{reply}");
    }
    serve.terminate();
}

#[test]
fn d15_a_listed_proxy_without_a_header_is_closed_unheard() {
    let (_folder, serve) = serving(&format!("{FROM_HERE}timeouts = {{ command = \"1s\" }}\n"), "");
    let wrong_sum = with_tlvs(binary("192.0.2.7:1"), &[3, 0, 4, 1, 2, 3, 4]);
    for (octets, because) in [
        (&b"EHLO client.example\r\n"[..], "does not begin with a PROXY header"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", "wrong in its words"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", "announces 65535 octets"),
        (&wrong_sum, "CRC32C"),
        // Said nothing, or half of it, for as long as a command may take.
        (b"", "did not come within 1s"),
        (b"PROXY TCP4 1.2.3.4", "did not come within 1s"),
    ] {
        let mut client = SmtpClient::silent(serve.address("mx"));
        client.send(octets);
        let end = client.try_reply();
        assert!(end.is_err(), "{} got {end:?}", octets.escape_ascii());
        let told = serve.log.wait_text(because);
        assert!(told.contains("proxy_protocol_from closed proxy=127.0.0.1:"), "{told}");
    }
    assert!(!serve.log.holds("panicked"));
    serve.terminate();
}

#[test]
fn d15_a_network_is_limited_beside_its_clients() {
    let limits = "limits = { connections_per_client = 2, connections_per_network = 3 }\n";
    let (_folder, serve) = serving(&format!("{FROM_HERE}{limits}"), "");
    let address = serve.address("mx");
    let mut held = Vec::new();
    for (client, want) in [
        ("192.0.2.7:1", "220"),
        ("192.0.2.8:1", "220"),
        ("192.0.2.255:1", "220"),
        ("192.0.2.9:1", "421 4.7.0 your network has 3 connections open"),
        ("192.0.3.9:1", "220"),
        // An IPv6 client is its /64, its network the /48.
        ("[2001:db8:0:1::1]:1", "220"),
        ("[2001:db8:0:1::2]:1", "220"),
        ("[2001:db8:0:1::3]:1", "421 4.7.0 your address has 2 connections open"),
        ("[2001:db8:0:2::1]:1", "220"),
        ("[2001:db8:0:3::1]:1", "421 4.7.0 your network has 3 connections open"),
        ("[2001:db8:1::1]:1", "220"),
    ] {
        let mut one = SmtpClient::silent(address);
        one.send(&line(client));
        let reply = one.reply();
        assert!(reply.starts_with(want), "{client}: {reply}");
        if want == "220" {
            held.push(one);
        }
    }
    serve.terminate();
}

#[test]
fn d15_limits_hold_for_the_announced_client_and_not_for_the_proxy() {
    let limits = "limits = { connections_per_client = 2, connections = 12 }\n";
    let (_folder, serve) = serving(&format!("{FROM_HERE}{XCLIENT_HERE}{limits}"), "");
    let address = serve.address("mx");
    let open = |client: &str| SmtpClient::behind(address, &line(client), "client.example");
    let mut held = vec![open("192.0.2.7:1"), open("192.0.2.7:2")];
    for header in [line("192.0.2.7:3"), binary("192.0.2.7:3")] {
        let mut third = SmtpClient::silent(address);
        third.send(&header);
        let reply = third.reply();
        assert!(reply.starts_with("421 4.7.0 your address has 2 connections open"), "{reply}");
    }
    // Others are not touched, nor is the proxy itself.
    held.extend([open("192.0.2.8:1"), open("[2001:db8::7]:1")]);
    let proxy = || SmtpClient::behind(address, &Announced::Nobody.to_binary(), "proxy.example");
    let mut own = vec![proxy(), proxy(), proxy()];
    // By XCLIENT it is the same.
    let reply = own[0].say("XCLIENT ADDR=192.0.2.7");
    assert!(reply.starts_with("421 4.7.0 your address has 2 connections open"), "{reply}");
    assert!(own[0].try_reply().is_err(), "the connection goes on");
    own[1].ask("XCLIENT ADDR=192.0.2.9", "220");
    // All together are.
    loop {
        let mut client = SmtpClient::silent(address);
        let sent = client.try_send(&Announced::Nobody.to_line());
        match sent.and_then(|()| client.try_reply()) {
            Ok(reply) if reply.starts_with("220 ") => own.push(client),
            Ok(reply) => {
                assert!(reply.starts_with("421 4.7.0 the server has 12 conn"), "{reply}");
                break;
            }
            // Its header was not read, so the system may cut it off before it reads the reply.
            Err(_) => break,
        }
        assert!(held.len() + own.len() <= 12 + 1, "one more than the limit, which has gone");
    }
    // What ends gives its place back.
    held.remove(0).ask("QUIT", "221");
    drop(own);
    let mut again = loop {
        let mut client = SmtpClient::silent(address);
        let sent = client.try_send(&line("192.0.2.7:4"));
        match sent.and_then(|()| client.try_reply()) {
            Ok(reply) if reply.starts_with("220") => break client,
            Ok(reply) => assert!(reply.starts_with("421"), "{reply}"),
            Err(_) => {}
        }
    };
    again.ask("QUIT", "221");
    serve.terminate();
}

const GATEWAY: &str = r#"
[organization.inbound_gateway]
addresses = ["198.51.100.7"]
reject_other_clients = true
spam_tag = { regex = '^X-spam-gw: spam$' }

[[organization.relay]]
description = "Offices"
allowed_senders = "my-domains"
addresses = [{ range = "203.0.113.0/28" }]
require_tls = false
"#;

#[test]
fn e3_e7_d3_gateways_and_relay_ranges_are_asked_for_the_announced_client() {
    let (folder, serve) = serving(&format!("{FROM_HERE}{XCLIENT_HERE}"), GATEWAY);
    let (listener, relay) = (serve.address("mx"), serve.address("relay"));
    // A gateway; an office, which E7 exempts; anybody else.
    for (ip, to_marie) in [("198.51.100.7", "250"), ("203.0.113.5", "250"), ("192.0.2.7", "550")] {
        let mut by_header = SmtpClient::behind(listener, &line(&format!("{ip}:1")), "c.example");
        let own = Announced::Nobody.to_line();
        let mut by_xclient = SmtpClient::behind(listener, &own, "proxy.example");
        by_xclient.ask(&format!("XCLIENT ADDR={ip} HELO=c.example"), "220");
        by_xclient.ask("EHLO proxy.example", "250");
        for client in [&mut by_header, &mut by_xclient] {
            client.ask(&format!("MAIL FROM:<{STRANGER}>"), "250");
            client.ask(&format!("RCPT TO:<{MARIE}>"), to_marie);
            client.ask("RSET", "250");
        }
        let admitted = ip == "203.0.113.5";
        let mut client = SmtpClient::behind(relay, &line(&format!("{ip}:1")), "c.example");
        let reply = client.say(&format!("MAIL FROM:<{MARIE}>"));
        assert_eq!(reply.starts_with("250"), admitted, "{ip}: {reply}");
    }
    // Only a gateway's tag counts (E9).
    let mut client = SmtpClient::behind(listener, &binary("198.51.100.7:1"), "c.example");
    queue_id(&client.message(STRANGER, &[MARIE], MESSAGE));
    assert_eq!(folder.mailbox(MARIE, ".Junk", 1).len(), 1);
    serve.terminate();
}

#[test]
fn c9_the_spool_record_and_the_decision_have_the_announced_client() {
    let quarantine = r#"
[[organization.rule]]
description = "Look"
affects = ["inbound"]
then = { quarantine = "review" }
"#;
    let (folder, serve) = serving(FROM_HERE, quarantine);
    let mut client = SmtpClient::behind(serve.address("mx"), &line("192.0.2.7:1"), "c.example");
    let reply = client.message(STRANGER, &[MARIE], MESSAGE);
    let id = queue_id(&reply);
    let ran = waypost(&["queue", &folder.configuration(), "show", id, "--json"], "");
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let shown: Value = ran.json_lines().remove(0);
    assert!(shown.to_string().contains("c.example [192.0.2.7]"), "{shown}");
    assert!(shown.to_string().contains("\"source_ip\":\"192.0.2.7\""), "{shown}");
    assert!(!shown.to_string().contains("127.0.0.1"), "{shown}");
    serve.terminate();
}

#[test]
fn d15_xclient_begins_a_session_of_another_client() {
    let (folder, serve) = serving(XCLIENT_HERE, "");
    let mut client = SmtpClient::connect(serve.address("mx"));
    let hello = client.ask("EHLO proxy.example", "250");
    assert!(
        hello.contains("\n250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\n"),
        "{hello}"
    );
    client.ask("XCLIENT", "501 5.5.4");
    client.ask("XCLIENT ADDR=2001:db8::7", "501 5.5.4");
    client.ask("MAIL FROM:<a@elsewhere.example>", "250");
    client.ask("XCLIENT ADDR=192.0.2.7", "503 5.5.1");
    client.ask("RSET", "250");
    let greeting =
        client.ask("XCLIENT NAME=mail.elsewhere.example ADDR=192.0.2.7 PORT=4711", "220");
    assert_eq!(greeting, "220 mx.solarmora.com ESMTP");
    client.ask("MAIL FROM:<a@elsewhere.example>", "503 5.5.1");
    client.ask("EHLO relayed.example", "250");
    let stamped = trace(&folder, &mut client);
    assert!(stamped.contains("from relayed.example ([192.0.2.7])"), "{stamped}");
    let logged = serve.log.wait_for("XCLIENT", |line| line.contains(" XCLIENT "));
    for part in ["client=192.0.2.7", "proxy=127.0.0.1", "name=\"mail.elsewhere.example\""] {
        assert!(logged.contains(part), "{logged}");
    }
    // One connection, one client after the other; what was said of EHLO holds over the next.
    client.ask("XCLIENT ADDR=IPV6:2001:db8::7 HELO=said.example PROTO=SMTP", "220");
    client.ask("EHLO proxy.example", "250");
    let stamped = trace(&folder, &mut client);
    assert!(stamped.contains("from said.example ([IPv6:2001:db8::7])"), "{stamped}");
    assert!(stamped.contains("with SMTP id"), "{stamped}");
    // A client without an address is nobody, not the proxy.
    client.ask("XCLIENT ADDR=[UNAVAILABLE] NAME=[TEMPUNAVAIL]", "220");
    client.ask("EHLO proxy.example", "250");
    let stamped = trace(&folder, &mut client);
    assert!(stamped.contains("from proxy.example ([0.0.0.0])"), "{stamped}");
    // The address lives on inside TLS: a client that is passed on cannot become the proxy by STARTTLS.
    client.ask("XCLIENT ADDR=192.0.2.8", "220");
    client.ask("EHLO proxy.example", "250");
    let mut client = client.start_tls(folder.certificate(), "inner.example");
    let stamped = trace(&folder, &mut client);
    assert!(stamped.contains("from inner.example ([192.0.2.8])"), "{stamped}");
    serve.terminate();
}

#[test]
fn d15_xclient_login_gives_no_right() {
    let relay = r#"
[[organization.relay]]
description = "Users anywhere"
allowed_senders = "registered-users"
require_auth = true
"#;
    let (folder, serve) = serving(XCLIENT_HERE, relay);
    let mut client = serve.session("relay");
    client.ask("XCLIENT ADDR=192.0.2.7 LOGIN=marie+40solarmora.com", "220");
    client.ask("EHLO client.example", "250");
    let mut client = client.start_tls(folder.certificate(), "client.example");
    let reply = client.say(&format!("MAIL FROM:<{MARIE}>"));
    assert!(reply.starts_with("530") || reply.starts_with("550"), "{reply}");
    serve.log.wait_text("login=\"marie@solarmora.com\"");
    serve.terminate();
}

#[test]
fn d15_xclient_is_for_listed_clients_alone() {
    // Listed is whom PROXY announces, not who stands before it.
    for (lists, header) in [
        ("", &b""[..]),
        ("xclient_from = [\"192.0.2.1\"]\n", b""),
        (&format!("{FROM_HERE}{XCLIENT_HERE}"), &line("192.0.2.7:1")),
    ] {
        let (folder, serve) = serving(lists, "");
        let mut client = SmtpClient::silent(serve.address("mx"));
        client.send(header);
        assert!(client.reply().starts_with("220 "));
        let hello = client.ask("EHLO client.example", "250");
        assert!(!hello.contains("XCLIENT"), "{hello}");
        client.ask("XCLIENT ADDR=198.51.100.7", "550 5.7.0");
        let stamped = trace(&folder, &mut client);
        assert!(!stamped.contains("198.51.100.7"), "{stamped}");
        serve.terminate();
    }
    let lists = format!("{FROM_HERE}xclient_from = [\"192.0.2.7\"]\n");
    let (folder, serve) = serving(&lists, "");
    let mut client = SmtpClient::behind(serve.address("mx"), &line("192.0.2.7:1"), "c.example");
    client.ask("XCLIENT ADDR=192.0.2.8", "220");
    client.ask("EHLO c.example", "250");
    let stamped = trace(&folder, &mut client);
    assert!(stamped.contains("([192.0.2.8])"), "{stamped}");
    serve.terminate();
}

#[test]
fn a12_a_reload_changes_the_lists_for_connections_that_come_later() {
    let (folder, serve) = serving("", "");
    let mut before = serve.session("mx");
    before.ask("XCLIENT ADDR=192.0.2.7", "550 5.7.0");
    folder.configure(&configuration(&format!("{FROM_HERE}{XCLIENT_HERE}"), ""));
    serve.log.wait_text(" reloaded ");
    before.ask("XCLIENT ADDR=192.0.2.7", "550 5.7.0");
    let mut client = SmtpClient::behind(serve.address("mx"), &line("192.0.2.7:1"), "c.example");
    let stamped = trace(&folder, &mut client);
    assert!(stamped.contains("([192.0.2.7])"), "{stamped}");
    let stamped = trace(&folder, &mut before);
    assert!(stamped.contains("([127.0.0.1])"), "{stamped}");
    serve.terminate();
}

#[test]
fn d15_mail_by_a_proxy_is_counted_once() {
    let sink = Sink::start();
    let route = format!(
        "\n[[organization.route]]\nname = \"second\"\nhost = \"127.0.0.1\"\nport = {}\n\
         require_tls = false\n\n[[organization.rule]]\ndescription = \"Split\"\n\
         affects = [\"inbound\"]\naccounts = [\"unrecognized\"]\n\
         then = {{ modify = {{ route = \"second\" }} }}\n",
        sink.address.port()
    );
    let (_folder, serve) = serving(FROM_HERE, &route);
    for port in 1..=3 {
        let header = binary(&format!("192.0.2.7:{port}"));
        let mut client = SmtpClient::behind(serve.address("mx"), &header, "c.example");
        queue_id(&client.message(STRANGER, &["new@solarmora.com"], MESSAGE));
        client.ask("QUIT", "221");
    }
    let came = sink.wait(3);
    assert!(came.iter().all(|one| one.behind_trace() == MESSAGE), "{came:?}");
    serve.terminate();
}
