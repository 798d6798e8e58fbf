//! `waypost serve`: next hops that refuse, fail, or are not what they should be.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may say what they mean"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::serving::{Folder, queue_id};
use support::sink::{Sink, reserved};

/// Marie has a Maildir and relays from loopback; what is unknown goes by the route `second`, which
/// the caller gives.
fn organization(route: &str) -> String {
    format!(
        r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250

[[organization.user]]
address = "marie@solarmora.com"

[[organization.relay]]
description = "Loopback"
allowed_senders = "my-domains"
addresses = [{{ range = "127.0.0.1" }}]
require_tls = false

[[organization.rule]]
description = "To the second system"
affects = ["inbound", "internal-receiving", "outbound"]
accounts = ["unrecognized", "users"]
then = {{ modify = {{ route = "second" }} }}
[organization.rule.envelope]
recipients = [{{ pattern = '^x' }}]

[[organization.route]]
name = "second"
{route}
"#
    )
}

const MESSAGE: &[u8] = b"From: marie@solarmora.com\r\nSubject: x\r\n\r\nbody\r\n";

fn single(sink: &Sink) -> String {
    format!("host = \"127.0.0.1\"\nport = {}\n", sink.address.port())
}

#[test]
fn a5_a10_a_next_hop_without_tls_bounces_or_waits_as_the_route_says() {
    let sink = Sink::start();
    for (more, bounces) in [("", true), ("on_tls_failure = \"defer\"\n", false)] {
        let folder = Folder::new(&organization(&(single(&sink) + more)));
        let serve = folder.serve();
        let mut client = serve.session("relay");
        let to = ["x@friend.example"];
        let id = queue_id(&client.message("marie@solarmora.com", &to, MESSAGE)).to_owned();
        if bounces {
            let report = folder.mailbox("marie@solarmora.com", "", 1).remove(0);
            assert!(report.contains("Status: 5.7."), "{report}");
            assert!(report.contains("TLS"), "{report}");
        } else {
            serve.log.wait_for("deferred", |line| line.contains("deferred") && line.contains(&id));
            assert_eq!(folder.mailbox_size("marie@solarmora.com", ""), 0);
        }
        serve.terminate();
    }
    assert!(sink.received().is_empty(), "nothing goes out in clear text");
}

#[test]
fn a9_the_secondary_takes_over_when_no_primary_answers() {
    let sink = Sink::start();
    let busy = Sink::answering(|command| {
        command.starts_with("EHLO").then(|| "421 4.3.2 Too busy".to_owned())
    });
    let (down, second) = (reserved(), sink.address);
    let host = |at: std::net::SocketAddr, load| {
        format!("{{ host = \"{}\", port = {}, load = {load} }}", at.ip(), at.port())
    };
    let route = format!(
        "require_tls = false\nprimary = [{}, {}]\nsecondary = [{}]\n",
        host(down, 50),
        host(busy.address, 50),
        host(second, 100)
    );
    let folder = Folder::new(&organization(&route));
    let serve = folder.serve();
    let mut client = serve.session("relay");
    for number in 1..4 {
        queue_id(&client.message("marie@solarmora.com", &["x@friend.example"], MESSAGE));
        assert_eq!(sink.wait(number)[number - 1].behind_trace(), MESSAGE);
    }
    assert_eq!(busy.connections(), 1, "a host that failed rests");
    serve.terminate();
}

#[test]
fn a10_a_temporary_refusal_is_tried_again_and_the_others_go_at_once() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let sink = Sink::answering(move |command| {
        let slow = command.starts_with("RCPT TO:<xslow@");
        (slow && counted.fetch_add(1, Ordering::SeqCst) < 2)
            .then(|| "450 4.2.0 Greylisted".to_owned())
    });
    let folder = Folder::new(&organization(&(single(&sink) + "require_tls = false\n")));
    let serve = folder.serve();
    let mut client = serve.session("relay");
    let to = ["xslow@friend.example", "xfast@friend.example"];
    queue_id(&client.message("marie@solarmora.com", &to, MESSAGE));
    let came = sink.wait(2);
    assert_eq!(came[0].to, ["<xfast@friend.example>"]);
    assert_eq!(came[1].to, ["<xslow@friend.example>"]);
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    serve.terminate();
    assert_eq!(sink.received().len(), 2);
    assert_eq!(folder.mailbox_size("marie@solarmora.com", ""), 0);
}

