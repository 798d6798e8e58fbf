//! The queue beside a naive model, over lists of operations, with a simulated clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use waypost_types::{Destination, Notify, Outcome, QueueId, Timestamp};

use crate::testing::{at, deferred, delivered, entry, failed, host_down};
use crate::{
    Body, DeliveryState, Durability, Ended, Event, Hold, Limits, ModelStore, Queue, Record,
    Recovery, Schedule, Status, Store, Work,
};

#[derive(Clone, Debug)]
enum Op {
    /// A message of so many recipients over three domains; every third sender is null.
    Accept {
        kind: u8,
        recipients: u8,
    },
    /// Takes a work if one is ready.
    Take,
    /// Ends the n-th running work, with outcomes drawn from the number.
    Finish {
        which: usize,
        outcomes: u64,
    },
    /// Gives it back.
    Abandon {
        which: usize,
    },
    Advance {
        seconds: u32,
    },
    Hold {
        which: usize,
    },
    Release {
        which: usize,
    },
    Retry {
        which: usize,
    },
    Remove {
        which: usize,
    },
    /// A power cut, and a new start.
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let which = 0usize..8;
    prop_oneof![
        4 => (any::<u8>(), 1u8..6).prop_map(|(kind, recipients)| Op::Accept { kind, recipients }),
        6 => Just(Op::Take),
        6 => (which.clone(), any::<u64>()).prop_map(|(which, outcomes)| Op::Finish { which, outcomes }),
        1 => which.clone().prop_map(|which| Op::Abandon { which }),
        4 => (0u32..20_000).prop_map(|seconds| Op::Advance { seconds }),
        1 => which.clone().prop_map(|which| Op::Hold { which }),
        1 => which.clone().prop_map(|which| Op::Release { which }),
        1 => which.clone().prop_map(|which| Op::Retry { which }),
        1 => which.prop_map(|which| Op::Remove { which }),
        1 => Just(Op::Crash),
    ]
}

struct World {
    now: Timestamp,
    next_id: u64,
    queue: Queue,
    store: ModelStore,
    running: Vec<Work>,
    /// Every event that the store was given and did not lose, and how many of them are synced.
    log: Vec<Event>,
    synced: usize,
    /// Messages whose 250 was sent.
    acknowledged: BTreeSet<QueueId>,
    schedule: Schedule,
}

impl World {
    fn new() -> Self {
        let day = Duration::from_secs(86_400);
        Self {
            now: at(1_000_000),
            next_id: 1,
            queue: Queue::new(limits()),
            store: ModelStore::new(),
            running: Vec::new(),
            log: Vec::new(),
            synced: 0,
            acknowledged: BTreeSet::new(),
            schedule: Schedule::doubling(Duration::from_secs(300), day / 6, day),
        }
    }

    fn commit(&mut self, record: &Record, durability: Durability) {
        self.store.commit(std::slice::from_ref(record), durability).unwrap();
        self.log.extend(record.events.iter().cloned());
        if durability == Durability::Synced {
            self.synced = self.log.len();
        }
    }

    fn accept(&mut self, kind: u8, recipients: u8) {
        let id = self.next_id;
        self.next_id += 1;
        let sender = if kind.is_multiple_of(3) { "" } else { "s@from.example" };
        let names: Vec<_> = (0..recipients).map(|n| format!("r{n}@d{}.example", n % 3)).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let mut entry = entry(id, sender, &names);
        entry.accepted_at = self.now;
        if kind.is_multiple_of(7) {
            entry.deliveries[0].hold =
                Some(Hold::Quarantine { name: "q".into(), because: "a rule".into() });
        }
        for (place, owed) in entry.deliveries.iter_mut().enumerate() {
            owed.delivery.notify = match (usize::from(kind) + place) % 4 {
                0 => Notify::Never,
                1 => Notify::On { success: false, failure: true, delay: true },
                _ => Notify::Unsaid,
            };
        }
        let body = Body::from(b"Subject: x\r\n\r\nbody\r\n".to_vec());
        self.commit(&Record::accepted(entry.clone(), body.clone(), vec![]), Durability::Synced);
        self.acknowledged.insert(QueueId::new(id));
        assert_eq!(self.queue.accept(entry, Some(body), self.now), Ok(None));
    }

