//! `waypost milter` over its socket, told what Postfix tells: what it makes of a message is what `serve` makes of it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use waypost_milter::{Step, Steps};

use crate::mta::Mta;
use crate::support::serving::{Folder, Serve};
use crate::support::sink::Sink;
use crate::support::waypost;

/// One organization behind a gateway on loopback, with rules that change messages.
pub(crate) fn organization(port: u16, more: &str) -> String {
    format!(
        r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250
mailbox_route = "mailboxes"
outbound_gateway = "127.0.0.1:{port}"

[[organization.user]]
address = "marie@solarmora.com"

[[organization.user]]
address = "jean@solarmora.com"

[organization.inbound_gateway]
addresses = ["127.0.0.1"]
allow_private = true
detect_external_ip = true
spam_tag = {{ regex = '^X-spam-gw: spam$' }}

[[organization.route]]
name = "mailboxes"
host = "127.0.0.1"
port = {port}
require_tls = false

[[organization.rule]]
description = "Mail from outside"
affects = ["inbound"]
then = {{ modify = {{ subject_prefix = "[EXT]", add_headers = [{{ name = "X-Legacy", value = "yes" }}] }} }}

[[organization.rule]]
description = "Nobody reads this"
affects = ["inbound", "internal-receiving"]
accounts = ["unrecognized"]
envelope = {{ recipients = [{{ address = "noreply@solarmora.com" }}] }}
then = {{ reject = "Nobody reads this" }}

[[organization.rule]]
description = "Suspects"
affects = ["inbound"]
envelope = {{ senders = [{{ address = "suspect@elsewhere.example" }}] }}
then = {{ quarantine = "review" }}

[[organization.rule]]
description = "Not from strangers"
affects = ["inbound"]
envelope = {{ senders = [{{ address = "banned@elsewhere.example" }}], recipients = [{{ address = "jean@solarmora.com" }}] }}
then = {{ reject = "Not from you" }}

[[organization.rule]]
description = "The old office"
affects = ["inbound", "internal-receiving"]
accounts = ["unrecognized"]
envelope = {{ recipients = [{{ address = "office@solarmora.com" }}] }}
then = {{ modify = {{ replace_recipient = {{ address = "marie@solarmora.com" }} }} }}

[[organization.rule]]
description = "A copy of Jean's mail"
affects = ["inbound"]
envelope = {{ recipients = [{{ address = "jean@solarmora.com" }}] }}
then = {{ modify = {{ also_deliver_to = [{{ address = "archive@archive.example" }}] }} }}
{more}"#
    )
}

pub(crate) const LISTEN: &[&str] = &["--listen", "127.0.0.1:0"];

pub(crate) fn milter(folder: &Folder, arguments: &[&str]) -> Serve {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_waypost"));
    command.args(["milter", &folder.configuration()]).args(arguments);
    let server = Serve::run(command);
    server.log.wait_text("ready");
    server
}

const BEHIND: &str =
    "Received: from out.example ([203.0.113.9])\r\n\tby gw.solarmora.com; date\r\n";

