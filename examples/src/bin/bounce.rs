//! What the sender is told of a message that cannot be delivered (`waypost-queue`).
//!
//! A message for two recipients goes into a queue in memory; the next hop takes one recipient and
//! refuses the other with the given reply (`550 5.1.1 No such user` by default). Prints the delivery
//! status notification (RFC 3464) that results; a 4xx reply prints when the next attempt is due.
//!
//! ```text
//! bounce 552 5.2.2 "Mailbox full"
//! ```

use std::error::Error;

use waypost_queue::{Body, DeliveryState, Ended, Entry, Limits, Queue, Schedule};
use waypost_types::{
    Changes, Delivery, Destination, FailureScope, MailParameters, Mailbox, Notify, Outcome,
    QueueId, Reply, Timestamp, TlsDemand,
};

const MESSAGE: &str = "From: marie@solarmora.com\r\nSubject: hello\r\n\r\nhello\r\n";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let reply = reply(&arguments).unwrap_or(Reply::new(550, (5, 1, 1), "No such user"));
    let now = Timestamp::from_millis(1_585_091_507_000);

    let mut queue = Queue::new(Limits::default());
    queue.accept(entry(now)?, Some(Body::from(MESSAGE.as_bytes().to_vec())), now)?;
    let work = queue.take(now).ok_or("nothing is due")?;
    let host = Some("mx.elsewhere.example:25".parse()?);
    let taken = Outcome::Delivered { host, reply: Reply::new(250, (2, 0, 0), "ok") };
    let host = Some("mx.elsewhere.example:25".parse()?);
    let refused = Outcome::from_refusal(FailureScope::Message, host, reply);
    let results = vec![Ended::new(0, taken), Ended::new(1, refused)];
    let finished = queue.finished(work, results, &Schedule::default(), now);

    match finished.notice {
        Some(notice) => {
            let hostname = "mx.solarmora.com".parse()?;
            let original = MESSAGE.as_bytes();
            let (_, body) = notice.compose(QueueId::new(2), &hostname, original, Destination::Mx);
            println!("to {}:\n{}", notice.recipient(), String::from_utf8_lossy(&body));
        }
        None => {
            for delivery in queue.list().flat_map(|status| status.deliveries) {
                match delivery.state {
                    DeliveryState::Waiting { due } => println!("tried again at {due}"),
                    state => println!("{state:?}"),
                }
            }
        }
    }
    Ok(())
}

/// `552 5.2.2 text`.
fn reply(words: &[String]) -> Option<Reply> {
    let [code, status, text @ ..] = words else { return None };
    let mut parts = status.split('.');
    let class = parts.next()?.parse().ok()?;
    let enhanced = (class, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(Reply::new(code.parse().ok()?, enhanced, &text.join(" ")))
}

fn entry(now: Timestamp) -> Result<Entry, Box<dyn Error>> {
    let sender: Mailbox = "marie@solarmora.com".parse()?;
    let delivery = |recipient: Mailbox| Delivery {
        recipient: recipient.clone(),
        original_recipient: recipient,
        sender: sender.clone().into(),
        destination: Destination::Mx,
        tls: TlsDemand::default(),
        changes: Changes::default(),
        suppress_bounces: false,
        spam: false,
        notify: Notify::Unsaid,
        orcpt: None,
    };
    Ok(Entry {
        id: QueueId::new(1),
        accepted_at: now,
        sender: sender.clone().into(),
        parameters: MailParameters::default(),
        client: "192.0.2.1 (pc.solarmora.com)".into(),
        trace: Box::default(),
        deliveries: vec![
            delivery("a@elsewhere.example".parse()?).into(),
            delivery("b@elsewhere.example".parse()?).into(),
        ],
        decision: "{}".into(),
        size: 55,
        header_size: 46,
    })
}
