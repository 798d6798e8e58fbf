//! A walk over 10, 1,000 and 10,000 rules in ten units, beside a naive one (C8).

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use waypost_rules::{
    AccountKinds, Action, AddressMatch, Direction, Directions, Pattern, Question, Rule, RuleSet,
    Subject,
};
use waypost_types::{Account, Directory, Mailbox, OrgUnit, ReversePath, Unavailable};

struct Nobody;

impl Directory for Nobody {
    fn account(&self, _: &Mailbox) -> Result<Account, Unavailable> {
        Ok(Account::Unrecognized)
    }

    fn is_member(&self, _: &Mailbox, _: &Mailbox) -> Result<bool, Unavailable> {
        Ok(false)
    }

    fn members(&self, _: &Mailbox) -> Result<Vec<Mailbox>, Unavailable> {
        Ok(Vec::new())
    }
}

/// One rule in two has a pattern, one an address; none of them matches.
fn rules(count: usize) -> Vec<Rule> {
    let rule = |i: usize| {
        let action = Action::Modify(Box::default());
        let mut rule = Rule::new(&format!("rule {i}"), Directions::INBOUND, action);
        rule.org_unit = format!("/unit{}", i % 10).parse().expect("a unit");
        rule.accounts = AccountKinds::ALL;
        let entry = match i % 2 {
            0 => {
                let pattern = format!(r"@partner{i}\.example$");
                AddressMatch::Pattern(Pattern::new(&pattern).expect("a pattern"))
            }
            _ => AddressMatch::Address(format!("a{i}@b.example").parse().expect("a mailbox")),
        };
        rule.envelope.senders.push(entry);
        rule
    };
    (0..count).map(rule).collect()
}

/// Every rule in file order, each asked anew.
fn naive(rules: &[Rule], unit: &OrgUnit, sender: &ReversePath) -> usize {
    let text = sender.to_string();
    let units: Vec<OrgUnit> = unit.lineage().collect();
    let sender = sender.mailbox();
    let matches = |rule: &&Rule| {
        units.contains(&rule.org_unit)
            && rule.envelope.senders.iter().any(|entry| match entry {
                AddressMatch::Address(address) => Some(address) == sender,
                AddressMatch::Pattern(pattern) => pattern.is_match(&text),
                AddressMatch::Group(_) => false,
            })
    };
    rules.iter().filter(matches).count()
}

fn walk(criterion: &mut Criterion) {
    let sender: ReversePath = "someone@elsewhere.example".parse().expect("a mailbox");
    let recipient: Mailbox = "marie@solarmora.com".parse().expect("a mailbox");
    let mut group = criterion.benchmark_group("walk over rules");
    for count in [10, 1_000, 10_000] {
        let set = RuleSet::compile(rules(count), Vec::new());
        let mut subject = Subject::unrecognized();
        subject.org_unit = "/unit3".parse().expect("a unit");
        let unit = subject.org_unit.clone();
        let question = Question {
            direction: Direction::Inbound,
            subject,
            sender: &sender,
            recipient: &recipient,
        };
        let found = |set: &RuleSet| set.walk(&question, &Nobody).map(|walk| walk.matched.len());
        assert_eq!(found(&set), Ok(naive(set.rules(), &unit, &sender)));
        group.bench_function(BenchmarkId::new("compiled", count), |b| {
            b.iter(|| found(black_box(&set)));
        });
        group.bench_function(BenchmarkId::new("naive", count), |b| {
            b.iter(|| naive(black_box(set.rules()), &unit, &sender));
        });
    }
    group.finish();
}

criterion_group!(benches, walk);
criterion_main!(benches);