    fn finish(&mut self, work: Work, mut outcomes: u64) {
        let null = work.entry.sender.is_null();
        let results = work
            .deliveries
            .iter()
            .map(|delivery| {
                let outcome = match outcomes % 5 {
                    0 => delivered(),
                    1 => failed(550, "no"),
                    2 => host_down(),
                    _ => deferred("later"),
                };
                outcomes = outcomes.rotate_right(3);
                Ended::new(*delivery, outcome)
            })
            .collect();
        let about = work.entry.id;
        let finished = self.queue.finished(work, results, &self.schedule, self.now);
        let mut record = Record::from(finished.events);
        let notice = finished.notice.map(|notice| {
            assert!(!null, "a null sender never yields a bounce (RFC 5321 section 4.5.5)");
            assert_eq!(notice.about(), about);
            let id = QueueId::new(self.next_id);
            self.next_id += 1;
            let host = "mx.here.example".parse().unwrap();
            notice.compose(id, &host, b"Subject: x\r\n\r\n", Destination::Mx)
        });
        if let Some((entry, body)) = &notice {
            assert!(entry.sender.is_null());
            record.events.push(Event::Accepted(Box::new(entry.clone())));
            record.bodies.push((entry.id, body.clone()));
        }
        self.commit(&record, Durability::Lazy);
        if let Some((entry, body)) = notice {
            assert_eq!(self.queue.accept(entry, Some(body), self.now), Ok(None));
        }
    }

    fn command(&mut self, op: &Op, which: usize) {
        let ids: Vec<_> = self.queue.list().map(|status| status.entry.id).collect();
        let Some(id) = ids.get(which % ids.len().max(1)) else { return };
        let event = match op {
            Op::Hold { .. } => self.queue.hold(*id, "op", self.now),
            Op::Release { .. } => self.queue.release(*id, "op", self.now),
            Op::Remove { .. } => self.queue.remove(*id, "op", self.now),
            _ => return assert!(self.queue.retry(*id).is_ok()),
        };
        if let Ok(event) = event {
            self.commit(&vec![event].into(), Durability::Synced);
        }
    }

    fn crash(&mut self) {
        self.store.crash();
        self.running.clear();
        self.log.truncate(self.synced);
        self.queue = self.recovered();
        self.matches_log();
    }

    fn recovered(&self) -> Queue {
        let (mut once, mut twice) = (Recovery::new(), Recovery::new());
        let mut events = Vec::new();
        assert_eq!(self.store.recover(&mut |event| events.push(event)), Ok(vec![]));
        for event in &events {
            once.event(event.clone());
            twice.event(event.clone());
        }
        for event in events {
            twice.event(event);
        }
        let once = once.finish(limits(), self.now);
        let twice = twice.finish(limits(), self.now);
        assert!(
            once.events.is_empty(),
            "the end of a message is in the record of its last attempt"
        );
        assert_eq!(shown(&once.queue), shown(&twice.queue), "recover twice = once");
        once.queue
    }

