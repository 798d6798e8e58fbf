//! What a store and a queue hold together of messages on their way.
//!
//! `cargo test -p waypost-store --release --test memory -- --nocapture` prints the figures. One test in a
//! program of its own, since it looks at the whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may say what it means")]

mod common;

use std::collections::VecDeque;

use common::{done, entry, id};
use waypost_queue::{Body, Durability, Record, Store};
use waypost_store::FjallStore;

/// Octets of a message.
const SIZE: usize = 100 << 10;
/// Messages in a batch.
const BATCH: u64 = 20;
/// Messages that wait for their first attempt.
const WAITING: usize = 80;
/// Octets that may be resident for all of it: 20 MiB of tables in memory that are not sorted yet and a batch
/// beyond them, what waits, and what the allocator and the sorting keep of it.
const ALLOWED: u64 = 44 << 20;

/// Octets of memory that the process has.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn messages_on_their_way_are_in_memory_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStore::open(folder.path()).unwrap();
    let (before, mut most) = (resident(), 0);
    let mut waiting = VecDeque::new();
    for batch in 0..60 {
        let mut records = Vec::new();
        for number in batch * BATCH..(batch + 1) * BATCH {
            let body = Body::from(vec![b'x'; SIZE]).framed();
            records.push(Record::accepted(entry(number), body.clone(), Vec::new()));
            waiting.push_back((number, body));
        }
        while waiting.len() > WAITING {
            let (number, _) = waiting.pop_front().unwrap();
            records.push(Record::from(vec![done(number)]));
        }
        store.commit(&records, Durability::Lazy).unwrap();
        drop(records);
        most = most.max(resident() - before);
    }
    for (number, body) in waiting {
        assert_eq!(store.body(id(number)).unwrap().as_ref(), Some(&body));
    }
    println!("{} MiB at the peak", most >> 20);
    assert!(most <= ALLOWED, "{most} octets");
}
