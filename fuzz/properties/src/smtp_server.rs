//! The SMTP server, whatever a client says.

use std::sync::Arc;
use std::time::Duration;

use waypost_smtp::client::{Message, SharedBytes};
use waypost_smtp::server::{AuthOffer, Event, Server, Settings, TlsOffer};
use waypost_types::{Reply, Timestamp, TlsState};

use crate::steer::{Steer, chunks, find};

const NOW: Timestamp = Timestamp::from_millis(0);
const RECIPIENTS: usize = 3;
const MESSAGE_SIZE: u64 = 200;
/// What may wait for the client: the server's limit and one reply more.
const MOST_OUTPUT: usize = (16 << 10) + 4096;

/// A client's octets; the first three bytes are the cuts and which answers are no.
///
/// The transcript is the same, however the octets are cut. A naive reader of lines and chunks counts:
/// each command gets one reply, BDAT behind its octets, a message one at its end. Questions come in the order of RFC 5321 section 4.1.4,
/// AUTH inside TLS alone, XCLIENT outside a transaction, a message once and whole. Output is bounded and well-formed. Nothing heard
/// before TLS survives it: octets behind `0xFF` are sent behind STARTTLS but before the handshake,
/// those behind a second one after it, and the server is then as new.
pub fn smtp_server(bytes: &[u8]) {
    let mut steer = Steer::new(bytes);
    let seed = steer.byte();
    let answers = Answers { refused: u16::from_be_bytes([steer.byte(), steer.byte()]) };
    let octets = steer.rest();

    for tls in [TlsOffer::Off, TlsOffer::Implicit] {
        let whole = play(tls, answers, &[octets]);
        assert_eq!(play(tls, answers, &chunks(octets, seed)), whole, "cuts matter");
    }
    one_reply_a_command(octets, answers);
    nothing_survives_tls(octets, answers, seed);
}

/// Which of the questions are refused, by their number modulo 16.
#[derive(Clone, Copy)]
struct Answers {
    refused: u16,
}

impl Answers {
    fn refuses(self, question: usize) -> bool {
        self.refused >> (question % 16) & 1 == 1
    }
}

#[derive(Debug, Default, PartialEq)]
struct Transcript {
    events: Vec<String>,
    said: Vec<u8>,
}

/// What the application knows, kept apart from the server: questions must fit it.
#[derive(Debug, Default)]
struct Observed {
    hello: bool,
    transaction: bool,
    recipients: usize,
    data: bool,
    over: bool,
}

struct Driver {
    server: Server,
    answers: Answers,
    questions: usize,
    observed: Observed,
    transcript: Transcript,
}

impl Driver {
    fn new(tls: TlsOffer, answers: Answers) -> Self {
        let mut settings = Settings::new("mx.solarmora.com".parse().unwrap());
        settings.tls = tls;
        settings.auth = AuthOffer::InsideTls;
        settings.limits.message_size = MESSAGE_SIZE;
        settings.limits.recipients = RECIPIENTS;
        settings.timeouts.auth_failure_pause = Duration::ZERO;
        let mut server = Server::new(Arc::new(settings), NOW);
        server.offer_xclient();
        let mut driver = Self {
            server,
            answers,
            questions: 0,
            observed: Observed::default(),
            transcript: Transcript::default(),
        };
        driver.settle();
        driver
    }

    fn give(&mut self, octets: &[u8]) {
        if self.server.wants_read() {
            self.server.handle_bytes(NOW, octets);
            self.settle();
        }
    }

    /// Answers all questions and takes all output; stops at STARTTLS.
    fn settle(&mut self) {
        loop {
            while let Some(event) = self.server.poll_event(NOW) {
                self.transcript.events.push(format!("{event:?}"));
                if event == Event::StartTls {
                    let reply = self.server.take_output();
                    self.transcript.said.extend(reply);
                    return;
                }
                self.see_and_answer(event);
            }
            let output = self.server.take_output();
            assert!(output.len() <= MOST_OUTPUT, "{} octets wait for the client", output.len());
            if output.is_empty() {
                return;
            }
            self.transcript.said.extend(output);
        }
    }

