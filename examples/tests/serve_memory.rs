//! `waypost serve`: resident memory with a long queue, and under a flood of large messages.
//!
//! The sizes here are small; `scripts/deep` sets those of the promise (a release build, 100,000 messages,
//! 20 sessions with 50 MB each) by these variables:
//!
//! | variable | what | usual |
//! | --- | --- | --- |
//! | `WAYPOST_MEMORY_MESSAGES` | messages of 10 KiB in the queue | 2000 |
//! | `WAYPOST_MEMORY_QUEUE_MIB` | resident MiB allowed with them | 200 |
//! | `WAYPOST_MEMORY_FLOOD` | sessions that send a large message at once | 8 |
//! | `WAYPOST_MEMORY_LARGE_MIB` | its size | 20 |
//! | `WAYPOST_MEMORY_FLOOD_MIB` | resident MiB allowed at the peak | 500 |

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may say what they mean"
)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::serving::{Folder, Serve, head, marie_by, queue_id};
use support::sink::reserved;
use support::smtp_client::SmtpClient;

const FROM: &str = "a@elsewhere.example";
const TO: &str = "marie@solarmora.com";

fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |number| number.parse().unwrap())
}

/// A next hop that is not there; retries that do not disturb; a page of metrics.
fn configuration(hop: SocketAddr) -> String {
    let head = head().replace("delays = [\"1s\"]", "delays = [\"1h\"]");
    format!(
        r#"{head}
admin = "127.0.0.1:0"

[server.limits]
connections_per_client_per_minute = 100000

{}
"#,
        marie_by(hop)
    )
}

fn folder() -> Folder {
    let folder = Folder::new("");
    folder.write("waypost.toml", &configuration(reserved()));
    folder
}

const DEFERRED: &str = "waypost_deliveries_total{via=\"mailbox\",organization=\"Solarmora\",route=\"\",\
                        outcome=\"deferred\"}";

/// Messages in the queue, whatever their state.
fn queued(serve: &Serve) -> usize {
    let of = |state| serve.metric(&format!("waypost_queue_messages{{state=\"{state}\"}}"));
    ["ready", "waiting", "running", "held"].into_iter().map(of).sum()
}

/// Waits until no more is tried for now, and nothing is written.
fn until_all_wait(serve: &Serve) {
    let until = Instant::now() + Duration::from_secs(300);
    let done = || {
        let deferred = serve.metric(DEFERRED);
        (deferred, serve.metric("waypost_store_records_total"))
    };
    let mut last = (done(), Instant::now());
    while last.1.elapsed() < Duration::from_secs(2) {
        assert!(Instant::now() < until, "it does not come to rest: {last:?}");
        std::thread::sleep(Duration::from_millis(100));
        let now = done();
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
}

/// Sessions that share a number of messages between them.
fn send(serve: &Serve, sessions: usize, messages: usize, message: &Arc<Vec<u8>>) {
    let (address, next) = (serve.address("mx"), Arc::new(AtomicUsize::new(0)));
    let threads: Vec<_> = (0..sessions)
        .map(|_| {
            let (next, message) = (Arc::clone(&next), Arc::clone(message));
            std::thread::spawn(move || {
                let mut client = SmtpClient::hello(address, "client.elsewhere.example");
                while next.fetch_add(1, Ordering::SeqCst) < messages {
                    queue_id(&client.message(FROM, &[TO], &message));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn text(octets: usize) -> Arc<Vec<u8>> {
    let line = format!("{}\r\n", "x".repeat(76));
    Arc::new(format!("Subject: load\r\n\r\n{}", line.repeat(octets / line.len())).into_bytes())
}

#[test]
fn a_long_queue_with_a_dead_next_hop_stays_small_and_is_read_back_without_its_bodies() {
    let _alone = support::alone();
    let messages = number("WAYPOST_MEMORY_MESSAGES", 2000);
    let allowed = number("WAYPOST_MEMORY_QUEUE_MIB", 200);
    let folder = folder();
    let serve = folder.serve();
    let empty = serve.memory();
    let begun = Instant::now();
    send(&serve, 20, messages, &text(10 << 10));
    let took = begun.elapsed();
    until_all_wait(&serve);
    let full = serve.memory();
    println!(
        "{messages} messages of 10 KiB, accepted in {took:.1?}: {} MiB empty, {} MiB with them, {} MiB at \
         the peak",
        empty.resident, full.resident, full.peak
    );
    assert_eq!(queued(&serve), messages);
    serve.kill();

    let begun = Instant::now();
    let serve = folder.serve();
    let took = begun.elapsed();
    let again = serve.memory();
    println!(
        "after a kill: ready in {took:.1?}, {} MiB resident, {} MiB at the peak, {} bodies read",
        again.resident,
        again.peak,
        serve.metric("waypost_store_bodies_read_total")
    );
    assert_eq!(queued(&serve), messages);
    // The start reads none; what is due at once begins to, a few at a time.
    let read = serve.metric("waypost_store_bodies_read_total");
    assert!(read <= 64, "{read} bodies were read");
    for (what, memory) in [("at first", full), ("after a kill", again)] {
        assert!(memory.peak <= allowed, "{what}: {memory:?}, {allowed} MiB are allowed");
    }
    serve.terminate();
}

#[test]
fn a_flood_of_large_messages_waits_its_turn_in_bounded_memory() {
    let _alone = support::alone();
    let sessions = number("WAYPOST_MEMORY_FLOOD", 8);
    let mib = number("WAYPOST_MEMORY_LARGE_MIB", 20);
    let allowed = number("WAYPOST_MEMORY_FLOOD_MIB", 500);
    let folder = folder();
    let serve = folder.serve();
    let message = text((mib << 20) - 1024);
    // First with SIZE, then without: what is not announced is let in when it turns out to be large.
    for size in [format!(" SIZE={}", message.len()), String::new()] {
        let begun = Instant::now();
        let address = serve.address("mx");
        let threads: Vec<_> = (0..sessions)
            .map(|_| {
                let (message, size) = (Arc::clone(&message), size.clone());
                std::thread::spawn(move || {
                    let mut client = SmtpClient::hello(address, "client.elsewhere.example");
                    client.ask(&format!("MAIL FROM:<{FROM}>{size}"), "250");
                    client.ask(&format!("RCPT TO:<{TO}>"), "250");
                    let go_on = client.say("DATA");
                    if !go_on.starts_with("354") {
                        return go_on;
                    }
                    client.send(&message);
                    client.send(b".\r\n");
                    client.reply()
                })
            })
            .collect();
        let replies: Vec<String> = threads.into_iter().map(|one| one.join().unwrap()).collect();
        let accepted = replies.iter().filter(|reply| reply.starts_with("250")).count();
        let peak = serve.memory();
        println!(
            "{sessions} sessions with {mib} MiB each,{size}: {accepted} accepted in {:.1?}, {} MiB at the peak",
            begun.elapsed(),
            peak.peak
        );
        assert!(
            replies.iter().all(|reply| reply.starts_with("250") || reply.starts_with("452 4.3.1"))
        );
        assert!(accepted > 0, "{replies:?}");
        assert!(peak.peak <= allowed, "{peak:?}, {allowed} MiB are allowed");
    }
    // A small one is not kept waiting, and what was taken is given back.
    queue_id(&serve.session("mx").message(FROM, &[TO], &text(1000)));
    until_all_wait(&serve);
    println!("{} MiB when it is over", serve.memory().resident);
    serve.terminate();
}
