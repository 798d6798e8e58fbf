//! The queue's rules, one by one.

use std::time::Duration;

use waypost_types::{Destination, Notify, QueueId, Ret, TlsDemand};

use crate::testing::{at, deferred, delivered, entry, failed, host_down};
use crate::{
    Body, CountsFor, DeliveryState, Ended, Entry, Event, Handover, Hold, Limits, Queue, QueueError,
    QuotaCommit, Recovery, Returned, Schedule, Work,
};

fn all(work: &Work, outcome: &waypost_types::Outcome) -> Vec<Ended> {
    let ended = |place: &u32| Ended::new(*place, outcome.clone());
    work.deliveries.iter().map(ended).collect()
}

fn queue_of(entry: Entry) -> Queue {
    let mut queue = Queue::new(Limits::default());
    assert_eq!(queue.accept(entry, None, at(0)), Ok(None));
    queue
}

fn taken(queue: &mut Queue, seconds: u64) -> Vec<Work> {
    std::iter::from_fn(|| queue.take(at(seconds))).collect()
}

#[test]
fn one_transaction_serves_all_recipients_with_equal_terms() {
    let to =
        ["a@x.example", "b@x.example", "c@y.example", "d@x.example", "e@x.example", "f@x.example"];
    let mut entry = entry(1, "s@f.example", &to);
    entry.deliveries[3].delivery.tls = TlsDemand::Required;
    entry.deliveries[4].delivery.spam = true;
    entry.deliveries[5].hold =
        Some(Hold::Quarantine { name: "q".into(), because: "a rule".into() });
    let mut queue = queue_of(entry);
    let works = taken(&mut queue, 0);
    let places: Vec<_> = works.iter().map(|work| work.deliveries.clone()).collect();
    assert_eq!(places.concat().len(), 5, "the held one is not tried");
    assert!(places.contains(&vec![0, 1]), "{places:?}");
    assert_eq!(places.len(), 4, "{places:?}");
    let names: Vec<_> = works[0].iter().map(|(_, d)| d.recipient.to_string()).collect();
    assert_eq!(names, ["a@x.example", "b@x.example"]);
}

#[test]
fn a_work_has_at_most_so_many_recipients() {
    let to: Vec<_> = (0..250).map(|n| format!("r{n}@x.example")).collect();
    let to: Vec<_> = to.iter().map(String::as_str).collect();
    let mut queue = queue_of(entry(1, "s@f.example", &to));
    let sizes: Vec<_> = taken(&mut queue, 0).iter().map(|w| w.deliveries.len()).collect();
    assert_eq!(sizes, [100, 100, 50]);
}

#[test]
fn deferred_mail_is_due_by_the_schedule_o2() {
    let mut queue = queue_of(entry(1, "s@f.example", &["a@x.example"]));
    let schedule = Schedule::default();
    let mut now = 0;
    for want in [300, 600, 1200] {
        let work = queue.take(at(now)).unwrap();
        let results = all(&work, &deferred("later"));
        let finished = queue.finished(work, results, &schedule, at(now));
        assert!(finished.notice.is_none());
        assert_eq!(queue.next_due(), Some(at(now + want)));
        assert!(queue.take(at(now + want - 1)).is_none());
        now += want;
    }
    let status = queue.show(QueueId::new(1)).unwrap();
    assert_eq!(status.deliveries[0].state, DeliveryState::Waiting { due: at(now) });
    assert_eq!(status.deliveries[0].attempts, 3);
    assert!(status.deliveries[0].failure.as_ref().unwrap().to_string().contains("450"));
}

#[test]
fn a_clock_that_steps_back_delays_nothing_that_is_ready() {
    let mut queue = Queue::new(Limits::default());
    assert_eq!(queue.accept(entry(1, "s@f.example", &["a@x.example"]), None, at(100)), Ok(None));
    assert!(queue.take(at(0)).is_some());
}

