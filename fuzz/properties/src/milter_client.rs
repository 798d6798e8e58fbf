//! The server's side of the milter protocol, whatever a filter does.

use waypost_milter::client::{Client, Limits};
use waypost_milter::{
    Command, Fault, FilterAction, FilterQuestion, FilterVerdict, Frames, Options, Step,
};
use waypost_types::{HeaderBlock, Mailbox, ReplyClass, ReversePath};

use crate::steer::{Steer, chunks};

const STORED: &[u8] = b"Subject: one\r\n two\r\nstray\r\nX: y\r\n\r\nfirst\r\n..dot\r\n";
const BODY: &[u8] = b"stray\r\nfirst\r\n.dot\r\n";
const LIMITS: Limits = Limits { frame: 4096, modifications: 12, text: 600, body: 900, progress: 9 };

/// What a filter sends; the first two bytes choose how it is framed, and the cuts.
///
/// Two questions are asked over a connection, the second one only where the first left it usable. Cuts
/// make no difference. All that is told can be read, each step is one that was agreed upon, in order,
/// and the body is the message's. A verdict keeps the limits, refuses by a reply of its class, its
/// because is one line, and no field of it makes another.
pub fn milter_client(bytes: &[u8]) {
    let mut steer = Steer::new(bytes);
    let is_framed = steer.byte() & 1 == 0;
    let seed = steer.byte();
    let frames = if is_framed { framed(steer) } else { raw(steer.rest()) };
    let whole = play(&frames, 0);
    assert_eq!(play(&frames, seed), whole, "cuts matter");
    for verdict in whole.iter().filter_map(|outcome| outcome.as_ref().ok()) {
        sound(verdict);
    }
}

/// Frames made of a letter, a length and so many octets each.
fn framed(mut steer: Steer<'_>) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while !steer.is_empty() {
        let letter = steer.byte();
        let length = usize::from(steer.byte());
        let payload = steer.take(length);
        let mut frame = u32::try_from(payload.len() + 1).unwrap().to_be_bytes().to_vec();
        frame.push(letter);
        frame.extend_from_slice(payload);
        frames.push(frame);
    }
    frames
}

/// Frames as their own lengths have them; what is no frame is one by itself.
fn raw(mut rest: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some(head) = rest.first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*head)).unwrap().saturating_add(4);
        let (frame, behind) = rest.split_at(length.min(rest.len()));
        frames.push(frame.to_vec());
        rest = behind;
    }
    frames.push(rest.to_vec());
    frames
}

/// What becomes of each question.
fn play(frames: &[Vec<u8>], seed: u8) -> Vec<Result<FilterVerdict, Fault>> {
    let own = "mx.solarmora.com".parse().unwrap();
    let recipients: Vec<Mailbox> =
        vec!["marie@solarmora.com".parse().unwrap(), "paul@solarmora.com".parse().unwrap()];
    let gateway = "192.0.2.25".parse().unwrap();
    let mut question = FilterQuestion::new(&own, gateway, &ReversePath::Null, &recipients, STORED);
    question.source_ip = Some("2001:db8::9".parse().unwrap());
    question.helo = Some("client.example");

    let mut frames = frames.iter();
    let mut client = Client::new(LIMITS);
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        let mut told = Vec::new();
        let mut dialogue = client.ask(&question);
        let outcome = loop {
            dialogue.write(&mut told);
            let Some(frame) = frames.next() else { break None };
            let mut parts = chunks(frame, seed).into_iter();
            if let Some(fault) = parts.find_map(|part| dialogue.handle_bytes(part).err()) {
                break Some(Err(fault));
            }
            if let Some(verdict) = dialogue.take_verdict() {
                break Some(Ok(verdict));
            }
        };
        if !matches!(outcome, Some(Err(_))) {
            dialogue.write(&mut told);
        }
        assert!(dialogue.take_verdict().is_none(), "a second verdict");
        check_told(&told, client.agreed(), outcomes.is_empty());
        let is_over = !matches!(outcome, Some(Ok(_)));
        outcomes.extend(outcome);
        if is_over || !client.is_reusable() {
            break;
        }
    }
    outcomes
}

fn check_told(told: &[u8], agreed: Option<&Options>, is_first: bool) {
    let mut frames = Frames::new(u32::MAX);
    frames.push(told);
    let (mut last, mut body, mut announced) = (None, Vec::new(), None);
    let mut number = 0;
    while let Some(frame) = frames.take().unwrap() {
        let command = Command::decode(frame).unwrap();
        assert_eq!(matches!(command, Command::Options(_)), is_first && number == 0, "{command:?}");
        number += 1;
        if let Command::Macros { step, .. } = command {
            announced = Some(step);
            continue;
        }
        if let Command::Body(piece) = command {
            body.extend_from_slice(piece);
        }
        let Some(step) = command.step() else { continue };
        assert!(announced.take().is_none_or(|for_step| for_step == step), "macros of another step");
        let agreed = agreed.unwrap();
        let unwanted = match step {
            Step::Connect => 0x1,
            Step::Helo => 0x2,
            Step::Mail => 0x4,
            Step::Rcpt => 0x8,
            Step::Body => 0x10,
            Step::Header => 0x20,
            Step::EndOfHeader => 0x40,
            Step::Data => 0x200,
            Step::EndOfMessage => 0,
            Step::Unknown => panic!("nothing is unknown here"),
        };
        assert_eq!(agreed.steps.0 & unwanted, 0, "{step} is not wanted");
        assert!(last.is_none_or(|last| last <= step), "{step} comes behind {last:?}");
        last = Some(step);
    }
    assert!(frames.is_empty(), "half a frame was told");
    assert!(BODY.starts_with(&body), "another body was told");
}

fn sound(verdict: &FilterVerdict) {
    match &verdict.action {
        FilterAction::Reject(reply) => assert_eq!(reply.class(), ReplyClass::Permanent),
        FilterAction::TempFail(reply) => assert_eq!(reply.class(), ReplyClass::Transient),
        _ => {}
    }
    assert!(!verdict.reason.chars().any(char::is_control), "{:?}", verdict.reason);
    // The body and the quarantine are counted by themselves.
    let wanted = verdict.headers.len() + verdict.ignored.len();
    assert!(wanted <= LIMITS.modifications + 2, "{wanted} changes");
    let text: usize =
        verdict.headers.iter().map(|edit| edit.value().map_or(0, |it| it.as_str().len())).sum();
    assert!(text <= LIMITS.text, "{text} octets of fields");
    let mut header = String::new();
    for edit in &verdict.headers {
        if let Some(value) = edit.value() {
            header += &format!("{}: {}\r\n", edit.name(), value.as_str());
        }
    }
    let made = verdict.headers.iter().filter(|edit| edit.value().is_some());
    let names: Vec<&[u8]> = made.map(|edit| edit.name().as_str().as_bytes()).collect();
    header += "\r\n";
    let block = HeaderBlock::of(header.as_bytes());
    assert_eq!(block.body_offset(), header.len(), "the header ends early: {header:?}");
    let read: Vec<&[u8]> = block.fields().map(|field| field.name).collect();
    assert_eq!(read, names, "{header:?}");
}