#[test]
fn the_same_messages_become_the_same_as_by_serve_c6_e4_e9() {
    let hop = Sink::start();
    let text = organization(hop.address.port(), "");
    let (served, asked) = (Folder::new(&text), Folder::new(&text));
    let serve = served.serve();
    let server = milter(&asked, LISTEN);
    let mut mta = Mta::of(&server);
    mta.client("mx", "127.0.0.1");
    let (marie, stranger) = ("marie@solarmora.com", "a@elsewhere.example");
    let loops = "Received: from x ([192.0.2.1])\r\n".repeat(51);
    let folded =
        format!("{BEHIND}From: a@elsewhere.example\r\nSubject: Long\r\n\tand folded\r\n\r\n");
    let spam =
        format!("{BEHIND}X-spam-gw: spam\r\nFrom: a@elsewhere.example\r\nSubject: Hi\r\n\r\n");
    let (mut refused, mut taken) = (0, 0);
    for (from, to, message) in [
        (stranger, marie, "From: a@elsewhere.example\r\nSubject: Hi\r\n\r\n"),
        (stranger, marie, "From: a@elsewhere.example\r\nX: no subject\r\n\r\n"),
        (stranger, marie, "From: a@elsewhere.example\r\nSubject: [EXT] Hi\r\nX-Legacy: no\r\n\r\n"),
        (stranger, marie, "From: jean@solarmora.com\r\nSubject: inside?\r\n\r\n"),
        (stranger, marie, &folded),
        (stranger, marie, &spam),
        ("", marie, "From: a@elsewhere.example\r\nSubject: a notice\r\n\r\n"),
        (stranger, "office@solarmora.com", "From: a@elsewhere.example\r\nSubject: Hi\r\n\r\n"),
        (stranger, "noreply@solarmora.com", "Subject: Hi\r\n\r\n"),
        (stranger, "nobody@solarmora.com", "Subject: Hi\r\n\r\n"),
        (stranger, "friend@friend.example", "Subject: Hi\r\n\r\n"),
        ("banned@elsewhere.example", "jean@solarmora.com", "From: x@x.example\r\n\r\n"),
        (stranger, marie, &format!("{loops}Subject: Hi\r\n\r\n")),
    ] {
        let message = format!("{message}text\r\n");
        let mut client = serve.session("mx");
        let mut said = client.say(&format!("MAIL FROM:<{from}>"));
        if said.starts_with("250") {
            said = client.say(&format!("RCPT TO:<{to}>"));
        }
        if said.starts_with("250") {
            client.ask("DATA", "354");
            client.send(message.as_bytes());
            said = client.say(".");
        }
        let outcome = mta.message(from, &[to], &message);
        if !said.starts_with("250") {
            assert_eq!(outcome.reply, said, "{from} to {to}: {message}");
            refused += 1;
            continue;
        }
        taken += 1;
        assert_eq!(outcome.reply, "continue", "{outcome:?}");
        let all = hop.wait(taken);
        let sent = String::from_utf8_lossy(all[taken - 1].behind_trace()).into_owned();
        let want = sent.split_once("\r\n\r\n").unwrap().0;
        assert_eq!(outcome.header.trim_end(), want, "{from} to {to}");
    }
    assert_eq!((taken, refused), (8, 5));
    server.log.wait_text("source=203.0.113.9");
    server.terminate();
}

#[test]
fn recipients_quarantine_and_refusals_for_some_c6_d8() {
    let hop = Sink::start();
    let folder = Folder::new(&organization(hop.address.port(), ""));
    let server = milter(&folder, LISTEN);
    let mut mta = Mta::of(&server);
    mta.client("mx", "203.0.113.7");
    let message = "From: x@elsewhere.example\r\nSubject: Hi\r\n\r\ntext\r\n";
    let (marie, jean) = ("marie@solarmora.com", "jean@solarmora.com");

    let renamed = mta.message("a@elsewhere.example", &["office@solarmora.com"], message);
    assert_eq!(renamed.added, ["<marie@solarmora.com>"]);
    assert_eq!(renamed.deleted, ["<office@solarmora.com>"]);
    let copied = mta.message("a@elsewhere.example", &[jean, "nobody@solarmora.com"], message);
    assert_eq!((copied.added.len(), copied.deleted.len()), (1, 0));
    assert_eq!(copied.added, ["<archive@archive.example>"]);
    assert!(copied.refused[0].starts_with("550 5.1.1 "), "{copied:?}");

    let held = mta.message("suspect@elsewhere.example", &[marie], message);
    assert_eq!(held.reply, "continue");
    assert!(held.held.unwrap().starts_with("quarantine review: "));

    // One is refused after DATA: he is left out, and the sender gets a notice.
    let some = mta.message("banned@elsewhere.example", &[marie, jean], message);
    assert_eq!((some.reply.as_str(), some.deleted), ("continue", vec![format!("<{jean}>")]));
    server.log.wait_text("550 5.7.1 Not from you");
    let notice = &hop.wait(1)[0];
    assert!(notice.to[0].starts_with("<banned@elsewhere.example>"), "{notice:?}");
    assert!(notice.text().contains("550 5.7.1 Not from you"), "{}", notice.text());
    server.terminate();
}

