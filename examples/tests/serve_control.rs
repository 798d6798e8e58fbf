//! `waypost queue`, `reload`, `audit` and `quota`, beside a running server and without one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may say what they mean"
)]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::serving::{Folder, Serve, queue_id};
use support::sink::{Sink, reserved};
use support::{Ran, waypost};
use waypost_queue::{Body, Durability, Entry, Event, Hold, Owed, Record, Store as _, Timestamp};
use waypost_store::FjallStore;
use waypost_types::{Changes, Delivery, Destination, MailParameters, Notify, QueueId, TlsDemand};

const MESSAGE: &[u8] = b"From: a@elsewhere.example\r\nSubject: x\r\n\r\nx\r\n";

/// Unknown recipients go to a second system, whose retries are an hour apart; a quarantine for one
/// sender; a relay for loopback.
fn organization(second: SocketAddr) -> String {
    format!(
        r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 1

[[organization.user]]
address = "marie@solarmora.com"
aliases = ["m@solarmora.com"]

[[organization.route]]
name = "second"
host = "{}"
port = {}
require_tls = false
retry = {{ delays = ["1h"] }}

[[organization.rule]]
description = "Suspects"
affects = ["inbound"]
accounts = ["unrecognized"]
envelope = {{ senders = [{{ address = "suspect@elsewhere.example" }}] }}
then = {{ quarantine = "review" }}

[[organization.rule]]
description = "Split delivery"
affects = ["inbound"]
accounts = ["unrecognized"]
then = {{ modify = {{ route = "second" }} }}

[[organization.relay]]
description = "Loopback"
allowed_senders = "registered-users"
addresses = [{{ range = "127.0.0.1" }}]
"#,
        second.ip(),
        second.port()
    )
}

/// A sink that defers every recipient until it is opened.
struct Gate {
    sink: Sink,
    open: Arc<AtomicBool>,
}

impl Gate {
    fn closed() -> Self {
        let open = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&open);
        let sink = Sink::answering(move |command| {
            let defers = command.starts_with("RCPT TO:") && !asked.load(Ordering::SeqCst);
            defers.then(|| "451 4.2.0 Not now".to_owned())
        });
        Self { sink, open }
    }

    fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

fn send(serve: &Serve, from: &str, to: &[&str]) -> String {
    queue_id(&serve.session("mx").message(from, to, MESSAGE)).to_owned()
}

/// Runs a command on the folder's configuration: `queue show ID` is `["queue", "show", "ID"]`.
fn ask(folder: &Folder, command: &[&str]) -> Ran {
    let config = folder.configuration();
    let mut words = vec![command[0], &config];
    words.extend(&command[1..]);
    waypost(&words, "")
}

/// As [`ask`], with exit status 0.
fn done(folder: &Folder, command: &[&str]) -> String {
    let ran = ask(folder, command);
    assert_eq!(ran.status, 0, "{command:?}: {}{}", ran.stdout, ran.stderr);
    ran.stdout
}

