//! What a sender is told of deliveries.

use std::time::Duration;

use mail_parser::{MessageParser, MimeHeaders};
use waypost_queue::{
    Body, Ended, Entry, Event, Handover, Limits, Notice, Queue, Returned, Schedule, Timestamp,
};
use waypost_smtp::client::{Message, SharedBytes};
use waypost_smtp::end_of_data::{stuff, unstuff};
use waypost_types::{
    Changes, Delivery, Destination, Failure, FailureScope, MailParameters, Mailbox, Notify,
    Outcome, QueueId, Reply, Ret, ReversePath, TlsDemand,
};

use crate::steer::{Steer, find};

const LIFETIME: Duration = Duration::from_secs(5 * 24 * 3600);
/// What a notice may have beside what it returns: its own words, and for each delivery its reply, in
/// two places, its addresses, and what to do.
const OWN_WORDS: usize = 4096;
const EACH_DELIVERY: usize = 16 << 10;

const RECIPIENTS: [&str; 6] = [
    "marie@solarmora.com",
    "\"a b\\\"c\"@solarmora.com",
    "\u{e9}l\u{e9}onore@solarmora.com",
    "x@[192.0.2.1]",
    "\"..a\"@solarmora.com",
    "m+tag=x@xn--e1afmkfd.example",
];

/// A message with up to four recipients, what became of each, and the stored body: all from the bytes.
///
/// Who asked to be told is told, once for each delivery, and nobody else; a null sender never is. The
/// notice is a multipart/report that a reader of mail takes apart again; its lines are stuffed, ended
/// by CR LF and of at most 998 octets; its header is ASCII unless it asks for SMTPUTF8, and its body
/// unless it asks for 8BITMIME; the header or the whole message comes back as RET says; its size is
/// bounded; and when it fails itself, nobody is told.
pub fn dsn(bytes: &[u8]) {
    let mut steer = Steer::new(bytes);
    let flags = steer.byte();
    let sender = match flags & 0b11 {
        0 => ReversePath::Null,
        1 => "\u{fc}ser@elsewhere.example".parse().unwrap(),
        _ => "someone@elsewhere.example".parse().unwrap(),
    };
    let ret = match flags >> 2 & 0b11 {
        0 => None,
        1 => Some(Ret::Headers),
        _ => Some(Ret::Full),
    };
    let expired = flags >> 4 & 1 == 1;
    let mut deliveries = Vec::new();
    let mut outcomes = Vec::new();
    for _ in 0..=(flags >> 6) {
        deliveries.push(delivery(&mut steer, &sender));
        outcomes.push(outcome(&mut steer));
    }
    let envid = (flags >> 5 & 1 == 1).then(|| xtext(steer.take(20)));
    let original = stored(steer.rest());
    let header_size = match original.starts_with(b"\r\n") {
        true => 2,
        false => find(&original, b"\r\n\r\n").map_or(original.len(), |at| at + 4),
    };
    let entry = Entry {
        id: QueueId::new(u64::from(flags)),
        accepted_at: Timestamp::from_millis(0),
        sender,
        parameters: MailParameters { ret, envid, ..MailParameters::default() },
        client: "h.example [192.0.2.1]".into(),
        trace: "Received: from h.example ([192.0.2.1])\r\n\tby mx.solarmora.com; now\r\n".into(),
        deliveries: deliveries.into_iter().map(Into::into).collect(),
        decision: "{}".into(),
        size: original.len() as u64,
        header_size: header_size as u64,
    };
    let at = match expired {
        true => Timestamp::from_millis(0) + LIFETIME,
        false => Timestamp::from_millis(60_000),
    };
    for (notice, told) in attempts(entry.clone(), &original, outcomes, at) {
        match notice {
            None => assert_eq!(told, 0, "{told} deliveries were to be told of"),
            Some(notice) => {
                assert!(!entry.sender.is_null(), "a bounce to a bounce");
                composed(&notice, &entry, &original[..header_size], &original, told);
            }
        }
    }
}

