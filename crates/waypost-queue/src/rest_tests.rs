//! Sites that rest, and sites that have too much.

use std::time::Duration;

use waypost_types::{Failure, FailureScope, Notify, Outcome, QueueId, Reply};

use crate::testing::{at, deferred, delivered, entry, failed, host_down};
use crate::{
    Backlog, Body, DeliveryState, Ended, Event, Limits, Queue, Recovery, Resting, Schedule, Site,
    Work,
};

fn schedule(lifetime: u64) -> Schedule {
    let seconds = Duration::from_secs;
    Schedule::list(vec![seconds(300)], seconds(lifetime)).unwrap()
}

fn down(until: u64) -> Resting {
    let reply = Reply::new(451, (4, 4, 1), "every host rests");
    let because = Failure { scope: FailureScope::Host, host: None, reply };
    Resting::Down { until: at(until), because }
}

fn queue_of(limits: Limits, messages: u64) -> Queue {
    let mut queue = Queue::new(limits);
    (1..=messages).for_each(|id| accept(&mut queue, id, "x"));
    queue
}

/// A message of 20 octets with its body.
fn accept(queue: &mut Queue, id: u64, site: &str) {
    let to = format!("a@{site}.example");
    let body = Body::from(vec![b'x'; 20]);
    assert_eq!(queue.accept(entry(id, "s@f.example", &[&to]), Some(body), at(0)), Ok(None));
}

fn taken(queue: &mut Queue, seconds: u64) -> Vec<Work> {
    std::iter::from_fn(|| queue.take(at(seconds))).collect()
}

fn end(queue: &mut Queue, work: Work, outcome: &Outcome, seconds: u64) -> crate::Finished {
    let results = work.deliveries.iter().map(|place| Ended::new(*place, outcome.clone())).collect();
    queue.finished(work, results, &Schedule::default(), at(seconds))
}

fn site(name: &str) -> Site {
    Site::of(&entry(1, "", &[&format!("a@{name}.example")]).deliveries[0].delivery)
}

#[test]
fn a_site_whose_hosts_rest_is_left_alone_and_no_attempt_is_counted() {
    let mut queue = queue_of(Limits::default(), 9);
    let mut works = taken(&mut queue, 0);
    assert_eq!(works.len(), 5, "the first window");
    for work in works.drain(..) {
        let finished = queue.postponed(work, down(60), &schedule(9_999), at(0));
        assert!(finished.events.is_empty() && finished.notice.is_none());
    }
    assert!(queue.take(at(0)).is_none(), "it does not spin");
    assert_eq!(queue.next_due(), Some(at(60)));
    assert!(queue.take(at(59)).is_none());
    let mut works = taken(&mut queue, 60);
    assert_eq!(works.len(), 1, "one probe");
    let work = works.pop().unwrap();
    assert_eq!(work.attempt, 1, "nothing was tried yet");
    let _ = end(&mut queue, work, &delivered(), 60);
    assert_eq!(taken(&mut queue, 60).len(), 6, "it opens where it was");
}

#[test]
fn a_lifetime_ends_though_the_site_rests_o2() {
    let mut queue = queue_of(Limits::default(), 2);
    let works = taken(&mut queue, 0);
    let mut works = works.into_iter();
    // One was tried and has a failure of its own to tell of; the other one was not.
    let work = works.next().unwrap();
    let results = vec![Ended::new(0, host_down())];
    let seconds = Duration::from_secs;
    let soon = Schedule::list(vec![seconds(1)], seconds(40)).unwrap();
    let _ = queue.finished(work, results, &soon, at(0));
    let _ = queue.postponed(works.next().unwrap(), down(900), &soon, at(0));
    assert_eq!(queue.next_due(), Some(at(1)), "the first one is due by its schedule");
    assert!(queue.take(at(1)).is_none(), "and waits with the other");
    assert_eq!(queue.next_due(), Some(at(40)), "until its time is up");
    let mut texts = Vec::new();
    for work in taken(&mut queue, 40) {
        let finished = queue.postponed(work, down(900), &soon, at(40));
        let Some(Event::Attempted(attempt)) = finished.events.first() else { panic!() };
        assert_eq!(attempt.next, None);
        texts.push((attempt.number, attempt.results[0].outcome.clone()));
        assert_eq!(finished.notice.unwrap().failures(), 1);
    }
    texts.sort_by_key(|(number, _)| *number);
    let text = |place: usize| format!("{:?}", texts[place]);
    assert!(text(0).contains("every host rests"), "{}", text(0));
    assert!(text(1).contains("connection refused"), "{}", text(1));
    assert!(queue.is_empty());
    assert_eq!(queue.next_due(), None, "nothing is left to look at");
}

