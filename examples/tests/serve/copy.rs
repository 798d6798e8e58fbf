//! `waypost serve`: a copy of each relayed message, for its sender or an archive (D16).

use crate::support;

use support::control::{done, lines};
use support::serving::{Folder, queue_id};
use support::sink::{Received, Sink};

const MESSAGE: &[u8] =
    b"From: Marie <marie@solarmora.com>\r\nSubject: caf\xc3\xa9\r\n\r\n..dots\r\n.\x20\r\nlast\r\n";
const FRIENDS: [&str; 2] = ["one@friend.example", "two@friend.example"];

/// Marie, whose outbound mail goes to a gateway; copies go there where the archive is.
fn organization(gateway: &Sink, copy_to: &str, limits: &str) -> String {
    format!(
        r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250
outbound_gateway = "{}"

[[organization.user]]
address = "marie@solarmora.com"
aliases = ["m.paul@solarmora.com"]

[[organization.relay]]
description = "Tickets"
allowed_senders = "my-domains"
addresses = [{{ range = "127.0.0.1" }}]
copy_to = "{copy_to}"

[organization.limits]
{limits}
"#,
        gateway.address
    )
}

/// What came for the friends, and what came for others.
fn parted(came: Vec<Received>) -> (Vec<Received>, Vec<Received>) {
    came.into_iter().partition(|one| one.to.iter().any(|to| to.contains("friend.example")))
}

/// How many recipients came in all.
fn recipients(came: &[Received]) -> usize {
    came.iter().map(|one| one.to.len()).sum()
}

#[test]
fn d16_the_sender_gets_one_copy_octet_for_octet_that_counts_for_no_limit() {
    let gateway = Sink::start();
    // Room for three messages of two recipients each, and for nothing beside them.
    let limits = "recipients_per_day = 6\nrecipients_per_10_minutes = 6\n\
                  messages_per_user_per_day = 3\nunique_recipients_per_user_per_day = 2";
    let folder = Folder::new(&organization(&gateway, "sender-mailbox", limits));
    let mut serve = folder.serve();
    for (number, from) in
        ["marie@solarmora.com", "m.paul@solarmora.com", "Marie@Solarmora.com"].iter().enumerate()
    {
        let reply = serve.session("relay").message(from, &FRIENDS, MESSAGE);
        queue_id(&reply);
        let came = gateway.wait_until("both friends", |all| recipients(all) >= 2 * (number + 1));
        assert!(came.iter().all(|one| one.behind_trace() == MESSAGE), "{came:?}");
        let copies = folder.mailbox("marie@solarmora.com", "", number + 1);
        assert_eq!(copies.len(), number + 1, "one copy a message: {copies:?}");
        for copy in copies {
            assert!(copy.starts_with("Return-Path: <>"), "{copy}");
            let sent = String::from_utf8_lossy(MESSAGE).replace("\r\n", "\n");
            assert!(copy.replace("\r\n", "\n").ends_with(&sent), "{copy}");
        }
        // What was counted survives, and no copy is among it.
        match number {
            2 => serve.kill(),
            _ => serve.terminate(),
        }
        serve = folder.serve();
    }
    let mut client = serve.session("relay");
    client.ask("MAIL FROM:<marie@solarmora.com>", "250");
    client.ask("RCPT TO:<one@friend.example>", "550 5.4.5");
    client.ask("RSET", "250");
    client.ask("MAIL FROM:<app@solarmora.com>", "250");
    client.ask("RCPT TO:<one@friend.example>", "550 5.7.1");
    serve.terminate();
    let (mail, copies) = parted(gateway.received());
    assert!(recipients(&mail) >= 6 && copies.is_empty(), "none of the copies left: {copies:?}");
}

#[test]
fn d16_who_is_no_user_has_no_copy() {
    let gateway = Sink::start();
    let folder = Folder::new(&organization(&gateway, "sender-mailbox", ""));
    let serve = folder.serve();
    for from in ["app@solarmora.com", "nobody@solarmora.com"] {
        queue_id(&serve.session("relay").message(from, &FRIENDS, MESSAGE));
    }
    gateway.wait_until("four recipients", |all| recipients(all) >= 4);
    queue_id(&serve.session("relay").message("marie@solarmora.com", &FRIENDS, MESSAGE));
    assert_eq!(folder.mailbox("marie@solarmora.com", "", 1).len(), 1);
    serve.terminate();
    let maildir = std::fs::read_dir(folder.path("spool/maildir/solarmora.com")).unwrap();
    let boxes: Vec<_> = maildir.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(boxes, ["marie"], "no mailbox for who has none");
}