    fn see_and_answer(&mut self, event: Event) {
        let known = &mut self.observed;
        assert!(!known.over, "an event after the last one: {event:?}");
        match &event {
            Event::Reset(_) => *known = Observed { hello: known.hello, ..Observed::default() },
            Event::Closed(_) => known.over = true,
            Event::StartTls | Event::Connect | Event::Hello { .. } => {}
            Event::Xclient(_) => assert!(!known.transaction, "XCLIENT in a transaction"),
            Event::Auth(_) => {
                assert!(known.hello && !known.transaction);
                assert_eq!(self.server.tls(), TlsState::Encrypted, "AUTH in clear text");
            }
            Event::Mail { size, .. } => {
                assert!(known.hello && !known.transaction, "MAIL out of order");
                assert!(size.is_none_or(|size| size <= MESSAGE_SIZE));
            }
            Event::Rcpt(_) => {
                assert!(known.transaction && !known.data && known.recipients < RECIPIENTS);
            }
            Event::Data => assert!(known.recipients > 0 && !known.data, "DATA out of order"),
            Event::Message(data) => {
                // A last line that came in a chunk without CR LF has one now.
                assert!(known.data && data.size <= MESSAGE_SIZE + 2, "a message out of order");
                assert!(Message::new([SharedBytes::new(data.stuffed.clone())]).is_ok());
                assert!(!data.stuffed.contains(&0));
            }
        }
        if matches!(event, Event::Reset(_) | Event::Closed(_)) {
            return;
        }
        let refused = self.answers.refuses(self.questions);
        self.questions += 1;
        match (&event, refused) {
            (Event::Hello { .. }, false) => known.hello = true,
            (Event::Xclient(_), false) => known.hello = false,
            (Event::Mail { .. }, false) => known.transaction = true,
            (Event::Rcpt(_), false) => known.recipients += 1,
            (Event::Data, false) => known.data = true,
            (Event::Data | Event::Message(_), _) => {
                *known = Observed { hello: known.hello, ..Observed::default() };
            }
            _ => {}
        }
        match (event, refused) {
            (Event::Auth(_), false) => {
                self.server.accept_auth(NOW, "marie@solarmora.com".parse().unwrap());
            }
            (_, true) => self.server.answer(NOW, Reply::new(550, (5, 7, 1), "No")),
            (_, false) => self.server.accept(NOW),
        }
        if !self.server.is_closed() {
            assert_eq!(self.server.is_in_transaction(), self.observed.transaction);
        }
    }

    /// Replies said so far, each line checked.
    fn replies(&self) -> usize {
        let said = &self.transcript.said;
        assert!(said.is_empty() || said.ends_with(b"\r\n"));
        let text = std::str::from_utf8(said).unwrap();
        let mut count = 0;
        for line in text.split_terminator("\r\n") {
            assert!(line.len() <= 510 && !line.contains(char::is_control), "{line:?}");
            let (code, rest) = line.split_at(3);
            assert!(code.parse::<u16>().is_ok_and(|code| (200..600).contains(&code)), "{line:?}");
            assert!(rest.starts_with([' ', '-']), "{line:?}");
            count += usize::from(rest.starts_with(' '));
        }
        count
    }

    fn last_code(&self) -> &[u8] {
        let mut lines = self.transcript.said.split(|octet| *octet == b'\n');
        lines.rfind(|line| line.len() >= 3).map_or(b"", |line| &line[..3])
    }
}

fn play(tls: TlsOffer, answers: Answers, parts: &[&[u8]]) -> Transcript {
    let mut driver = Driver::new(tls, answers);
    for part in parts {
        driver.give(part);
    }
    driver.server.handle_eof();
    driver.settle();
    assert!(driver.observed.over && driver.server.is_closed(), "the end of input is the end");
    driver.replies();
    driver.transcript
}