#[test]
fn a_delay_is_told_though_the_site_rests_rfc_3461() {
    let mut queue =
        Queue::new(Limits { delay_notice: Some(Duration::from_secs(100)), ..Limits::default() });
    let mut message = entry(1, "s@f.example", &["a@x.example"]);
    message.deliveries[0].delivery.notify =
        Notify::On { success: false, failure: true, delay: true };
    assert_eq!(queue.accept(message, None, at(0)), Ok(None));
    let mut told = Vec::new();
    let mut now = 0;
    while now < 3_000 {
        let Some(work) = queue.take(at(now)) else {
            now = queue.next_due().unwrap().as_millis() / 1000;
            continue;
        };
        let finished = queue.postponed(work, down(now + 900), &schedule(9_999), at(now));
        if let Some(notice) = finished.notice {
            assert_eq!(notice.failures(), 0);
            told.push(now);
        }
    }
    assert_eq!(told, [100]);
    assert_eq!(queue.show(QueueId::new(1)).unwrap().deliveries[0].attempts, 0);
}

#[test]
fn a_busy_site_keeps_its_window() {
    let mut queue = queue_of(Limits::default(), 9);
    for work in taken(&mut queue, 0) {
        let _ = queue.postponed(work, Resting::Busy { until: at(1) }, &schedule(9_999), at(0));
    }
    assert!(queue.take(at(0)).is_none());
    assert_eq!(taken(&mut queue, 1).len(), 5);
}

#[test]
fn a_rest_ends_by_command_by_news_and_by_an_answer() {
    let mut queue = queue_of(Limits::default(), 3);
    let rest = |queue: &mut Queue| {
        let work = queue.take(at(0)).unwrap();
        let _ = queue.postponed(work, down(900), &schedule(9_999), at(0));
        assert!(queue.take(at(0)).is_none());
    };
    rest(&mut queue);
    assert!(queue.retry(QueueId::new(3)).is_ok());
    rest(&mut queue);
    assert_eq!(queue.retry_sites(|other| *other == site("y")), 0);
    assert!(queue.take(at(0)).is_none());
    queue.retry_sites(|other| *other == site("x"));
    rest(&mut queue);
    queue.rouse(|_| true);
    // Two that run while a third finds the hosts resting: one of them gets an answer.
    let work = queue.take(at(0)).unwrap();
    let _ = end(&mut queue, work, &delivered(), 0);
    let mut works = taken(&mut queue, 0).into_iter();
    let _ = queue.postponed(works.next().unwrap(), down(900), &schedule(9_999), at(0));
    let _ = end(&mut queue, works.next().unwrap(), &delivered(), 0);
    assert!(queue.take(at(0)).is_some());
}

#[test]
fn retry_makes_all_of_a_site_ready() {
    let mut queue = queue_of(Limits::default(), 4);
    accept(&mut queue, 9, "y");
    for work in taken(&mut queue, 0) {
        let _ = end(&mut queue, work, &deferred("later"), 0);
    }
    assert_eq!(queue.retry_sites(|other| *other == site("x")), 4);
    assert_eq!(taken(&mut queue, 0).len(), 4);
}

fn small() -> Limits {
    let backlog = |works| Backlog { works, octets: u64::MAX };
    Limits { backlog: backlog(16), backlog_per_site: backlog(8), ..Limits::default() }
}

