//! `waypost serve`: what got its 250 survives a kill and an unreachable next hop.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may say what they mean"
)]

mod support;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::serving::{Folder, Serve, marie_by, queue_id};
use support::sink::{Sink, reserved};
use support::smtp_client::SmtpClient;
use waypost_store::CommitterOptions;

/// An organization whose mail all goes to one next hop.
fn to_hop(address: std::net::SocketAddr) -> String {
    format!(
        r#"
[server.limits]
connections_per_client_per_minute = 100000

{}
"#,
        marie_by(address)
    )
}

#[test]
fn o1_what_got_its_250_is_delivered_after_a_kill_and_nothing_else() {
    let _alone = support::alone();
    let hop = reserved();
    let folder = Folder::new(&to_hop(hop));
    let serve = folder.serve();
    let mut client = serve.session("mx");
    let mut ids = HashMap::new();
    for number in 0..5 {
        let message = format!("From: a@elsewhere.example\r\nX-Number: {number}\r\n\r\nHello\r\n");
        let reply =
            client.message("a@elsewhere.example", &["marie@solarmora.com"], message.as_bytes());
        ids.insert(queue_id(&reply).to_owned(), message);
    }
    // Not acknowledged: the final dot is missing.
    client.ask("MAIL FROM:<a@elsewhere.example>", "250");
    client.ask("RCPT TO:<marie@solarmora.com>", "250");
    client.ask("DATA", "354");
    client.send(b"X-Number: none\r\n\r\nHello\r\n");
    serve.kill();

    let sink = Sink::at(hop);
    let serve = folder.serve();
    let came = sink.wait(ids.len());
    serve.terminate();
    assert_eq!(sink.received().len(), ids.len(), "each once, and nothing else");
    for one in came {
        let text = one.text();
        let id = text.split(" id ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let message = ids.remove(id.unwrap()).expect("the trace line holds the id of the 250");
        assert_eq!(one.behind_trace(), message.as_bytes());
        assert_eq!(one.to, ["<marie@solarmora.com>"]);
        assert!(text.contains("\tby mx.solarmora.com with ESMTP id "), "{text}");
        assert!(text.contains("\tfor <marie@solarmora.com>"), "{text}");
    }
}

const SESSIONS: usize = 50;

/// Small and seeded: where to kill is drawn from it (splitmix64).
fn draw(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Sends until the server is gone; the numbers that got a 250.
fn load(serve: &Serve, kill_after: usize, next: &Arc<AtomicUsize>) -> HashSet<usize> {
    let address = serve.address("mx");
    let acknowledged = Arc::new(Mutex::new(HashSet::new()));
    let killed = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..SESSIONS)
        .map(|_| {
            let (acknowledged, next, killed) =
                (Arc::clone(&acknowledged), Arc::clone(next), Arc::clone(&killed));
            std::thread::spawn(move || {
                let mut client = SmtpClient::hello(address, "client.elsewhere.example");
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let text = format!("X-Number: {number}\r\n\r\n{}\r\n", "x".repeat(70));
                    let sent = client.try_message(
                        "a@elsewhere.example",
                        "marie@solarmora.com",
                        text.as_bytes(),
                    );
                    match sent {
                        Ok(reply) => {
                            queue_id(&reply);
                            acknowledged.lock().unwrap().insert(number);
                        }
                        Err(error) => {
                            assert!(killed.load(Ordering::SeqCst), "{error}");
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    let until = Instant::now() + Duration::from_secs(60);
    while acknowledged.lock().unwrap().len() < kill_after {
        assert!(Instant::now() < until, "the load does not get on\n{}", serve.log);
        std::thread::sleep(Duration::from_millis(1));
    }
    killed.store(true, Ordering::SeqCst);
    serve.signal("KILL");
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    Arc::into_inner(acknowledged).unwrap().into_inner().unwrap()
}

#[test]
fn o1_no_acknowledged_message_is_lost_when_killed_under_load() {
    let _alone = support::alone();
    let rounds = std::env::var("WAYPOST_KILLS").map_or(10, |rounds| rounds.parse::<u64>().unwrap());
    let number = |one: &support::sink::Received| {
        let text = one.text();
        let number = text.split("X-Number: ").nth(1).unwrap();
        number.split_whitespace().next().unwrap().parse::<usize>().unwrap()
    };
    let (mut in_all, mut twice, mut most_twice) = (0, 0, 0);
    for round in 0..rounds {
        let sink = Sink::start();
        let folder = Folder::new(&to_hop(sink.address));
        let next = Arc::new(AtomicUsize::new(0));
        let kill_after = 50 + usize::try_from(draw(round) % 400).unwrap();
        let serve = folder.serve();
        let acknowledged = load(&serve, kill_after, &next);
        serve.kill();
        // What the server had handed on may not have been read by then.
        sink.peer().wait_until(|all| all.iter().all(|one| one.is_over)).unwrap();
        let before = sink.received().len();
        let connections = sink.connections();

        let serve = folder.serve();
        let came = sink.wait_until("each acknowledged message", |all| {
            let came: HashSet<usize> = all.iter().map(number).collect();
            acknowledged.is_subset(&came)
        });
        serve.terminate();
        let came = came.len().max(sink.received().len());
        let all: Vec<usize> = sink.received().iter().map(number).collect();
        let unique: HashSet<usize> = all.iter().copied().collect();
        let sent = next.load(Ordering::SeqCst);
        assert!(all.iter().all(|number| *number < sent), "nothing is invented");
        let duplicates = all.len() - unique.len();
        println!(
            "round {round}: {} acknowledged, {before} delivered before the kill, {came} in all, \
             {duplicates} twice, {connections} connections before the kill",
            acknowledged.len()
        );
        // What may come twice was under way: at most one a connection to the next hop, and outcomes
        // that waited to be written down.
        let under_way = connections + CommitterOptions::default().lazy_records;
        assert!(duplicates <= under_way, "round {round}: {duplicates} came twice");
        assert!(duplicates <= before, "round {round}: {duplicates} came twice");
        // Sent, but without an answer: at most one a session.
        let unasked = unique.difference(&acknowledged).count();
        assert!(unasked <= SESSIONS, "round {round}: {unasked} came that got no 250");
        in_all += acknowledged.len();
        twice += duplicates;
        most_twice = most_twice.max(duplicates);
    }
    println!(
        "{rounds} kills under load from {SESSIONS} sessions: {in_all} acknowledged, none missing, \
         {twice} delivered twice, at most {most_twice} in a round"
    );
}

#[test]
fn mail_that_is_delivered_at_once_is_not_read_back_from_the_disk() {
    let _alone = support::alone();
    let sink = Sink::start();
    let folder = Folder::new(&format!("admin = \"127.0.0.1:0\"\n{}", to_hop(sink.address)));
    let serve = folder.serve();
    let mut client = serve.session("mx");
    for number in 0..200 {
        let message = format!("X-Number: {number}\r\n\r\n{}\r\n", "x".repeat(70));
        let to = ["marie@solarmora.com"];
        queue_id(&client.message("a@elsewhere.example", &to, message.as_bytes()));
    }
    assert_eq!(sink.wait(200).len(), 200);
    assert_eq!(serve.metric("waypost_store_bodies_read_total"), 0);
    serve.terminate();
}

#[test]
fn o2_a_message_waits_for_its_next_hop_and_goes_when_it_is_back() {
    let _alone = support::alone();
    let hop = reserved();
    let folder = Folder::new(&to_hop(hop));
    let serve = folder.serve();
    let message = b"From: a@elsewhere.example\r\n\r\nWaits\r\n";
    let reply =
        serve.session("mx").message("a@elsewhere.example", &["marie@solarmora.com"], message);
    let id = queue_id(&reply);
    let deferred = serve.log.wait_for("deferred", |line| {
        line.contains("deferred") && line.contains(&format!("id={id}"))
    });
    assert!(deferred.contains("attempt="), "{deferred}");
    assert!(deferred.contains("mailbox"), "a line says where it was to go: {deferred}");
    let sink = Sink::at(hop);
    // The host rests for 15 s before its probe (A9).
    let came = sink.only();
    assert_eq!(came.behind_trace(), message);
    serve.log.wait_for("delivered", |line| {
        line.contains("delivered") && line.contains(&format!("id={id}"))
    });
    assert_eq!(sink.received().len(), 1);
    serve.terminate();
}

#[test]
fn o1_a_spool_belongs_to_one_server_the_second_is_refused() {
    let _alone = support::alone();
    let folder = Folder::new(&to_hop(reserved()));
    let first = folder.serve();
    let mut second = Serve::spawn(&folder.configuration());
    let status = second.wait();
    assert_eq!(status.code(), Some(2), "{}", second.log);
    let spool = folder.path("spool");
    let said = second.log.wait_text(&spool.to_string_lossy());
    assert!(said.contains("another process"), "{said}");
    first.session("mx").ask("NOOP", "250");
    first.terminate();
    folder.serve().terminate();
}