#[test]
fn a10_a_4yz_to_the_dot_is_tried_again_and_a_5yz_bounces() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let sink = Sink::answering(move |command| {
        let first = command == "." && counted.fetch_add(1, Ordering::SeqCst) < 1;
        first.then(|| "451 4.3.0 Later".to_owned())
    });
    let folder = Folder::new(&organization(&(single(&sink) + "require_tls = false\n")));
    let serve = folder.serve();
    let mut client = serve.session("relay");
    queue_id(&client.message("marie@solarmora.com", &["x@friend.example"], MESSAGE));
    assert_eq!(sink.only().behind_trace(), MESSAGE);
    serve.terminate();
    assert_eq!(tries.load(Ordering::SeqCst), 2);

    let sink =
        Sink::answering(|command| (command == ".").then(|| "554 5.6.0 Not like this".to_owned()));
    let folder = Folder::new(&organization(&(single(&sink) + "require_tls = false\n")));
    let serve = folder.serve();
    let mut client = serve.session("relay");
    queue_id(&client.message("marie@solarmora.com", &["x@friend.example"], MESSAGE));
    let report = folder.mailbox("marie@solarmora.com", "", 1).remove(0);
    assert!(report.contains("554 5.6.0 Not like this"), "{report}");
    serve.terminate();
}

#[test]
fn o2_a_lifetime_that_ends_yields_a_report() {
    let sink = Sink::answering(|command| {
        command.starts_with("RCPT").then(|| "450 4.2.0 Never today".to_owned())
    });
    let more = "require_tls = false\nretry = { delays = [\"1s\"], lifetime = \"3s\" }\n";
    let folder = Folder::new(&organization(&(single(&sink) + more)));
    let serve = folder.serve();
    let mut client = serve.session("relay");
    queue_id(&client.message("marie@solarmora.com", &["x@friend.example"], MESSAGE));
    let report = folder.mailbox("marie@solarmora.com", "", 1).remove(0);
    assert!(report.contains("Never today"), "{report}");
    assert!(report.contains("Action: failed"), "{report}");
    serve.terminate();
}

#[test]
fn d15_too_many_connections_of_a_client_get_421_and_the_reason() {
    let sink = Sink::start();
    let limits = "\n[server.limits]\nconnections_per_client = 3\n";
    let route = organization(&(single(&sink) + "require_tls = false\n"));
    let folder = Folder::new(&format!("{limits}{route}"));
    let serve = folder.serve();
    let mut kept: Vec<_> = (0..3).map(|_| serve.session("relay")).collect();
    let mut fourth = support::smtp_client::SmtpClient::silent(serve.address("relay"));
    let reply = fourth.reply();
    assert!(reply.starts_with("421 4.7.0"), "{reply}");
    assert!(reply.contains('3'), "{reply}");
    for _ in 0..50 {
        queue_id(&kept[0].message("marie@solarmora.com", &["x@friend.example"], MESSAGE));
    }
    sink.wait(50);
    serve.terminate();
}

