//! Several `waypost serve` that share quotas over a real Redis (O5, D13). `scripts/redis` runs it.

use crate::support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::control::{done, wait_for};
use support::redis::Redis;
use support::serving::{Folder, Serve, queue_id};
use support::sink::Sink;
use support::smtp_client::SmtpClient;
use support::waypost;
use waypost_net::test_kit::Authority;

const PATIENCE: Duration = Duration::from_secs(60);
const TEXT: &[u8] = b"Subject: x\r\n\r\nx\r\n";

/// The configuration of a node whose organization may relay to so many recipients a day.
fn node(redis: &Redis, fallback: &str, limit: u32, gateway: &Sink) -> String {
    format!(
        r#"
admin = "127.0.0.1:0"
redis = "{}"
redis_fallback = "{fallback}"
redis_nodes = 3
redis_lease = "4s"
redis_timeout = "2s"

[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
outbound_gateway = "{}"
limits = {{ recipients_per_day = {limit}, recipients_per_10_minutes = 1000000, unique_recipients_per_user_per_day = 1000000 }}

[[organization.user]]
address = "marie@solarmora.com"

[[organization.relay]]
description = "Loopback"
allowed_senders = "my-domains"
addresses = [{{ range = "127.0.0.1" }}]
require_tls = false
"#,
        redis.address(),
        gateway.address
    )
}

/// What a node says of a limit of the organization: whose counts, used, under way, allowed.
fn usage(folder: &Folder) -> (String, u64, u64, u64) {
    let ran = waypost(&["quota", &folder.configuration(), "Solarmora", "--json"], "");
    let lines = ran.json_lines();
    let day = |line: &&Value| line["limit"] == "recipients-per-day";
    let line = lines.iter().find(day).unwrap_or_else(|| panic!("{}{}", ran.stdout, ran.stderr));
    let number = |name: &str| line[name].as_u64().unwrap();
    let counted = line["counted"].as_str().unwrap().to_owned();
    (counted, number("used"), number("reserved"), number("allowed"))
}

/// Polls until a node says so.
fn wait_for_usage(folder: &Folder, counted: &str, used: u64, reserved: u64) {
    let begun = Instant::now();
    loop {
        let found = usage(folder);
        if (found.0.as_str(), found.1, found.2) == (counted, used, reserved) {
            return;
        }
        let want = (counted, used, reserved);
        assert!(begun.elapsed() < PATIENCE, "{found:?}, not {want:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends messages with 1, 2, 3, 1, ... recipients until even one recipient has no place; how many were
/// taken.
fn relay_all(address: SocketAddr, name: &str) -> usize {
    let mut client = SmtpClient::hello(address, "client.elsewhere.example");
    let mut taken = 0;
    for message in 0.. {
        let count = message % 3 + 1;
        client.ask("MAIL FROM:<marie@solarmora.com>", "250");
        let mut stood = 0;
        for recipient in 0..count {
            let reply = client.say(&format!("RCPT TO:<{name}-{message}-{recipient}@b.example>"));
            assert!(reply.starts_with("250") || reply.starts_with("550 5.7.1"), "{reply}");
            stood += usize::from(reply.starts_with("250"));
        }
        if stood == 0 {
            return taken;
        }
        // Some are given up: what they hold must not count.
        if message % 5 == 4 {
            client.ask("RSET", "250");
        } else {
            queue_id(&client.data(TEXT));
            taken += stood;
        }
    }
    taken
}

/// One message to one recipient; the reply to RCPT.
fn relay(serve: &Serve, to: &str) -> String {
    let mut client = serve.session("relay");
    client.ask("MAIL FROM:<marie@solarmora.com>", "250");
    let reply = client.say(&format!("RCPT TO:<{to}>"));
    if reply.starts_with("250") {
        queue_id(&client.data(TEXT));
    }
    reply
}

#[test]
#[ignore = "needs redis-server: run scripts/redis"]
fn three_nodes_together_never_pass_a_limit_d13_o5() {
    let (redis, gateway) = (Redis::start(), Sink::start());
    let nodes: Vec<_> =
        (0..3).map(|_| Folder::new(&node(&redis, "defer", 300, &gateway))).collect();
    let serving: Vec<_> = nodes.iter().map(Folder::serve).collect();
    for serve in &serving {
        serve.log.wait_text("quotas are shared over Redis");
        assert_eq!(serve.metric("waypost_quota_shared"), 1);
    }
    let sessions: Vec<_> = (0..9)
        .map(|session| {
            let address = serving[session % 3].address("relay");
            std::thread::spawn(move || relay_all(address, &format!("s{session}")))
        })
        .collect();
    let taken: Vec<usize> = sessions.into_iter().map(|one| one.join().unwrap()).collect();
    let all: usize = taken.iter().sum();
    assert!(all <= 300, "{taken:?}");
    // The last ones may have given up what others wanted.
    let mut more = 0;
    while relay(&serving[more % 3], &format!("more{more}@b.example")).starts_with("250") {
        more += 1;
    }
    assert_eq!(all + more, 300, "{taken:?} and {more}: all of it, and no more");
    for node in &nodes {
        wait_for_usage(node, "shared", 300, 0);
    }
    for serve in serving {
        serve.terminate();
    }
}

#[test]
#[ignore = "needs redis-server: run scripts/redis"]
fn a_node_that_dies_gives_its_reservations_back_and_counts_once_d13_o5() {
    let (redis, gateway) = (Redis::start(), Sink::start());
    let [dies, lives] = [0, 1].map(|_| Folder::new(&node(&redis, "defer", 5, &gateway)));
    let (dying, living) = (dies.serve(), lives.serve());
    assert!(relay(&dying, "a@b.example").starts_with("250"));
    let mut open = dying.session("relay");
    open.ask("MAIL FROM:<marie@solarmora.com>", "250");
    for to in ["c", "d", "e", "f"] {
        open.ask(&format!("RCPT TO:<{to}@b.example>"), "250");
    }
    // As long as the node lives, also beyond the lease of four seconds.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(5500) {
        let reply = relay(&living, "g@b.example");
        assert!(reply.starts_with("550 5.7.1"), "{reply}");
        std::thread::sleep(Duration::from_millis(50));
    }
    dying.kill();
    wait_for_usage(&lives, "shared", 1, 0);
    assert!(relay(&living, "g@b.example").starts_with("250"));
    // What it accepted it still knows, and tells nothing twice.
    let again = dies.serve();
    wait_for_usage(&dies, "shared", 2, 0);
    assert!(relay(&again, "h@b.example").starts_with("250"));
    wait_for_usage(&lives, "shared", 3, 0);
    again.terminate();
    living.terminate();
}

#[test]
#[ignore = "needs redis-server: run scripts/redis"]
fn without_redis_nodes_do_as_configured_and_come_back_by_themselves_o5() {
    let (mut redis, gateway) = (Redis::start(), Sink::start());
    let deferring = Folder::new(&node(&redis, "defer", 30, &gateway));
    let alone = Folder::new(&node(&redis, "local", 30, &gateway));
    let (defers, counts) = (deferring.serve(), alone.serve());
    for (serve, to) in [(&defers, "a@b.example"), (&counts, "b@b.example")] {
        assert!(relay(serve, to).starts_with("250"));
    }
    wait_for_usage(&deferring, "shared", 2, 0);
    // One message is under way when Redis goes.
    let mut open = counts.session("relay");
    open.ask("MAIL FROM:<marie@solarmora.com>", "250");
    open.ask("RCPT TO:<c@b.example>", "250");
    redis.kill();
    defers.log.wait_text("relayed mail is deferred until Redis answers");
    counts.log.wait_text("this node counts alone");
    assert_eq!(counts.metric("waypost_quota_shared"), 0);
    assert_eq!(counts.metric("waypost_quota_sharing_lost_total"), 1);

    let reply = relay(&defers, "d@b.example");
    assert!(reply.starts_with("451 4.3.0"), "{reply}");
    defers.log.wait_text("quota-unknown");
    open.ask("RCPT TO:<d@b.example>", "250");
    queue_id(&open.data(TEXT));
    // A third of 30 is its part; three recipients were its own.
    let mut taken = 0;
    let last = loop {
        let reply = relay(&counts, &format!("e{taken}@b.example"));
        if !reply.starts_with("250") {
            break reply;
        }
        taken += 1;
    };
    assert!(last.starts_with("550 5.7.1"), "{last}");
    assert_eq!(taken, 7);
    let (counted, used, _, allowed) = usage(&alone);
    assert_eq!((counted.as_str(), used, allowed), ("here-for-now", 10, 10));
    assert!(counts.metric("waypost_quota_unshared_recipients_total") >= 9);

    // It comes back empty, and is told of everything, once.
    redis.restart();
    wait_for_usage(&deferring, "shared", 11, 0);
    wait_for_usage(&alone, "shared", 11, 0);
    assert!(relay(&defers, "f@b.example").starts_with("250"));
    assert!(relay(&counts, "g@b.example").starts_with("250"));
    wait_for_usage(&deferring, "shared", 13, 0);
    assert_eq!(defers.metric("waypost_quota_shared"), 1);
    // What was accepted while it was gone is known after a crash too.
    redis.kill();
    counts.log.wait_text("this node counts alone");
    let begun = Instant::now();
    while counts.metric("waypost_quota_sharing_lost_total") < 2 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
    counts.kill();
    defers.terminate();
    redis.restart();
    let serving = [alone.serve(), deferring.serve()];
    wait_for_usage(&alone, "shared", 13, 0);
    for serve in serving {
        serve.terminate();
    }
}

#[test]
#[ignore = "needs redis-server: run scripts/redis"]
fn what_is_let_go_without_redis_counts_when_it_is_back_d13_o5() {
    let (mut redis, gateway) = (Redis::start(), Sink::start());
    let hold = "domains = [\"solarmora.com\"]\nover_limit = \"hold\"";
    let holding = node(&redis, "defer", 1, &gateway).replace("domains = [\"solarmora.com\"]", hold);
    let folder = Folder::new(&holding);
    let serve = folder.serve();
    for to in ["a@b.example", "b@b.example"] {
        assert!(relay(&serve, to).starts_with("250"));
    }
    let id = wait_for(&folder, "held", 1)[0]["id"].as_str().unwrap().to_owned();
    wait_for_usage(&folder, "shared", 1, 0);
    redis.kill();
    serve.log.wait_text("relayed mail is deferred until Redis answers");
    done(&folder, &["queue", "release", &id]);
    assert_eq!(gateway.wait(2)[1].to, ["<b@b.example>"]);
    redis.restart();
    wait_for_usage(&folder, "shared", 2, 0);
    serve.terminate();
}

#[test]
#[ignore = "needs redis-server: run scripts/redis"]
fn pipelined_recipients_share_a_round_trip_d13_o5() {
    let (redis, gateway) = (Redis::start(), Sink::start());
    let folder = Folder::new(&node(&redis, "defer", 30, &gateway));
    let serve = folder.serve();
    let mut client = serve.session("relay");
    let mut pipeline = |recipients: &[String]| -> Vec<String> {
        client.ask("MAIL FROM:<marie@solarmora.com>", "250");
        let commands: String = recipients.iter().map(|to| format!("RCPT TO:<{to}>\r\n")).collect();
        client.send(commands.as_bytes());
        let replies: Vec<_> = recipients.iter().map(|_| client.reply()).collect();
        queue_id(&client.data(TEXT));
        replies.iter().map(|reply| reply[..3].to_owned()).collect()
    };
    let mut recipients: Vec<_> = (0..22).map(|number| format!("r{number}@b.example")).collect();
    // Refused by the policy: it takes no place, and the others keep theirs.
    recipients[5] = "nobody@solarmora.com".into();
    let before = redis.script_calls();
    let replies = pipeline(&recipients);
    assert_eq!(replies.iter().filter(|code| *code == "250").count(), 21, "{replies:?}");
    assert_eq!(replies[5], "550");
    // One for all, the commit, and what a slow machine renews.
    let calls = redis.script_calls() - before;
    assert!(calls < 10, "{calls} calls");
    wait_for_usage(&folder, "shared", 21, 0);
    let replies = pipeline(&recipients[..20]);
    assert_eq!(replies.iter().filter(|code| *code == "250").count(), 9, "{replies:?}");
    assert!(replies[10..].iter().all(|code| code == "550"), "{replies:?}");
    wait_for_usage(&folder, "shared", 30, 0);
    serve.terminate();
}

#[test]
#[ignore = "needs redis-server: run scripts/redis"]
fn how_quotas_are_shared_changes_with_a_restart_alone_o5() {
    let (redis, gateway) = (Redis::start(), Sink::start());
    let text = node(&redis, "defer", 30, &gateway);
    let folder = Folder::new(&text);
    let serve = folder.serve();
    folder.configure(&text.replace("\"defer\"", "\"local\""));
    serve.signal("HUP");
    serve.log.wait_text("how quotas are shared (`redis`) cannot change while the server runs");
    // Neither log, metrics nor command shows the address.
    let log = serve.log.to_string();
    assert!(!log.contains(&redis.address()), "{log}");
    serve.terminate();
}

#[test]
#[ignore = "needs redis-server: run scripts/redis"]
fn tls_trusts_the_authority_that_is_named_and_no_secret_is_shown_o5() {
    let gateway = Sink::start();
    let [ours, theirs] = [0, 1].map(|_| Authority::new().unwrap());
    let shown = ours.identity("localhost").unwrap();
    let files = tempfile::tempdir().unwrap();
    let [certificate, key] = ["redis.pem", "redis.key"].map(|name| files.path().join(name));
    std::fs::write(&certificate, shown.certificate_pem()).unwrap();
    std::fs::write(&key, shown.key_pem()).unwrap();
    let (redis, port) = Redis::start_with_tls(&certificate, &key, ["marie-node", "hush"]);
    let address = format!("rediss://marie-node:hush@localhost:{port}/2");
    let text = node(&redis, "defer", 30, &gateway).replace(&redis.address(), &address);
    let private = text.replace("redis_nodes", "redis_ca = \"ca.pem\"\nredis_nodes");

    // Another authority: nothing is sent, and why is told once.
    let folder = Folder::new(&private);
    folder.write("ca.pem", theirs.pem());
    let serve = folder.serve();
    let unshared = |serve: &Serve, because: &str| {
        let is_told =
            |line: &str| line.contains("quotas cannot be shared") && line.contains(because);
        serve.log.wait_for(because, is_told)
    };
    let shares = |serve: &Serve| {
        serve.log.wait_for("shared", |line| line.contains("sharing: quotas are shared over Redis"));
    };
    let told = unshared(&serve, "not signed by an authority that is trusted here");
    assert!(told.contains("ca.pem") && told.contains("`redis_ca`"), "{told}");
    let reply = relay(&serve, "a@b.example");
    assert!(reply.starts_with("451 4.3.0"), "{reply}");
    // The right one, without a restart.
    folder.write("ca.pem", ours.pem());
    shares(&serve);
    assert!(relay(&serve, "a@b.example").starts_with("250"));
    wait_for_usage(&folder, "shared", 1, 0);
    let log = serve.log.to_string();
    assert!(!log.contains("hush") && !log.contains("marie-node"), "{log}");
    let told = |line: &&str| line.contains("WARN") && line.contains("not signed by an authority");
    assert_eq!(log.lines().filter(told).count(), 1, "{log}");
    serve.terminate();

    // What the system trusts, and another password.
    let system = Folder::new(&text);
    system.write("ca.pem", ours.pem());
    let roots = system.path("ca.pem");
    let environment = [("SSL_CERT_FILE", roots.to_str().unwrap())];
    let serve = Serve::with_environment(&system.configuration(), &environment);
    shares(&serve);
    wait_for_usage(&system, "shared", 1, 0);
    serve.terminate();
    system.configure(&text.replace(":hush@", ":hushed@"));
    let serve = Serve::with_environment(&system.configuration(), &environment);
    unshared(&serve, "refuses the user or the password of its address");
    let log = serve.log.to_string();
    assert!(!log.contains("hush") && !log.contains("marie-node"), "{log}");
    serve.terminate();

    // A file of no use is told of at the start.
    folder.write("ca.pem", "nothing");
    let ran = waypost(&["serve", &folder.configuration()], "");
    assert!(ran.stderr.contains("ca.pem") && !ran.stderr.contains("hush"), "{}", ran.stderr);
}