#[test]
fn d3_d8_who_the_client_is() {
    let any = r#"
[[organization.relay]]
description = "By password"
allowed_senders = "any"
require_auth = true
require_tls = true
"#;
    let hop = Sink::start();
    let folder = Folder::new(&organization(hop.address.port(), any));
    let server = milter(&folder, LISTEN);
    server.log.wait_text("recipients are not counted");
    let message = "From: x@elsewhere.example\r\nSubject: Hi\r\n\r\ntext\r\n";
    let friend = ["friend@friend.example"];
    let mut mta = Mta::of(&server);
    mta.client("relay", "203.0.113.7");
    let refused = mta.message("a@elsewhere.example", &friend, message);
    assert!(refused.reply.starts_with("530 5.7.0 "), "{refused:?}");
    let mut mta = Mta::of(&server);
    mta.macros(Step::Helo, vec![(b"{tls_version}", b"TLSv1.3"), (b"{cipher}", b"X")]);
    mta.client("relay", "203.0.113.7");
    mta.macros(Step::Mail, vec![(b"{auth_authen}", b"marie@solarmora.com")]);
    let taken = mta.message("a@elsewhere.example", &friend, message);
    assert_eq!(taken.reply, "continue", "{taken:?}");
    assert_eq!(taken.sender.as_deref(), Some("<postmaster@solarmora.com>"));
    // The macros of a message are those of that message.
    let again = mta.message("a@elsewhere.example", &friend, message);
    assert!(again.reply.starts_with("530 5.7.0 "), "{again:?}");
}

#[test]
fn attachments_are_removed_and_bodies_asked_for_only_then_c6() {
    let none = r#"
[[organization.rule]]
description = "No files"
affects = ["inbound"]
then = { modify = { remove_attachments = true } }
"#;
    let message = "From: x@elsewhere.example\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n.text\r\n--b\r\n\
        Content-Type: a/b; name=x.exe\r\n\r\ngone\r\n--b--\r\n";
    let hop = Sink::start();
    let (with, without) = (
        Folder::new(&organization(hop.address.port(), none)),
        Folder::new(&organization(hop.address.port(), "")),
    );
    let served = Folder::new(&organization(hop.address.port(), none));
    let serve = served.serve();
    let (server, other) = (milter(&with, LISTEN), milter(&without, LISTEN));
    let mut mta = Mta::of(&server);
    mta.client("mx", "203.0.113.7");
    let changed = mta.message("a@elsewhere.example", &["marie@solarmora.com"], message);
    let body = String::from_utf8(changed.body.unwrap()).unwrap();
    assert!(!body.contains("gone") && body.contains(".text\r\n"), "{body}");
    let mut client = serve.session("mx");
    client.ask("MAIL FROM:<a@elsewhere.example>", "250");
    client.ask("RCPT TO:<marie@solarmora.com>", "250");
    client.ask("DATA", "354");
    client.send(message.replace("\r\n.", "\r\n..").as_bytes());
    client.ask(".", "250");
    let sent = hop.wait(1)[0].text();
    assert_eq!(sent.split_once("\r\n\r\n").unwrap().1, body);
    assert!(Mta::of(&other).steps.has(Steps::NO_BODY));
    server.terminate();
}

/// What was agreed upon when the mail server connected holds for the connection; where that is too little for a
/// new configuration, the client is to come again.
#[test]
fn a12_a_reload_that_needs_bodies_asks_for_a_new_session() {
    let hop = Sink::start();
    let without = organization(hop.address.port(), "");
    let folder = Folder::new(&without);
    let server = milter(&folder, LISTEN);
    let mut mta = Mta::of(&server);
    mta.client("mx", "203.0.113.7");
    let message = "From: x@elsewhere.example\r\nSubject: Hi\r\n\r\ntext\r\n";
    let to = ["marie@solarmora.com"];
    assert_eq!(mta.message("a@elsewhere.example", &to, message).reply, "continue");
    folder.configure(&without.replace("add_headers =", "remove_attachments = true, add_headers ="));
    server.signal("HUP");
    server.log.wait_text(" reloaded ");
    let told = mta.message("a@elsewhere.example", &to, message);
    assert!(told.reply.starts_with("421 4.3.2 "), "{told:?}");
    let mut mta = Mta::of(&server);
    assert!(!mta.steps.has(Steps::NO_BODY));
    mta.client("mx", "203.0.113.7");
    assert_eq!(mta.message("a@elsewhere.example", &to, message).reply, "continue");
    server.terminate();
}

