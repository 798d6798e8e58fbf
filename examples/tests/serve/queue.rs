//! `waypost queue`, beside a running server and without one.

use crate::support;

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::control::{Gate, MESSAGE, ask, done, lines, organization, send, stable, wait_for};
use support::serving::{Folder, queue_id};
use support::sink::{Sink, reserved};
use support::waypost;
use waypost_queue::{Body, Durability, Entry, Event, Hold, Owed, Record, Store as _, Timestamp};
use waypost_store::FjallStore;
use waypost_types::{Changes, Delivery, Destination, MailParameters, Notify, QueueId, TlsDemand};

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
  hosts now   127.0.0.1:PORT; draw DRAW
  TLS now     by STARTTLS where offered, else clear text; any certificate will do

y@solarmora.com
  sender      a@elsewhere.example
  next hop    route second
  state       waiting, next attempt at 2026-MM-DDTHH:MM:SSZ
  attempts    1
  last        127.0.0.1:PORT: 451 4.2.0 Not now
  hosts now   127.0.0.1:PORT; draw DRAW
  TLS now     by STARTTLS where offered, else clear text; any certificate will do

decided when it came

";
    let json = &lines(&folder, &["queue", "show", &id])[0];
    let hosts = &json["decision"]["deliveries"][0]["hosts"];
    let draw = hosts["draw"].as_str().unwrap();
    // A9: the draw that was stored is the one of now.
    assert_eq!(json["now"]["ways"][0]["hosts"]["draw"], draw);
    assert_eq!(json["now"]["version"], json["decision"]["version"]);
    assert_eq!(json["now"]["ways"][1]["tls_policy"]["require_tls"], false);
    let shown = stable(&text, &id, second.sink.address).replace(draw, "DRAW");
    let (facts, decision) = shown.split_at(want.len().min(shown.len()));
    assert_eq!(facts, want);
    // The stored decision is what `explain` says of such a message, but for the draw, which a dry run
    // has not, and for what is asked of TLS, which is told as of now.
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
    let explained = stable(&explained, &id, second.sink.address);
    let of_now = |line: &&str| !line.starts_with("RCPT ") && !line.starts_with("  TLS  ");
    let stored: String = explained.lines().filter(of_now).map(|line| format!("{line}\n")).collect();
    assert_eq!(decision.replace("; draw DRAW of this message", ""), stored);
    let shown = json;
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
fn c9_show_tells_the_headroom_of_who_relays_as_of_now() {
    let second = Gate::closed();
    let folder = Folder::new(&organization(second.sink.address));
    let serve = folder.serve();
    let root = folder.certificate();
    let mut client = serve.session("relay").start_tls(root, "client.elsewhere.example");
    let to = ["x@solarmora.com", "y@solarmora.com"];
    let id = queue_id(&client.message("m@solarmora.com", &to, MESSAGE)).to_owned();
    let json = &lines(&folder, &["queue", "show", &id])[0];
    assert_eq!(json["decision"]["admission"]["user"], "marie@solarmora.com");
    let quota = json["now"]["quota"].as_array().unwrap();
    let whose: Vec<_> = quota.iter().map(|line| (&line["user"], &line["used"])).collect();
    let marie = Value::from("marie@solarmora.com");
    let none = Value::Null;
    let (one, two) = (1.into(), 2.into());
    assert_eq!(whose, [(&marie, &one), (&marie, &two), (&none, &two), (&none, &two)]);
    let text = done(&folder, &["queue", "show", &id]);
    for part in [
        "room for relayed mail at ",
        "  marie@solarmora.com  1 of 10000 messages of this sender in 24 hours\n",
        "  Solarmora  2 of 130 recipients of this organization in 24 hours\n",
        "relayed       for Solarmora, by entry \"Loopback\"\n",
        "sender is the user marie@solarmora.com; it counts for marie@solarmora.com\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
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
        deliveries: vec![Owed { delivery, hold, rule: None, marks: Vec::new() }],
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