fn delivery(steer: &mut Steer<'_>, sender: &ReversePath) -> Delivery {
    let choice = steer.byte();
    let recipient: Mailbox = RECIPIENTS[usize::from(choice) % RECIPIENTS.len()].parse().unwrap();
    let choice = steer.byte();
    let on = |bit: u8| choice >> bit & 1 == 1;
    let notify = match choice & 0b11 {
        0 => Notify::Unsaid,
        1 => Notify::Never,
        _ => Notify::On { success: on(2), failure: on(3), delay: on(4) },
    };
    let orcpt = match choice >> 5 & 0b11 {
        0 => None,
        1 => Some(format!("rfc822;{}", xtext(steer.take(24))).into()),
        2 => Some(format!("rfc822;{}", "a+40".repeat(120)).into()),
        _ => {
            let text = String::from_utf8_lossy(steer.take(24)).into_owned();
            let text: String =
                text.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
            Some(format!("utf-8;{text}x").into())
        }
    };
    Delivery {
        original_recipient: recipient.clone(),
        recipient,
        sender: sender.clone(),
        destination: Destination::Route {
            organization: "Solarmora".into(),
            route: "edge".parse().unwrap(),
        },
        tls: TlsDemand::default(),
        changes: Changes::default(),
        suppress_bounces: on(7),
        spam: false,
        notify,
        orcpt,
    }
}

fn outcome(steer: &mut Steer<'_>) -> (Outcome, Handover) {
    let choice = steer.byte();
    let length = usize::from(steer.byte()) * if choice >> 7 == 1 { 16 } else { 1 };
    let text = String::from_utf8_lossy(steer.take(length)).into_owned();
    let code = [250, 450, 550, 421, 554][usize::from(choice) % 5];
    let reply = match choice & 1 {
        0 => Reply::plain(code, &text),
        _ => Reply::new(code, (5, 7, 1), &text),
    };
    let host = (choice >> 3 & 1 == 1).then(|| "mx.elsewhere.example:25".parse().unwrap());
    let scope = [FailureScope::Message, FailureScope::Host, FailureScope::Tls]
        [usize::from(choice >> 4) % 3];
    let handover = [Handover::Passed, Handover::Relayed, Handover::Final][usize::from(choice) % 3];
    let outcome = match choice >> 5 & 0b11 {
        0 => Outcome::Delivered { host, reply },
        1 => Outcome::Deferred(Failure { scope, host, reply }),
        _ => Outcome::Failed(Failure { scope, host, reply }),
    };
    (outcome, handover)
}

fn xtext(bytes: &[u8]) -> Box<str> {
    let pairs = bytes.iter().map(|byte| match byte {
        b'+' | b'=' | 0..=b' ' | 127.. => format!("+{byte:02X}"),
        plain => char::from(*plain).to_string(),
    });
    format!("x{}", pairs.collect::<String>()).into()
}

/// A body as it is stored: lines ended by CR LF, stuffed, no CR, LF or NUL that stands alone.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for line in bytes.split(|octet| *octet == b'\n') {
        // A long line in few octets: fuzzers like small inputs.
        let times = if line.starts_with(b"\xff") { 1200 } else { 1 };
        let plain = line.iter().filter(|octet| !matches!(octet, b'\r' | 0)).copied();
        text.extend(plain.collect::<Vec<u8>>().repeat(times));
        text.extend_from_slice(b"\r\n");
    }
    if bytes.is_empty() {
        text.clear();
    }
    stuff(&text).into_owned()
}

/// Runs the message through a queue once: each notice, with how many deliveries it should tell of.
fn attempts(
    entry: Entry,
    original: &[u8],
    outcomes: Vec<(Outcome, Handover)>,
    at: Timestamp,
) -> Vec<(Option<Notice>, usize)> {
    let limits = Limits { delay_notice: Some(Duration::ZERO), ..Limits::default() };
    let mut queue = Queue::new(limits);
    let accepted = entry.accepted_at;
    queue.accept(entry, Some(Body::from(original.to_vec())), accepted).unwrap();
    let schedule = Schedule::list(vec![Duration::from_secs(60)], LIFETIME).unwrap();
    let mut notices = Vec::new();
    // Before anything is due again.
    let works: Vec<_> = std::iter::from_fn(|| queue.take(accepted)).collect();
    for work in works {
        let mut told = 0;
        let is_null = work.entry.sender.is_null();
        let results: Vec<Ended> = work
            .iter()
            .map(|(place, delivery)| {
                let (outcome, handover) = outcomes[place as usize].clone();
                let asked = match (&outcome, &handover, delivery.notify) {
                    (Outcome::Delivered { .. }, Handover::Passed, _) => false,
                    (Outcome::Delivered { .. }, _, notify) => {
                        matches!(notify, Notify::On { success: true, .. })
                    }
                    (Outcome::Deferred(_), _, notify) if at < accepted + LIFETIME => {
                        matches!(notify, Notify::On { delay: true, .. })
                    }
                    (_, _, notify) => {
                        matches!(notify, Notify::Unsaid | Notify::On { failure: true, .. })
                    }
                };
                told += usize::from(asked && !is_null && !delivery.suppress_bounces);
                Ended { handover, ..Ended::new(place, outcome) }
            })
            .collect();
        let finished = queue.finished(work, results, &schedule, at);
        assert!(finished.events.iter().any(|event| matches!(event, Event::Attempted(_))));
        notices.push((finished.notice, told));
    }
    notices
}