/// The JSON lines of a command with exit status 0.
fn lines(folder: &Folder, command: &[&str]) -> Vec<Value> {
    let text = done(folder, &[command, &["--json"]].concat());
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Asks until the messages in a state are these many.
fn wait_for(folder: &Folder, state: &str, count: usize) -> Vec<Value> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let found = lines(folder, &["queue", "list", "--state", state]);
        if found.len() == count {
            return found;
        }
        assert!(Instant::now() < until, "{count} {state}: {found:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A text without what differs from run to run: ids, times, the port.
fn stable(text: &str, id: &str, second: SocketAddr) -> String {
    let text = text.replace(id, "0000000000ID0").replace(&format!(":{}", second.port()), ":PORT");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        let time = rest.get(..20).filter(|part| {
            let shape = part.chars().zip("0000-00-00T00:00:00Z".chars());
            let mut shape =
                shape.map(|(c, want)| if want == '0' { c.is_ascii_digit() } else { c == want });
            shape.all(|fits| fits)
        });
        match time {
            Some(time) => {
                out.push_str("2026-MM-DDTHH:MM:SSZ");
                rest = &rest[time.len()..];
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}

#[test]
fn a_message_is_listed_shown_held_and_released() {
    let second = Gate::closed();
    let folder = Folder::new(&organization(second.sink.address));
    let serve = folder.serve();
    assert_eq!(done(&folder, &["queue", "list"]), "0 messages\n");
    let id = send(&serve, "a@elsewhere.example", &["x@solarmora.com", "y@solarmora.com"]);
    let listed = wait_for(&folder, "waiting", 1);
    assert_eq!(listed[0]["id"], *id);
    let delivery = &listed[0]["deliveries"][0];
    assert_eq!(
        (&delivery["via"], &delivery["route"], &delivery["state"], &delivery["attempts"]),
        (&"route".into(), &"second".into(), &"waiting".into(), &1.into())
    );
    assert!(delivery["due"].as_u64() > listed[0]["accepted_at"].as_u64().map(|at| at + 3_000_000));

    let text = done(&folder, &["queue", "list"]);
    let want = "\
message        accepted                octets  state      next attempt          from -> to
0000000000ID0  2026-MM-DDTHH:MM:SSZ        44  waiting    2026-MM-DDTHH:MM:SSZ  a@elsewhere.example -> x@solarmora.com and 1 more
1 message
";
    assert_eq!(stable(&text, &id, second.sink.address), want);
    for (filter, count) in [
        (["--route", "SECOND"], 1),
        (["--route", "third"], 0),
        (["--state", "held"], 0),
        (["--state", "ready"], 0),
        (["--state", "running"], 0),
    ] {
        let found = lines(&folder, &[&["queue", "list"], &filter[..]].concat());
        assert_eq!(found.len(), count, "{filter:?}");
    }

    let text = done(&folder, &["queue", "show", &id]);
    let want = "\
message       0000000000ID0
accepted      2026-MM-DDTHH:MM:SSZ
octets        44
client        client.elsewhere.example [127.0.0.1]
sender        a@elsewhere.example

x@solarmora.com
  sender      a@elsewhere.example
  next hop    route second
  state       waiting, next attempt at 2026-MM-DDTHH:MM:SSZ
  attempts    1
  last        127.0.0.1:PORT: 451 4.2.0 Not now

y@solarmora.com
  sender      a@elsewhere.example
  next hop    route second
  state       waiting, next attempt at 2026-MM-DDTHH:MM:SSZ
  attempts    1
  last        127.0.0.1:PORT: 451 4.2.0 Not now

decided when it came

";
    let shown = stable(&text, &id, second.sink.address);
    let (facts, decision) = shown.split_at(want.len().min(shown.len()));
    assert_eq!(facts, want);
    // The stored decision is what `explain` says of such a message.
    folder.write("message.eml", &String::from_utf8_lossy(MESSAGE));
    let eml = folder.path("message.eml").to_string_lossy().into_owned();
    let explained = done(
        &folder,
        &[
            "explain",
            &eml,
            "--client-ip",
            "127.0.0.1",
            "--listener",
            "mx",
            "--from",
            "a@elsewhere.example",
            "--to",
            "x@solarmora.com",
            "--to",
            "y@solarmora.com",
        ],
    );
    let without_rcpt = explained.lines().filter(|line| !line.starts_with("RCPT "));
    let without_rcpt: String = without_rcpt.map(|line| format!("{line}\n")).collect();
    assert_eq!(decision, without_rcpt);
    let shown = &lines(&folder, &["queue", "show", &id])[0];
    assert_eq!(shown["decision"]["deliveries"][0]["because"][0], "Split delivery");
    assert_eq!(shown["envelopes"][1]["recipient"], "y@solarmora.com");
    assert!(shown["trace"].as_str().unwrap().starts_with("Received: from"));

    // Held: not tried, whatever is asked but its release.
    let held = done(&folder, &["queue", "hold", &id]);
    let want =
        format!("held {id}: a@elsewhere.example -> x@solarmora.com and 1 more, 2 deliveries\n");
    assert_eq!(held, want);
    second.open();
    let no = ask(&folder, &["queue", "retry", &id]);
    assert_eq!(no.status, 1);
    assert!(no.stderr.contains("it is held; release it"), "{}", no.stderr);
    assert_eq!(done(&folder, &["queue", "retry", "--all"]), "0 messages are tried now\n");
    let shown = done(&folder, &["queue", "show", &id]);
    assert!(shown.contains("  state       held: by ") && shown.contains("(uid "), "{shown}");
    assert_eq!(second.sink.received().len(), 0);
    let released = &lines(&folder, &["queue", "release", &id])[0];
    assert_eq!((&released["done"], &released["deliveries"]), (&"released".into(), &2.into()));
    assert_eq!(second.sink.only().to.len(), 2);
    wait_for(&folder, "running", 0);
    for command in ["show", "hold", "release", "remove", "retry"] {
        let no = ask(&folder, &["queue", command, &id]);
        assert_eq!((no.status, no.stdout.as_str()), (1, ""), "{command}");
        assert!(no.stderr.contains(&format!("{id} is not in the queue")), "{}", no.stderr);
        let no = ask(&folder, &["queue", command, &id, "--json"]);
        assert!(no.json_lines()[0]["error"].as_str().unwrap().contains("not in the queue"));
    }
    assert_eq!(ask(&folder, &["queue", "show", "nonsense"]).status, 2);
    serve.terminate();
}

#[test]
fn retry_makes_waiting_mail_go_out_at_once() {
    let second = Gate::closed();
    let folder = Folder::new(&organization(second.sink.address));
    let serve = folder.serve();
    let id = send(&serve, "a@elsewhere.example", &["x@solarmora.com"]);
    for to in ["y@solarmora.com", "z@solarmora.com"] {
        send(&serve, "a@elsewhere.example", &[to]);
    }
    wait_for(&folder, "waiting", 3);
    second.open();
    let text = done(&folder, &["queue", "retry", &id]);
    assert!(text.starts_with(&format!("tried now {id}: ")), "{text}");
    second.sink.wait(1);
    wait_for(&folder, "waiting", 2);
    let no = ask(&folder, &["queue", "retry", "--route", "third"]);
    assert_eq!(no.status, 1, "{}", no.stderr);
    assert!(no.stderr.contains("no organization has a route `third`"), "{}", no.stderr);
    assert_eq!(lines(&folder, &["queue", "retry", "--route", "second"])[0]["retried"], 2);
    second.sink.wait(3);
    assert_eq!(ask(&folder, &["queue", "retry"]).status, 2, "say what");
    serve.terminate();
}

#[test]
fn a9_retry_forgets_the_pause_of_a_host_that_was_down() {
    let address = reserved();
    let folder = Folder::new(&organization(address));
    let serve = folder.serve();
    let id = send(&serve, "a@elsewhere.example", &["x@solarmora.com"]);
    wait_for(&folder, "waiting", 1);
    let second = Sink::at(address);
    done(&folder, &["queue", "retry", &id]);
    second.wait(1);
    serve.terminate();
}

#[test]
fn c6_a_quarantined_message_is_delivered_as_decided_once_released() {
    let second = Sink::start();
    let folder = Folder::new(&organization(second.address));
    let serve = folder.serve();
    let id = send(&serve, "suspect@elsewhere.example", &["x@solarmora.com"]);
    let held = wait_for(&folder, "held", 1);
    let hold = &held[0]["deliveries"][0]["hold"];
    assert_eq!((&hold["kind"], &hold["name"]), (&"quarantine".into(), &"review".into()));
    assert!(
        done(&folder, &["queue", "show", &id])
            .contains("  state       held: quarantine \"review\", because of \"Suspects\"\n")
    );
    done(&folder, &["queue", "release", &id]);
    assert!(second.only().text().contains("Subject: x"));
    let no = ask(&folder, &["queue", "release", &id]);
    assert_eq!(no.status, 1);
    serve.terminate();
}

/// The ids that a spool holds anything of.
fn kept(spool: &Path) -> Vec<String> {
    let store = FjallStore::open(spool).unwrap();
    let mut ids = Vec::new();
    let aside = store.recover(&mut |event| ids.extend(event.id().map(|id| id.to_string())));
    assert_eq!(aside, Ok(vec![]));
    ids
}

#[test]
fn remove_leaves_nothing_on_disk_and_tells_nobody() {
    let second = Gate::closed();
    let folder = Folder::new(&organization(second.sink.address));
    let serve = folder.serve();
    let removed = send(&serve, "marie@solarmora.com", &["x@solarmora.com"]);
    let stays = send(&serve, "a@elsewhere.example", &["y@solarmora.com"]);
    wait_for(&folder, "waiting", 2);
    let text = done(&folder, &["queue", "remove", &removed]);
    let want = "removed 0000000000ID0: marie@solarmora.com -> x@solarmora.com, 1 delivery, \
                accepted 2026-MM-DDTHH:MM:SSZ, 44 octets\n";
    assert_eq!(stable(&text, &removed, second.sink.address), want);
    assert_eq!(wait_for(&folder, "waiting", 1)[0]["id"], *stays);
    // Confirmed is synced: nothing needs an orderly end.
    serve.kill();
    let ids = kept(&folder.path("spool"));
    assert!(ids.iter().all(|id| *id == stays) && !ids.is_empty(), "{ids:?}");
    let store = FjallStore::open(&folder.path("spool")).unwrap();
    let id = |text: &str| text.parse::<QueueId>().unwrap();
    assert_eq!(store.body(id(&removed)), Ok(None));
    assert!(store.body(id(&stays)).unwrap().is_some());
    drop(store);
    assert_eq!(folder.mailbox_size("marie@solarmora.com", ""), 0, "no bounce");
}

#[test]
fn a_message_that_is_removed_while_it_is_delivered_leaves_nothing_either() {
    let (asked, answer) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (saw, may) = (Arc::clone(&asked), Arc::clone(&answer));
    let second = Sink::answering(move |command| {
        if command.starts_with("RCPT TO:") {
            saw.store(true, Ordering::SeqCst);
            while !may.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            return Some("451 4.2.0 Not now".to_owned());
        }
        None
    });
    let folder = Folder::new(&organization(second.address));
    let serve = folder.serve();
    let id = send(&serve, "a@elsewhere.example", &["x@solarmora.com"]);
    let until = Instant::now() + Duration::from_secs(60);
    while !asked.load(Ordering::SeqCst) {
        assert!(Instant::now() < until, "the delivery begins");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(wait_for(&folder, "running", 1)[0]["id"], *id);
    let no = ask(&folder, &["queue", "retry", &id]);
    assert!(no.status == 1 && no.stderr.contains("it is being delivered now"), "{}", no.stderr);
    let text = done(&folder, &["queue", "remove", &id]);
    assert!(text.ends_with("; 1 under way goes on and may succeed\n"), "{text}");
    answer.store(true, Ordering::SeqCst);
    serve.log.wait_text("deferred");
    serve.terminate();
    assert_eq!(kept(&folder.path("spool")), Vec::<String>::new());
}

#[test]
fn a_restart_keeps_holds_and_commands_work_without_a_server() {
    let second = Gate::closed();
    let folder = Folder::new(&organization(second.sink.address));
    let serve = folder.serve();
    let held = send(&serve, "a@elsewhere.example", &["x@solarmora.com"]);
    let later = send(&serve, "a@elsewhere.example", &["y@solarmora.com"]);
    let gone = send(&serve, "a@elsewhere.example", &["z@solarmora.com"]);
    wait_for(&folder, "waiting", 3);
    done(&folder, &["queue", "hold", &held]);
    serve.kill();
    second.open();

    // The socket of the dead server is there still; the spool answers.
    assert!(folder.path("spool/control.sock").exists());
    assert_eq!(wait_for(&folder, "held", 1)[0]["id"], *held);
    assert!(done(&folder, &["queue", "show", &held]).contains("  state       held: by "));
    done(&folder, &["queue", "hold", &later]);
    done(&folder, &["queue", "remove", &gone]);
    for command in [&["queue", "retry", "--all"][..], &["reload"]] {
        let ran = ask(&folder, command);
        assert_eq!(ran.status, 2, "{command:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("no server runs"), "{}", ran.stderr);
    }

    let serve = folder.serve();
    assert_eq!(wait_for(&folder, "held", 2).len(), 2);
    assert_eq!(lines(&folder, &["queue", "list"]).len(), 2);
    assert_eq!(second.sink.received().len(), 0);
    serve.terminate();
    done(&folder, &["queue", "release", &held]);
    let serve = folder.serve();
    let got = second.sink.only();
    assert_eq!(got.to, ["<x@solarmora.com>"]);
    done(&folder, &["queue", "release", &later]);
    second.sink.wait(2);
    serve.terminate();
    let audit = lines(&folder, &["audit"]);
    let commands: Vec<_> =
        audit.iter().filter_map(|line| line["queue"].as_object()?.keys().next()).collect();
    assert_eq!(commands, ["hold", "hold", "remove", "release", "release"]);
}

#[test]
fn without_a_spool_nothing_is_made_and_the_cure_is_told() {
    let folder = Folder::new(&organization(reserved()));
    for command in [&["queue", "list"][..], &["audit"], &["quota"]] {
        let ran = ask(&folder, command);
        assert_eq!(ran.status, 2, "{command:?}");
        assert!(ran.stderr.contains("there is no spool at "), "{}", ran.stderr);
    }
    assert!(!folder.path("spool").exists());
    assert_eq!(waypost(&["queue", "none.toml", "list"], "").status, 2);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn one_server_a_spool_and_one_socket_for_its_owner_alone() {
    let second = Sink::start();
    let folder = Folder::new(&organization(second.address));
    let serve = folder.serve();
    let socket = folder.path("spool/control.sock");
    assert_eq!((mode(&socket), mode(&folder.path("spool"))), (0o600, 0o700));
    let mut other = Serve::spawn(&folder.configuration());
    assert_eq!(other.wait().code(), Some(2), "{}", other.log);
    other.log.wait_text("is in use by another process");
    assert_eq!(lines(&folder, &["queue", "list"]).len(), 0, "the first one's socket still answers");

    // A socket of a dead server is replaced, and an orderly end removes its own.
    serve.kill();
    assert!(UnixStream::connect(&socket).is_err());
    let serve = folder.serve();
    assert!(UnixStream::connect(&socket).is_ok());
    assert_eq!(mode(&socket), 0o600);
    serve.terminate();
    assert!(!socket.exists());
    // A locked spool without a socket: the cure is told.
    let lock = FjallStore::open(&folder.path("spool")).unwrap();
    let ran = ask(&folder, &["queue", "list"]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("in use by another process; stop it"), "{}", ran.stderr);
    drop(lock);
}

#[test]
fn a_spool_with_a_long_path_has_its_socket_too() {
    let second = Sink::start();
    let folder = Folder::new("");
    let long = format!("{}/{}", "a".repeat(90), "b".repeat(90));
    let text = fs::read_to_string(folder.configuration()).unwrap();
    let text = text.replace("spool = \"spool\"", &format!("spool = \"{long}\""));
    folder.write("waypost.toml", &format!("{text}{}", organization(second.address)));
    let serve = folder.serve();
    assert!(folder.path(&long).join("control.sock").exists());
    assert_eq!(done(&folder, &["queue", "list"]), "0 messages\n");
    serve.terminate();
}

fn talk(socket: &Path, line: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // A server that has heard enough hangs up.
    let _ = stream.write_all(line);
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn garbage_on_the_socket_is_answered_and_bounded() {
    let second = Sink::start();
    let folder = Folder::new(&organization(second.address));
    let serve = folder.serve();
    let socket = folder.path("spool/control.sock");
    let long = [b"\"".as_slice(), &[b'x'; 1 << 20], b"\"\n"].concat();
    for (line, said) in [
        (b"\n".as_slice(), "this is no request"),
        (b"GET / HTTP/1.1\r\n\r\n", "this is no request"),
        (b"\xff\xfe\0\n", "this is no request"),
        (b"\"shutdown\"\n", "unknown variant"),
        (b"{\"hold\":{\"id\":\"x\"}}\n", "is no queue id"),
        (b"{\"hold\":{\"id\":\"0000000000000\",\"force\":true}}\n", "unknown field"),
        (b"{\"list\":{}}{\"list\":{}}\n", "trailing characters"),
        (&long, "more than 4096 octets"),
    ] {
        let answer = talk(&socket, line);
        assert_eq!(answer.lines().count(), 1, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let because = answer["end"]["unusable"]["because"].as_str().unwrap();
        assert!(because.contains(said), "{said}: {because}");
    }
    assert_eq!(talk(&socket, b"{\"list\":{}}\n"), "{\"end\":{\"done\":{\"count\":0}}}\n");

    // So many at a time; the next one is told, and there is room again when they are gone.
    let mut idle = Vec::new();
    let full = loop {
        let ran = ask(&folder, &["queue", "list"]);
        if ran.status != 0 {
            break ran;
        }
        assert!(idle.len() < 64, "nobody bounds them");
        idle.push(UnixStream::connect(&socket).unwrap());
    };
    assert!(full.status == 2 && idle.len() >= 16, "{}", idle.len());
    assert!(full.stderr.contains("16 clients are served already"), "{}", full.stderr);
    drop(idle);
    let until = Instant::now() + Duration::from_secs(30);
    while ask(&folder, &["queue", "list"]).status != 0 {
        assert!(Instant::now() < until, "there is room again");
        std::thread::sleep(Duration::from_millis(20));
    }
    send(&serve, "a@elsewhere.example", &["x@solarmora.com"]);
    second.only();
    serve.terminate();
}

#[test]
fn a12_reload_takes_effect_or_says_everything_that_is_wrong() {
    let second = Sink::start();
    let good = organization(second.address);
    let folder = Folder::new(
        &good.replace("[[organization.user]]", "[[organization.user]]\nactive = false"),
    );
    let serve = folder.serve();
    folder.configure(&good);
    let text = done(&folder, &["reload"]);
    assert!(text.starts_with("reloaded: version ") && text.ends_with(" is in force\n"), "{text}");
    let version = lines(&folder, &["reload"])[0]["version"].as_str().unwrap().to_owned();
    assert!(text.contains(&version), "{text}");
    queue_id(&serve.session("mx").message(
        "a@elsewhere.example",
        &["marie@solarmora.com"],
        MESSAGE,
    ));
    assert_eq!(folder.mailbox("marie@solarmora.com", "", 1).len(), 1, "she is active now");

    // Refused: all of it is told, in the words of `check`, and the running one stays.
    let wrong =
        good.replace("licences", "licenses").replace("route = \"second\" }", "route = \"third\" }");
    folder.configure(&wrong);
    let no = ask(&folder, &["reload"]);
    assert_eq!(no.status, 1, "{}", no.stderr);
    for part in ["licenses", "licences", "third", "not usable; "] {
        assert!(no.stdout.contains(part), "{part}: {}", no.stdout);
    }
    assert_eq!(no.stdout, ask(&folder, &["check"]).stdout);
    let no = ask(&folder, &["reload", "--json"]);
    assert_eq!((no.status, &no.json_lines()[0]["usable"]), (1, &Value::Bool(false)));
    assert_eq!(no.json_lines(), ask(&folder, &["check", "--json"]).json_lines());
    let failing = "\n[[expect]]\ndescription = \"never\"\nfrom = \"a@b.example\"\n\
                   to = \"x@solarmora.com\"\nreply = \"550\"\n";
    folder.configure(&format!("{good}{failing}"));
    let no = ask(&folder, &["reload"]);
    assert!(no.status == 1 && no.stdout.contains("never"), "{}", no.stdout);
    folder.configure("\n[");
    assert_eq!(ask(&folder, &["reload"]).status, 2, "no TOML, as check says");
    // What only a restart can change.
    folder.configure(&good);
    let moved = fs::read_to_string(folder.configuration()).unwrap();
    let moved = moved.replace("[server]", "[server]\nadmin = \"127.0.0.1:0\"");
    folder.write("waypost.toml", &moved);
    let no = ask(&folder, &["reload"]);
    assert_eq!(no.status, 1);
    assert!(no.stdout.contains("the admin address cannot change"), "{}", no.stdout);
    queue_id(&serve.session("mx").message(
        "a@elsewhere.example",
        &["marie@solarmora.com"],
        MESSAGE,
    ));

    // Who: the user at the other end of the socket.
    let audit = done(&folder, &["audit"]);
    let by_user: Vec<_> =
        audit.lines().filter(|line| line.contains(" (uid ") && !line.contains("owner")).collect();
    assert!(by_user.len() >= 2, "{audit}");
    assert!(by_user[0].contains("configuration: from version "), "{audit}");
    serve.terminate();
    assert_eq!(done(&folder, &["audit"]), audit, "the same without a server");
}

#[test]
fn audit_names_who_changed_the_queue() {
    let second = Gate::closed();
    let folder = Folder::new(&organization(second.sink.address));
    let serve = folder.serve();
    let id = send(&serve, "a@elsewhere.example", &["x@solarmora.com"]);
    wait_for(&folder, "waiting", 1);
    for command in [&["hold", &id][..], &["release", &id]] {
        done(&folder, &[&["queue"], command].concat());
    }
    wait_for(&folder, "waiting", 1);
    for command in [&["retry", "--route", "second"][..], &["retry", "--all"]] {
        done(&folder, &[&["queue"], command].concat());
        wait_for(&folder, "waiting", 1);
    }
    done(&folder, &["queue", "remove", &id]);
    assert_eq!(
        ask(&folder, &["queue", "remove", &id]).status,
        1,
        "changes nothing, leaves no line"
    );
    let audit = done(&folder, &["audit"]);
    let said: Vec<_> = audit.lines().filter_map(|line| line.split_once(")  ")).collect();
    let what: Vec<_> = said.iter().map(|(_, what)| what.replace(&id, "ID")).collect();
    assert_eq!(
        what,
        [
            "queue: hold ID",
            "queue: release ID",
            "queue: retry route second, 1 messages",
            "queue: retry all, 1 messages",
            "queue: remove ID from <a@elsewhere.example>, 1 deliveries owed",
        ],
        "{audit}"
    );
    assert!(said.iter().all(|(who, _)| who.contains("(uid ")), "{audit}");
    let line = &lines(&folder, &["audit"])[0];
    assert_eq!(line["queue"]["hold"]["id"], *id);
    assert!(line["at"].is_u64() && line["who"].is_string(), "{line}");
    serve.terminate();
}

#[test]
fn d13_quota_shows_use_reservation_and_when_there_is_room() {
    let second = Sink::start();
    let limits = "[organization.limits]\nrecipients_per_day = 3\n";
    let folder = Folder::new("");
    let all = organization(second.address)
        .replace("[[organization.user]]", &format!("{limits}\n[[organization.user]]"));
    folder.configure(&all);
    let serve = folder.serve();
    let mut client = serve.session("relay");
    let to = ["one@solarmora.com", "two@solarmora.com"];
    queue_id(&client.message("m@solarmora.com", &to, MESSAGE));
    client.ask("MAIL FROM:<marie@solarmora.com>", "250");
    client.ask("RCPT TO:<three@solarmora.com>", "250");
    let want = "\
whose                limit                                           used  under way  allowed  room
marie@solarmora.com  messages of this sender in 24 hours             1     1          10000    9998
marie@solarmora.com  different recipients of this sender in 24 hours  2     1          130      127
Solarmora            recipients of this organization in 24 hours     2     1          3        at 2026-MM-DDTHH:MM:SSZ or before
Solarmora            recipients of this organization in 10 minutes   2     1          9        6
";
    let text = done(&folder, &["quota", "m@solarmora.com"]);
    let words =
        |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    assert_eq!(words(&stable(&text, "no id", second.address)), words(want), "{text}");
    drop(client);
    let until = Instant::now() + Duration::from_secs(30);
    let quota = loop {
        let quota = lines(&folder, &["quota", "solarmora"]);
        if quota[0]["reserved"] == 0 {
            break quota;
        }
        assert!(Instant::now() < until, "{quota:?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(quota.len(), 2);
    assert_eq!(
        (&quota[0]["organization"], &quota[0]["limit"], &quota[0]["used"], &quota[0]["allowed"]),
        (&"Solarmora".into(), &"recipients-per-day".into(), &2.into(), &3.into())
    );
    assert!(quota[0]["room_at"].is_null() && quota[0]["user"].is_null());
    assert_eq!(lines(&folder, &["quota"]).len(), 2, "all organizations");
    for (of, said) in [
        ("Lunamora", "there are: Solarmora"),
        ("nobody@solarmora.com", "no active user"),
        ("a@elsewhere.example", "no active user"),
    ] {
        let no = ask(&folder, &["quota", of]);
        assert!(no.status == 1 && no.stderr.contains(said), "{of}: {}", no.stderr);
    }
    serve.terminate();
    let again = lines(&folder, &["quota", "Solarmora"]);
    assert_eq!((&again[0]["used"], &again[1]["used"]), (&2.into(), &2.into()), "from the spool");
}

/// A message that somebody holds.
fn held(number: u64) -> Record {
    let delivery = Delivery {
        recipient: "x@solarmora.com".parse().unwrap(),
        original_recipient: "x@solarmora.com".parse().unwrap(),
        sender: "a@elsewhere.example".parse().unwrap(),
        destination: Destination::Mx,
        tls: TlsDemand::default(),
        changes: Changes::default(),
        suppress_bounces: false,
        spam: false,
        notify: Notify::Unsaid,
        orcpt: None,
    };
    let hold = Some(Hold::Operator { by: "root".into() });
    let entry = Entry {
        id: QueueId::new(number),
        accepted_at: Timestamp::from_millis(number),
        sender: delivery.sender.clone(),
        parameters: MailParameters::default(),
        client: "client.elsewhere.example [127.0.0.1]".into(),
        trace: "".into(),
        deliveries: vec![Owed { delivery, hold }],
        decision: "{}".into(),
        size: 45,
        header_size: 41,
    };
    let body = Body::from(MESSAGE.to_vec());
    Record { bodies: vec![(entry.id, body)], events: vec![Event::Accepted(Box::new(entry))] }
}

/// `WAYPOST_MESSAGES=100000` makes it as long as a bad day's queue.
#[test]
fn a_long_list_comes_in_pages_while_mail_goes_on() {
    let count: u64 = std::env::var("WAYPOST_MESSAGES").map_or(2_000, |text| text.parse().unwrap());
    let second = Sink::start();
    let folder = Folder::new(&organization(second.address));
    let store = FjallStore::open(&folder.path("spool")).unwrap();
    let numbers: Vec<u64> = (1..=count).collect();
    for some in numbers.chunks(1000) {
        let records: Vec<_> = some.iter().map(|number| held(*number)).collect();
        store.commit(&records, Durability::Lazy).unwrap();
    }
    store.commit(&[], Durability::Synced).unwrap();
    drop(store);
    let serve = folder.serve();
    // Somebody who asks for the list and does not read it holds nothing up.
    let mut lazy = UnixStream::connect(folder.path("spool/control.sock")).unwrap();
    lazy.write_all(b"{\"list\":{}}\n").unwrap();
    let config = folder.configuration();
    let began = Instant::now();
    let listing = std::thread::spawn(move || {
        let listed = waypost(&["queue", &config, "list", "--json"], "");
        (listed, began.elapsed())
    });
    let mut client = serve.session("mx");
    let (mut slowest, mut sent) = (Duration::ZERO, 0);
    while sent < 20 || !listing.is_finished() {
        let asked = Instant::now();
        queue_id(&client.message("a@elsewhere.example", &["y@solarmora.com"], MESSAGE));
        slowest = slowest.max(asked.elapsed());
        sent += 1;
    }
    second.wait(sent);
    let (listed, took) = listing.join().unwrap();
    assert_eq!(listed.status, 0, "{}", listed.stderr);
    let ids = listed.stdout.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["id"].as_str().unwrap().parse::<QueueId>().unwrap().number()
    });
    let ids: Vec<u64> = ids.filter(|number| *number <= count).collect();
    assert_eq!(ids, numbers, "each once, in order");
    println!(
        "{count} messages listed in {took:?}; slowest of {sent} transactions meanwhile {slowest:?}"
    );
    drop(lazy);
    serve.terminate();
}
