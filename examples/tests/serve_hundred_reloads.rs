//! A hundred reloads under load, every second one broken; and what the audit log says of changes (A12).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may say what they mean"
)]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use support::control::{ask, done, lines};
use support::serving::{Folder, queue_id};
use support::sink::{Received, Sink};
use support::smtp_client::SmtpClient;

const PATIENCE: Duration = Duration::from_secs(60);

/// Two rules that write the number of their configuration into each message to unknown recipients.
fn generation(second: &Sink, number: usize) -> String {
    format!(
        r#"
admin = "127.0.0.1:0"

[server.limits]
connections_per_client_per_minute = 1000000

[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250

[[organization.route]]
name = "second"
host = "127.0.0.1"
port = {}
require_tls = false

[[organization.rule]]
description = "One"
affects = ["inbound"]
accounts = ["unrecognized"]
then = {{ modify = {{ add_headers = [{{ name = "X-One", value = "{number}" }}] }} }}

[[organization.rule]]
description = "Two"
affects = ["inbound"]
accounts = ["unrecognized"]
then = {{ modify = {{ route = "second", add_headers = [{{ name = "X-Two", value = "{number}" }}] }} }}
"#,
        second.address.port()
    )
}

/// The same with something wrong; and how the audit log and the metrics call that.
fn broken(good: &str, number: usize) -> (String, &'static str, &'static str) {
    match number / 2 % 4 {
        0 => (format!("{good}\n[organization"), "this is not TOML", "not-toml"),
        1 => (good.replace("licences", "licenses"), "there is no key `licenses`", "errors"),
        2 => (good.replace("route = \"second\"", "route = \"third\""), "third", "errors"),
        _ => {
            let expect = "\n[[expect]]\ndescription = \"never\"\nfrom = \"a@b.example\"\n\
                          to = \"x@solarmora.com\"\nreply = \"550\"\n";
            let said = "[[expect]] \"never\": expected reply 550, came route \"second\"";
            (format!("{good}{expect}"), said, "expect")
        }
    }
}

/// What all who send share.
struct Traffic {
    mx: SocketAddr,
    /// The configurations between which a message's must be: those in force and those on disk.
    in_force: AtomicUsize,
    on_disk: AtomicUsize,
    sent: AtomicUsize,
    over: AtomicBool,
}

impl Traffic {
    /// Sends until it is over: the id of each message and its bounds.
    fn send(&self, sender: usize, keeps_its_connection: bool) -> Vec<(String, usize, usize)> {
        let connect = || SmtpClient::hello(self.mx, "client.elsewhere.example");
        let mut client = connect();
        let mut sent = Vec::new();
        while !self.over.load(Ordering::SeqCst) {
            if !keeps_its_connection {
                client = connect();
            }
            let id = format!("{sender}-{}", sent.len());
            let message = format!("From: a@elsewhere.example\r\nX-Id: {id}\r\n\r\nx\r\n");
            let least = self.in_force.load(Ordering::SeqCst);
            queue_id(&client.message(
                "a@elsewhere.example",
                &["new@solarmora.com"],
                message.as_bytes(),
            ));
            sent.push((id, least, self.on_disk.load(Ordering::SeqCst)));
            self.sent.fetch_add(1, Ordering::SeqCst);
        }
        sent
    }

    /// Until some more messages were taken.
    fn flows(&self) {
        let enough = self.sent.load(Ordering::SeqCst) + 5;
        let until = Instant::now() + PATIENCE;
        while self.sent.load(Ordering::SeqCst) < enough {
            assert!(Instant::now() < until, "no mail comes in");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Asks for a reload as `waypost reload` does, which reads the configuration itself to find the socket;
/// the answer.
fn reload(folder: &Folder) -> String {
    let mut socket = UnixStream::connect(folder.path("spool/control.sock")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(b"\"reload\"\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

fn field(received: &Received, name: &str) -> String {
    let text = received.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
}

#[test]
fn a12_a_hundred_reloads_every_second_one_broken_lose_nothing() {
    let _alone = support::alone();
    const RELOADS: usize = 100;
    let second = Sink::start();
    let folder = Folder::new(&generation(&second, 0));
    let serve = folder.serve();
    let traffic = Arc::new(Traffic {
        mx: serve.address("mx"),
        in_force: AtomicUsize::new(0),
        on_disk: AtomicUsize::new(0),
        sent: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    });
    let senders: Vec<_> = (0..3)
        .map(|sender| {
            let traffic = Arc::clone(&traffic);
            std::thread::spawn(move || traffic.send(sender, sender == 0))
        })
        .collect();
    let mut wanted = Vec::new();
    for number in 1..=RELOADS {
        if number % 2 == 1 {
            traffic.on_disk.store(number, Ordering::SeqCst);
            folder.configure(&generation(&second, number));
            let answer = reload(&folder);
            assert!(answer.contains("\"done\""), "{answer}");
            traffic.in_force.store(number, Ordering::SeqCst);
            wanted.push(("in-force", format!("\"{}\" -> \"{number}\"", number.max(2) - 2)));
        } else {
            // Its numbers are in no mail.
            let (broken, said, _) = broken(&generation(&second, 10_000 + number), number);
            folder.configure(&broken);
            let answer = reload(&folder);
            assert!(answer.contains("\"not-reloaded\""), "{said}: {answer}");
            wanted.push(("refused", said.to_owned()));
        }
        traffic.flows();
    }
    wanted[0].1 = "\"0\" -> \"1\"".to_owned();
    assert_eq!(serve.metric("waypost_config_stale"), 1);
    traffic.over.store(true, Ordering::SeqCst);
    let sent: Vec<_> = senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();

    // None lost, none twice; each under one version whole, and under one that it could have.
    let received = second.wait(sent.len());
    assert_eq!(received.len(), sent.len());
    let ids: BTreeSet<_> = received.iter().map(|one| field(one, "X-Id:")).collect();
    assert_eq!(ids, sent.iter().map(|(id, ..)| id.clone()).collect());
    let mut seen = BTreeSet::new();
    for one in &received {
        let (id, number) = (field(one, "X-Id:"), field(one, "X-One:"));
        assert_eq!(number, field(one, "X-Two:"), "{id}: half by one version, half by another");
        let number: usize = number.parse().unwrap();
        let (_, least, most) = sent.iter().find(|(sent, ..)| *sent == id).unwrap();
        assert!((*least..=*most).contains(&number), "{id}: {number}, not {least} to {most}");
        seen.insert(number);
    }
    assert!(seen.len() > 40, "{seen:?}");

    // What was refused by the look at the files was refused to the user again, in the same words.
    let audit: Vec<Value> = lines(&folder, &["audit"]);
    let mut changes: Vec<(String, String)> = Vec::new();
    for line in &audit[1..] {
        let change = &line["configuration"];
        let outcome = change["outcome"].as_str().unwrap().to_owned();
        let text = change["lines"].to_string();
        let again = changes.last().is_some_and(|last| outcome == "refused" && last.1 == text);
        if change["lines"].as_array().unwrap().is_empty() {
            assert!(change["change"].as_str().unwrap().starts_with("nothing changed"), "{line}");
        } else if !again {
            changes.push((outcome, text));
        }
    }
    assert_eq!(changes.len(), wanted.len(), "{changes:#?}");
    for ((outcome, text), (want, said)) in changes.iter().zip(&wanted) {
        assert_eq!(outcome, want, "{text}");
        assert!(text.replace("\\\"", "\"").contains(said), "{said}: {text}");
        if *want == "in-force" {
            for rule in ["One", "Two"] {
                let line = format!("organization \"Solarmora\": rule \"{rule}\": ");
                assert!(text.replace("\\\"", "\"").contains(&line), "{text}");
            }
        }
    }
    for cause in ["not-toml", "errors", "expect"] {
        let refused = serve.metric(&format!("waypost_config_refused_total{{cause=\"{cause}\"}}"));
        assert!(refused >= 12, "{cause}: {refused}");
    }
    folder.configure(&generation(&second, RELOADS - 1));
    done(&folder, &["reload"]);
    assert_eq!(serve.metric("waypost_config_stale"), 0, "what is on disk is in force again");
    serve.terminate();
}

fn changes(folder: &Folder) -> Vec<String> {
    done(folder, &["audit"]).lines().map(str::to_owned).collect()
}

/// Waits until the audit log has a line with this text.
fn wait_for_change(folder: &Folder, text: &str) -> Vec<String> {
    let until = Instant::now() + PATIENCE;
    loop {
        let lines = changes(folder);
        if lines.iter().any(|line| line.contains(text)) {
            return lines;
        }
        assert!(Instant::now() < until, "no {text}: {lines:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a12_the_audit_log_says_who_changed_what_from_what_to_what() {
    let _alone = support::alone();
    let second = Sink::start();
    let organization = |name: &str, licences: u32| {
        format!(
            "[[organization]]\nname = \"{name}\"\ndomains = [\"{name}.example\"]\nlicences = {licences}\n"
        )
    };
    let main = |route: &str| {
        generation(&second, 1)
            .replace("\nadmin", "\ninclude = [\"more/*.toml\"]\nadmin")
            .replace("name = \"second\"\nhost", "name = \"second\"\norg_unit = \"/\"\nhost")
            .replace("127.0.0.1\"\nport", &format!("{route}\"\nport"))
    };
    let folder = Folder::new(&main("127.0.0.1"));
    let serve = folder.serve();
    let log = changes(&folder);
    assert!(log.len() == 1 && log[0].contains("first start, version"), "{log:?}");

    folder.configure(&main("127.0.0.2"));
    let log = wait_for_change(&folder, "127.0.0.2");
    assert!(log[1].contains("owner of waypost.toml") && log[1].contains("(uid "), "{log:?}");
    assert!(log[1].contains("configuration: from version "), "{log:?}");
    assert_eq!(
        log[2].trim(),
        "organization \"Solarmora\": route \"second\": host: \"127.0.0.1\" -> \"127.0.0.2\""
    );

    // A file that only the pattern of `include` finds, in a folder that is new as well; nobody signals.
    std::fs::create_dir(folder.path("more")).unwrap();
    folder.write("more/lunamora.toml", &organization("lunamora", 5));
    let log = wait_for_change(&folder, "organization \"lunamora\" added");
    assert!(log[3].contains("owner of lunamora.toml"), "{log:?}");
    // Certificates are files of the configuration too.
    let pem = std::fs::read_to_string(folder.path("mx.pem")).unwrap();
    folder.write("mx.pem", &format!("{pem}\n"));
    wait_for_change(&folder, "file \"mx.pem\": written anew");
    // Only comments: a version of its own, and nothing that is different.
    folder.write("more/lunamora.toml", &format!("# L\n{}", organization("lunamora", 5)));
    wait_for_change(&folder, "only comments, blanks or order of keys");
    serve.terminate();

    // Changed while it was stopped: told at the next start; a start without a change is no line.
    folder.write("more/lunamora.toml", &organization("lunamora", 6));
    let serve = folder.serve();
    let log = wait_for_change(&folder, "licences: 5 -> 6");
    let [.., who, what] = log.as_slice() else { panic!("{log:?}") };
    assert!(who.contains("owner of lunamora.toml") && who.contains("before this start"), "{who}");
    assert_eq!(what.trim(), "organization \"lunamora\": licences: 5 -> 6");
    serve.terminate();
    let serve = folder.serve();
    assert_eq!(changes(&folder), log);
    let good = organization("lunamora", 6);

    // Refused: who wanted it, and what is wrong with it.
    folder.write("more/lunamora.toml", &organization("lunamora", 6).replace("licences", "seats"));
    serve.log.wait_text("the configuration has errors; the running one stays");
    folder.write("more/lunamora.toml", &good);
    let log = wait_for_change(&folder, "there is no key `seats`");
    assert!(log[log.len() - 2].contains("refused: it has errors; version "), "{log:?}");
    assert!(log[log.len() - 1].contains("lunamora.toml:4: there is no key"), "{log:?}");

    let count = |options: &[&str]| lines(&folder, &[&["audit"], options].concat()).len();
    let all = count(&[]);
    assert_eq!((count(&["--count", "2"]), count(&["--count", "99"])), (2, all));
    assert_eq!((count(&["--since", "1h"]), count(&["--since", "2999-01-01"])), (all, 0));
    assert_eq!(ask(&folder, &["audit", "--since", "yesterday"]).status, 2);
    // What was refused and taken back left what was in force.
    serve.log.wait_text("reload: nothing changed");
    serve.terminate();
    assert_eq!(changes(&folder), log, "the same without a server");
}