#[test]
fn what_expires_bounces_once_o2() {
    let mut queue = queue_of(entry(1, "s@f.example", &["a@x.example", "b@x.example"]));
    let schedule = Schedule::default();
    let end = 5 * 86_400;
    let work = queue.take(at(end)).unwrap();
    let results = all(&work, &host_down());
    let finished = queue.finished(work, results, &schedule, at(end));
    let notice = finished.notice.unwrap();
    assert_eq!(notice.failures(), 2, "all failures of an attempt share one notice");
    assert!(matches!(finished.events.as_slice(), [Event::Attempted(_), Event::Done { .. }]));
    assert!(queue.is_empty());
}

#[test]
fn who_is_told_rfc_3461_c6() {
    let on = |failure| Notify::On { success: true, failure, delay: false };
    for (sender, named, suppress, notify, told) in [
        ("s@f.example", "s@f.example", false, Notify::Unsaid, Some("s@f.example")),
        ("s@f.example", "s@f.example", false, on(true), Some("s@f.example")),
        ("s@f.example", "s@f.example", false, on(false), None),
        ("s@f.example", "s@f.example", false, Notify::Never, None),
        ("s@f.example", "s@f.example", true, Notify::Unsaid, None),
        (
            "s@f.example",
            "postmaster@o.example",
            false,
            Notify::Unsaid,
            Some("postmaster@o.example"),
        ),
        ("", "", false, Notify::Unsaid, None),
        ("", "postmaster@o.example", false, Notify::Unsaid, None),
        ("s@f.example", "", false, on(true), None),
    ] {
        let mut entry = entry(1, sender, &["a@x.example"]);
        let delivery = &mut entry.deliveries[0].delivery;
        delivery.sender = named.parse().unwrap();
        delivery.suppress_bounces = suppress;
        delivery.notify = notify;
        let mut queue = queue_of(entry);
        let work = queue.take(at(0)).unwrap();
        let results = all(&work, &failed(550, "no"));
        let finished = queue.finished(work, results, &Schedule::default(), at(0));
        let to = finished.notice.map(|notice| notice.recipient().to_string());
        assert_eq!(to.as_deref(), told, "{sender:?} {named:?} {suppress} {notify:?}");
    }
}

#[test]
fn a_bounce_never_bounces() {
    let mut queue = queue_of(entry(1, "s@f.example", &["a@x.example"]));
    let work = queue.take(at(0)).unwrap();
    let results = all(&work, &failed(550, "no"));
    let notice = queue.finished(work, results, &Schedule::default(), at(0)).notice.unwrap();
    let host = "mx.here.example".parse().unwrap();
    let (bounce, body) = notice.compose(QueueId::new(2), &host, b"", Destination::Mx);
    assert_eq!(queue.accept(bounce, Some(body), at(0)), Ok(None));
    let work = queue.take(at(0)).unwrap();
    assert!(work.iter().all(|(_, delivery)| delivery.sender.is_null()));
    let results = all(&work, &failed(550, "no"));
    assert!(queue.finished(work, results, &Schedule::default(), at(0)).notice.is_none());
    assert!(queue.is_empty());
}

#[test]
fn a_delay_is_told_once_and_only_if_asked_for() {
    let mut entry = entry(1, "s@f.example", &["a@x.example", "b@x.example"]);
    entry.deliveries[0].delivery.notify = Notify::On { success: false, failure: true, delay: true };
    entry.parameters.ret = Some(Ret::Full);
    let mut queue = queue_of(entry);
    let schedule =
        Schedule::list(vec![Duration::from_secs(3 * 3600)], Duration::from_secs(864_000));
    let schedule = schedule.unwrap();
    let mut told = Vec::new();
    for hours in [0, 3, 6, 9] {
        let work = queue.take(at(hours * 3600)).unwrap();
        let results = all(&work, &deferred("later"));
        let finished = queue.finished(work, results, &schedule, at(hours * 3600));
        if let Some(notice) = finished.notice {
            assert_eq!((notice.failures(), notice.returned()), (0, Returned::Header));
            told.push(hours);
        }
    }
    assert_eq!(told, [6]);
}

