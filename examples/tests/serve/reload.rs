//! `waypost serve`: reload, end, and what it says of a configuration it cannot run.

use crate::support;

use support::serving::{Folder, HOSTNAME, Serve, queue_id};
use support::sink::Sink;
use support::smtp_client::SmtpClient;

/// One user, and where unknown recipients go.
fn organization(second: &Sink, user: &str, more: &str) -> String {
    format!(
        r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250

[[organization.user]]
address = "{user}@solarmora.com"

[[organization.route]]
name = "second"
host = "127.0.0.1"
port = {}
require_tls = false
{more}"#,
        second.address.port()
    )
}

const SPLIT: &str = r#"
[[organization.rule]]
description = "Split delivery"
affects = ["inbound"]
accounts = ["unrecognized"]
then = { modify = { route = "second" } }
"#;

const MESSAGE: &[u8] = b"From: a@elsewhere.example\r\n\r\nx\r\n";

#[test]
fn a12_a_changed_file_or_sighup_takes_effect_and_no_session_is_lost() {
    let second = Sink::start();
    let folder = Folder::new(&organization(&second, "marie", ""));
    let serve = folder.serve();
    let mut client = serve.session("mx");
    client.ask("MAIL FROM:<a@elsewhere.example>", "250");
    client.ask("RCPT TO:<new@solarmora.com>", "550 5.1.1");
    client.ask("RCPT TO:<marie@solarmora.com>", "250");

    folder.configure(&organization(&second, "marie", SPLIT));
    let line = serve.log.wait_text(" reloaded ");
    assert!(line.contains("version="), "{line}");
    // The transaction that was open ends under the old policy, the next one is under the new one.
    client.ask("RCPT TO:<new@solarmora.com>", "550 5.1.1");
    queue_id(&client.data(MESSAGE));
    assert_eq!(folder.mailbox("marie@solarmora.com", "", 1).len(), 1);
    queue_id(&client.message("a@elsewhere.example", &["new@solarmora.com"], MESSAGE));
    second.only();

    // SIGHUP reads it anew, changed or not.
    serve.signal("HUP");
    serve.log.wait_text("reload: nothing changed");
    queue_id(&client.message("a@elsewhere.example", &["new@solarmora.com"], MESSAGE));
    second.wait(2);
    serve.terminate();
}

/// A listener's certificate is renewed by replacing its files; a reload reads them anew.
#[test]
fn a12_d5_a_reload_takes_up_a_renewed_certificate_and_no_session_ends() {
    let folder = Folder::new(&organization(&Sink::start(), "marie", ""));
    let serve = folder.serve();
    let mut before =
        serve.session("mx").start_tls(folder.certificate(), "client.elsewhere.example");

    let renewed = rcgen::generate_simple_self_signed([HOSTNAME.to_owned()]).unwrap();
    folder.write("mx.pem", &renewed.cert.pem());
    folder.write("mx.key", &renewed.signing_key.serialize_pem());
    serve.signal("HUP");
    serve.log.wait_text(" reloaded ");
    let root = renewed.cert.der();
    let mut after = serve.session("mx").start_tls(root, "client.elsewhere.example");
    for client in [&mut before, &mut after] {
        queue_id(&client.message("a@elsewhere.example", &["marie@solarmora.com"], MESSAGE));
    }

    // A key that is not the certificate's: what was in force stays, and why is told.
    let other = rcgen::generate_simple_self_signed([HOSTNAME.to_owned()]).unwrap();
    folder.write("mx.key", &other.signing_key.serialize_pem());
    serve.signal("HUP");
    let line = serve.log.wait_text("the running configuration stays");
    assert!(line.contains("mx.key"), "{line}");
    serve.session("mx").start_tls(root, "client.elsewhere.example");
    serve.terminate();
}

#[test]
fn a12_a_broken_configuration_leaves_the_running_one_in_place() {
    let second = Sink::start();
    let good = organization(&second, "marie", SPLIT);
    let folder = Folder::new(&good);
    let serve = folder.serve();
    let mut client = serve.session("mx");
    let expect = r#"
[[expect]]
description = "an unknown address goes nowhere"
from = "a@elsewhere.example"
to = "new@solarmora.com"
reply = "550"
"#;
    for (broken, said) in [
        (good.replace("route = \"second\" }", "route = \"third\" }"), "third"),
        (good.replace("licences", "licenses"), "licences"),
        (format!("{good}\n[organization"), "TOML"),
        (format!("{good}{expect}"), "an unknown address goes nowhere"),
        (
            good.replace(
                "[[organization]]",
                "[server.limits]\nmessage_size = true\n[[organization]]",
            ),
            "message_size",
        ),
    ] {
        folder.configure(&broken);
        serve.signal("HUP");
        serve.log.wait_text(said);
        serve.log.wait_for("stays", |line| line.contains("stays"));
        queue_id(&client.message("a@elsewhere.example", &["new@solarmora.com"], MESSAGE));
    }
    assert!(!serve.log.holds(" reloaded "), "{}", serve.log);
    // What only a restart can change is refused too, with the reason.
    let moved = std::fs::read_to_string(folder.configuration()).unwrap();
    let moved = moved.replace("spool = \"spool\"", "spool = \"elsewhere\"");
    folder.configure(&good);
    serve.log.wait_text("reload: nothing changed");
    folder.write("waypost.toml", &moved.replace("message_size = true", ""));
    let line = serve.log.wait_text("the spool cannot change while the server runs");
    assert!(line.contains("restart"), "{line}");
    queue_id(&client.message("a@elsewhere.example", &["new@solarmora.com"], MESSAGE));
    second.wait(6);
    serve.terminate();
}

