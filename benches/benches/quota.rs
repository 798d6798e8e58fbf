//! Reserving and committing one message in a ledger that has seen much (D10 to D13), beside a rate
//! limiter that only counts.
//!
//! What is measured is `begin`, a `reserve` for each recipient and `commit`, for a user drawn at random, in a
//! steady state: each user sends five messages a day, all users alike, so each message finds a new five
//! minutes, and about as much leaves the windows as enters them. The ledger is pruned between the batches, as
//! `serve` does by its own clock. Addresses are parsed before and what comes out is dropped after the clock
//! runs, in batches that stay in the processor's cache, as what a session has just read does; so for the
//! limiter.
//!
//! The messages of one recipient come in two ways: one after another, each from `begin` to `commit` before the
//! next begins; and as a server has them, 64 under way at once, of which all begin, then all reserve, then all
//! are committed. The time is that of one message in both.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use governor::{Quota, RateLimiter};
use waypost_relay::{Ledger, LimitMode, Limits, QuotaCommit, QuotaSubject};
use waypost_types::{Mailbox, Timestamp};

const LIMITS: Limits = Limits {
    recipients_per_day: u32::MAX,
    recipients_per_10_minutes: u32::MAX,
    messages_per_user_per_day: u32::MAX,
    unique_recipients_per_user_per_day: u32::MAX,
    recipients_per_login_per_day: None,
    recipients_per_client_per_day: None,
    mode: LimitMode::Enforce,
};

/// Each user's messages of a day.
const MESSAGES: u32 = 5;
const BATCH: BatchSize = BatchSize::NumIterations(100);
/// Messages under way at once.
const UNDER_WAY: u32 = 64;

/// Users in organizations, with a day's mail behind them.
struct World {
    users: u32,
    organizations: Vec<Arc<str>>,
    ledger: Ledger,
    now: Timestamp,
    /// Microseconds beyond `now`.
    beyond: u64,
    pruned: Timestamp,
    random: u64,
}

impl World {
    fn new(users: u32, organizations: u32) -> Self {
        let mut world = Self {
            users,
            organizations: (0..organizations).map(|i| format!("organization {i}").into()).collect(),
            ledger: Ledger::new([7; 16]),
            now: Timestamp::from_millis(1_600_000_000_000),
            beyond: 0,
            pruned: Timestamp::default(),
            random: 88_172_645_463_325_252,
        };
        for message in 0..MESSAGES {
            for user in 0..users {
                let (subject, to) = world.envelope(user, user * 7 + message * 131, 1);
                world.pass();
                world.send(subject, &to);
            }
        }
        world
    }

    /// Time from one message to the next.
    fn pass(&mut self) {
        self.beyond += 86_400_000_000 / u64::from(MESSAGES) / u64::from(self.users);
        self.now = self.now + Duration::from_millis(self.beyond / 1000);
        self.beyond %= 1000;
    }

    /// Every minute and a half, which is seldom enough to go unnoticed and often enough to come round.
    fn prune(&mut self) {
        if self.now.since(self.pruned) > Duration::from_secs(90) {
            self.pruned = self.now;
            self.ledger.prune_some(self.now);
        }
    }