fn composed(notice: &Notice, entry: &Entry, header: &[u8], original: &[u8], told: usize) {
    let whole = notice.returned() == Returned::Whole;
    assert!(!whole || entry.parameters.ret == Some(Ret::Full));
    let hostname = "mx.solarmora.com".parse().unwrap();
    let id = QueueId::new(77);
    let (report, body) = notice.compose(id, &hostname, original, Destination::Mx);

    assert!(Message::new([SharedBytes::new(body.to_vec())]).is_ok(), "a notice cannot be sent");
    assert_eq!(report.size, body.len() as u64);
    let long = body.split(|octet| *octet == b'\n').map(<[u8]>::len).max().unwrap_or(0);
    assert!(long <= 999, "a line of {long} octets, CR included");
    let own = usize::try_from(report.header_size).unwrap();
    assert!(body[..own].ends_with(b"\r\n\r\n"));
    let head = &body[..own];
    assert!(head.is_ascii() || report.parameters.smtputf8, "{}", head.escape_ascii());
    assert!(body.is_ascii() || report.parameters.body == waypost_types::Body::EightBitMime);
    let returned = if whole { original } else { header };
    let folds = returned.len() / 100;
    let most = returned.len() + folds + entry.trace.len() + OWN_WORDS + told * EACH_DELIVERY;
    assert!(body.len() <= most, "{} octets, {} returned", body.len(), returned.len());

    // The reader is not to go on into the original, which may be anything; its own nesting is its own.
    let mut message = unstuff(&body).into_owned();
    for nested in ["rfc822", "global"] {
        let nested = format!("\r\nContent-Type: message/{nested}\r\n");
        if let Some(at) = find(&message, nested.as_bytes()) {
            message.splice(at..at + nested.len(), *b"\r\nContent-Type: text/plain\r\n");
        }
    }
    let parsed = MessageParser::default().parse(&message).unwrap();
    assert!(parsed.is_content_type("multipart", "report"));
    let kind = parsed.content_type().unwrap();
    let form = kind.attribute("report-type").unwrap();
    assert!(matches!(form, "delivery-status" | "global-delivery-status"), "{form}");
    assert_eq!(parsed.parts.len(), if returned.is_empty() { 3 } else { 4 }, "parts of the report");
    let status = &parsed.parts[2];
    assert!(status.is_content_type("message", form));
    let fields = std::str::from_utf8(status.contents()).unwrap();
    assert!(fields.is_ascii() || form == "global-delivery-status");
    let blocks: Vec<&str> = fields.trim_end().split("\r\n\r\n").collect();
    assert_eq!(blocks.len(), told + 1, "one block for each recipient:\n{fields}");
    assert!(blocks[0].contains("Reporting-MTA: dns; mx.solarmora.com"));
    for block in &blocks[1..] {
        for field in ["Final-Recipient:", "Action:", "Status:"] {
            let count = block.lines().filter(|line| line.starts_with(field)).count();
            assert_eq!(count, 1, "{field} in\n{block}");
        }
    }
    let long = original.split(|octet| *octet == b'\n').any(|line| line.len() > 998);
    if !returned.is_empty() && !long {
        assert!(find(&body, returned).is_some(), "what was to be returned is not in it");
    }
    let content = original.get(header.len()..).unwrap_or_default();
    if !whole && !long && content.len() > 40 && find(header, content).is_none() {
        assert!(find(&body, content).is_none(), "the content came back unasked");
    }

    // It failed itself: nobody is told.
    assert!(report.sender.is_null());
    let failed = Failure {
        scope: FailureScope::Message,
        host: None,
        reply: Reply::new(550, (5, 1, 1), "No"),
    };
    let outcomes = vec![(Outcome::Failed(failed), Handover::Passed)];
    for (notice, told) in attempts(report, &body, outcomes, Timestamp::from_millis(60_000)) {
        assert!(notice.is_none() && told == 0, "a bounce to a bounce");
    }
}
