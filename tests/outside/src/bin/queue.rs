// From README.md, by scripts/outside --update.
use waypost_queue::{Body, Ended, Entry, Limits, Queue, Schedule};
use waypost_types::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let now = Timestamp::from_millis(1_585_091_507_000);
    let (marie, sender): (Mailbox, ReversePath) = ("marie@solarmora.com".parse()?, "a@b.example".parse()?);
    let delivery = Delivery {
        recipient: marie.clone(), original_recipient: marie, sender: sender.clone(),
        destination: Destination::Mx, tls: TlsDemand::Required, changes: Changes::default(),
        suppress_bounces: false, spam: false, notify: Notify::Unsaid, orcpt: None,
    };
    let entry = Entry {
        id: QueueId::new(1), accepted_at: now, sender, parameters: MailParameters::default(),
        client: "192.0.2.1 (mail.b.example)".into(), trace: "".into(), decision: "{}".into(),
        deliveries: vec![delivery.into()], size: 25, header_size: 18,
    };
    let mut queue = Queue::new(Limits::default());
    queue.accept(entry, Some(Body::from(b"Subject: hello\r\n\r\nhello\r\n".to_vec())), now)?;

    let work = queue.take(now).expect("due at once");
    let outcome = Outcome::Delivered { host: None, reply: Reply::new(250, (2, 0, 0), "taken") };
    let finished = queue.finished(work, vec![Ended::new(0, outcome)], &Schedule::default(), now);
    assert!(finished.notice.is_none() && queue.is_empty()); // no bounce is owed
    Ok(())
}