    fn random(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 20) as u32
    }

    /// What MAIL and RCPT bring of a user.
    fn envelope(&self, user: u32, to: u32, count: u32) -> (QuotaSubject, Vec<Mailbox>) {
        let place = user as usize % self.organizations.len();
        let user = format!("user{user}@organization{place}.example");
        let organization = Arc::clone(&self.organizations[place]);
        let user = user.parse().expect("a mailbox");
        let subject = QuotaSubject::new(organization, Some(user), LIMITS);
        let to = (0..count).map(|i| format!("to{}@elsewhere.example", (to + i) % 100_000));
        (subject, to.map(|to| to.parse().expect("a mailbox")).collect())
    }

    fn send(&mut self, subject: QuotaSubject, to: &[Mailbox]) -> Option<QuotaCommit> {
        let mut transaction = self.ledger.begin(subject);
        for recipient in to {
            let reserved = self.ledger.reserve(self.now, &mut transaction, recipient);
            assert!(reserved.is_ok(), "no limit is hit");
        }
        self.ledger.commit(self.now, transaction)
    }

    /// Messages of one recipient that are under way at once.
    fn send_all(
        &mut self,
        envelopes: Vec<(QuotaSubject, Vec<Mailbox>)>,
    ) -> Vec<(Option<QuotaCommit>, Vec<Mailbox>)> {
        let begun = envelopes.into_iter().map(|(subject, to)| (self.ledger.begin(subject), to));
        let mut open: Vec<_> = begun.collect();
        for (transaction, to) in &mut open {
            for recipient in to {
                let reserved = self.ledger.reserve(self.now, transaction, recipient);
                assert!(reserved.is_ok(), "no limit is hit");
            }
        }
        let commit = |(transaction, to)| (self.ledger.commit(self.now, transaction), to);
        open.into_iter().map(commit).collect()
    }
}

fn reserve_and_commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reserve and commit a message");
    for (users, organizations) in [(1_000, 10), (1_000_000, 10_000)] {
        let mut world = World::new(users, organizations);
        for count in [1, 10, 100] {
            let what = format!("{count} recipients, {users} users");
            group.bench_function(BenchmarkId::from_parameter(what), |b| {
                let world = std::cell::RefCell::new(&mut world);
                b.iter_batched(
                    || {
                        let mut world = world.borrow_mut();
                        world.prune();
                        let (user, to) = (world.random() % world.users, world.random());
                        world.envelope(user, to % 100_000, count)
                    },
                    |(subject, to)| {
                        let mut world = world.borrow_mut();
                        world.pass();
                        (world.send(subject, &to), to)
                    },
                    BATCH,
                );
            });
        }
    }
    group.finish();
}

fn many_under_way(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reserve and commit a message, 64 under way");
    for (users, organizations) in [(1_000, 10), (1_000_000, 10_000)] {
        let mut world = World::new(users, organizations);
        group.bench_function(BenchmarkId::from_parameter(format!("{users} users")), |b| {
            // The time of one message, so that the rows can be compared.
            b.iter_custom(|messages| {
                let mut spent = Duration::ZERO;
                let rounds = messages.div_ceil(UNDER_WAY.into());
                for _ in 0..rounds {
                    world.prune();
                    let envelopes = (0..UNDER_WAY).map(|_| {
                        world.pass();
                        let (user, to) = (world.random() % world.users, world.random());
                        world.envelope(user, to % 100_000, 1)
                    });
                    let envelopes = envelopes.collect();
                    let begun = Instant::now();
                    let sent = world.send_all(envelopes);
                    spent += begun.elapsed();
                    drop(sent);
                }
                spent.mul_f64(messages as f64 / (rounds * u64::from(UNDER_WAY)) as f64)
            });
        });
    }
    group.finish();
}

/// One count a user, neither recipients nor a day nor organizations: what the least would cost.
fn only_count(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("count a message of a user: governor");
    let many = NonZeroU32::new(u32::MAX).expect("not 0");
    for users in [1_000, 1_000_000] {
        let mut world = World { users, ..World::new(0, 1) };
        let limiter = RateLimiter::hashmap(Quota::per_second(many));
        for user in 0..users {
            let (subject, _) = world.envelope(user, 0, 0);
            limiter.check_key(&subject.user.expect("a user")).expect("no limit is hit");
        }
        group.bench_function(BenchmarkId::from_parameter(format!("{users} users")), |b| {
            b.iter_batched(
                || {
                    let user = world.random() % world.users;
                    world.envelope(user, 0, 0).0.user.expect("a user")
                },
                |user| (limiter.check_key(&user).is_ok(), user),
                BATCH,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, reserve_and_commit, many_under_way, only_count);
criterion_main!(benches);
