//! The script beside the in-memory ledger, under simulated time: the same answers (D10 to D13).

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use redis::Value;
use waypost_relay::{
    Ledger, LimitMode, Limits, QuotaCommit, QuotaRefusal, QuotaSubject, Reservation, Transaction,
};
use waypost_types::{Mailbox, Timestamp};

use super::server::Server;
use crate::call::{Call, Now, Order, Reserved, SCRIPT};
use crate::counter;
use crate::digest::{Digest, DigestKey};
use crate::keys::Keys;

const KEY: [u8; 16] = [3; 16];
const ORGANIZATION: &str = "Solarmora & {sons}";
/// What a node that dies holds is given back after this.
const LEASE: Duration = Duration::from_secs(100);
/// Of the others the leases are always renewed.
const LONG: Duration = Duration::from_secs(1_000_000);

fn mailbox(name: u8) -> Mailbox {
    format!("r{name}@elsewhere.example").parse().unwrap()
}

fn user(name: Option<u8>) -> Option<Mailbox> {
    name.map(|name| format!("user{name}@solarmora.com").parse().unwrap())
}

/// Logins and clients of users; what has no user has no login.
fn subject(name: Option<u8>, limits: Limits) -> QuotaSubject {
    let clients = ["192.0.2.1", "2001:db8::", "2001:db8:0:1::"];
    let client = clients.get(usize::from(name.unwrap_or_default())).map(|one| one.parse().unwrap());
    QuotaSubject {
        login: user(name.map(|name| name % 2)),
        client,
        ..QuotaSubject::new(ORGANIZATION.into(), user(name), limits)
    }
}

/// A day's or so.
fn limits(mode: LimitMode) -> Limits {
    Limits {
        recipients_per_day: 24,
        recipients_per_10_minutes: 12,
        messages_per_user_per_day: 6,
        unique_recipients_per_user_per_day: 7,
        recipients_per_login_per_day: Some(14),
        recipients_per_client_per_day: Some(16),
        mode,
    }
}

/// The script, called for one node.
struct Scripted<'a> {
    connection: &'a mut redis::Connection,
    sha: String,
    keys: Keys,
    key: DigestKey,
    now: Timestamp,
    number: u64,
}

