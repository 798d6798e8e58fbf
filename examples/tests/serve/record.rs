//! `[server] record` and `waypost diff`: what real mail leaves in the record, and which of it would go
//! elsewhere under another configuration.

use crate::support;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::serving::{Folder, Serve, queue_id};
use support::smtp_client::SmtpClient;
use support::tmpfs::Tmpfs;
use support::{Ran, waypost};

const RECORD: &str = "record = \"envelopes.jsonl\"\n";
const HASHED: &str = "record = { file = \"envelopes.jsonl\", local_parts = \"hashed\" }\n";

/// Everything that a single change can touch. The port of the routes is one that nobody listens on.
const ORGANIZATION: &str = r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250

[[organization.user]]
address = "marie@solarmora.com"
[[organization.user]]
address = "jean@solarmora.com"
[[organization.group]]
address = "team@solarmora.com"
members = ["marie@solarmora.com"]

[[organization.route]]
name = "second"
host = "127.0.0.1"
port = 1025
require_tls = false

[[organization.rule]]
description = "Split delivery"
affects = ["inbound", "internal-receiving"]
accounts = ["unrecognized"]
then = { modify = { route = "second" } }

[[organization.rule]]
description = "Copy of partner mail"
affects = ["inbound"]
envelope = { senders = [{ pattern = '@partner\.example$' }] }
then = { modify = { also_deliver_to = [{ address = "marie@solarmora.com" }] } }

[[organization.rule]]
description = "No parcels"
affects = ["inbound"]
envelope = { senders = [{ address = "driver@parcels.example" }] }
then = { reject = "no parcels here" }

[[organization.rule]]
description = "Traps"
affects = ["inbound"]
envelope = { senders = [{ pattern = '@traps\.example$' }] }
then = { quarantine = "traps" }

[organization.inbound_gateway]
addresses = ["127.0.0.1"]
allow_private = true
detect_external_ip = true
spam_tag = { regex = '^X-Filter: spam$' }

[[organization.relay]]
description = "Loopback"
allowed_senders = "my-domains"
addresses = [{ range = "127.0.0.1" }]
require_tls = false
"#;

/// Sends mail of all kinds, one message after the other; the number of lines that it leaves.
fn send_all(serve: &Serve) -> usize {
    let mut mx = serve.session("mx");
    let text = |from: &str| {
        format!(
            "From: Somebody <{from}>\r\nSubject: a secret\r\nX-Nothing: x\r\n\r\nsecret body\r\n"
        )
    };
    let mut send = |from: &str, to: &[&str], message: &str, want: &str| {
        let reply = mx.message(from, to, message.as_bytes());
        assert!(reply.starts_with(want), "{from} {to:?}: {reply}");
    };
    let outside = "ann@elsewhere.example";
    send(outside, &["marie@solarmora.com"], &text(outside), "250"); // 0
    send(outside, &["nobody@solarmora.com"], &text(outside), "250"); // 1
    send(outside, &["team@solarmora.com"], &text(outside), "250"); // 2
    send("p@partner.example", &["jean@solarmora.com"], &text("p@partner.example"), "250"); // 3
    let driver = "driver@parcels.example";
    send(driver, &["marie@solarmora.com"], &text(driver), "550"); // 4
    send("t@traps.example", &["marie@solarmora.com"], &text("t@traps.example"), "250"); // 5
    mx.ask("MAIL FROM:<ann@elsewhere.example>", "250"); // 6
    mx.ask("RCPT TO:<someone@outside.example>", "550");
    mx.ask("RSET", "250");

    let mut relay = serve.session("relay");
    let marie = "marie@solarmora.com";
    let reply = relay.message(marie, &["friend@outside.example"], text(marie).as_bytes()); // 7
    queue_id(&reply);
    relay.ask("MAIL FROM:<forger@outside.example>", "550"); // 8

    let mut send = |from: &str, to: &[&str], message: &str| {
        queue_id(&mx.message(from, to, message.as_bytes()));
    };
    let tagged = format!(
        "X-Filter: spam\r\nReceived: from ann-pc (client.example [192.0.2.77]) by gw.example with \
         SMTP id 7\r\n\tfor <marie@solarmora.com>; Tue, 24 Mar 2020 15:11:47 -0800\r\n{}",
        text(outside)
    );
    send(outside, &[marie], &tagged); // 9
    send(marie, &["jean@solarmora.com"], &text(marie)); // 10
    send(outside, &[marie, "nobody@solarmora.com"], &text(outside)); // 11
    12
}