#[test]
fn success_is_told_to_those_who_asked_by_whom_it_concerns() {
    let asked = Notify::On { success: true, failure: false, delay: false };
    for (handover, notify, action) in [
        (Handover::Passed, asked, None),
        (Handover::Relayed, asked, Some("relayed")),
        (Handover::Final, asked, Some("delivered")),
        (Handover::Final, Notify::Unsaid, None),
        (Handover::Final, Notify::Never, None),
    ] {
        let mut entry = entry(1, "s@f.example", &["a@x.example"]);
        entry.deliveries[0].delivery.notify = notify;
        entry.parameters.ret = Some(Ret::Full);
        let mut queue = queue_of(entry);
        let work = queue.take(at(0)).unwrap();
        let results = vec![Ended { handover, ..Ended::new(0, delivered()) }];
        let finished = queue.finished(work, results, &Schedule::default(), at(0));
        let Some(notice) = finished.notice else {
            assert_eq!(action, None, "{handover:?} {notify:?}");
            continue;
        };
        assert_eq!((notice.failures(), notice.returned()), (0, Returned::Header));
        let host = "mx.here.example".parse().unwrap();
        let (_, body) = notice.compose(QueueId::new(2), &host, b"A: b\r\n\r\n", Destination::Mx);
        let text = std::str::from_utf8(&body).unwrap();
        let want = format!("Action: {}\r\nStatus: 2.0.0\r\n", action.unwrap());
        assert!(text.contains(&want), "{text}");
    }
}

#[test]
fn wrong_outcomes_do_no_harm() {
    let mut queue = queue_of(entry(1, "s@f.example", &["a@x.example", "b@x.example"]));
    let work = queue.take(at(0)).unwrap();
    let results = vec![
        Ended::new(1, delivered()),
        Ended::new(1, failed(550, "no")),
        Ended::new(77, failed(550, "no")),
    ];
    let finished = queue.finished(work, results, &Schedule::default(), at(0));
    assert!(finished.notice.is_none());
    let states: Vec<_> = queue.show(QueueId::new(1)).unwrap().deliveries;
    assert_eq!(states[0].state, DeliveryState::Waiting { due: at(300) }, "no outcome: deferred");
    assert_eq!(states[1].state, DeliveryState::Delivered, "the first counts");
}

#[test]
fn commands() {
    let mut queue = queue_of(entry(1, "s@f.example", &["a@x.example"]));
    let id = QueueId::new(1);
    assert_eq!(queue.release(id, "op", at(0)), Err(QueueError::NotHeld(id)));
    assert!(matches!(queue.hold(id, "op", at(0)), Ok(Event::Held { .. })));
    assert!(queue.take(at(0)).is_none());
    assert_eq!(queue.retry(id), Ok(0), "what is held stays held");
    assert!(matches!(queue.release(id, "op", at(0)), Ok(Event::Released { .. })));
    // Held while it runs: it does not come back by itself.
    let work = queue.take(at(0)).unwrap();
    assert!(queue.hold(id, "op", at(0)).is_ok());
    let results = all(&work, &deferred("later"));
    let _ = queue.finished(work, results, &Schedule::default(), at(0));
    assert_eq!((queue.next_due(), queue.take(at(9_999)).is_none()), (None, true));
    assert!(queue.release(id, "op", at(0)).is_ok());
    // Removed while it runs: nothing more is written.
    let work = queue.take(at(0)).unwrap();
    assert!(matches!(queue.remove(id, "op", at(0)), Ok(Event::Removed { .. })));
    let results = all(&work, &failed(550, "no"));
    let finished = queue.finished(work, results, &Schedule::default(), at(0));
    assert!(finished.events.is_empty() && finished.notice.is_none());
    for error in [queue.hold(id, "op", at(0)), queue.remove(id, "op", at(0))] {
        assert_eq!(error, Err(QueueError::Unknown(id)));
    }
    assert_eq!(queue.retry(id), Err(QueueError::Unknown(id)));
}