    /// The queue is the naive fold over what was not lost.
    fn matches_log(&self) {
        let mut owed: BTreeMap<QueueId, BTreeSet<u32>> = BTreeMap::new();
        for event in &self.log {
            match event {
                Event::Accepted(entry) => {
                    owed.insert(entry.id, (0..).take(entry.deliveries.len()).collect());
                }
                Event::Attempted(attempt) => {
                    let set = owed.get_mut(&attempt.id);
                    for ended in finals(attempt) {
                        assert!(set.as_ref().is_none_or(|set| set.contains(&ended)), "once only");
                    }
                    if let Some(set) = set {
                        finals(attempt).for_each(|place| assert!(set.remove(&place)));
                    }
                }
                Event::Done { id, .. } => {
                    assert_eq!(owed.remove(id).map(|set| set.len()), Some(0), "done owes nothing");
                }
                Event::Removed { id, .. } => {
                    owed.remove(id);
                }
                _ => {}
            }
        }
        let unfinished = |status: &Status| {
            let states = (0u32..).zip(&status.deliveries);
            states
                .filter(|(_, d)| {
                    !matches!(d.state, DeliveryState::Delivered | DeliveryState::Failed)
                })
                .map(|(place, _)| place)
                .collect::<BTreeSet<_>>()
        };
        let queue: BTreeMap<_, _> =
            self.queue.list().map(|status| (status.entry.id, unfinished(&status))).collect();
        assert_eq!(queue, owed);
        assert_eq!(self.store.bodies(), owed.keys().copied().collect::<Vec<_>>());
    }

    /// A start now, without a power cut, would find each delivery where it is.
    fn matches_recovery(&self) {
        let recovered = self.recovered();
        assert_eq!(recovered.len(), self.queue.len());
        for (live, again) in self.queue.list().zip(recovered.list()) {
            for (live, again) in live.deliveries.iter().zip(&again.deliveries) {
                match (&live.state, &again.state) {
                    (DeliveryState::Delivered | DeliveryState::Failed, state) => {
                        assert_eq!(&live.state, state);
                        continue;
                    }
                    (DeliveryState::Running, _) => {}
                    // `retry` is not written down.
                    (
                        DeliveryState::Ready,
                        DeliveryState::Ready | DeliveryState::Waiting { .. },
                    ) => {}
                    (DeliveryState::Waiting { due }, DeliveryState::Ready) => {
                        assert!(*due <= self.now);
                    }
                    (live, again) => assert_eq!(live, again),
                }
                assert_eq!((live.attempts, &live.failure), (again.attempts, &again.failure));
            }
        }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Accept { kind, recipients } => self.accept(kind, recipients),
            Op::Take => match self.queue.take(self.now) {
                Some(work) => self.running.push(work),
                None => assert!(self.queue.next_due().is_none_or(|due| due > self.now)),
            },
            Op::Finish { which, outcomes } if !self.running.is_empty() => {
                let work = self.running.swap_remove(which % self.running.len());
                self.finish(work, outcomes);
            }
            Op::Abandon { which } if !self.running.is_empty() => {
                let work = self.running.swap_remove(which % self.running.len());
                self.queue.abandoned(work);
            }
            Op::Finish { .. } | Op::Abandon { .. } => {}
            Op::Advance { seconds } => self.now = self.now + Duration::from_secs(seconds.into()),
            Op::Hold { which }
            | Op::Release { which }
            | Op::Retry { which }
            | Op::Remove { which } => self.command(op, which),
            Op::Crash => self.crash(),
        }
    }

    /// Lets everything come to its end.
    fn drain(&mut self) {
        let ids: Vec<_> = self.queue.list().map(|status| status.entry.id).collect();
        for id in ids {
            self.command(&Op::Release { which: 0 }, 0);
            if let Ok(event) = self.queue.release(id, "op", self.now) {
                self.commit(&vec![event].into(), Durability::Synced);
            }
        }
        for turn in 0.. {
            assert!(turn < 100_000, "every message ends");
            if let Some(work) = self.queue.take(self.now) {
                self.running.push(work);
            } else if let Some(work) = self.running.pop() {
                self.finish(work, turn);
            } else if let Some(due) = self.queue.next_due() {
                self.now = due;
            } else {
                break;
            }
        }
        assert!(self.queue.is_empty());
        assert_eq!((self.queue.octets(), self.queue.in_memory()), (0, (0, 0)), "nothing leaks");
        assert!(self.store.bodies().is_empty());
    }

    /// Every delivery of every message that got its 250 has exactly one final outcome.
    fn one_outcome_each(&self) {
        let mut outcomes: BTreeMap<(QueueId, u32), usize> = BTreeMap::new();
        let mut removed = BTreeSet::new();
        let mut accepted = BTreeSet::new();
        for event in &self.log {
            match event {
                Event::Accepted(entry) => {
                    accepted.insert(entry.id);
                    for (place, _) in (0..).zip(&entry.deliveries) {
                        outcomes.insert((entry.id, place), 0);
                    }
                }
                Event::Attempted(attempt) => {
                    for place in finals(attempt) {
                        *outcomes.entry((attempt.id, place)).or_default() += 1;
                    }
                }
                Event::Removed { id, .. } => {
                    removed.insert(*id);
                }
                _ => {}
            }
        }
        assert!(accepted.is_superset(&self.acknowledged), "acknowledged implies kept (O1)");
        for ((id, place), count) in outcomes {
            if !removed.contains(&id) {
                assert_eq!(count, 1, "{id} {place}");
            }
        }
    }
}