#[test]
fn intake_slows_for_a_site_that_is_full_and_no_other() {
    let mut queue = queue_of(small(), 7);
    assert!(!queue.is_full());
    accept(&mut queue, 8, "x");
    assert!(queue.is_full() && queue.is_full_for(&site("x")) && !queue.is_full_for(&site("y")));
    assert_eq!(queue.backlog(), Backlog { works: 8, octets: 160 });
    assert!(queue.take(at(0)).is_some());
    assert!(!queue.take_eased() && queue.is_full_for(&site("x")), "until a quarter is gone");
    assert!(queue.take(at(0)).is_some());
    assert!(queue.take_eased() && !queue.is_full());
    // All sites together.
    (20..30).for_each(|id| accept(&mut queue, id, &format!("z{id}")));
    assert!(queue.is_full_for(&site("y")));
    // What is held, removed or found in the store does not count.
    for id in 20..26 {
        assert!(queue.hold(QueueId::new(id), "op", at(0)).is_ok());
        assert!(queue.remove(QueueId::new(id), "op", at(0)).is_ok());
    }
    assert!(queue.take_eased() && !queue.is_full());
    let mut recovery = Recovery::new();
    for id in 1..50 {
        recovery.event(Event::Accepted(Box::new(entry(id, "", &["a@x.example"]))));
    }
    assert!(!recovery.finish(small(), at(0)).queue.is_full());
}

#[test]
fn octets_count_too() {
    let backlog = Backlog { works: 100, octets: 100 };
    let mut queue = queue_of(Limits { backlog, backlog_per_site: backlog, ..Limits::default() }, 4);
    assert!(!queue.is_full());
    accept(&mut queue, 5, "y");
    assert!(queue.is_full());
}

#[test]
fn a_dead_site_slows_nobody_and_keeps_no_bodies() {
    let mut queue = queue_of(small(), 8);
    assert!(queue.is_full_for(&site("x")));
    let mut works = taken(&mut queue, 0).into_iter();
    (20..25).for_each(|id| accept(&mut queue, id, "x"));
    assert!(queue.is_full_for(&site("x")));
    let _ = end(&mut queue, works.next().unwrap(), &host_down(), 0);
    assert!(queue.take_eased() && !queue.is_full());
    assert_eq!(queue.backlog(), Backlog::default());
    for work in works {
        let _ = queue.postponed(work, down(60), &schedule(9_999), at(0));
    }
    assert_eq!(queue.in_memory().0, 0, "they are read again when it is well");
    (30..60).for_each(|id| accept(&mut queue, id, "x"));
    assert!(!queue.is_full());
    assert_eq!(queue.in_memory().0, 0);
    // It is well again, and what waits counts again: not forgotten, only not held against anybody.
    let work = queue.take(at(60)).unwrap();
    let _ = end(&mut queue, work, &delivered(), 60);
    assert!(queue.is_full_for(&site("x")));
}

#[test]
fn a_slow_site_slows_its_senders_once() {
    let mut queue = queue_of(small(), 8);
    let running = taken(&mut queue, 0).len();
    (20..25).for_each(|id| accept(&mut queue, id, "x"));
    assert!(queue.is_full_for(&site("x")));
    queue.stalled(&site("x"));
    assert!(queue.take_eased() && !queue.is_full());
    assert_eq!(queue.in_memory().0, 20 * u64::try_from(running).unwrap(), "only what runs");
    (30..60).for_each(|id| accept(&mut queue, id, "x"));
    assert!(!queue.is_full(), "it is waited for no more");
    // All sites together are full: the longest backlog is left out.
    (100..116).for_each(|id| accept(&mut queue, id, if id < 109 { "long" } else { "short" }));
    assert!(queue.is_full_for(&site("other")));
    queue.stalled(&site("other"));
    assert!(!queue.is_full_for(&site("other")));
}