#[test]
fn sigterm_lets_a_transaction_in_progress_finish_and_exits_0() {
    let second = Sink::start();
    let folder = Folder::new(&organization(&second, "marie", SPLIT));
    let mut serve = folder.serve();
    let address = serve.address("mx");
    let mut open = serve.session("mx");
    open.ask("MAIL FROM:<a@elsewhere.example>", "250");
    open.ask("RCPT TO:<new@solarmora.com>", "250");
    open.ask("DATA", "354");
    open.send(b"Subject: half\r\n\r\n");
    let mut idle = serve.session("mx");
    serve.signal("TERM");
    let bye = idle.reply();
    assert!(bye.starts_with("421 4.3.2"), "{bye}");
    open.send(b"the other half\r\n.\r\n");
    queue_id(&open.reply());
    let status = serve.wait();
    assert!(status.success(), "{status}\n{}", serve.log);
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens any more");

    let serve = folder.serve();
    assert!(second.only().text().ends_with("the other half\r\n"));
    serve.terminate();
}

#[test]
fn a_wrong_configuration_shows_all_errors_at_once_with_place_and_cure() {
    let second = Sink::start();
    let wrong = organization(&second, "marie", SPLIT)
        .replace(&format!("port = {}", second.address.port()), "port = 465")
        .replace("licences", "licenses")
        .replace("route = \"second\" }", "route = \"third\" }");
    let loads = r#"
[[organization.route]]
name = "edge"
primary = [{ host = "a.example", load = 50 }, { host = "b.example", load = 40 }]
"#;
    let folder = Folder::new(&format!("{wrong}{loads}"));
    let mut serve = Serve::spawn(&folder.configuration());
    assert_eq!(serve.wait().code(), Some(1), "{}", serve.log);
    let text = std::fs::read_to_string(folder.configuration()).unwrap();
    let place = |what: &str| {
        let line = text.lines().position(|line| line.contains(what)).unwrap() + 1;
        format!("waypost.toml:{line}:")
    };
    for parts in [
        ["465", place("port = 465").as_str(), "A2"],
        ["licenses", &place("licenses"), "licences"],
        ["third", &place("\"third\""), "second"],
        ["90", &place("load = 50"), "A3"],
    ] {
        for part in parts {
            serve.log.wait_text(part);
        }
    }
    assert!(!serve.log.is_ready());
    assert!(!folder.path("spool").exists(), "nothing is made for a configuration that is wrong");
}

#[test]
fn unusable_input_of_serve_exits_2() {
    let second = Sink::start();
    let folder = Folder::new(&organization(&second, "marie", SPLIT));
    let good = std::fs::read_to_string(folder.configuration()).unwrap();
    let busy = format!("bind = \"{}\"", second.address);
    for (file, text, said) in [
        ("none.toml", None, "none.toml"),
        ("bad.toml", Some("[server\n".to_owned()), "bad.toml:1:"),
        ("busy.toml", Some(good.replacen("bind = \"127.0.0.1:0\"", &busy, 1)), "listener \"mx\""),
        ("tls.toml", Some(good.replacen("mx.pem", "none.pem", 1)), "none.pem"),
    ] {
        if let Some(text) = text {
            folder.write(file, &text);
        }
        let mut serve = Serve::spawn(&folder.path(file).to_string_lossy());
        assert_eq!(serve.wait().code(), Some(2), "{file}\n{}", serve.log);
        serve.log.wait_text(said);
        assert!(!serve.log.is_ready(), "{file}");
    }
}

#[test]
fn a12_reloads_under_load_lose_nothing_and_send_nothing_twice() {
    const SESSIONS: usize = 5;
    const EACH: usize = 40;
    let second = Sink::start();
    let good = organization(&second, "marie", SPLIT);
    let folder = Folder::new(&good);
    let serve = folder.serve();
    let address = serve.address("mx");
    let threads: Vec<_> = (0..SESSIONS)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = SmtpClient::hello(address, "client.elsewhere.example");
                for _ in 0..EACH {
                    let to = ["new@solarmora.com"];
                    queue_id(&client.message("a@elsewhere.example", &to, MESSAGE));
                }
            })
        })
        .collect();
    for number in 0..20 {
        folder.configure(&good.replace("licences = 250", &format!("licences = {number}")));
        serve.signal("HUP");
        second.wait(number * SESSIONS * EACH / 20);
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    second.wait(SESSIONS * EACH);
    serve.log.wait_text(" reloaded ");
    serve.terminate();
    assert_eq!(second.received().len(), SESSIONS * EACH);
}