fn limits() -> Limits {
    Limits { per_site: 2, deliveries_per_work: 3, octets_in_memory: 100, ..Limits::default() }
}

/// The deliveries that an attempt ended for good.
fn finals(attempt: &crate::Attempt) -> impl Iterator<Item = u32> {
    let over = attempt.next.is_none();
    attempt
        .results
        .iter()
        .filter(move |ended| over || !matches!(ended.outcome, Outcome::Deferred(_)))
        .map(|ended| ended.delivery)
}

fn shown(queue: &Queue) -> Vec<(QueueId, Vec<crate::DeliveryStatus>)> {
    queue.list().map(|status| (status.entry.id, status.deliveries)).collect()
}

proptest! {
    #[test]
    fn nothing_acknowledged_is_lost_and_each_ends_once_o1(ops in prop::collection::vec(op(), 0..120)) {
        let mut world = World::new();
        for (step, op) in ops.iter().enumerate() {
            world.run(op);
            world.matches_log();
            if step % 5 == 0 {
                world.matches_recovery();
            }
        }
        world.drain();
        world.one_outcome_each();
    }

    #[test]
    fn a_crash_after_any_step_loses_nothing_o1(
        ops in prop::collection::vec(op(), 0..60), cut in 0usize..60,
    ) {
        let mut world = World::new();
        for (step, op) in ops.iter().enumerate() {
            world.run(op);
            if step == cut {
                world.crash();
            }
        }
        world.crash();
        world.drain();
        world.one_outcome_each();
    }
}

#[test]
fn one_dead_site_of_a_hundred_delays_no_other() {
    let mut queue = Queue::new(Limits { per_site: 4, ..Limits::default() });
    let schedule = Schedule::default();
    let now = at(0);
    let mut id = 0;
    // The dead site's thousand messages come first.
    for site in 0..100 {
        for _ in 0..if site == 0 { 1000 } else { 10 } {
            id += 1;
            let to = format!("a@d{site}.example");
            assert_eq!(queue.accept(entry(id, "s@f.example", &[&to]), None, now), Ok(None));
        }
    }
    let (workers, mut stuck, mut delivered_to, mut turns) = (16, Vec::new(), BTreeMap::new(), 0);
    while delivered_to.values().sum::<usize>() < 990 {
        turns += 1;
        assert!(turns < 2000, "the others progress: {delivered_to:?}");
        assert!(stuck.len() <= 4, "the dead site takes no more than its share");
        let mut running = Vec::new();
        while stuck.len() + running.len() < workers {
            let Some(work) = queue.take(now) else { break };
            let host = work.site.host.as_ref().unwrap().to_string();
            if host == "d0.example" { stuck.push(work) } else { running.push((host, work)) }
        }
        for (host, work) in running {
            *delivered_to.entry(host).or_insert(0) += 1;
            let results = vec![Ended::new(0, delivered())];
            let _ = queue.finished(work, results, &schedule, now);
        }
        let fewest = delivered_to.values().min().copied().unwrap_or(0);
        let most = delivered_to.values().max().copied().unwrap_or(0);
        assert!(delivered_to.len() < 99 || most - fewest <= 1, "turns are fair");
    }
    assert_eq!(queue.len(), 1000);
}
