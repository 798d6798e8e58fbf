//! `waypost serve`: split and dual delivery, unchanged bytes, gateways and tags.

use crate::support;

use support::serving::{Folder, queue_id};
use support::sink::Sink;

/// Maildir for users, a second system for the unknown, an archive for copies.
fn split(second: &Sink, more: &str) -> String {
    format!(
        r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250

[[organization.user]]
address = "marie@solarmora.com"
aliases = ["m.paul@solarmora.com"]

[[organization.user]]
address = "paul@solarmora.com"

[[organization.route]]
name = "exchange"
host = "127.0.0.1"
port = {}
require_tls = false

[[organization.rule]]
description = "Split delivery to Exchange"
affects = ["inbound", "internal-receiving"]
accounts = ["unrecognized"]
then = {{ modify = {{ route = "exchange" }} }}
{more}"#,
        second.address.port()
    )
}

#[test]
fn c7_split_delivery_known_to_the_mailbox_unknown_to_the_second_system() {
    let second = Sink::start();
    let folder = Folder::new(&split(&second, ""));
    let serve = folder.serve();
    let mut client = serve.session("mx");
    let message = b"From: a@elsewhere.example\r\nSubject: Both\r\n\r\nHello\r\n";
    let to = ["M.Paul@Solarmora.com", "not-a-user@solarmora.com", "paul@solarmora.com"];
    let reply = client.message("a@elsewhere.example", &to, message);
    let id = queue_id(&reply);

    let came = second.only();
    assert!(came.from.starts_with("<a@elsewhere.example> "), "{}", came.from);
    assert_eq!(came.to, ["<not-a-user@solarmora.com>"]);
    assert_eq!(came.behind_trace(), message);
    for user in ["marie@solarmora.com", "paul@solarmora.com"] {
        let filed = folder.mailbox(user, "", 1);
        assert_eq!(filed.len(), 1, "{user}");
        let head = format!("Return-Path: <a@elsewhere.example>\nDelivered-To: {user}\nReceived: ");
        assert!(filed[0].starts_with(&head), "{}", filed[0]);
        assert!(filed[0].contains(&format!(" id {id}")), "{}", filed[0]);
        assert!(filed[0].ends_with("\nFrom: a@elsewhere.example\nSubject: Both\n\nHello\n"));
        assert!(!filed[0].contains("for <"), "no recipient learns of another: {}", filed[0]);
    }
    serve.terminate();
    assert_eq!(second.received().len(), 1);
}

#[test]
fn c6_dual_delivery_sends_a_copy_with_its_own_lines() {
    let second = Sink::start();
    let rule = r#"
[[organization.rule]]
description = "Copies for the archive"
affects = ["inbound"]
accounts = ["users"]
[organization.rule.then.modify]
subject_prefix = "[EXT] "
[[organization.rule.then.modify.also_deliver_to]]
address = "archive@archive.example"
route = "exchange"
suppress_bounces = true
add_headers = [{ name = "X-Copy", value = "yes" }]
"#;
    let folder = Folder::new(&split(&second, rule));
    let serve = folder.serve();
    let message = b"From: a@elsewhere.example\r\nSubject: Both\r\n\r\nHello\r\n";
    let mut client = serve.session("mx");
    queue_id(&client.message("a@elsewhere.example", &["marie@solarmora.com"], message));

    let copy = second.only();
    assert_eq!(copy.to, ["<archive@archive.example>"]);
    let own = copy.behind_trace();
    assert!(own.starts_with(b"X-Copy: yes\r\n"), "{}", copy.text());
    assert!(own.ends_with(b"\r\n\r\nHello\r\n"), "{}", copy.text());
    let filed = folder.mailbox("marie@solarmora.com", "", 1).remove(0);
    assert!(filed.contains("\nSubject: [EXT] Both\n"), "{filed}");
    assert!(!filed.contains("X-Copy"), "{filed}");
    serve.terminate();
}