#[test]
fn d16_an_archive_gets_its_copy_by_the_usual_way_and_it_never_comes_back() {
    let gateway = Sink::start();
    let folder = Folder::new(&organization(&gateway, "archive@store.example", ""));
    let serve = folder.serve();
    for from in ["marie@solarmora.com", "app@solarmora.com"] {
        queue_id(&serve.session("relay").message(from, &FRIENDS, MESSAGE));
    }
    let all = gateway.wait_until("six recipients", |all| recipients(all) >= 6);
    let (mail, copies) = parted(all);
    assert_eq!((recipients(&mail), copies.len()), (4, 2), "{copies:?}");
    for copy in &copies {
        assert_eq!(copy.to, ["<archive@store.example>"]);
        assert_eq!(copy.from.split(' ').next(), Some("<>"), "nobody is told of a copy's fate");
        assert_eq!(copy.behind_trace(), MESSAGE);
    }
    // The archive hands its copy in again: a loop, whoever it says that it is from.
    for from in ["marie@solarmora.com", "app@solarmora.com"] {
        let reply = serve.session("relay").message(from, &FRIENDS, &copies[0].message);
        assert!(reply.starts_with("554 5.4.6"), "{reply}");
        assert!(reply.contains("\"Tickets\"") && reply.contains("(O8)"), "{reply}");
    }
    // What went to a friend may come in again: it is no copy.
    let reply = serve.session("relay").message("app@solarmora.com", &FRIENDS, &mail[0].message);
    queue_id(&reply);
    gateway.wait_until("nine recipients", |all| recipients(all) >= 9);
    serve.terminate();
}

#[test]
fn d16_a_copy_that_fails_is_told_to_nobody_and_stands_in_the_stored_decision() {
    let gateway = Sink::answering(|command| {
        let refused = command.starts_with("RCPT") && command.contains("archive@");
        (refused).then(|| match command.contains("later") {
            true => "451 4.2.0 Later".to_owned(),
            false => "550 5.1.1 Nobody".to_owned(),
        })
    });
    let folder = Folder::new(&organization(&gateway, "archive@store.example", ""));
    let serve = folder.serve();
    let reply = serve.session("relay").message("marie@solarmora.com", &FRIENDS, MESSAGE);
    let id = queue_id(&reply).to_owned();
    serve.log.wait_for("the failed copy", |line| {
        line.contains("archive@store.example") && line.contains(&id) && line.contains("550")
    });
    gateway.wait_until("both friends", |all| recipients(all) >= 2);
    serve.terminate();
    let serve = folder.serve();
    assert_eq!(done(&folder, &["queue", "list"]), "0 messages\n", "no bounce waits");
    assert_eq!(folder.mailbox_size("marie@solarmora.com", ""), 0, "nobody is told");
    serve.terminate();

    folder.configure(&organization(&gateway, "archive@later.example", ""));
    let serve = folder.serve();
    let reply = serve.session("relay").message("marie@solarmora.com", &FRIENDS, MESSAGE);
    let id = queue_id(&reply).to_owned();
    serve.log.wait_for("the deferred copy", |line| {
        line.contains("archive@later.example") && line.contains(&id) && line.contains("deferred")
    });
    let shown = &lines(&folder, &["queue", "show", &id])[0];
    let decision = &shown["decision"];
    assert_eq!(decision["admission"]["copy"], "one to archive@later.example");
    let copy = decision["deliveries"].as_array().unwrap().last().unwrap();
    assert_eq!(copy["copy"], true, "{copy}");
    assert_eq!(copy["recipient"], "archive@later.example");
    assert_eq!(copy["suppress_bounces"], true);
    let text = done(&folder, &["queue", "show", &id]);
    assert!(text.contains("relay entry \"Tickets\" asks for a copy"), "{text}");
    assert!(text.contains("one to archive@later.example (D16)"), "{text}");
    serve.terminate();
}