#[test]
fn what_is_over_a_limit_goes_by_recipient_and_not_while_a_person_holds_it_d10() {
    let (id, mut recovery) = (QueueId::new(1), Recovery::new());
    let counts = CountsFor { organization: "S".into(), user: None, login: None, client: None };
    let hold =
        Hold::OverLimit { because: "full".into(), counts: Some(counts.into()), kept_by: None };
    let mut entry = entry(1, "s@f.example", &["a@x.example", "b@x.example", "c@x.example"]);
    entry.deliveries[0].hold = Some(hold.clone());
    entry.deliveries[1].hold = Some(hold);
    recovery.event(Event::Accepted(Box::new(entry.clone())));
    let mut queue = queue_of(entry);
    assert_eq!(queue.take(at(0)).unwrap().deliveries, [2], "only what is within the limits");
    let mut let_go = |queue: &mut Queue, places: &[u32]| {
        let event = queue.release_over_limit(id, places, "room", at(1));
        event.map(|event| recovery.event(event))
    };
    for places in [&[2][..], &[0, 2], &[7], &[]] {
        assert_eq!(let_go(&mut queue, places), Err(QueueError::NotHeld(id)), "{places:?}");
    }
    assert_eq!(let_go(&mut queue, &[1]), Ok(()));
    assert_eq!(let_go(&mut queue, &[1]), Err(QueueError::NotHeld(id)), "once");
    assert_eq!(queue.take(at(1)).unwrap().deliveries, [1]);
    recovery.event(queue.hold(id, "op", at(2)).unwrap());
    let recovered = recovery.finish(Limits::default(), at(2));
    assert_eq!(recovered.over_limit, [id]);
    for mut queue in [queue, recovered.queue] {
        let one = &queue.show(id).unwrap().deliveries[0].state;
        let DeliveryState::Held(Hold::OverLimit { kept_by: Some(by), .. }) = one else {
            panic!("{one:?}")
        };
        assert_eq!(&**by, "op");
        let refused = queue.release_over_limit(id, &[0], "room", at(3));
        assert_eq!(refused, Err(QueueError::NotHeld(id)));
        assert!(queue.release(id, "op", at(4)).is_ok());
        assert!(queue.take(at(4)).is_some());
    }
}

#[test]
fn a_release_outlives_a_restart_though_one_delivery_ended_while_held() {
    let (id, mut recovery) = (QueueId::new(1), Recovery::new());
    let mut queue = Queue::new(Limits::default());
    let entry = entry(1, "s@f.example", &["a@x.example", "b@y.example"]);
    recovery.event(Event::Accepted(Box::new(entry.clone())));
    assert_eq!(queue.accept(entry, None, at(0)), Ok(None));
    let work = queue.take(at(0)).unwrap();
    recovery.event(queue.hold(id, "op", at(0)).unwrap());
    let results = all(&work, &delivered());
    let finished = queue.finished(work, results, &Schedule::default(), at(0));
    finished.events.into_iter().for_each(|event| recovery.event(event));
    recovery.event(queue.release(id, "op", at(0)).unwrap());
    let mut queue = recovery.finish(Limits::default(), at(0)).queue;
    let work = queue.take(at(0)).unwrap();
    let results = all(&work, &deferred("later"));
    let _ = queue.finished(work, results, &Schedule::default(), at(0));
    assert_eq!(queue.next_due(), Some(at(300)));
}