#[test]
fn b3_the_bytes_behind_our_trace_line_arrive_unchanged() {
    let second = Sink::start();
    let folder = Folder::new(&split(&second, ""));
    let serve = folder.serve();
    let long = format!("X-Long: {}\r\n\r\n{}\r\n", "y".repeat(900), "z".repeat(20_000));
    let big = format!("Subject: big\r\n\r\n{}", "0123456789abcdef\r\n".repeat(60_000));
    let cases: &[(&str, &[u8])] = &[
        ("8-bit octets", b"Subject: \xE9\xFF\r\n\r\n\x80\x81\xFE\xFF caf\xC3\xA9\r\n"),
        ("control octets", b"Subject: x\r\n\r\n\x01\x02\t\x1B\x7F\r\n"),
        ("long lines", long.as_bytes()),
        ("dots", b"Subject: x\r\n\r\n.\r\n..\r\n...\r\n.a\r\n..b\r\na.\r\n"),
        ("first line is a dot", b".\r\n\r\n.\r\n"),
        ("folded header", b"Subject: one\r\n two\r\n\tthree\r\nX: \r\n \r\n\r\nbody\r\n"),
        ("trailing blanks", b"Subject: x \t \r\n\r\nend  \r\n \r\n\t\r\n\r\n\r\n"),
        ("odd header", b"no colon here\r\nSubject : x\r\n\r\nbody\r\n"),
        ("no header", b"\r\nbody\r\n"),
        ("no body", b"Subject: x\r\n"),
        ("empty", b""),
        ("more than a megabyte", big.as_bytes()),
        ("CRLF only", b"\r\n"),
    ];
    let mut client = serve.session("mx");
    for (number, (name, message)) in cases.iter().enumerate() {
        queue_id(&client.message("a@elsewhere.example", &["x@solarmora.com"], message));
        let came = &second.wait(number + 1)[number];
        assert_eq!(came.behind_trace(), *message, "{name}");
    }
    serve.terminate();
    assert_eq!(second.received().len(), cases.len());
}

#[test]
fn e9_a_tag_of_the_gateway_puts_the_message_into_junk() {
    let second = Sink::start();
    let gateway = r#"
[organization.inbound_gateway]
addresses = ["127.0.0.1"]
allow_private = true
spam_tag = { regex = '^X-(?:spam|phishy): (0\.\d*|1\.0*)$', score_at_least = 0.5 }
"#;
    let folder = Folder::new(&split(&second, gateway));
    let serve = folder.serve();
    let mut client = serve.session("mx");
    for (line, junk) in [
        ("X-spam: 0.7", true),
        ("X-spam: 0.4", false),
        ("X-phishy:\r\n 0.50", true),
        ("X-spam: .7", false),
        ("x-spam: 0.9", false),
    ] {
        let before = folder.mailbox_size("marie@solarmora.com", ".Junk");
        let before_in = folder.mailbox_size("marie@solarmora.com", "");
        let message = format!("From: a@elsewhere.example\r\n{line}\r\n\r\nHello\r\n");
        let to = ["marie@solarmora.com"];
        queue_id(&client.message("a@elsewhere.example", &to, message.as_bytes()));
        let (sub, count) = if junk { (".Junk", before + 1) } else { ("", before_in + 1) };
        let filed = folder.mailbox("marie@solarmora.com", sub, count);
        let line = line.replace('\r', "");
        assert!(filed.iter().any(|text| text.contains(&line)), "{line}: {filed:?}");
    }
    serve.terminate();
}