/// A change in a single place, and the messages that it is to change.
const CHANGES: [(&str, &str, &str, &[usize]); 17] = [
    ("nothing", "licences", "licences", &[]),
    (
        "a rule is removed",
        "accounts = [\"unrecognized\"]",
        "mode = \"off\"\naccounts = [\"unrecognized\"]",
        &[1, 11],
    ),
    (
        "a rule is only observed",
        "description = \"Traps\"",
        "description = \"Traps\"\nmode = \"observe\"",
        &[5],
    ),
    ("a route is renamed", "\"second\"", "\"exchange\"", &[1, 11]),
    ("a route leads elsewhere", "port = 1025", "port = 1026", &[1, 11]),
    (
        "a user is added",
        "[[organization.group]]",
        "[[organization.user]]\naddress = \"nobody@solarmora.com\"\n[[organization.group]]",
        &[1, 11],
    ),
    ("a user is renamed", "\"jean@", "\"jeanne@", &[3, 10]),
    (
        "a copy goes to somebody else",
        "also_deliver_to = [{ address = \"marie@",
        "also_deliver_to = [{ address = \"jean@",
        &[3],
    ),
    ("a reply says something else", "no parcels here", "parcels go to the back door", &[4]),
    ("a rule rejects somebody else", "driver@parcels.example", "pilot@parcels.example", &[4]),
    ("another quarantine", "quarantine = \"traps\"", "quarantine = \"odd\"", &[5]),
    (
        "a smart host",
        "licences = 250",
        "licences = 250\noutbound_gateway = \"smart.example\"",
        &[7],
    ),
    ("nobody may relay", "range = \"127.0.0.1\"", "range = \"203.0.113.9\"", &[7, 8]),
    ("spam is refused", "licences = 250", "licences = 250\nspam_action = \"reject\"", &[9]),
    (
        "gateways must use TLS",
        "allow_private = true",
        "allow_private = true\nrequire_tls = true",
        &[0, 1, 2, 3, 4, 5, 9, 10, 11],
    ),
    (
        "only the name of a rule",
        "\"Split delivery\"",
        "\"Unknown people go to the second system\"",
        &[],
    ),
    ("only quotas", "licences = 250", "licences = 1", &[]),
];

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until the record holds so many lines.
fn wait_lines(path: &Path, count: usize) -> Vec<Value> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.matches('\n').count() >= count {
            return lines(path);
        }
        assert!(Instant::now() < until, "{} of {count} lines", text.matches('\n').count());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn diff(folder: &Folder, record: &str, new: &str, more: &[&str]) -> Ran {
    std::fs::write(folder.path("new.toml"), format!("{}{record}{new}", support::serving::head()))
        .unwrap();
    let (old, new) = (folder.configuration(), folder.path("new.toml"));
    let messages = folder.path("envelopes.jsonl");
    let mut arguments = vec!["diff", &old, new.to_str().unwrap(), "--messages"];
    arguments.push(messages.to_str().unwrap());
    arguments.extend(more);
    waypost(&arguments, "")
}

/// The messages, counted from 0, that `diff --json` lists.
fn changed(ran: &Ran) -> Vec<usize> {
    let line = |line: &Value| usize::try_from(line["line"].as_u64().unwrap()).unwrap() - 1;
    ran.json_lines().iter().map(line).collect()
}

