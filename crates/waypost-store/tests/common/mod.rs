//! Values that the tests share.

#![allow(dead_code, reason = "each test file uses some of these")]

use waypost_queue::{Attempt, Body, Ended, Entry, Event, QuotaCommit, Record, Store, Timestamp};
use waypost_types::{
    Changes, Delivery, Destination, Failure, FailureScope, MailParameters, Notify, Outcome,
    QueueId, Reply, TlsDemand,
};

pub(crate) fn id(number: u64) -> QueueId {
    QueueId::new(number)
}

pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

pub(crate) fn body(number: u64) -> Body {
    Body::from(format!("Subject: {number}\r\n\r\n{}\r\n", "x".repeat(100)).into_bytes())
}

pub(crate) fn entry(number: u64) -> Entry {
    let delivery = Delivery {
        recipient: "to@x.example".parse().unwrap(),
        original_recipient: "to@x.example".parse().unwrap(),
        sender: "from@y.example".parse().unwrap(),
        destination: Destination::Mx,
        tls: TlsDemand::default(),
        changes: Changes::default(),
        suppress_bounces: false,
        spam: false,
        notify: Notify::Unsaid,
        orcpt: None,
    };
    Entry {
        id: id(number),
        accepted_at: at(number),
        sender: "from@y.example".parse().unwrap(),
        parameters: MailParameters::default(),
        client: "192.0.2.1".into(),
        trace: "Received: from y.example\r\n".into(),
        deliveries: vec![delivery.into()],
        decision: format!("{{\"message\":{number}}}").into(),
        size: 100,
        header_size: 14,
    }
}

pub(crate) fn accepted(number: u64) -> Record {
    let quota = QuotaCommit {
        at: at(number),
        organization: "Solarmora".into(),
        user: None,
        recipients: vec!["to@x.example".parse().unwrap()],
        login: None,
        client: None,
    };
    Record::accepted(entry(number), body(number), vec![quota])
}

pub(crate) fn attempted(message: u64, number: u32) -> Event {
    let failure = Failure {
        scope: FailureScope::Host,
        host: None,
        reply: Reply::new(451, (4, 4, 1), "connection refused"),
    };
    Event::Attempted(Attempt {
        id: id(message),
        at: at(100),
        number,
        results: vec![Ended::new(0, Outcome::Deferred(failure))],
        next: Some(at(1000 + u64::from(number))),
        delay_told: false,
    })
}

pub(crate) fn done(message: u64) -> Event {
    Event::Done { id: id(message), at: at(200) }
}

/// Everything that a recovery shows, in order.
pub(crate) fn events(store: &dyn Store) -> Vec<Event> {
    let mut events = Vec::new();
    let aside = store.recover(&mut |event| events.push(event)).unwrap();
    assert_eq!(aside, []);
    events
}

/// The messages that a recovery shows.
pub(crate) fn messages(store: &dyn Store) -> Vec<u64> {
    events(store)
        .iter()
        .filter(|event| matches!(event, Event::Accepted(_)))
        .filter_map(|event| event.id().map(QueueId::number))
        .collect()
}
