//! The filter's side of the milter protocol, whatever a mail server and the messages that it tells of say.

use waypost_milter::{
    Actions, Event, Fault, Frames, Gathered, HeaderEdit, Intake, IntakeLimits, Modification,
    Response, Rewrite, Step, TooLarge,
};
use waypost_types::{HeaderBlock, Reply};

use crate::steer::{Steer, chunks};

const HEADER: u64 = 600;
const BODY: u64 = 300;

/// What came out of a connection.
#[derive(Debug, PartialEq)]
struct Played {
    events: Vec<Event>,
    answers: Vec<Response>,
    fault: Option<Fault>,
}

/// What a mail server sends; the first two bytes choose whether bodies are asked for, how it is framed, and the cuts.
///
/// Cuts make no difference. No more of a message is kept than the limits allow; what is too large is told.
/// Each event is answered once, an answer that waits is refused to nobody else, changes belong to the end of a
/// message, and what is written can be read. A header is read back with as many fields as were told, and what a
/// rewrite makes of it is the header that was wanted.
pub fn milter_server(bytes: &[u8]) {
    let mut steer = Steer::new(bytes);
    let choice = steer.byte();
    let (is_framed, has_body) = (choice & 1 == 0, choice & 2 == 0);
    let seed = steer.byte();
    let wire = if is_framed { framed(steer) } else { steer.rest().to_vec() };
    let whole = play(&[&wire], has_body);
    assert_eq!(play(&chunks(&wire, seed), has_body), whole, "cuts matter");
    for event in &whole.events {
        if let Event::Message(message) = event {
            sound(message, has_body);
        }
    }
    rewritten(&wire, seed);
}

/// Frames made of a letter, a length and so many octets each, behind the options of a server that can do all.
fn framed(mut steer: Steer<'_>) -> Vec<u8> {
    let mut wire = b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff".to_vec();
    while !steer.is_empty() {
        let letter = steer.byte();
        let length = usize::from(steer.byte());
        let payload = steer.take(length);
        wire.extend_from_slice(&u32::try_from(payload.len() + 1).unwrap().to_be_bytes());
        wire.push(letter);
        wire.extend_from_slice(payload);
    }
    wire
}

fn play(pieces: &[&[u8]], has_body: bool) -> Played {
    let limits = IntakeLimits { header: HEADER, body: has_body.then_some(BODY) };
    let mut intake = Intake::new(Actions::ALL, limits);
    let (mut out, mut events, mut fault) = (Vec::new(), Vec::new(), None);
    let (mut wanted, mut fed) = (0, 0);
    'all: for piece in pieces {
        intake.handle_bytes(piece);
        fed += u64::try_from(piece.len()).unwrap();
        loop {
            let frames = if intake.is_midway() { fed } else { 0 };
            let kept = intake.octets();
            assert!(kept <= HEADER + BODY + frames, "{kept} octets are kept");
            let event = match intake.next(&mut out) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(found) => {
                    fault = Some(found);
                    break 'all;
                }
            };
            let quarantine = Response::Modify(Modification::Quarantine("held".into()));
            let is_end = matches!(event, Event::Message(_));
            assert_eq!(intake.waiting() == Some(Step::EndOfMessage), is_end);
            let Some(_) = intake.waiting() else {
                panic!("nothing waits for an answer: {event:?}")
            };
            assert!(
                intake.next(&mut out).unwrap().is_none(),
                "an event before the last one's answer"
            );
            let may = intake.agreed().is_some_and(|one| one.actions.has(Actions::QUARANTINE));
            let told = intake.answer(&quarantine, &mut out);
            assert_eq!(told.is_ok(), is_end && may, "{told:?}");
            // Refusals among them, by what came.
            let answer = match events.len() % 4 {
                0 | 1 => Response::Continue,
                2 => Response::Reply(Reply::new(550, (5, 7, 1), "No")),
                _ => Response::TempFail,
            };
            intake.answer(&answer, &mut out).unwrap();
            assert!(intake.answer(&answer, &mut out).is_err(), "a second answer");
            wanted += 1;
            events.push(event);
        }
    }
    let mut frames = Frames::new(u32::MAX);
    frames.push(&out);
    let mut answers = Vec::new();
    while let Some(frame) = frames.take().unwrap() {
        answers.push(Response::decode(frame).unwrap());
    }
    assert!(frames.is_empty(), "half a frame was written");
    let finals =
        answers.iter().filter(|one| !matches!(one, Response::Options(_) | Response::Modify(_)));
    // Steps that want no judgment may be answered too.
    assert!(finals.count() >= wanted);
    Played { events, answers, fault }
}

fn sound(message: &Gathered, has_body: bool) {
    let Gathered { header, body, too_large, .. } = message;
    assert!(u64::try_from(header.len()).unwrap() <= HEADER);
    assert!(u64::try_from(body.len()).unwrap() <= BODY);
    assert!(has_body || body.is_empty() && *too_large != Some(TooLarge::Body));
    let block = HeaderBlock::of(header);
    assert_eq!(block.as_bytes().len(), header.len(), "it ends early: {}", header.escape_ascii());
    let lines = header.split_inclusive(|b| *b == b'\n');
    for line in lines {
        assert!(line.ends_with(b"\r\n"), "{}", line.escape_ascii());
        let text = &line[..line.len() - 2];
        assert!(!text.contains(&b'\r'), "{}", line.escape_ascii());
        assert!(text.contains(&b':') || text.starts_with(b" ") || text.starts_with(b"\t"));
    }
}

/// Two headers made of the same octets, the second one with some lines left out, doubled and changed.
fn rewritten(bytes: &[u8], seed: u8) {
    let lines: Vec<&[u8]> = chunks(bytes, seed.max(1)).into_iter().take(200).collect();
    let field = |line: &[u8], value: usize| {
        let name = line.first().map_or('X', |first| char::from(b'A' + first % 5));
        format!("{name}: {value}{}\r\n", line.len())
    };
    let (mut before, mut after) = (String::new(), String::new());
    for (place, line) in lines.iter().enumerate() {
        let this = field(line, place % 7);
        before += &this;
        match line.last().map_or(0, |last| last % 8) {
            0 => {}
            1 => after += &field(line, 9),
            2 => {
                after += &field(b"zz", place);
                after += &this;
            }
            _ => after += &this,
        }
    }
    let rewrite = Rewrite::between(before.as_bytes(), after.as_bytes());
    assert!(rewrite.left.is_empty());
    assert_eq!(carried_out(&before, &rewrite.edits), after);
}

/// What a mail server makes of the edits.
fn carried_out(header: &str, edits: &[HeaderEdit]) -> String {
    let mut fields: Vec<(String, String)> = header
        .lines()
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for edit in edits {
        let place = |fields: &[(String, String)], nth: u32| {
            let mut same = fields.iter().enumerate().filter(|(_, (one, _))| edit.name().is(one));
            same.nth(usize::try_from(nth).unwrap() - 1).unwrap().0
        };
        match edit {
            HeaderEdit::Insert { at, name, value } => {
                let at = usize::try_from(*at).unwrap();
                fields.insert(at, (name.to_string(), value.as_str().to_owned()));
            }
            HeaderEdit::Change { nth, value, .. } => {
                let at = place(&fields, *nth);
                fields[at].1 = value.as_str().to_owned();
            }
            HeaderEdit::Delete { nth, .. } => drop(fields.remove(place(&fields, *nth))),
            HeaderEdit::Add { .. } => panic!("nothing is added at the end"),
        }
    }
    fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}
