//! Reserving and committing one message in a ledger that has seen much (D10 to D13).

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use waypost_relay::{Ledger, LimitMode, Limits, QuotaSubject};
use waypost_types::{Mailbox, Timestamp};

const LIMITS: Limits = Limits {
    recipients_per_day: u32::MAX,
    recipients_per_10_minutes: u32::MAX,
    messages_per_user_per_day: u32::MAX,
    unique_recipients_per_user_per_day: u32::MAX,
    mode: LimitMode::Enforce,
};

fn mailboxes(name: &str, count: u32) -> Vec<Mailbox> {
    let mailbox = |i| format!("{name}{i}@solarmora.com").parse().expect("a mailbox");
    (0..count).map(mailbox).collect()
}

fn subject(user: &Mailbox) -> QuotaSubject {
    QuotaSubject { organization: "Solarmora".into(), user: Some(user.clone()), limits: LIMITS }
}

fn send(ledger: &mut Ledger, now: Timestamp, user: &Mailbox, to: &[Mailbox]) {
    let mut transaction = ledger.begin(subject(user));
    for recipient in to {
        assert!(ledger.reserve(now, &mut transaction, recipient).is_ok(), "no limit is hit");
    }
    ledger.commit(now, transaction).expect("something was reserved");
}

fn reserve_and_commit(criterion: &mut Criterion) {
    let (users, recipients) = (mailboxes("user", 1_000), mailboxes("to", 1_000));
    let mut group = criterion.benchmark_group("reserve and commit a message");
    for each in [1, 10, 100] {
        // A day's mail: 100 messages of each of 1,000 users.
        let mut ledger = Ledger::new([7; 16]);
        let mut now = Timestamp::from_millis(1_600_000_000_000);
        for message in 0..100 {
            now = now + Duration::from_secs(600);
            for user in &users {
                send(&mut ledger, now, user, &recipients[message..=message]);
            }
        }
        let mut turn = 0;
        group.bench_function(BenchmarkId::from_parameter(format!("{each} recipients")), |b| {
            b.iter(|| {
                turn = (turn + 1) % 899;
                now = now + Duration::from_millis(10);
                send(&mut ledger, now, &users[turn], &recipients[turn..turn + each]);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, reserve_and_commit);
criterion_main!(benches);