#[test]
fn one_recipient_at_a_time_makes_each_a_message_of_its_own() {
    let hop = Sink::start();
    let folder = Folder::new(&organization(hop.address.port(), ""));
    let server =
        milter(&folder, &["--listen", "127.0.0.1:0", "--one-recipient", "--keep-recipients"]);
    let mut mta = Mta::of(&server);
    mta.client("mx", "203.0.113.7");
    let to = ["office@solarmora.com", "jean@solarmora.com"];
    let message = "From: x@elsewhere.example\r\nSubject: Hi\r\n\r\ntext\r\n";
    let one = mta.message("a@elsewhere.example", &to, message);
    assert!(one.refused[0].starts_with("452 4.5.3 "), "{one:?}");
    assert_eq!((one.reply.as_str(), one.added.len(), one.deleted.len()), ("continue", 0, 0));
    server.log.wait_text("recipient marie@solarmora.com not added");
}

#[test]
fn a_header_beyond_the_limit_is_refused_as_by_serve_e12() {
    let hop = Sink::start();
    let text = organization(hop.address.port(), "");
    let folder = Folder::new(&format!("limits = {{ header_size = \"2 KiB\" }}\n{text}"));
    let (serve, asked) = (folder.serve(), Folder::new(""));
    asked.configure(&format!("limits = {{ header_size = \"2 KiB\" }}\n{text}"));
    let server = milter(&asked, LISTEN);
    let folded = |lines: usize| {
        let lines = format!("{}\r\n\t", "x".repeat(80)).repeat(lines);
        format!("X-Long: {lines}x\r\n\r\ntext\r\n")
    };
    let (message, long) = (folded(20), folded(30));
    for (message, is_refused) in [(message, false), (long, true)] {
        let mut client = serve.session("mx");
        client.ask("MAIL FROM:<a@elsewhere.example>", "250");
        client.ask("RCPT TO:<marie@solarmora.com>", "250");
        client.ask("DATA", "354");
        client.send(message.as_bytes());
        let said = client.say(".");
        let mut mta = Mta::of(&server);
        mta.client("mx", "203.0.113.7");
        let outcome = mta.message("a@elsewhere.example", &["marie@solarmora.com"], &message);
        assert_eq!(said.starts_with("552 5.3.4"), is_refused, "{said}");
        assert_eq!(outcome.reply == said, is_refused, "{outcome:?}");
    }
}

#[test]
fn nonsense_reload_unix_socket_and_policy_server_beside() {
    let hop = Sink::start();
    let folder = Folder::new(&organization(hop.address.port(), ""));
    let path = folder.path("milter.sock");
    let unix = format!("unix:{}", path.display());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_waypost"));
    command.args(["policy-server", &folder.configuration(), "--policy", "127.0.0.1:0"]);
    command.args(["--milter", &unix]);
    let server = Serve::run(command);
    server.log.wait_text("ready");
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\0\0\0", b"\0\0\0\x01Z", b"\0\0\0\x02Mx"] {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(nonsense).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
    }
    server.log.wait_text("a connection is closed");
    let mut mta = Mta::over(UnixStream::connect(&path).unwrap());
    mta.client("mx", "203.0.113.7");
    let message = "From: x@elsewhere.example\r\nSubject: Hi\r\n\r\ntext\r\n";
    let before = mta.message("a@elsewhere.example", &["marie@solarmora.com"], message);
    assert!(before.header.contains("Subject: [EXT] Hi\r\n"));
    let changed = organization(hop.address.port(), "").replace("[EXT]", "[OUT]");
    folder.configure(&changed);
    server.signal("HUP");
    server.log.wait_text(" reloaded ");
    let after = mta.message("a@elsewhere.example", &["marie@solarmora.com"], message);
    assert!(after.header.contains("Subject: [OUT] Hi\r\n"), "{}", after.header);
    let ran = waypost(&["milter", &folder.configuration(), "--list-limits"], "");
    assert!(ran.stdout.contains("mailbox_route: the way is the mail server's"), "{}", ran.stdout);
    server.terminate();
    assert!(!path.exists());
}
