//! What compiled rules take of memory, a rule: the mix of the bench `rules`, and each kind alone.
//!
//! Prints octets and allocations a rule that are held once all is compiled, the rule itself counted; and the
//! allocations of a walk.

mod mix;

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use waypost_rules::{Direction, Question, Rule, RuleSet, Subject};

use crate::mix::{People, other, rules, user};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The kinds of rules, in the order of the mix.
const KINDS: [&str; 10] = [
    "a sender's address",
    "a recipient's address",
    "a sender's domain",
    "a sender's domain and those below it",
    "a group of the recipient",
    "a pattern for a sender",
    "the beginning of a recipient's address",
    "a sender's domain and one of two recipients",
    "a domain, in a unit of its own",
    "a pattern for a recipient, other directions",
];

/// What a rule may take, in octets.
const MOST: usize = 1024;

fn main() {
    let counts: &[usize] = match std::env::args().any(|word| word == "--test") {
        true => &[1_000],
        false => &[100, 1_000, 10_000, 100_000],
    };
    println!("| rules | of them | octets a rule | pieces a rule |");
    println!("| --- | --- | --- | --- |");
    for count in counts {
        let octets = measure("the mix", rules(*count));
        assert!(octets <= MOST, "{octets} octets a rule");
    }
    for (kind, name) in KINDS.iter().enumerate() {
        measure(name, (0..10_000).map(|i| other(i * 10 + kind)).collect());
    }
    let people = People::new();
    let set = RuleSet::compile(rules(10_000), Vec::new());
    for (name, sender, recipient) in [
        ("none matches", "someone@elsewhere.example", user(500)),
        ("three match", "order1@partner.example", user(0)),
    ] {
        let sender = sender.parse().expect("a path");
        let subject = Subject::of(&recipient, &people).expect("an answer");
        let question = Question {
            direction: Direction::Inbound,
            subject,
            sender: &sender,
            recipient: &recipient,
        };
        let before = Region::new(COUNTING);
        let matched = set.walk(&question, &people).map_or(0, |walk| walk.matched.len());
        let pieces = before.change().allocations;
        assert!(matched > 0 || pieces == 0, "{pieces} allocations for nothing");
        println!("\na walk where {name} ({matched}): {pieces} allocations");
    }
}

/// Octets a rule.
fn measure(name: &str, rules: Vec<Rule>) -> usize {
    // Counted from nothing: cloned, as a configuration's are built one by one.
    let before = Region::new(COUNTING);
    let set = RuleSet::compile(rules.clone(), Vec::new());
    let change = before.change();
    drop(rules);
    let held = change.bytes_allocated - change.bytes_deallocated;
    let pieces = change.allocations - change.deallocations;
    let count = set.rules().len();
    println!("| {name} | {count} | {} | {:.1} |", held / count, pieces as f64 / count as f64);
    held / count
}
