//! Finding the rules that hold for a recipient among 10 to 100,000, beside asking one rule after another
//! (C8); and how long compiling takes.
//!
//! Sixty-four recipients and senders in turn, so that the caches of the processor do not know the answer
//! by heart. What a rule takes of memory is printed by the bench `rules_memory`.

mod mix;

use std::collections::HashMap;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use regex::{Regex, RegexBuilder};
use waypost_rules::{AddressMatch, Direction, Question, Rule, RuleSet, Subject};
use waypost_types::{Directory, Mailbox, OrgUnit, ReversePath};

use crate::mix::{People, ROUNDS, rules, user};

/// What is asked: mail that three rules match, or none.
fn mails(people: &People, matching: bool) -> Vec<(ReversePath, Mailbox, Subject)> {
    let mail = |i: usize| {
        // Users whose groups have a rule, or have none.
        let recipient = user(i * 1000 + if matching { i } else { 500 + i });
        let sender = match matching {
            true => format!("order{i}@partner.example"),
            false => format!("someone.else{i}@elsewhere{i}.example"),
        };
        let subject = Subject::of(&recipient, people).expect("an answer");
        (sender.parse().expect("a path"), recipient, subject)
    };
    (0..ROUNDS).map(mail).collect()
}

fn question((sender, recipient, subject): &(ReversePath, Mailbox, Subject)) -> Question<'_> {
    Question { direction: Direction::Inbound, subject: subject.clone(), sender, recipient }
}

/// Asks one rule after another, its patterns compiled before.
struct Naive<'r> {
    rules: &'r [Rule],
    patterns: HashMap<&'r str, Regex>,
}

impl<'r> Naive<'r> {
    fn new(rules: &'r [Rule]) -> Self {
        let entries = rules
            .iter()
            .flat_map(|rule| rule.envelope.senders.iter().chain(&rule.envelope.recipients));
        let patterns = entries.filter_map(|entry| match entry {
            AddressMatch::Pattern(pattern) => Some(pattern.as_str()),
            _ => None,
        });
        let regex = |source: &'r str| {
            let regex = RegexBuilder::new(source).case_insensitive(true).build();
            (source, regex.expect("a pattern"))
        };
        Self { rules, patterns: patterns.map(regex).collect() }
    }

    fn matching(&self, question: &Question<'_>, people: &People) -> usize {
        let texts = [question.sender.to_string(), question.recipient.to_string()];
        let units: Vec<OrgUnit> = question.subject.org_unit.lineage().collect();
        let listed = |entries: &[AddressMatch], address: Option<&Mailbox>, text: &str| {
            let matches = |entry: &AddressMatch| match entry {
                AddressMatch::Address(wanted) => Some(wanted) == address,
                AddressMatch::Pattern(pattern) => self.patterns[pattern.as_str()].is_match(text),
                AddressMatch::Group(group) => {
                    address.is_some_and(|one| people.is_member(one, group) == Ok(true))
                }
            };
            entries.is_empty() || entries.iter().any(matches)
        };
        let matches = |rule: &&Rule| {
            rule.affects.contains(question.direction)
                && rule.accounts.contains(question.subject.kind)
                && units.contains(&rule.org_unit)
                && listed(&rule.envelope.senders, question.sender.mailbox(), &texts[0])
                && listed(&rule.envelope.recipients, Some(question.recipient), &texts[1])
        };
        self.rules.iter().filter(matches).count()
    }
}

fn walk(criterion: &mut Criterion) {
    let people = People::new();
    let mut group = criterion.benchmark_group("rules of a recipient");
    for count in [10, 100, 1_000, 10_000, 100_000] {
        let set = RuleSet::compile(rules(count), Vec::new());
        let naive = (count <= 10_000).then(|| Naive::new(set.rules()));
        for (name, matches) in [("three match", 3), ("none matches", 0)] {
            let mails = mails(&people, matches > 0);
            let questions: Vec<_> = mails.iter().map(question).collect();
            let found = |question: &Question<'_>| {
                set.walk(question, &people).map_or(usize::MAX, |walk| walk.matched.len())
            };
            for question in &questions {
                assert_eq!(found(question), matches);
            }
            let mut next = questions.iter().cycle();
            group.bench_function(BenchmarkId::new(format!("compiled, {name}"), count), |b| {
                b.iter(|| next.next().map(|question| found(black_box(question))));
            });
            if count == 10_000 {
                // What is stored of a live message: those that match, and others up to 32.
                let told = |question: &Question<'_>| set.walk_told(question, &people, 32);
                group.bench_function(BenchmarkId::new(format!("32 told of, {name}"), count), |b| {
                    b.iter(|| next.next().map(|question| told(black_box(question))));
                });
            }
            let Some(naive) = &naive else { continue };
            for question in &questions {
                assert_eq!(naive.matching(question, &people), matches);
            }
            group.bench_function(BenchmarkId::new(format!("one by one, {name}"), count), |b| {
                b.iter(|| next.next().map(|question| naive.matching(black_box(question), &people)));
            });
        }
    }
    group.finish();
}

fn compile(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compiling rules");
    group.sample_size(10);
    for count in [100, 10_000] {
        group.bench_function(BenchmarkId::new("read and compiled", count), |b| {
            b.iter(|| RuleSet::compile(rules(black_box(count)), Vec::new()));
        });
    }
    group.finish();
}

criterion_group!(benches, walk, compile);
criterion_main!(benches);