/// A source of 20 sessions against a sink that is half as fast: the ready queue stays in its bound,
/// and everything arrives. A second sink that takes a mail an hour slows nobody but its senders, and
/// these for as long as one wait.
#[test]
fn a_source_faster_than_its_sink_is_slowed_to_its_pace() {
    let bound = Backlog { works: 50, octets: u64::MAX };
    let limits = Limits {
        backlog: bound,
        backlog_per_site: Backlog { works: 25, ..bound },
        ..Limits::default()
    };
    let mut queue = Queue::new(limits);
    let (patience, mut next_id, mut most) = (20_u64, 1, 0);
    let mut sessions: Vec<(u64, &str)> =
        (0..20).map(|n| (0, if n == 0 { "slow" } else { "fast" })).collect();
    let (mut accepted, mut waited_for_slow) = (0, 0);
    let mut slow = Vec::new();
    for second in 0..600 {
        sessions.rotate_left(7);
        // Each session offers one mail a second; it waits while its site is full.
        for (waiting, name) in &mut sessions {
            if queue.is_full_for(&site(name)) {
                *waiting += 1;
                waited_for_slow += u64::from(*name == "slow");
                if *waiting < patience {
                    continue;
                }
                assert_eq!(*name, "slow", "the fast one always gets on");
                queue.stalled(&site(name));
            }
            *waiting = 0;
            accept(&mut queue, next_id, name);
            next_id += 1;
            accepted += u64::from(*name == "fast");
        }
        most = most.max(queue.backlog().works);
        // The sink takes ten a second.
        let mut done = 0;
        while done < 10
            && let Some(work) = queue.take(at(second))
        {
            if *work.site == site("slow") {
                slow.push(work);
                continue;
            }
            let _ = end(&mut queue, work, &delivered(), second);
            done += 1;
        }
    }
    assert!(most <= 50 + 20, "the bound, and one of each session: {most}");
    assert!(accepted >= 599 * 10, "as many as the sink takes: {accepted}");
    assert_eq!(slow.len(), 5, "the slow one has its window, and no more");
    assert!(waited_for_slow <= patience, "it is waited for once: {waited_for_slow} s");
}

#[test]
fn a_421_and_a_time_out_shut_the_window() {
    let strain = |code, enhanced: (u8, u16, u16)| {
        let reply = Reply::new(code, enhanced, "enough");
        let failure =
            Failure { scope: FailureScope::Message, host: "h.example:25".parse().ok(), reply };
        Outcome::Deferred(failure)
    };
    for (outcome, want) in [
        (delivered(), 6),
        (deferred("greylisted"), 6),
        (failed(550, "no such user"), 6),
        (strain(421, (4, 7, 0)), 2),
        (strain(451, (4, 4, 2)), 2),
        (host_down(), 1),
    ] {
        let mut queue = queue_of(Limits::default(), 30);
        let mut works = taken(&mut queue, 0);
        let work = works.pop().unwrap();
        let _ = end(&mut queue, work, &outcome, 0);
        assert_eq!(queue.window(&site("x")), want, "{outcome:?}");
    }
}

#[test]
fn many_slow_sites_together_leave_room_for_the_others() {
    let mut queue = Queue::new(Limits { works: 64, ..Limits::default() });
    let mut id = 0;
    for name in 0..60 {
        for _ in 0..20 {
            id += 1;
            accept(&mut queue, id, &format!("slow{name}"));
        }
    }
    let mut stuck = taken(&mut queue, 0);
    assert_eq!(stuck.len(), 64);
    let first = queue.show(QueueId::new(1)).unwrap().deliveries[0].state.clone();
    assert_eq!(first, DeliveryState::Running);
    let sites: std::collections::HashSet<_> = stuck.iter().map(|work| work.site.clone()).collect();
    assert!(sites.len() >= 40, "no site takes many while little is free: {}", sites.len());
    // Whoever comes now has its turn after one of each of the others.
    accept(&mut queue, 9_999, "fast");
    let work = stuck.pop().unwrap();
    let _ = end(&mut queue, work, &deferred("later"), 0);
    let names: Vec<_> = (0..61)
        .map_while(|_| {
            let work = queue.take(at(0))?;
            let name = work.site.host.as_ref()?.to_string();
            let _ = end(&mut queue, work, &deferred("later"), 0);
            Some(name)
        })
        .collect();
    assert!(names.contains(&"fast.example".to_owned()), "{names:?}");
}