#[test]
fn c6_quarantined_mail_stays_in_the_spool() {
    let sink = Sink::start();
    let rule = r#"
[[organization.rule]]
description = "Kept"
affects = ["inbound"]
accounts = ["users"]
then = { quarantine = "doubtful" }
"#;
    let route = organization(&(single(&sink) + "require_tls = false\n"));
    let folder = Folder::new(&format!("{route}{rule}"));
    let serve = folder.serve();
    let message = b"From: a@elsewhere.example\r\n\r\nx\r\n";
    let mut client = serve.session("mx");
    queue_id(&client.message("a@elsewhere.example", &["marie@solarmora.com"], message));
    // Behind it in the queue, and through.
    queue_id(&client.message("a@elsewhere.example", &["x@solarmora.com"], message));
    sink.only();
    serve.terminate();
    assert_eq!(folder.mailbox_size("marie@solarmora.com", ""), 0);
    let serve = folder.serve();
    let recovered = serve.log.wait_text("spool open");
    assert!(recovered.contains("messages=1"), "{recovered}");
    serve.terminate();
}

#[test]
fn a2_lmtp_answers_for_each_recipient_and_only_the_deferred_one_is_tried_again() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let sink = Sink::answering(move |command| match command {
        ". <xfull@solarmora.com>" if counted.fetch_add(1, Ordering::SeqCst) < 1 => {
            Some("452 4.2.2 Full".to_owned())
        }
        ". <xgone@solarmora.com>" => Some("550 5.1.1 No such user".to_owned()),
        "EHLO mx.solarmora.com" => Some("500 5.5.1 LMTP only".to_owned()),
        _ => None,
    });
    let route = single(&sink) + "protocol = \"lmtp\"\nrequire_tls = false\n";
    let folder = Folder::new(&organization(&route));
    let serve = folder.serve();
    let mut client = serve.session("relay");
    let to = ["xhere@solarmora.com", "xfull@solarmora.com", "xgone@solarmora.com"];
    queue_id(&client.message("marie@solarmora.com", &to, MESSAGE));
    let came = sink.wait(2);
    assert_eq!(came[0].to, ["<xhere@solarmora.com>"]);
    assert_eq!(came[1].to, ["<xfull@solarmora.com>"]);
    assert!(came.iter().all(|one| one.behind_trace() == MESSAGE));
    let report = folder.mailbox("marie@solarmora.com", "", 1).remove(0);
    assert!(report.contains("Final-Recipient: rfc822; xgone@solarmora.com\n"), "{report}");
    assert!(!report.contains("xfull"), "{report}");
    serve.terminate();
    assert_eq!(sink.received().len(), 2);
}

#[test]
fn what_a_next_hop_cannot_take_is_reported_and_not_mangled() {
    let plain = |command: &str| {
        command.starts_with("EHLO").then(|| "250-sink.example\r\n250 PIPELINING".to_owned())
    };
    let sink = Sink::answering(plain);
    let folder = Folder::new(&organization(&(single(&sink) + "require_tls = false\n")));
    let serve = folder.serve();
    let mut client = serve.session("relay");
    client.ask("MAIL FROM:<marie@solarmora.com> SMTPUTF8", "250");
    client.ask("RCPT TO:<x\u{e9}@friend.example>", "250");
    queue_id(&client.data(MESSAGE));
    let report = folder.mailbox("marie@solarmora.com", "", 1).remove(0);
    assert!(report.contains("Status: 5.6.7\n"), "RFC 6531 section 3.5: {report}");
    assert!(report.contains("x\u{e9}@friend.example"), "{report}");
    serve.terminate();
    assert!(sink.received().is_empty());

    let sink = Sink::start();
    let folder = Folder::new(&organization(&(single(&sink) + "require_tls = false\n")));
    let serve = folder.serve();
    let mut client = serve.session("relay");
    client.ask("MAIL FROM:<marie@solarmora.com> SMTPUTF8 BODY=8BITMIME", "250");
    client.ask("RCPT TO:<x\u{e9}@friend.example>", "250");
    queue_id(&client.data(MESSAGE));
    let came = sink.only();
    assert_eq!(came.to, ["<x\u{e9}@friend.example>"]);
    assert!(came.from.contains(" SMTPUTF8") && came.from.contains(" BODY=8BITMIME"), "{came:?}");
    assert!(came.text().contains(" with UTF8SMTP id "), "{}", came.text());
    serve.terminate();
}
