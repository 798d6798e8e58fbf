//! What a message that waits takes of memory, and what the queue's steps cost with 100,000 of them.
//!
//! `cargo test -p waypost-queue --release --test memory -- --nocapture` prints the figures. One test in a
//! program of its own, since it looks at the whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may say what it means")]
#![expect(clippy::disallowed_methods, reason = "it measures memory and time")]

use std::time::Duration;

use waypost_queue::{Body, Ended, Entry, Limits, Queue, Schedule, Timestamp};
use waypost_types::{
    Changes, Delivery, Destination, Failure, FailureScope, MailParameters, Notify, Outcome,
    QueueId, Reply, TlsDemand,
};

/// Fewer without optimization, where each takes its time.
const MESSAGES: u64 = if cfg!(debug_assertions) { 20_000 } else { 100_000 };
/// What a message may take, in octets.
const ALLOWED: u64 = 1_200;

/// As a session makes it: the decision with its explanation, our trace line, one recipient.
fn entry(number: u64) -> Entry {
    let sender = format!("newsletter-{number}@elsewhere.example");
    let recipient = format!("recipient-{number}@solarmora.com");
    let delivery = Delivery {
        recipient: recipient.parse().unwrap(),
        original_recipient: recipient.parse().unwrap(),
        sender: sender.parse().unwrap(),
        destination: Destination::Route {
            organization: "Solarmora".into(),
            route: format!("route {}", number % 100).parse().unwrap(),
        },
        tls: TlsDemand::default(),
        changes: Changes::default(),
        suppress_bounces: false,
        spam: false,
        notify: Notify::Unsaid,
        orcpt: None,
    };
    let trace = format!(
        "Received: from mail.elsewhere.example ([192.0.2.1])\r\n\tby mx.solarmora.com with ESMTPS id \
         {number:013}\r\n\t(using TLSv1_3 TLS13_AES_256_GCM_SHA384)\r\n\tfor <{recipient}>;\r\n\t\
         Tue, 24 Mar 2020 23:11:47 +0000\r\n"
    );
    Entry {
        id: QueueId::new(number << 20),
        accepted_at: at(0),
        sender: sender.parse().unwrap(),
        parameters: MailParameters::default(),
        client: "mail.elsewhere.example [192.0.2.1]".into(),
        trace: trace.into(),
        deliveries: vec![delivery.into()],
        decision: "x".repeat(2_000).into(),
        size: 10_240,
        header_size: 1_000,
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_585_091_507_000 + seconds * 1000)
}

/// Octets of memory that the process has.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Nanoseconds that this thread has run; what others run beside it makes no difference.
fn processor_time() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default()
}

fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let start = processor_time();
    let result = run();
    println!("{what}: {} ns each", (processor_time() - start) / MESSAGES);
    result
}

#[test]
fn a_hundred_thousand_messages_fit_beside_the_rest() {
    let before = resident();
    let mut queue = Queue::new(Limits::default());
    // Bodies are bounded by `octets_in_memory`, and none is kept for a site that is down.
    timed("making and accepting without a body", || {
        for number in 0..MESSAGES {
            assert_eq!(queue.accept(entry(number), None, at(0)), Ok(None));
        }
    });
    let ready = (resident() - before) / MESSAGES;
    let schedule = Schedule::default();
    timed("taking, and finishing as deferred", || {
        let mut second = 0;
        while let Some(work) = queue.take(at(0)) {
            second += 1;
            let reply = Reply::new(451, (4, 7, 1), "Greylisted, please try again in five minutes");
            let host = "mx7.solarmora.com:25".parse().ok();
            let failure = Failure { scope: FailureScope::Message, host, reply };
            let results = vec![Ended::new(0, Outcome::Deferred(failure))];
            let finished = queue.finished(work, results, &schedule, at(second % 600));
            assert_eq!(finished.events.len(), 1);
        }
    });
    let waiting = (resident() - before) / MESSAGES;
    println!("a message that is ready takes {ready} octets, one that waits {waiting}");
    let due = at(0) + Duration::from_secs(900);
    timed("taking what is due again, and finishing as delivered", || {
        while let Some(work) = queue.take(due) {
            let reply = Reply::new(250, (2, 0, 0), "ok");
            let results = vec![Ended::new(0, Outcome::Delivered { host: None, reply })];
            let finished = queue.finished(work, results, &schedule, due);
            assert_eq!(finished.events.len(), 2);
        }
    });
    assert!(queue.is_empty());
    // Delivered at once, beside nothing else: what most mail costs.
    let entries: Vec<Entry> = (0..MESSAGES).map(entry).collect();
    let body = Body::from(vec![b'x'; 100]);
    timed("accepting, taking and finishing as delivered", || {
        for entry in entries {
            assert_eq!(queue.accept(entry, Some(body.clone()), due), Ok(None));
            let work = queue.take(due).unwrap();
            let reply = Reply::new(250, (2, 0, 0), "ok");
            let results = vec![Ended::new(0, Outcome::Delivered { host: None, reply })];
            let finished = queue.finished(work, results, &schedule, due);
            assert_eq!(finished.events.len(), 2);
        }
    });
    assert!(ready.max(waiting) <= ALLOWED, "{ready} and {waiting} octets a message");
}