/// A clock that was two days ahead when all this was written, and is right again.
#[test]
fn what_a_clock_wrote_that_was_ahead_is_not_waited_for_o2() {
    const AHEAD: u64 = 2 * 86_400;
    let mut recovery = Recovery::new();
    let mut queue = Queue::new(Limits::default());
    let mut entry = entry(1, "s@f.example", &["a@x.example"]);
    entry.accepted_at = at(AHEAD);
    recovery.event(Event::Accepted(Box::new(entry.clone())));
    assert_eq!(queue.accept(entry, None, at(AHEAD)), Ok(None));
    let work = queue.take(at(AHEAD)).unwrap();
    let results = all(&work, &deferred("later"));
    let finished = queue.finished(work, results, &Schedule::default(), at(AHEAD));
    assert_eq!(queue.next_due(), Some(at(AHEAD + 300)));
    finished.events.into_iter().for_each(|event| recovery.event(event));
    recovery.event(Event::QuotaCommitted(QuotaCommit {
        at: at(AHEAD),
        organization: "S".into(),
        user: None,
        recipients: Vec::new(),
        login: None,
        client: None,
    }));
    let recovered = recovery.finish(Limits::default(), at(10));
    let mut queue = recovered.queue;
    assert_eq!(recovered.quota[0].at, at(10), "its window ends in time");
    assert_eq!(queue.next_due(), Some(at(310)), "the pause is kept, no storm");
    assert!(queue.take(at(309)).is_none());
    let work = queue.take(at(310)).unwrap();
    assert_eq!(work.entry.accepted_at, at(10), "its lifetime ends in time");
}

#[test]
fn intake_stops_at_the_limits() {
    let limits = Limits { messages: 2, octets: 45, ..Limits::default() };
    let mut queue = Queue::new(limits.clone());
    assert_eq!(queue.accept(entry(1, "", &["a@x.example"]), None, at(0)), Ok(None));
    assert_eq!(queue.room(), Ok(()));
    assert_eq!(queue.accept(entry(2, "", &["a@x.example"]), None, at(0)), Ok(None));
    assert_eq!(queue.room(), Err(QueueError::TooManyMessages(2)));
    assert_eq!(queue.accept(entry(3, "", &["a@x.example"]), None, at(0)), Ok(None));
    let id = QueueId::new(3);
    assert_eq!(
        queue.accept(entry(3, "", &["a@x.example"]), None, at(0)),
        Err(QueueError::Known(id))
    );
    assert!(queue.remove(QueueId::new(1), "op", at(0)).is_ok());
    assert!(queue.remove(QueueId::new(2), "op", at(0)).is_ok());
    assert_eq!(queue.room(), Ok(()));
    assert_eq!(
        queue.accept(entry(4, "", &[]), None, at(0)),
        Ok(Some(Event::Done { id: QueueId::new(4), at: at(0) }))
    );
    let mut queue = Queue::new(Limits { messages: 9, ..limits });
    for id in 1..=3 {
        assert_eq!(queue.accept(entry(id, "", &["a@x.example"]), None, at(0)), Ok(None));
    }
    assert_eq!(queue.room(), Err(QueueError::TooManyOctets(60)));
}

#[test]
fn bodies_stay_in_memory_for_the_first_attempt_only() {
    let limits = Limits { octets_in_memory: 10, ..Limits::default() };
    let mut queue = Queue::new(limits);
    for id in 1..=2 {
        let body = Body::from(vec![b'x'; 6]);
        assert_eq!(queue.accept(entry(id, "", &["a@x.example"]), Some(body), at(0)), Ok(None));
    }
    let works = taken(&mut queue, 0);
    let kept: Vec<_> = works.iter().map(|work| work.body.is_some()).collect();
    assert_eq!(kept, [true, false]);
    for work in works {
        let results = all(&work, &deferred("later"));
        let _ = queue.finished(work, results, &Schedule::default(), at(0));
    }
    assert_eq!(queue.in_memory().0, 0);
    assert!(taken(&mut queue, 300).iter().all(|work| work.body.is_none()));
}

#[test]
fn a_site_found_down_gets_one_probe_at_a_time() {
    let mut queue = Queue::new(Limits { per_site: 3, ..Limits::default() });
    for id in 1..=9 {
        assert_eq!(queue.accept(entry(id, "", &["a@x.example"]), None, at(0)), Ok(None));
    }
    let mut works = taken(&mut queue, 0);
    assert_eq!(works.len(), 3);
    for work in works.drain(..) {
        let results = all(&work, &host_down());
        let _ = queue.finished(work, results, &Schedule::default(), at(0));
    }
    let mut works = taken(&mut queue, 0);
    assert_eq!(works.len(), 1, "one probe");
    let work = works.pop().unwrap();
    let results = all(&work, &delivered());
    let _ = queue.finished(work, results, &Schedule::default(), at(0));
    assert_eq!(taken(&mut queue, 0).len(), 2, "it answered, and opens again");
}

