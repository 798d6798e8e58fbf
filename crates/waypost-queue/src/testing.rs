//! Values that many tests need.

use waypost_types::{
    Changes, Delivery, Destination, Failure, FailureScope, MailParameters, Notify, Outcome,
    QueueId, Reply, TlsDemand,
};

use crate::{Entry, Owed, Timestamp};

pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

pub(crate) fn owed(sender: &str, recipient: &str) -> Owed {
    Owed::from(Delivery {
        recipient: recipient.parse().unwrap(),
        original_recipient: recipient.parse().unwrap(),
        sender: sender.parse().unwrap(),
        destination: Destination::Mx,
        tls: TlsDemand::default(),
        changes: Changes::default(),
        suppress_bounces: false,
        spam: false,
        notify: Notify::Unsaid,
        orcpt: None,
    })
}

pub(crate) fn entry(id: u64, sender: &str, recipients: &[&str]) -> Entry {
    Entry {
        id: QueueId::new(id),
        accepted_at: at(0),
        sender: sender.parse().unwrap(),
        parameters: MailParameters::default(),
        client: "192.0.2.1 (h.example)".into(),
        trace: "Received: from h.example\r\n".into(),
        deliveries: recipients.iter().map(|r| owed(sender, r)).collect(),
        decision: "{}".into(),
        size: 20,
        header_size: 14,
    }
}

fn failure(scope: FailureScope, code: u16, text: &str) -> Failure {
    let class = if code < 500 { 4 } else { 5 };
    let reply = Reply::new(code, (class, 1, 1), text);
    Failure { scope, host: "mx.example:25".parse().ok(), reply }
}

pub(crate) fn failed(code: u16, text: &str) -> Outcome {
    Outcome::Failed(failure(FailureScope::Message, code, text))
}

pub(crate) fn deferred(text: &str) -> Outcome {
    Outcome::Deferred(failure(FailureScope::Message, 450, text))
}

pub(crate) fn host_down() -> Outcome {
    Outcome::Deferred(failure(FailureScope::Host, 451, "connection refused"))
}

pub(crate) fn delivered() -> Outcome {
    Outcome::Delivered { host: "mx.example:25".parse().ok(), reply: Reply::plain(250, "ok") }
}