/// A line or a chunk at a time, beside a reader that knows CR LF, 334, 354, the final dot and the
/// number behind BDAT, and nothing else.
fn one_reply_a_command(octets: &[u8], answers: Answers) {
    let mut driver = Driver::new(TlsOffer::Implicit, answers);
    assert_eq!(driver.replies(), 1, "one greeting");
    let mut message: Option<Vec<u8>> = None;
    let mut rest = octets;
    while let Some(end) = find(rest, b"\r\n") {
        let (line, more) = rest.split_at(end + 2);
        rest = more;
        if driver.server.is_closed() {
            return;
        }
        let before = driver.replies();
        let octets = match driver.last_code() {
            b"334" | b"354" => 0,
            _ => announced(line).map_or(0, |octets| octets.min(1 << 20)),
        };
        let want = match &mut message {
            None => usize::from(octets == 0),
            Some(read) => {
                read.extend_from_slice(line);
                usize::from(read == b".\r\n" || read.ends_with(b"\r\n.\r\n"))
            }
        };
        driver.give(line);
        let said = driver.replies() - before;
        let closing = usize::from(driver.server.is_closed());
        assert!(
            (want..=want + closing).contains(&said),
            "{said} replies to {}, {want} were due",
            line.escape_ascii()
        );
        if octets > 0 && !driver.server.is_closed() {
            let Some((chunk, more)) = rest.split_at_checked(octets) else {
                driver.give(rest);
                let said = driver.replies() - before;
                assert!(said == 0 || driver.server.is_closed(), "{said} replies inside a chunk");
                return;
            };
            rest = more;
            driver.give(chunk);
            let closing = usize::from(driver.server.is_closed());
            let said = driver.replies() - before;
            assert!((1..=1 + closing).contains(&said), "{said} replies to a chunk");
            continue;
        }
        message = match message {
            Some(read) if want == 0 => Some(read),
            _ => (driver.last_code() == b"354").then(Vec::new),
        };
    }
}

/// How many octets a BDAT command says will follow.
fn announced(line: &[u8]) -> Option<usize> {
    let line = std::str::from_utf8(line.strip_suffix(b"\r\n")?).ok()?;
    if line.len() > 510 || line.contains(['\r', '\n', '\0']) || line.starts_with(' ') {
        return None;
    }
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    let is_bdat = words.next()?.eq_ignore_ascii_case("BDAT");
    let digits = words.next().filter(|word| is_bdat && word.bytes().all(|b| b.is_ascii_digit()))?;
    Some(digits.parse().unwrap_or(usize::MAX))
}

fn nothing_survives_tls(octets: &[u8], answers: Answers, seed: u8) {
    let mut parts = octets.splitn(3, |octet| *octet == 0xff);
    let mut part = || parts.next().unwrap_or_default();
    let (before, injected, after) = (part(), part(), part());

    let mut driver = Driver::new(TlsOffer::StartTls, answers);
    driver.give(before);
    // Whatever state that led to, come to a known one; skip what is at its end, or in TLS.
    driver.give(b"\r\n.\r\n*\r\n");
    if driver.server.is_closed() || !driver.server.wants_read() {
        return;
    }
    let heard = driver.transcript.events.len();
    driver.give(&[b"STARTTLS\r\n", injected].concat());
    let events = &driver.transcript.events[heard..];
    if !events.iter().any(|event| event == "StartTls") {
        return;
    }
    assert!(!driver.server.wants_read(), "the handshake is not for the state machine");
    driver.server.handle_bytes(NOW, injected);
    assert!(driver.server.take_output().is_empty(), "said something in mid-handshake");
    driver.server.handle_tls(NOW);
    assert_eq!(driver.server.tls(), TlsState::Encrypted);
    assert_eq!((driver.server.hello(), driver.server.user()), (None, None));
    assert!(!driver.server.is_in_transaction());

    // From here on nobody can tell it from a connection that was inside TLS from the start.
    let mut fresh = Driver::new(TlsOffer::Implicit, Answers { refused: 0 });
    for driver in [&mut driver, &mut fresh] {
        driver.answers = answers;
        driver.questions = 0;
        driver.observed = Observed::default();
        driver.transcript = Transcript::default();
    }
    for chunk in chunks(after, seed) {
        driver.give(chunk);
    }
    fresh.give(after);
    // Errors and idle commands made in clear text count on.
    if !driver.server.is_closed() {
        assert_eq!(driver.transcript, fresh.transcript, "clear text shows inside TLS");
    }
}