#[test]
fn c9_diff_lists_exactly_the_messages_of_real_mail_that_a_change_concerns() {
    for record in [RECORD, HASHED] {
        let folder = Folder::new(&format!("{record}{ORGANIZATION}"));
        let serve = folder.serve();
        let count = send_all(&serve);
        serve.terminate();
        let path = folder.path("envelopes.jsonl");
        let recorded = lines(&path);
        assert_eq!(recorded.len(), count, "{recorded:#?}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        for (what, old, new, want) in CHANGES {
            assert!(ORGANIZATION.contains(old), "{what}");
            let ran = diff(&folder, record, &ORGANIZATION.replace(old, new), &["--json"]);
            assert_eq!(changed(&ran), want, "{what}: {}\n{}", ran.stdout, ran.stderr);
            assert_eq!(ran.status, i32::from(!want.is_empty()), "{what}: {}", ran.stderr);
            let summary = format!("{} of 12 messages would go elsewhere", want.len());
            assert!(ran.stderr.contains(&summary), "{what}: {}", ran.stderr);
            assert_eq!(ran.stderr.contains("quotas"), what == "only quotas", "{}", ran.stderr);
        }
        // A rule for the local part of nobody known cannot be judged on hashed ones, and it is said so.
        let local = ORGANIZATION.replace(r"'@traps\.example$'", "'^t@'");
        let ran = diff(&folder, record, &local, &[]);
        let unjudged = ran.stdout.contains("rule \"Traps\" (^t@) of NEW looks at local parts");
        assert_eq!(unjudged, record == HASHED, "{}", ran.stdout);

        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            !text.contains("secret") && !text.contains("X-Nothing") && !text.contains("Somebody")
        );
        let hidden = ["marie", "jean", "nobody", "ann", "driver", "friend", "forger", "team@"];
        for name in hidden {
            assert_eq!(text.contains(name), record == RECORD, "{name} in {text}");
        }
        if record == HASHED {
            let key = folder.path("spool/record.key");
            assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
            std::fs::rename(&key, folder.path("taken-along.key")).unwrap();
            let ran = diff(&folder, record, ORGANIZATION, &[]);
            assert_eq!(ran.status, 2);
            assert!(ran.stderr.contains("--key FILE"), "{}", ran.stderr);
            let key = folder.path("taken-along.key");
            let ran = diff(&folder, record, ORGANIZATION, &["--key", key.to_str().unwrap()]);
            assert_eq!(ran.status, 0, "{}", ran.stderr);
        }
    }
}

#[test]
fn c9_a_line_says_what_was_decided_and_explain_takes_it() {
    let folder = Folder::new(&format!("{RECORD}{ORGANIZATION}"));
    let serve = folder.serve();
    send_all(&serve);
    serve.terminate();
    let recorded = lines(&folder.path("envelopes.jsonl"));
    let ids: BTreeSet<&str> = recorded.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), recorded.len());
    for line in &recorded {
        assert_eq!(line["client_ip"], "127.0.0.1");
        assert_eq!(line["version"].as_str().unwrap().len(), 16);
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
    }
    assert_eq!(recorded[1]["fate"]["deliveries"][0]["route"], "second");
    assert_eq!(recorded[1]["queue_id"], recorded[1]["id"]);
    assert!(recorded[4]["fate"]["data"].as_str().unwrap().starts_with("550 5.7.1 no parcels"));
    assert!(recorded[4].get("queue_id").is_none());
    assert_eq!(recorded[5]["fate"]["deliveries"][0]["quarantine"], "traps");
    assert!(recorded[6]["fate"]["rcpt"][0].as_str().unwrap().starts_with("550"));
    assert!(recorded[8]["fate"]["mail"].as_str().unwrap().starts_with("550"));
    assert_eq!(recorded[8]["rcpt_to"].as_array().unwrap().len(), 0);
    let header = recorded[9]["message"].as_str().unwrap();
    assert!(header.contains("Received: from ann-pc (client.example [192.0.2.77])"), "{header}");
    assert!(header.contains("X-Filter: spam\r\n"), "{header}");
    assert!(header.contains("From: ann@elsewhere.example\r\n"), "{header}");

    let text = std::fs::read_to_string(folder.path("envelopes.jsonl")).unwrap();
    let ran = waypost(&["explain", &folder.configuration(), "--batch"], &text);
    for (line, answer) in recorded.iter().zip(ran.json_lines()) {
        assert_eq!(line["id"], answer["id"]);
        if line["rcpt_to"].as_array().unwrap().is_empty() {
            // A MAIL that was refused has no recipient to explain.
            assert!(answer["error"].as_str().unwrap().contains("no recipient"));
            continue;
        }
        assert_eq!(line["fate"]["rcpt"], answer["replies"]["rcpt"], "{answer}");
        let count = |value: &Value| value.as_array().unwrap().len();
        let kept = count(&answer["quarantined"]);
        assert_eq!(count(&line["fate"]["deliveries"]), count(&answer["deliveries"]) + kept);
    }
}