impl Scripted<'_> {
    fn call(&mut self, call: &Call) -> Value {
        call.command(&self.sha).query(self.connection).unwrap()
    }

    fn digests(&self, recipients: &[Mailbox]) -> Vec<Digest> {
        recipients.iter().map(|recipient| self.key.of(recipient)).collect()
    }

    fn reserve(
        &mut self,
        id: &str,
        lease: Duration,
        subject: &QuotaSubject,
        recipients: &[Mailbox],
    ) -> Vec<Result<Reservation, QuotaRefusal>> {
        let counters = counter::of_subject(&self.keys, self.key, subject);
        let (now, digests) = (Now::Given(self.now), self.digests(recipients));
        let enforced = subject.limits.mode == LimitMode::Enforce;
        let call = Call::reserve(&self.keys, now, id, lease, enforced, &counters, &digests);
        let answer = self.call(&call);
        Reserved::read(&answer, recipients.len(), &counters).unwrap().verdicts
    }

    /// Tells it twice, as after a broken connection.
    fn commit(&mut self, id: &str, subject: &QuotaSubject, recipients: &[Mailbox], age: Duration) {
        self.number += 1;
        let counters = counter::of_subject(&self.keys, self.key, subject);
        let (start, number, at) = ("start", self.number, self.now.before(age));
        let (now, digests) = (Now::Given(self.now), self.digests(recipients));
        let order = Order { start, number, at, age, digest: self.key.of_commit(subject, &digests) };
        let call = Call::commit(&self.keys, "node", now, id, &order, &counters, &digests);
        assert_eq!(self.call(&call), Value::Array(vec![Value::Int(1)]));
        assert_eq!(self.call(&call), Value::Array(vec![Value::Int(0)]), "once");
    }

    fn release(&mut self, id: &str, recipients: &[Mailbox]) {
        let digests = self.digests(recipients);
        let call = Call::release(&self.keys, Now::Given(self.now), id, &digests);
        self.call(&call);
    }

    fn usage_of_caller(&mut self, subject: &QuotaSubject) -> Vec<waypost_relay::QuotaUse> {
        let counters = counter::of_caller(&self.keys, self.key, subject);
        let now = Now::Given(self.now);
        let call = Call::reserve(&self.keys, now, "", LEASE, true, &counters, &[]);
        Reserved::read(&self.call(&call), 0, &counters).unwrap().uses
    }

    fn usage(&mut self, user: Option<&Mailbox>, limits: &Limits) -> Vec<waypost_relay::QuotaUse> {
        let counters = match user {
            Some(user) => counter::of_user(&self.keys, self.key, user, limits),
            None => counter::of_organization(&self.keys, limits),
        };
        let now = Now::Given(self.now);
        let call = Call::reserve(&self.keys, now, "", LEASE, true, &counters, &[]);
        Reserved::read(&self.call(&call), 0, &counters).unwrap().uses
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A message of a user to some recipients; then, later, what becomes of it.
    Begin {
        user: Option<u8>,
        mode: LimitMode,
        mortal: bool,
        to: Vec<u8>,
    },
    More {
        which: usize,
        to: Vec<u8>,
    },
    GiveBack {
        which: usize,
        to: u8,
    },
    Commit {
        which: usize,
    },
    /// From the history of a node: accepted so many seconds ago.
    Late {
        user: Option<u8>,
        to: Vec<u8>,
        ago: u64,
    },
    Release {
        which: usize,
    },
    Pass {
        millis: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let user = || prop::option::weighted(0.8, 0u8..3);
    let to = || prop::collection::vec(0u8..9, 1..5);
    let mode = prop_oneof![
        8 => Just(LimitMode::Enforce),
        1 => Just(LimitMode::Observe),
    ];
    let millis = prop_oneof![
        4 => 0u64..4_000,
        4 => 0u64..200_000,
        2 => 0u64..2_000_000,
        1 => 40_000_000u64..100_000_000,
    ];
    prop_oneof![
        8 => (user(), mode, prop::bool::weighted(0.2), to())
            .prop_map(|(user, mode, mortal, to)| Step::Begin { user, mode, mortal, to }),
        3 => (any::<prop::sample::Index>(), to())
            .prop_map(|(which, to)| Step::More { which: which.index(8), to }),
        2 => (0usize..8, 0u8..9).prop_map(|(which, to)| Step::GiveBack { which, to }),
        6 => (0usize..8).prop_map(|which| Step::Commit { which }),
        1 => (user(), to(), 0u64..90_000).prop_map(|(user, to, ago)| Step::Late { user, to, ago }),
        2 => (0usize..8).prop_map(|which| Step::Release { which }),
        8 => millis.prop_map(|millis| Step::Pass { millis }),
    ]
}

/// A message under way in both.
struct Open {
    id: String,
    modelled: Transaction,
    /// When its node's lease ends, of a node that died.
    until: Option<Timestamp>,
}

fn check(scripted: &mut Scripted<'_>, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut ledger = Ledger::new([1; 16]);
    let (mut open, mut ids): (Vec<Open>, u64) = (Vec::new(), 0);
    let mut lost: Vec<(String, QuotaSubject, Vec<Mailbox>)> = Vec::new();
    for step in steps {
        match step.clone() {
            Step::Pass { millis } => {
                scripted.now = scripted.now + Duration::from_millis(millis);
                let now = scripted.now;
                let (gone, stays) =
                    open.into_iter().partition(|one| one.until.is_some_and(|until| until <= now));
                open = stays;
                for one in gone {
                    let Open { id, modelled, .. } = one;
                    let held = modelled.recipients().to_vec();
                    lost.push((id, modelled.subject().clone(), held));
                    ledger.release(modelled);
                }
            }
            Step::Begin { user: name, mode, mortal, to } => {
                let subject = subject(name, limits(mode));
                ids += 1;
                let until = mortal.then_some(scripted.now + LEASE);
                let (id, modelled) = (format!("id{ids}"), ledger.begin(subject));
                open.push(Open { id, modelled, until });
                let last = open.len() - 1;
                more(scripted, &mut ledger, &mut open[last], &to)?;
            }
            Step::More { which, to } => {
                if let Some(one) = open.get_mut(which) {
                    more(scripted, &mut ledger, one, &to)?;
                }
            }
            Step::GiveBack { which, to } => {
                let Some(one) = open.get_mut(which) else { continue };
                let to = mailbox(to);
                if ledger.release_recipient(scripted.now, &mut one.modelled, &to) {
                    scripted.release(&one.id, &[to]);
                }
            }
            Step::Commit { which } => {
                if which < open.len() {
                    let Open { id, modelled, .. } = open.remove(which);
                    let subject = modelled.subject().clone();
                    if let Some(commit) = ledger.commit(scripted.now, modelled) {
                        scripted.commit(&id, &subject, &commit.recipients, Duration::ZERO);
                    }
                } else if let Some((id, subject, recipients)) = lost.pop()
                    && !recipients.is_empty()
                {
                    // Its lease ran out, and its node was alive after all: what is accepted counts.
                    ledger.replay(&commit_of(&subject, scripted.now, &recipients));
                    scripted.commit(&id, &subject, &recipients, Duration::ZERO);
                }
            }
            Step::Late { user: name, to, ago } => {
                let subject = subject(name, limits(LimitMode::Enforce));
                let recipients: Vec<_> = to.iter().map(|name| mailbox(*name)).collect();
                let age = Duration::from_secs(ago);
                let commit = commit_of(&subject, scripted.now.before(age), &recipients);
                ledger.replay(&commit);
                scripted.commit("late", &subject, &recipients, age);
            }
            Step::Release { which } => {
                if which < open.len() {
                    let one = open.remove(which);
                    ledger.release(one.modelled);
                    scripted.release(&one.id, &[]);
                }
            }
        }
        for name in [None, Some(0), Some(1), Some(2)] {
            let (user, limits) = (user(name), limits(LimitMode::Enforce));
            let want = ledger.usage(scripted.now, ORGANIZATION, user.as_ref(), &limits);
            let got = scripted.usage(user.as_ref(), &limits);
            prop_assert_eq!(got, want.to_vec(), "{:?} after {:?}", user, step);
            let caller = subject(name, limits);
            let want = ledger.usage_of_caller(scripted.now, &caller);
            let got = scripted.usage_of_caller(&caller);
            prop_assert_eq!(got, want, "{:?} after {:?}", caller, step);
        }
    }
    Ok(())
}

fn commit_of(subject: &QuotaSubject, at: Timestamp, recipients: &[Mailbox]) -> QuotaCommit {
    QuotaCommit {
        at,
        organization: subject.organization.clone(),
        user: subject.user.clone(),
        recipients: recipients.into(),
        login: subject.login.clone(),
        client: subject.client,
    }
}

fn more(
    scripted: &mut Scripted<'_>,
    ledger: &mut Ledger,
    one: &mut Open,
    to: &[u8],
) -> Result<(), TestCaseError> {
    let recipients: Vec<_> = to.iter().map(|name| mailbox(*name)).collect();
    let subject = one.modelled.subject().clone();
    let lease = if one.until.is_some() { LEASE } else { LONG };
    let got = scripted.reserve(&one.id, lease, &subject, &recipients);
    let now = scripted.now;
    let want: Vec<_> =
        recipients.iter().map(|to| ledger.reserve(now, &mut one.modelled, to)).collect();
    let said = |all: &[Result<Reservation, QuotaRefusal>]| -> Vec<_> {
        all.iter()
            .map(|one| one.as_ref().map(|taken| taken.would_refuse).map_err(Clone::clone))
            .collect()
    };
    prop_assert_eq!(said(&got), said(&want));
    // Asked for together, they learn what is near behind the last of them.
    let near = |all: &[Result<Reservation, QuotaRefusal>]| {
        all.iter().rev().find_map(|one| one.as_ref().ok()).map(|taken| taken.near.clone())
    };
    prop_assert_eq!(near(&got), near(&want));
    if one.until.is_some() && got.iter().any(Result::is_ok) {
        one.until = Some(now + LEASE);
    }
    Ok(())
}

#[test]
#[ignore = "needs redis-server: run scripts/redis"]
fn the_script_answers_as_the_ledger_in_memory_d10_d11_d13_o5() {
    let server = Server::start();
    let mut connection = server.connection();
    let load = || {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(SCRIPT);
        load
    };
    let sha: String = load().query(&mut connection).unwrap();
    let connection = std::cell::RefCell::new(connection);
    let play = |steps: Vec<Step>| {
        let mut connection = connection.borrow_mut();
        let () = redis::cmd("FLUSHALL").query(&mut connection).unwrap();
        let mut scripted = Scripted {
            connection: &mut connection,
            sha: sha.clone(),
            keys: Keys::new("test", ORGANIZATION),
            key: DigestKey::new(KEY),
            now: Timestamp::from_millis(1_600_000_000_123),
            number: 0,
        };
        check(&mut scripted, &steps)
    };
    // The last of these is known, and with it what would have left the window first is held.
    let begin = |to: &[u8]| Step::Begin {
        user: Some(1),
        mode: LimitMode::Enforce,
        mortal: false,
        to: to.to_vec(),
    };
    let pass = Step::Pass { millis: 400_000 };
    let once = vec![
        begin(&[3]),
        Step::Commit { which: 0 },
        pass,
        begin(&[4, 0, 8, 6]),
        begin(&[7, 1, 2, 3]),
    ];
    play(once).unwrap_or_else(|failed| panic!("{failed}"));
    let mut runner = TestRunner::new(Config::with_cases(300));
    let ran = runner.run(&prop::collection::vec(step(), 1..80), play);
    ran.unwrap_or_else(|failed| panic!("{failed}"));
}