#[test]
fn e7_e8_clients_that_are_no_gateway_and_clear_text_are_refused_at_rcpt() {
    let other = |switches: &str| {
        format!(
            "\n[organization.inbound_gateway]\naddresses = [\"198.51.100.7\"]\n\
             reject_other_clients = true\n{switches}\n"
        )
    };
    let own = "\n[organization.inbound_gateway]\naddresses = [\"127.0.0.1\"]\n\
               allow_private = true\nrequire_tls = true\n";
    for (gateway, clear, inside) in [
        (other(""), "550 5.7.1", "550 5.7.1"),
        (other("reject_code = 421"), "421 4.7.0", "421 4.7.0"),
        (own.to_owned(), "530 5.7.0", "250"),
        (own.replace("require_tls = true", "require_tls = \"observe\""), "250", "250"),
    ] {
        let second = Sink::start();
        let folder = Folder::new(&split(&second, &gateway));
        let serve = folder.serve();
        let mut client = serve.session("mx");
        client.ask("MAIL FROM:<a@elsewhere.example>", "250");
        client.ask("RCPT TO:<marie@solarmora.com>", clear);
        drop(client);
        let mut client = serve.session("mx").start_tls(folder.certificate(), "client.example");
        client.ask("MAIL FROM:<a@elsewhere.example>", "250");
        client.ask("RCPT TO:<marie@solarmora.com>", inside);
        drop(client);
        serve.terminate();
    }
}

#[test]
fn recipients_of_two_organizations_go_each_by_its_own_rules() {
    let (first, second) = (Sink::start(), Sink::start());
    let other = format!(
        r#"
[[organization]]
name = "Lunamora"
domains = ["lunamora.com"]
licences = 5

[[organization.route]]
name = "exchange"
host = "127.0.0.1"
port = {}
require_tls = false

[[organization.rule]]
description = "All away"
affects = ["inbound", "internal-receiving"]
accounts = ["unrecognized"]
[organization.rule.then.modify]
route = "exchange"
add_headers = [{{ name = "X-Lunamora", value = "yes" }}]
"#,
        second.address.port()
    );
    let relay = r#"
[[organization.relay]]
description = "Loopback"
allowed_senders = "registered-users"
addresses = [{ range = "127.0.0.1" }]
require_tls = false
"#;
    let folder = Folder::new(&format!("{}{other}", split(&first, relay)));
    let serve = folder.serve();
    let message = b"From: a@elsewhere.example\r\n\r\nx\r\n";
    let to = ["x@solarmora.com", "x@lunamora.com", "marie@solarmora.com"];
    queue_id(&serve.session("mx").message("a@elsewhere.example", &to, message));
    assert_eq!(first.only().to, ["<x@solarmora.com>"]);
    let away = second.only();
    assert_eq!(away.to, ["<x@lunamora.com>"]);
    assert!(away.behind_trace().starts_with(b"X-Lunamora: yes\r\n"), "{}", away.text());
    assert_eq!(folder.mailbox("marie@solarmora.com", "", 1).len(), 1);

    // Relayed from one to the other: the other's incoming rules decide.
    let message = b"From: marie@solarmora.com\r\n\r\nx\r\n";
    let to = ["y@lunamora.com"];
    queue_id(&serve.session("relay").message("marie@solarmora.com", &to, message));
    let relayed = &second.wait(2)[1];
    assert_eq!(relayed.to, ["<y@lunamora.com>"]);
    assert!(relayed.behind_trace().starts_with(b"X-Lunamora: yes\r\n"), "{}", relayed.text());
    serve.terminate();
}