#[test]
fn c9_the_answer_for_people_sums_up_and_bad_lines_are_told() {
    let folder = Folder::new(&format!("{RECORD}{ORGANIZATION}"));
    let line = |number: usize, to: &str| {
        format!(
            "{{\"id\":\"{number}\",\"client_ip\":\"192.0.2.1\",\"listener\":\"mx\",\"mail_from\":\
             \"a@b.example\",\"rcpt_to\":[\"{to}\"],\"message\":\"From: a@b.example\\r\\n\\r\\n\"}}\n"
        )
    };
    let mut text: String = (0..1200).map(|n| line(n, &format!("u{n}@solarmora.com"))).collect();
    text.push_str(&line(1200, "marie@solarmora.com"));
    std::fs::write(folder.path("envelopes.jsonl"), &text).unwrap();
    let without = ORGANIZATION.replace("accounts = [\"unrecognized\"]", "mode = \"off\"");
    let ran = diff(&folder, "", &without, &[]);
    assert_eq!(ran.status, 1, "{}", ran.stderr);
    let want = "\
1,200 messages  by rule \"Split delivery\"
  before  route \"second\"
          because: rule \"Split delivery\"
  after   refused: 550 5.1.1 No such user here
          because: (the recipient) is neither a user nor a group of Solarmora, and no rule routes or renames it
  line 1  0  <a@b.example> to u0@solarmora.com
  line 2  1  <a@b.example> to u1@solarmora.com
  line 3  2  <a@b.example> to u2@solarmora.com
  …

1,200 of 1,201 messages would go elsewhere: 1,200 refused
";
    assert_eq!(ran.stdout, want);
    let all = diff(&folder, "", &without, &["--all"]);
    assert_eq!(all.stdout.matches("\n  to u").count(), 1200);

    // Lines that are of no use are told with their numbers, and the rest goes on.
    text.push_str("{\"id\":\n\nno\n[]\n");
    text.push_str(&line(1, "no address"));
    text.push_str(&line(1, "u@solarmora.com").replace("\"mx\"", "\"none\""));
    text.push_str(&line(1, "u@solarmora.com"));
    std::fs::write(folder.path("envelopes.jsonl"), &text).unwrap();
    let ran = diff(&folder, "", &without, &[]);
    assert_eq!(ran.status, 2);
    for (number, said) in [
        (1202, "EOF"),
        (1204, "no JSON object"),
        (1205, "no JSON object"),
        (1206, "rcpt_to"),
        (1207, "there is no listener `none`"),
    ] {
        let place = format!("envelopes.jsonl:{number}: ");
        let told = ran.stderr.lines().find(|line| line.contains(&place)).unwrap_or_default();
        assert!(told.contains(said), "{place}{said}: {}", ran.stderr);
    }
    assert!(ran.stdout.contains("1,201 of 1,202 messages"), "{}", ran.stdout);
    assert!(ran.stdout.contains("; 5 lines could not be used"), "{}", ran.stdout);

    // From stdin, and of no use at all.
    let (old, new) = (folder.configuration(), folder.path("new.toml"));
    let ran = waypost(
        &["diff", &old, new.to_str().unwrap(), "--messages", "-"],
        &line(1, "u@solarmora.com"),
    );
    assert_eq!((ran.status, ran.stdout.contains("1 of 1 message ")), (1, true), "{}", ran.stdout);
    for arguments in
        [[&*old, &*old, "/nowhere"], [&*old, "/nowhere", "-"], ["/nowhere", &*old, "-"]]
    {
        let [one, other, messages] = arguments;
        let ran = waypost(&["diff", one, other, "--messages", messages], "");
        assert_eq!(ran.status, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains("/nowhere"), "{}", ran.stderr);
    }
}

fn one_message(client: &mut SmtpClient, more: &str) {
    let text = format!("From: a@elsewhere.example\r\n{more}\r\nx\r\n");
    queue_id(&client.message("a@elsewhere.example", &["marie@solarmora.com"], text.as_bytes()));
}

