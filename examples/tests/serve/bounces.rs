//! `waypost serve`: what senders are told when a message cannot be delivered.

use crate::support;

use support::serving::{Folder, queue_id};
use support::sink::Sink;

/// Marie and Paul have Maildirs and may relay from loopback; the world is one gateway.
fn organization(gateway: &Sink, more: &str) -> String {
    format!(
        r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250
outbound_gateway = "{}"

[[organization.user]]
address = "marie@solarmora.com"

[[organization.user]]
address = "paul@solarmora.com"

[[organization.relay]]
description = "Loopback"
allowed_senders = "any"
addresses = [{{ range = "127.0.0.1" }}]
require_tls = false
{more}"#,
        gateway.address
    )
}

/// Refuses recipients by their local part.
fn choosy() -> Sink {
    Sink::answering(|command| match command {
        _ if command.starts_with("RCPT TO:<gone@") => Some("550 5.1.1 No such user".to_owned()),
        _ if command.starts_with("RCPT TO:<full@") => {
            Some("552-5.2.2 Full\r\n552 5.2.2 up".to_owned())
        }
        _ => None,
    })
}

#[test]
fn o2_a_permanent_failure_yields_a_report_to_the_senders_mailbox_rfc_3464() {
    let gateway = choosy();
    let folder = Folder::new(&organization(&gateway, ""));
    let serve = folder.serve();
    let mut client = serve.session("relay");
    let message = b"From: marie@solarmora.com\r\nSubject: Offer \xE9\r\nMessage-ID: <1@x>\r\n\r\nSecret body\r\n";
    let to = ["gone@friend.example", "here@friend.example", "full@friend.example"];
    let reply = client.message("marie@solarmora.com", &to, message);
    queue_id(&reply);
    let came = gateway.only();
    assert_eq!(came.to, ["<here@friend.example>"], "the others stand");
    let reports = folder.mailbox("marie@solarmora.com", "", 1);
    let report = &reports[0];
    for part in [
        "Return-Path: <>\n",
        "To: <marie@solarmora.com>\n",
        "Auto-Submitted: auto-replied\n",
        "multipart/report",
        "Reporting-MTA: dns; mx.solarmora.com\n",
        "Final-Recipient: rfc822; gone@friend.example\n",
        "Final-Recipient: rfc822; full@friend.example\n",
        "Action: failed\n",
        "Status: 5.1.1\n",
        "Status: 5.2.2\n",
        "Diagnostic-Code: smtp; 550 5.1.1 No such user\n",
        "Subject: Offer",
        "Message-ID: <1@x>",
    ] {
        assert!(report.contains(part), "{part}\n{report}");
    }
    assert!(!report.contains("here@friend.example"), "{report}");
    serve.terminate();
    assert_eq!(folder.mailbox_size("marie@solarmora.com", ""), 1, "one report for both");
}

#[test]
fn o2_an_empty_sender_and_notify_never_get_no_report() {
    let gateway = choosy();
    let folder = Folder::new(&organization(&gateway, ""));
    let serve = folder.serve();
    let mut client = serve.session("relay");
    client.ask("EHLO solarmora.com", "250");
    let id = queue_id(&client.message("", &["gone@friend.example"], b"\r\nx\r\n")).to_owned();
    serve.log.wait_for("failed", |line| line.contains("failed") && line.contains(&id));
    client.ask("MAIL FROM:<marie@solarmora.com>", "250");
    client.ask("RCPT TO:<gone@friend.example> NOTIFY=NEVER", "250");
    let id = queue_id(&client.data(b"\r\nx\r\n")).to_owned();
    serve.log.wait_for("failed", |line| line.contains("failed") && line.contains(&id));
    client.ask("MAIL FROM:<paul@solarmora.com>", "250");
    client.ask("RCPT TO:<here@friend.example> NOTIFY=SUCCESS", "250");
    queue_id(&client.data(b"\r\nx\r\n"));
    let report = folder.mailbox("paul@solarmora.com", "", 1).remove(0);
    assert!(report.contains("Action: relayed\n"), "{report}");
    serve.terminate();
    assert_eq!(folder.mailbox_size("marie@solarmora.com", ""), 0);
    assert_eq!(gateway.received().len(), 1, "and no bounce to a bounce goes out");
}

#[test]
fn a_report_to_an_outside_sender_goes_out_by_the_gateway() {
    let gateway = choosy();
    let rule = format!(
        r#"
[[organization.route]]
name = "second"
host = "127.0.0.1"
port = {}
require_tls = false

[[organization.rule]]
description = "Unknown to the second system"
affects = ["inbound"]
accounts = ["unrecognized"]
then = {{ modify = {{ route = "second" }} }}
"#,
        gateway.address.port()
    );
    let folder = Folder::new(&organization(&gateway, &rule));
    let serve = folder.serve();
    let to = ["gone@solarmora.com"];
    queue_id(&serve.session("mx").message("a@elsewhere.example", &to, b"\r\nx\r\n"));
    let report = gateway.only();
    assert_eq!(report.from.split(' ').next(), Some("<>"));
    assert_eq!(report.to, ["<a@elsewhere.example>"]);
    assert!(report.text().contains("Status: 5.1.1\r\n"), "{}", report.text());
    serve.terminate();
}

#[test]
fn a_recipient_refused_after_data_beside_one_that_stands_is_reported() {
    let gateway = Sink::start();
    let rule = r#"
[[organization.rule]]
description = "Paul gets nothing from outside"
affects = ["inbound"]
then = { reject = "Paul is away" }
[organization.rule.envelope]
recipients = [{ address = "paul@solarmora.com" }]
"#;
    let folder = Folder::new(&organization(&gateway, rule));
    let serve = folder.serve();
    let mut client = serve.session("mx");
    let both = ["marie@solarmora.com", "paul@solarmora.com"];
    let message = b"From: a@elsewhere.example\r\n\r\nx\r\n";
    queue_id(&client.message("a@elsewhere.example", &both, message));
    assert_eq!(folder.mailbox("marie@solarmora.com", "", 1).len(), 1);
    let report = gateway.only().text();
    for part in
        ["Final-Recipient: rfc822; paul@solarmora.com\r\n", "Action: failed\r\n", "Paul is away"]
    {
        assert!(report.contains(part), "{part}\n{report}");
    }
    let reply = client.message("a@elsewhere.example", &both[1..], message);
    assert!(reply.starts_with("550 ") && reply.contains("Paul is away"), "{reply}");
    serve.terminate();
    assert_eq!(folder.mailbox_size("paul@solarmora.com", ""), 0);
    assert_eq!(gateway.received().len(), 1);
}
