//! The queue beside a naive model, over lists of operations, with a simulated clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use waypost_types::{Destination, Notify, Outcome, QueueId, Timestamp};

use crate::testing::{at, deferred, delivered, entry, failed, host_down};
use crate::{
    Backlog, Body, CountsFor, DeliveryState, Durability, Ended, Event, Finished, Hold, Limits,
    ModelStore, Queue, Record, Recovery, Resting, Schedule, Site, Status, Store, Work,
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
    /// Its hosts rest, or are busy.
    Postpone {
        which: usize,
        seconds: u32,
        down: bool,
    },
    /// Somebody has waited in vain for room for the n-th site.
    Stall {
        which: usize,
    },
    /// A host was found well.
    Rouse,
    /// All that waits for the n-th site is to be tried.
    RetrySite {
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
    /// There is room for some recipients of a message that is over a limit.
    LetGo {
        which: usize,
        places: u8,
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
        2 => (which.clone(), 0u32..2_000, any::<bool>())
            .prop_map(|(which, seconds, down)| Op::Postpone { which, seconds, down }),
        1 => (0usize..3).prop_map(|which| Op::Stall { which }),
        1 => Just(Op::Rouse),
        1 => (0usize..3).prop_map(|which| Op::RetrySite { which }),
        4 => (0u32..20_000).prop_map(|seconds| Op::Advance { seconds }),
        1 => which.clone().prop_map(|which| Op::Hold { which }),
        1 => which.clone().prop_map(|which| Op::Release { which }),
        2 => (which.clone(), any::<u8>()).prop_map(|(which, places)| Op::LetGo { which, places }),
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
            if kind.is_multiple_of(5) && (usize::from(kind) / 5 + place).is_multiple_of(2) {
                owed.hold = Some(over_limit());
            }
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
        self.conclude(finished, about, null);
    }

    fn postpone(&mut self, work: Work, seconds: u32, down: bool) {
        let (about, null) = (work.entry.id, work.entry.sender.is_null());
        let until = self.now + Duration::from_secs(seconds.into());
        let because = match host_down() {
            Outcome::Deferred(because) => because,
            other => panic!("{other:?}"),
        };
        let resting = if down { Resting::Down { until, because } } else { Resting::Busy { until } };
        let finished = self.queue.postponed(work, resting, &self.schedule, self.now);
        for event in &finished.events {
            let Event::Attempted(attempt) = event else { continue };
            let over = self.now >= at(0) + self.schedule.lifetime();
            assert!(down && (over || attempt.delay_told), "no attempt is counted");
        }
        self.conclude(finished, about, null);
    }

    fn conclude(&mut self, finished: Finished, about: QueueId, null: bool) {
        if finished.events.is_empty() {
            return assert!(finished.notice.is_none());
        }
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
            Op::LetGo { places, .. } => {
                let before = self.queue.show(*id).unwrap().deliveries;
                let waits = |place: u32| match &before.get(place as usize).map(|one| &one.state) {
                    Some(DeliveryState::Held(hold)) => hold.ends_with_room(),
                    _ => false,
                };
                let chosen: Vec<u32> = (0..8).filter(|place| places >> place & 1 == 1).collect();
                let event = self.queue.release_over_limit(*id, &chosen, "room", self.now);
                let all_wait = !chosen.is_empty() && chosen.iter().all(|place| waits(*place));
                assert_eq!(event.is_ok(), all_wait);
                for (place, one) in (0..).zip(self.queue.show(*id).unwrap().deliveries) {
                    match all_wait && chosen.contains(&place) {
                        true => assert_eq!(one.state, DeliveryState::Ready),
                        false => assert_eq!(one, before[place as usize], "no other is touched"),
                    }
                }
                event
            }
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

    /// The process ends; what was handed to the system stays.
    fn killed(&mut self) {
        self.running.clear();
        // The system writes it out in its time, before anything that comes later.
        self.commit(&Record::default(), Durability::Synced);
        self.queue = self.recovered();
        self.matches_log();
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
            Op::Postpone { which, seconds, down } if !self.running.is_empty() => {
                let work = self.running.swap_remove(which % self.running.len());
                self.postpone(work, seconds, down);
            }
            Op::Finish { .. } | Op::Abandon { .. } | Op::Postpone { .. } => {}
            Op::Stall { which } => self.queue.stalled(&site(which)),
            Op::Rouse => self.queue.rouse(|_| true),
            Op::RetrySite { which } => {
                self.queue.retry_sites(|other| *other == site(which));
                let due = |status: Status| {
                    status.deliveries.into_iter().zip(status.entry.deliveries.clone())
                };
                for (status, owed) in self.queue.list().flat_map(due) {
                    let waits = matches!(status.state, DeliveryState::Waiting { .. });
                    assert!(!waits || Site::of(&owed.delivery) != site(which));
                }
            }
            Op::Advance { seconds } => self.now = self.now + Duration::from_secs(seconds.into()),
            Op::Hold { which }
            | Op::Release { which }
            | Op::LetGo { which, .. }
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

fn over_limit() -> Hold {
    let counts = CountsFor { organization: "S".into(), user: None, login: None, client: None };
    Hold::OverLimit { because: "full".into(), counts: Some(counts.into()), kept_by: None }
}

fn limits() -> Limits {
    Limits {
        works: 5,
        per_site: 2,
        backlog: Backlog { works: 4, octets: 150 },
        backlog_per_site: Backlog { works: 2, octets: 100 },
        deliveries_per_work: 3,
        octets_in_memory: 100,
        ..Limits::default()
    }
}

fn site(which: usize) -> Site {
    Site::of(&entry(1, "", &[&format!("a@d{which}.example")]).deliveries[0].delivery)
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
            world.queue.audit();
            if step % 5 == 0 {
                world.matches_recovery();
            }
        }
        world.drain();
        world.one_outcome_each();
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The same list of operations, cut after each of them by a power cut, and by a kill.
    #[test]
    fn a_crash_after_any_step_loses_nothing_o1(ops in prop::collection::vec(op(), 0..25)) {
        for cut in 0..=ops.len() {
            for power in [true, false] {
                let mut world = World::new();
                ops.iter().take(cut).for_each(|op| world.run(op));
                if power { world.crash() } else { world.killed() }
                world.queue.audit();
                ops.iter().skip(cut).for_each(|op| world.run(op));
                world.crash();
                world.drain();
                world.one_outcome_each();
            }
        }
    }
}

/// One of each event, cut after every commit, by a power cut and by a kill, and with each commit
/// refused by the disk: what was acknowledged is wholly there, what was not is not or wholly.
#[test]
fn each_event_is_whole_or_was_never_acknowledged_o1() {
    let first = 0;
    let script = [
        Op::Accept { kind: 7, recipients: 4 }, // One of four is in quarantine.
        Op::Take,
        Op::Finish { which: first, outcomes: 2 }, // The host is down.
        Op::Accept { kind: 1, recipients: 2 },
        Op::Take,
        Op::Finish { which: first, outcomes: 0o01 }, // Failed: a notice, in the same record.
        Op::Hold { which: 1 },
        Op::Release { which: 1 },
        Op::Take,
        Op::Finish { which: first, outcomes: 0 }, // Delivered.
        Op::Accept { kind: 2, recipients: 1 },
        Op::Remove { which: 2 },
        Op::Advance { seconds: 90_000 }, // Beyond the lifetime.
        Op::Take,
        Op::Take,
        Op::Postpone { which: first, seconds: 60, down: true }, // Expired without an attempt.
        Op::Postpone { which: first, seconds: 60, down: true },
        Op::Take,
        Op::Finish { which: first, outcomes: 0 },
    ];
    let mut kinds = BTreeSet::new();
    for cut in 0..=script.len() {
        for power in [true, false] {
            let mut world = World::new();
            script.iter().take(cut).for_each(|op| world.run(op));
            kinds.extend(world.log.iter().map(kind));
            let kept = world.log.clone();
            if power {
                world.crash()
            } else {
                world.killed()
            }
            // What was synced is a prefix of what was said, and holds every message with a 250.
            assert_eq!(world.log, kept[..world.log.len()]);
            for id in &world.acknowledged {
                let accepted = |event: &Event| matches!(event, Event::Accepted(e) if e.id == *id);
                assert!(world.log.iter().any(accepted), "cut {cut}: {id}");
            }
            world.drain();
            world.one_outcome_each();
        }
        // The disk refuses the next message: nothing of it is left, and nothing else is harmed.
        let mut world = World::new();
        script.iter().take(cut).for_each(|op| world.run(op));
        world.store.fail(1);
        let body = Body::from(b"x".to_vec());
        let refused = entry(9_999, "s@from.example", &["a@d0.example"]);
        let record = Record::accepted(refused, body, vec![]);
        assert!(world.store.commit(&[record], Durability::Synced).is_err());
        world.killed();
        assert!(!world.store.bodies().contains(&QueueId::new(9_999)));
        world.drain();
        world.one_outcome_each();
    }
    let all = ["accepted", "attempted", "done", "held", "notice", "partly", "released", "removed"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all);
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::Accepted(entry) if entry.client.starts_with("notice") => "notice",
        Event::Accepted(_) => "accepted",
        Event::Attempted(attempt) if finals(attempt).count() == attempt.results.len() => {
            "attempted"
        }
        Event::Attempted(_) => "partly",
        Event::Held { .. } => "held",
        Event::Released { .. } => "released",
        Event::Removed { .. } => "removed",
        Event::Done { .. } => "done",
        other => panic!("{other:?}"),
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

/// A hundred sites with simulated time: one is dead, one takes two minutes for each mail, and a
/// thousand messages for each of the two came first.
#[test]
fn a_dead_and_a_slow_site_of_a_hundred_delay_no_other() {
    let (schedule, mut now) = (Schedule::default(), 0);
    let mut queue = Queue::new(Limits::default());
    let mut id = 0;
    for site in 0..100 {
        for _ in 0..if site < 2 { 1000 } else { 10 } {
            id += 1;
            let to = format!("a@d{site}.example");
            assert_eq!(queue.accept(entry(id, "s@f.example", &[&to]), None, at(0)), Ok(None));
        }
    }
    let (mut running, mut hosts_rest_until, mut pause) = (BTreeMap::new(), 0, 15);
    let (mut attempts, mut works, mut ended_at) = (0, 0, BTreeMap::new());
    while now < 3_600 {
        if let Some(work) = queue.take(at(now)) {
            works += 1;
            let host = work.site.host.as_ref().unwrap().to_string();
            let takes = match host.as_str() {
                "d0.example" if now < hosts_rest_until => 0,
                "d0.example" => 30,
                "d1.example" => 120,
                _ => 1,
            };
            running.insert((now + takes, works), (host, takes, work));
            continue;
        }
        let next = running.first_key_value().map(|((at, _), _)| *at);
        let due = queue.next_due().map(|due| due.as_millis() / 1000);
        let Some(next) = next.into_iter().chain(due).min() else { break };
        now = next.max(now);
        while let Some(entry) = running.first_entry().filter(|entry| entry.key().0 <= now) {
            let (host, takes, work) = entry.remove();
            let _ = match (host.as_str(), takes) {
                ("d0.example", 0) => {
                    let Outcome::Deferred(because) = host_down() else { panic!() };
                    let until = at(hosts_rest_until);
                    let resting = Resting::Down { until, because };
                    queue.postponed(work, resting, &schedule, at(now))
                }
                ("d0.example", _) => {
                    attempts += 1;
                    if now >= hosts_rest_until {
                        hosts_rest_until = now + pause;
                        pause = (pause * 2).min(900);
                    }
                    let results = vec![Ended::new(0, host_down())];
                    queue.finished(work, results, &schedule, at(now))
                }
                _ => {
                    ended_at.entry(host).or_insert_with(Vec::new).push(now);
                    let results = vec![Ended::new(0, delivered())];
                    queue.finished(work, results, &schedule, at(now))
                }
            };
        }
    }
    let slow = ended_at.remove("d1.example").unwrap();
    assert_eq!(ended_at.len(), 98);
    let last = ended_at.values().map(|times| times[9]).max().unwrap();
    assert!(last <= 10, "the others need what they need alone: {last} s");
    assert!(slow[0] == 120 && slow.len() > 20 * 20, "it opened up to twenty: {}", slow.len());
    // 5 at once, then one a pause: 15 s, 30 s, ... 15 min, each with its 30 s.
    assert!(attempts <= 5 + 10, "the dead one is probed, not hammered: {attempts}");
    assert!(works < 3_000, "and nothing spins: {works} works");
}