#[test]
fn a_full_or_missing_record_never_stops_mail_and_says_what_it_lacks() {
    let admin = "admin = \"127.0.0.1:0\"\n";
    let folder = Folder::new(&format!("{admin}record = \"/dev/full\"\n{ORGANIZATION}"));
    let serve = folder.serve();
    let mut client = serve.session("mx");
    for _ in 0..3 {
        one_message(&mut client, "");
    }
    serve.log.wait_text("the record of envelopes cannot be written; mail goes on");
    let until = Instant::now() + Duration::from_secs(60);
    while serve.metric("waypost_record_lost_total") < 3 {
        assert!(Instant::now() < until, "{}", serve.log);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(serve.metric("waypost_record_lines_total"), 0);

    // A reload names another file, whose folder is missing at first.
    folder.configure(&format!("{admin}record = \"away/r.jsonl\"\n{ORGANIZATION}"));
    serve.log.wait_text(" reloaded ");
    one_message(&mut client, "");
    while serve.metric("waypost_record_lost_total") < 4 {
        assert!(Instant::now() < until, "{}", serve.log);
        std::thread::sleep(Duration::from_millis(20));
    }
    std::fs::create_dir(folder.path("away")).unwrap();
    one_message(&mut client, "");
    let path = folder.path("away/r.jsonl");
    let first = wait_lines(&path, 1);
    assert_eq!(first[0]["lost"], 4);
    serve.log.wait_text("the record of envelopes is written again");

    // Somebody puts the file aside, and SIGHUP opens a new one.
    std::fs::rename(&path, folder.path("away/old.jsonl")).unwrap();
    serve.signal("HUP");
    serve.log.wait_text("reload: nothing changed");
    one_message(&mut client, "");
    assert_eq!(wait_lines(&path, 1).len(), 1);
    assert_eq!(lines(&folder.path("away/old.jsonl")).len(), 1);

    // Off again.
    folder.configure(&format!("{admin}{ORGANIZATION}"));
    let version = |line: &str| line.contains(" reloaded ") && line.contains("owner of");
    let until = Instant::now() + Duration::from_secs(60);
    while serve.log.to_string().lines().filter(|line| version(line)).count() < 2 {
        assert!(Instant::now() < until, "{}", serve.log);
        std::thread::sleep(Duration::from_millis(20));
    }
    one_message(&mut client, "");
    serve.terminate();
    assert_eq!(lines(&path).len(), 1);
}

#[test]
fn a_disk_that_fills_leaves_whole_lines_alone_and_is_written_again() {
    let record = "admin = \"127.0.0.1:0\"\nrecord = \"disk/r.jsonl\"\n";
    let folder = Folder::new(&format!("{record}{ORGANIZATION}"));
    let Some(disk) = Tmpfs::mount(&folder.path("disk"), 1) else { return };
    let serve = folder.serve();
    let mut client = serve.session("mx");
    one_message(&mut client, "");
    let path = folder.path("disk/r.jsonl");
    wait_lines(&path, 1);
    disk.fill();
    // What is left of the last page of the file may take some lines yet.
    let until = Instant::now() + Duration::from_secs(60);
    let mut sent = 1;
    while serve.metric("waypost_record_lost_total") < 3 {
        assert!(Instant::now() < until, "{}", serve.log);
        one_message(&mut client, "");
        sent += 1;
    }
    disk.empty();
    one_message(&mut client, "");
    let written = |serve: &Serve| {
        serve.metric("waypost_record_lines_total") + serve.metric("waypost_record_lost_total")
    };
    while written(&serve) < sent + 1 {
        assert!(Instant::now() < until, "{}", serve.log);
        std::thread::sleep(Duration::from_millis(20));
    }
    let lost = serve.metric("waypost_record_lost_total");
    serve.terminate();
    let recorded = lines(&path);
    assert_eq!(recorded.len() + lost, sent + 1);
    let said: u64 = recorded.iter().filter_map(|line| line["lost"].as_u64()).sum();
    assert_eq!(usize::try_from(said).unwrap(), lost);
}

#[test]
fn a_record_is_put_aside_when_it_is_large() {
    let record = "record = { file = \"r.jsonl\", rotate = \"64KiB\", keep = 2 }\n";
    let folder = Folder::new(&format!("{record}{ORGANIZATION}"));
    let serve = folder.serve();
    let mut client = serve.session("mx");
    let long = format!("X-Spam-Words: {}\r\n", "word ".repeat(180)).repeat(15);
    for _ in 0..24 {
        one_message(&mut client, &long);
    }
    serve.terminate();
    let names = ["r.jsonl", "r.jsonl.1", "r.jsonl.2"];
    for name in names {
        let size = std::fs::metadata(folder.path(name)).unwrap().len();
        assert!(size <= 64 << 10, "{name}: {size}");
        assert!(!lines(&folder.path(name)).is_empty());
    }
    assert!(!folder.path("r.jsonl.3").exists());
}