#[test]
fn hostile_texts_stay_in_their_lines() {
    let mut entry = entry(1, "s@f.example", &["\"é \\\\ x\"@x.example"]);
    entry.parameters.envid = Some("a+0D+0AX-Evil: 1\r\n+0".into());
    entry.deliveries[0].delivery.orcpt = Some("rfc822;b+0D+0A\r\nX-Evil: 1".into());
    entry.parameters.ret = Some(Ret::Full);
    let mut queue = queue_of(entry);
    let work = queue.take(at(0)).unwrap();
    let results = all(&work, &failed(550, &"\r\n.\r\nX-Evil: 1\r\n".repeat(100)));
    let notice = queue.finished(work, results, &Schedule::default(), at(0)).notice.unwrap();
    assert_eq!(notice.returned(), Returned::Whole);
    let host = "mx.here.example".parse().unwrap();
    let id = QueueId::new(2);
    let original = format!("Subject: --=_{id}\r\n\r\n--=_{id}_\r\n..a");
    let (_, body) = notice.compose(id, &host, original.as_bytes(), Destination::Mx);
    let text = std::str::from_utf8(&body).unwrap();
    for line in text.split_terminator("\r\n") {
        assert!(!line.contains(['\r', '\n']), "{line:?}");
        assert!(line != "." && !line.starts_with("X-Evil"), "{line:?}");
        assert!(line.len() <= 998);
        assert!(!line.starts_with('.') || line.starts_with(".."));
    }
    assert!(text.contains("Final-Recipient: utf-8; \"é\\x{20}"), "{text}");
    assert!(text.contains(&format!("boundary=\"=_{id}__\"")));
}

#[test]
fn retry_of_one_route_leaves_the_others_to_their_time_o2() {
    let mut entry = entry(1, "s@f.example", &["a@x.example", "b@y.example"]);
    let edge =
        Destination::Route { organization: "Solarmora".into(), route: "edge".parse().unwrap() };
    entry.deliveries[1].delivery.destination = edge.clone();
    let (id, mut queue) = (entry.id, queue_of(entry));
    for work in taken(&mut queue, 0) {
        let results = all(&work, &deferred("later"));
        let _ = queue.finished(work, results, &Schedule::default(), at(0));
    }
    assert!(taken(&mut queue, 1).is_empty());
    assert_eq!(queue.retry_if(id, |site| site.destination == edge), Ok(1));
    let works = taken(&mut queue, 1);
    assert_eq!(works.iter().map(|work| work.deliveries.clone()).collect::<Vec<_>>(), [[1]]);
    assert_eq!(queue.retry_if(id, |site| site.destination == edge), Ok(0), "it runs");
    assert_eq!(
        queue.retry_if(QueueId::new(9), |_| true),
        Err(QueueError::Unknown(QueueId::new(9)))
    );
}

#[test]
fn a_list_goes_on_behind_an_id_that_may_be_gone() {
    let mut queue = Queue::new(Limits::default());
    for id in [1, 2, 4, 7] {
        let entry = entry(id, "s@f.example", &["a@x.example"]);
        assert_eq!(queue.accept(entry, None, at(0)), Ok(None));
    }
    for (after, want) in [(None, vec![1, 2, 4, 7]), (Some(2), vec![4, 7]), (Some(3), vec![4, 7])] {
        let page = queue.list_after(after.map(QueueId::new));
        let ids: Vec<_> = page.map(|status| status.entry.id.number()).collect();
        assert_eq!(ids, want, "{after:?}");
    }
    assert_eq!(queue.list_after(Some(QueueId::new(u64::MAX))).count(), 0);
}
