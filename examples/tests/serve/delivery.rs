//! `waypost serve`: next hops that refuse, fail, or are not what they should be.

use crate::support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::serving::{Folder, MARIE_RELAYS, queue_id};
use support::sink::{Sink, reserved};
use waypost_net::test_kit::{Act, Phase, Script};

/// Marie has a Maildir and relays from loopback; what is unknown goes by the route `second`, which
/// the caller gives.
fn organization(route: &str) -> String {
    format!(
        r#"
{MARIE_RELAYS}

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

/// What a host lacks, the message, its parameters, the status of the notice.
#[test]
fn what_does_not_fit_a_host_is_reported_and_not_sent_rfc_6152_1870_b3() {
    let eight_bit: &[u8] = b"From: marie@solarmora.com\r\n\r\ncaf\xc3\xa9\r\n";
    let large = [MESSAGE, &b"1234567\r\n".repeat(200)].concat();
    for (script, message, parameters, status) in [
        (Script::new().lacks("8BITMIME"), eight_bit, "", "5.6.3"),
        (Script::new().lacks("8BITMIME"), eight_bit, " BODY=8BITMIME", "5.6.3"),
        (Script::new().offers("SIZE 1000"), &large, "", "5.3.4"),
    ] {
        let sink = Sink::run(script);
        let folder = Folder::new(&organization(&(single(&sink) + "require_tls = false\n")));
        let serve = folder.serve();
        let mut client = serve.session("relay");
        client.ask(&format!("MAIL FROM:<marie@solarmora.com>{parameters}"), "250");
        client.ask("RCPT TO:<x@friend.example>", "250");
        queue_id(&client.data(message));
        let report = folder.mailbox("marie@solarmora.com", "", 1).remove(0);
        assert!(report.contains(&format!("Status: {status}\n")), "{report}");
        serve.terminate();
        let sessions = sink.peer().sessions();
        assert!(sessions.iter().all(|one| one.transactions.is_empty()), "{sessions:?}");
    }
}

#[test]
fn a9_what_was_lost_behind_the_dot_is_tried_again_later_at_the_same_host() {
    let first = Sink::run(Script::new().first(1, Phase::End, Act::Drop));
    let second = Sink::start();
    let host = |sink: &Sink| {
        format!("[{{ host = \"127.0.0.1\", port = {}, load = 100 }}]", sink.address.port())
    };
    let route =
        format!("require_tls = false\nprimary = {}\nsecondary = {}\n", host(&first), host(&second));
    let folder = Folder::new(&organization(&route));
    let serve = folder.serve();
    let mut client = serve.session("relay");
    let reply = client.message("marie@solarmora.com", &["x@friend.example"], MESSAGE);
    let id = queue_id(&reply);
    assert_eq!(first.only().behind_trace(), MESSAGE);
    let line =
        serve.log.wait_for("deferred", |line| line.contains("deferred") && line.contains(id));
    assert!(line.contains("after the message was sent"), "{line}");
    serve.terminate();
    let sent: Vec<_> =
        first.peer().sessions().into_iter().flat_map(|one| one.transactions).collect();
    assert_eq!(sent.iter().filter(|one| one.is_whole()).count(), 2, "{sent:?}");
    assert_eq!(second.connections(), 0, "never at another host");
}

#[test]
fn a9_what_is_lost_before_the_dot_goes_to_the_next_host_at_once() {
    for phase in [Phase::Mail, Phase::Rcpt, Phase::Data] {
        let first = Sink::run(Script::new().at(phase, Act::Drop));
        let second = Sink::start();
        let host = |sink: &Sink| {
            format!("[{{ host = \"127.0.0.1\", port = {}, load = 100 }}]", sink.address.port())
        };
        let (one, two) = (host(&first), host(&second));
        let route = format!("require_tls = false\nprimary = {one}\nsecondary = {two}\n");
        let folder = Folder::new(&organization(&route));
        let serve = folder.serve();
        let mut client = serve.session("relay");
        queue_id(&client.message("marie@solarmora.com", &["x@friend.example"], MESSAGE));
        assert_eq!(second.only().behind_trace(), MESSAGE, "{phase:?}");
        serve.terminate();
        assert!(first.received().is_empty());
    }
}

#[test]
fn a12_a_reload_keeps_connections_and_pauses_of_hosts_that_it_does_not_change() {
    let busy =
        Sink::run(Script::new().at(Phase::Banner, Act::ReplyAndDrop("421 4.3.2 Full".to_owned())));
    let second = Sink::start();
    let host = |sink: &Sink| {
        format!("[{{ host = \"127.0.0.1\", port = {}, load = 100 }}]", sink.address.port())
    };
    let (one, two) = (host(&busy), host(&second));
    let route = format!("require_tls = false\nprimary = {one}\nsecondary = {two}\n");
    let configuration = organization(&route);
    let folder = Folder::new(&configuration);
    let serve = folder.serve();
    let mut client = serve.session("relay");
    let mut send = |count: usize| {
        queue_id(&client.message("marie@solarmora.com", &["x@friend.example"], MESSAGE));
        second.wait(count);
    };
    send(1);
    assert_eq!((busy.connections(), second.connections()), (1, 1));
    let more = "\n[[organization.route]]\nname = \"other\"\nhost = \"other.example\"\n";
    folder.configure(&format!("{configuration}{more}"));
    let first = serve.log.wait_text(" reloaded ");
    send(2);
    assert_eq!((busy.connections(), second.connections()), (1, 1), "as before");
    // Whatever was changed of its route, the host may do better now.
    folder.configure(&organization(&format!("{route}on_tls_failure = \"defer\"\n")));
    serve.log.wait_for("the second", |line| line.contains(" reloaded ") && line != first);
    send(3);
    assert_eq!((busy.connections(), second.connections()), (2, 1), "tried again");
    serve.terminate();
}

#[test]
fn a9_limits_of_connections_are_those_of_the_configuration() {
    let sink = Sink::run(Script::new().at(Phase::Data, Act::Stall));
    let folder = Folder::new(&format!(
        "[server.limits]\nconnections_per_host = 2\nmessages_per_connection = 3\n\
         [server.timeouts]\nnext_hop_idle = \"1s\"\n{}",
        organization(&(single(&sink) + "require_tls = false\n"))
    ));
    let serve = folder.serve();
    let mut client = serve.session("relay");
    for _ in 0..8 {
        queue_id(&client.message("marie@solarmora.com", &["x@friend.example"], MESSAGE));
    }
    let both = sink.peer().wait_until(|sessions| {
        sessions.iter().filter(|one| one.commands.iter().any(|line| line == "DATA")).count() == 2
    });
    assert_eq!(both.unwrap().len(), 2);
    sink.peer().release();
    sink.wait(8);
    // What is idle says QUIT after a while.
    let sessions = sink.peer().wait_until(|all| all.iter().all(|one| one.is_over)).unwrap();
    for session in &sessions {
        assert!(session.transactions.len() <= 3, "{}", session.transactions.len());
        assert_eq!(session.commands.last().unwrap(), "QUIT");
    }
    assert!(sessions.len() >= 3);
    serve.terminate();
}

#[test]
fn rfc_5321_4_5_3_2_time_outs_are_those_of_the_configuration() {
    for (key, phase) in [
        ("next_hop_greeting", Phase::Banner),
        ("next_hop_command", Phase::Hello),
        ("next_hop_mail", Phase::Mail),
        ("next_hop_rcpt", Phase::Rcpt),
        ("next_hop_data", Phase::Data),
        ("next_hop_data_end", Phase::End),
    ] {
        let sink = Sink::run(Script::new().at(phase, Act::Stall));
        // The others are long: the phases before go by.
        let folder = Folder::new(&format!(
            "[server.timeouts]\n{}{key} = \"300ms\"\n{}",
            if key == "next_hop_command" { "next_hop_greeting = \"5m\"\n" } else { "" },
            organization(&(single(&sink) + "require_tls = false\n"))
        ));
        let serve = folder.serve();
        let mut client = serve.session("relay");
        queue_id(&client.message("marie@solarmora.com", &["x@friend.example"], MESSAGE));
        let line = serve.log.wait_for("timed out", |line| line.contains("timed out"));
        assert!(line.contains("deferred"), "{key}: {line}");
        drop(serve);
    }
}
