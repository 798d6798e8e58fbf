//! The log of `waypost serve` is one line an event, whatever a stranger writes into names and replies.

use crate::support;

use support::serving::{Folder, Serve, marie_by};
use support::sink::Sink;
use waypost_types::misleads;

/// What would be a line of its own, steer a terminal, turn the direction of the text or be unseen.
const FORGED: &str = "\u{1b}[2J\u{7}\u{9b}31m\u{202e}\u{2066}\u{2028}\u{200b}\u{feff}\u{e0041}";

fn configuration(sink: &Sink) -> String {
    marie_by(sink.address)
        + r#"
[[organization.rule]]
description = "No attachments"
affects = ["inbound"]
then = { modify = { remove_attachments = true } }

[[organization.relay]]
description = "By password"
allowed_senders = "my-domains"
require_auth = true
"#
}

/// A next hop, a client, a login and an attachment that all try it.
fn provoke(folder: &Folder, serve: &Serve) {
    let mut client = serve.session("mx");
    for command in [
        format!("EHLO a{FORGED}.example"),
        format!("MAIL FROM:<a{FORGED}@elsewhere.example>"),
        format!("MAIL FROM:<\"a{FORGED}\"@elsewhere.example>"),
        format!("RCPT TO:<\"x{FORGED}\"@solarmora.com>"),
        FORGED.to_owned(),
    ] {
        client.say(&command);
    }
    client.say("RSET");
    let name = "=?UTF-8?Q?a=0D=0A2026-01-01T00:00:00Z=20INFO=20forged=1B[2J.exe?=";
    let message = format!(
        "From: a@elsewhere.example\r\nSubject: {FORGED}\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\n\
         Content-Type: application/octet-stream\r\n\
         Content-Disposition: attachment; filename=\"{name}\"\r\n\r\nx\r\n--b--\r\n"
    );
    client.message("a@elsewhere.example", &["marie@solarmora.com"], message.as_bytes());
    let login = serve.session("relay").start_tls(folder.certificate(), "client.example");
    let mut login = login;
    let reply = login.auth_plain(&format!("marie\r\n2026 INFO forged{FORGED}"), "x");
    assert!(reply.starts_with('5'), "{reply}");
    serve.log.wait_text("550 5.7.1");
}

#[test]
fn nothing_that_strangers_write_makes_or_hides_a_line_of_the_log() {
    let sink = Sink::answering(|command| {
        command.starts_with("RCPT").then(|| format!("550 5.7.1 no{FORGED}\r2026 INFO forged"))
    });
    for json in [false, true] {
        let folder = Folder::new(&configuration(&sink));
        let arguments = if json { &["--json"][..] } else { &[] };
        let serve = Serve::with_arguments(&folder.configuration(), arguments);
        serve.log.wait_text("ready");
        provoke(&folder, &serve);
        let log = serve.log.to_string();
        serve.terminate();
        let events = log.lines().skip_while(|line| !line.contains("spool open"));
        for line in events {
            let whole = line == "ready" || line.starts_with("20") || line.starts_with('{');
            assert!(whole, "a line of somebody else's: {line:?}");
            assert!(!line.starts_with("2026 INFO forged"), "{line:?}");
            assert!(!line.contains(misleads), "it misleads who reads it: {line:?}");
        }
        let turned = if json { "\\u202e" } else { "\\u{202e}" };
        assert!(log.contains(turned), "the letters are told: {log}");
    }
}