#[test]
fn d17_spam_by_the_gateways_tag_is_refused_or_kept_as_the_organization_says() {
    for (action, want) in [("reject", "550 5.7.1"), ("quarantine", "250 ")] {
        let second = Sink::start();
        let gateway = "\n[organization.inbound_gateway]\naddresses = [\"127.0.0.1\"]\n\
                       allow_private = true\nspam_tag = { regex = '^X-spam-gw: spam$' }\n";
        let configuration = split(&second, gateway);
        let action = format!("licences = 250\nspam_action = \"{action}\"");
        let folder = Folder::new(&configuration.replacen("licences = 250", &action, 1));
        let serve = folder.serve();
        let mut client = serve.session("mx");
        let to = ["marie@solarmora.com"];
        let spam = b"From: a@elsewhere.example\r\nX-spam-gw: spam\r\n\r\nx\r\n";
        let reply = client.message("a@elsewhere.example", &to, spam);
        assert!(reply.starts_with(want), "{action}: {reply}");
        let good = b"From: a@elsewhere.example\r\nX-spam-gw: good\r\n\r\nx\r\n";
        queue_id(&client.message("a@elsewhere.example", &to, good));
        let filed = folder.mailbox("marie@solarmora.com", "", 1);
        serve.terminate();
        assert!(filed[0].contains("X-spam-gw: good"), "{filed:?}");
        assert_eq!(folder.mailbox_size("marie@solarmora.com", ""), 1);
        assert_eq!(folder.mailbox_size("marie@solarmora.com", ".Junk"), 0);
    }
}

/// A split delivery to another system; mail to the outside goes to `world`.
fn outside(world: &Sink, hop: std::net::SocketAddr) -> String {
    format!(
        r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250
outbound_gateway = "{}"

[[organization.user]]
address = "marie@solarmora.com"

[[organization.route]]
name = "exchange"
host = "{}"
port = {}
require_tls = false

[[organization.rule]]
description = "Split delivery to the other one"
affects = ["inbound", "internal-receiving"]
accounts = ["unrecognized"]
then = {{ modify = {{ route = "exchange" }} }}
"#,
        world.address,
        hop.ip(),
        hop.port()
    )
}

#[test]
fn o8_split_deliveries_that_point_at_each_other_end_after_one_round() {
    let world = Sink::start();
    // The first one's next hop is not known before the second one listens.
    let first = Folder::new(&outside(&world, support::sink::reserved()));
    let first_serve = first.serve();
    let second = Folder::new(&outside(&world, first_serve.address("mx")));
    let second_serve = second.serve();
    first.configure(&outside(&world, second_serve.address("mx")));
    support::control::done(&first, &["reload"]);

    let message = b"From: a@elsewhere.example\r\nSubject: Round\r\n\r\nHello\r\n";
    let mut client = first_serve.session("mx");
    let reply = client.message("a@elsewhere.example", &["nobody@solarmora.com"], message);
    queue_id(&reply);
    let bounce = world.only();
    assert_eq!(bounce.from.split(' ').next(), Some("<>"));
    assert_eq!(bounce.to, ["<a@elsewhere.example>"]);
    let text = bounce.text().replace("\r\n", "\n");
    for part in [
        "Final-Recipient: rfc822; nobody@solarmora.com\n",
        "Status: 5.4.6\n",
        "554 5.4.6 Routing loop: rule \"Split delivery to the other one\"",
        "Subject: Round\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let original = text.rsplit("message/rfc822").next().unwrap();
    assert_eq!(original.matches("(waypost-mark ").count(), 1, "one round: {text}");
    assert_eq!(world.received().len(), 1);

    // What is forwarded on to somebody else of ours, with all its trace, is no loop.
    let mut forwarded = original[original.find("Received:").unwrap()..].replace('\n', "\r\n");
    forwarded.truncate(forwarded.find("\r\n--").unwrap_or(forwarded.len()));
    let mut client = first_serve.session("mx");
    let reply =
        client.message("a@elsewhere.example", &["marie@solarmora.com"], forwarded.as_bytes());
    queue_id(&reply);
    let filed = first.mailbox("marie@solarmora.com", "", 1);
    assert_eq!(filed[0].matches("(waypost-mark ").count(), 2, "{}", filed[0]);
    // And what was delivered to her comes back for her.
    let filed = filed[0].replace('\n', "\r\n");
    let reply = client.message("x@elsewhere.example", &["marie@solarmora.com"], filed.as_bytes());
    assert!(reply.starts_with("554 5.4.6 Routing loop: this server has delivered it"), "{reply}");
}
