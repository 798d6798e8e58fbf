//! The driver for streams that block, over a stream in memory and a clock that the test turns.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test says what it means")]

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::time::Duration;

use waypost_smtp::blocking::Wire;
use waypost_smtp::client::{Client, ClientConfig, Message, SharedBytes, TlsUse, Transaction};
use waypost_smtp::server::{CloseCause, Event, Server, Settings};
use waypost_types::{Envelope, MailParameters, Mailbox, Outcome, Reply, ReversePath, Timestamp};

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(1_000) };
    static WAIT: Cell<Option<Duration>> = const { Cell::new(None) };
}

fn now() -> Timestamp {
    Timestamp::from_millis(NOW.get())
}

/// What each read gives, then the end; what was written.
#[derive(Default)]
struct Script {
    reads: VecDeque<Result<Vec<u8>>>,
    written: Vec<u8>,
    /// Octets that can be written before a write fails.
    room: Option<usize>,
}

impl Script {
    fn of(reads: &[&str]) -> Self {
        let reads = reads.iter().map(|read| Ok(read.as_bytes().to_vec())).collect();
        Self { reads, ..Self::default() }
    }
}

impl Read for Script {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let Some(read) = self.reads.pop_front() else { return Ok(0) };
        let octets = match read {
            Ok(octets) => octets,
            // A stream that was told to wait so long has done so.
            Err(error) => {
                let waited = WAIT.get().expect("an endless wait");
                NOW.set(NOW.get() + u64::try_from(waited.as_millis()).unwrap());
                return Err(error);
            }
        };
        let count = octets.len().min(buffer.len());
        buffer[..count].copy_from_slice(&octets[..count]);
        if count < octets.len() {
            self.reads.push_front(Ok(octets[count..].to_vec()));
        }
        Ok(count)
    }
}

impl Write for Script {
    fn write(&mut self, octets: &[u8]) -> Result<usize> {
        if self.room.is_some_and(|room| self.written.len() + octets.len() > room) {
            return Err(Error::new(ErrorKind::BrokenPipe, "the pipe broke"));
        }
        self.written.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

fn wire(script: Script) -> Wire<Script> {
    let wait = |_: &Script, left| {
        WAIT.set(left);
        Ok(())
    };
    Wire::new(script, wait, now)
}

fn server() -> Server {
    Server::new(Settings::new("mx.solarmora.com".parse().unwrap()).into(), now())
}

/// Accepts everything; the events, and what the client was told.
fn serve(script: Script) -> (Vec<Event>, String) {
    let (mut wire, mut server, mut events) = (wire(script), server(), Vec::new());
    while let Some(event) = wire.server_event(&mut server) {
        events.push(event);
        server.accept(now());
    }
    (events, String::from_utf8(wire.into_stream().written).unwrap())
}

#[test]
fn a_message_comes_in_whatever_the_chunks() {
    let talk = "EHLO b.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nDATA\r\n";
    let text = "Subject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n";
    let whole = [talk, text].concat();
    let octets: Vec<&str> = whole.split("").filter(|octet| !octet.is_empty()).collect();
    for reads in [&[talk, text][..], &octets, &[&whole]] {
        let (events, said) = serve(Script::of(reads));
        let message = events.iter().find_map(|event| match event {
            Event::Message(data) => Some(data.stuffed.as_slice()),
            _ => None,
        });
        assert_eq!(message, Some(&b"Subject: x\r\n\r\n..dot\r\n"[..]));
        assert_eq!(events.last(), Some(&Event::Closed(CloseCause::Quit)));
        assert!(said.starts_with("220 ") && said.contains("\r\n354 "), "{said}");
        assert!(said.lines().last().is_some_and(|line| line.starts_with("221 ")), "{said}");
    }
}

/// More replies than are held back for one write: the rest of what was read is not forgotten.
#[test]
fn a_client_that_pipelines_much_is_answered_to_the_end() {
    let mut talk = "EHLO b.example\r\nMAIL FROM:<a@b.example>\r\n".to_owned();
    talk.push_str(&"RCPT TO:<x@y.example>\r\n".repeat(1000));
    talk.push_str("QUIT\r\n");
    let (events, said) = serve(Script::of(&[&talk]));
    assert_eq!(said.matches("250 2.1.5").count(), 1000);
    assert_eq!(events.last(), Some(&Event::Closed(CloseCause::Quit)));
}

#[test]
fn an_event_that_nobody_answers_is_refused_for_now() {
    let talk = "EHLO b.example\r\nMAIL FROM:<a@b.example>\r\n";
    let (mut wire, mut server) = (wire(Script::of(&[talk])), server());
    while let Some(event) = wire.server_event(&mut server) {
        if !matches!(event, Event::Mail { .. }) {
            server.accept(now());
        }
    }
    let said = String::from_utf8(wire.into_stream().written).unwrap();
    assert!(said.ends_with("451 4.3.0 No answer; try again\r\n"), "{said}");
}

/// RFC 5321 section 4.5.3.2.7: five minutes for a command.
#[test]
fn a_silent_client_is_told_and_left() {
    let mut script = Script::of(&["EHLO b.example\r\n"]);
    script.reads.push_back(Err(ErrorKind::WouldBlock.into()));
    let (events, said) = serve(script);
    assert_eq!(events.last(), Some(&Event::Closed(CloseCause::TimedOut)));
    assert!(said.ends_with("421 4.4.2 Too slow; connect again to go on\r\n"), "{said}");
    assert_eq!(WAIT.get(), Some(Duration::from_secs(300)));
}

#[test]
fn a_broken_stream_is_the_end_of_the_session() {
    let (events, _) = serve(Script { room: Some(0), ..Script::default() });
    assert_eq!(events.last(), Some(&Event::Closed(CloseCause::Disconnected)));
}

/// What becomes of one message to one recipient, and what the peer was told.
fn deliver(script: Script, tls: TlsUse) -> (String, String) {
    let config = ClientConfig::new("mx.example:25".parse().unwrap(), "us.example".parse().unwrap());
    let mut client = Client::new(ClientConfig { tls, ..config }.into(), now());
    let mut wire = wire(script);
    let mut envelope = Envelope::new(ReversePath::Null, MailParameters::default());
    envelope.recipients.push("a@mx.example".parse::<Mailbox>().unwrap().into());
    let message = Message::new([SharedBytes::new("Subject: x\r\n\r\n..\r\n")]).unwrap();
    let report = wire.deliver(&mut client, Transaction::new(envelope, message));
    client.quit(now());
    let _ = wire.client_event(&mut client);
    let outcome = report.outcomes.first().map(Outcome::to_reply).as_ref().map(Reply::to_string);
    (outcome.unwrap(), String::from_utf8(wire.into_stream().written).unwrap())
}

#[test]
fn a_message_goes_out_and_its_outcome_comes_back() {
    let hello = ["220 mx.example\r\n", "250-mx.example\r\n250 PIPELINING\r\n"];
    let (outcome, said) = deliver(
        Script::of(&[
            hello[0],
            hello[1],
            "250 ok\r\n250 ok\r\n354 go\r\n",
            "250 2.0.0 in\r\n",
            "221 bye\r\n",
        ]),
        TlsUse::Off,
    );
    assert_eq!(outcome, "250 2.0.0 in");
    assert!(said.ends_with("DATA\r\nSubject: x\r\n\r\n..\r\n.\r\nQUIT\r\n"), "{said}");

    for (reads, room, tls, want) in [
        (&["554 5.0.0 No\r\n"][..], None, TlsUse::Off, "451 4.4.0 No"),
        (
            &["220 x\r\n"],
            None,
            TlsUse::Off,
            "451 4.4.2 connection lost waiting for the reply to EHLO",
        ),
        (
            &["220 x\r\n"],
            Some(0),
            TlsUse::Off,
            "451 4.4.2 connection lost waiting for the reply to EHLO: the pipe",
        ),
        (
            &["220 x\r\n", "250-x\r\n250 STARTTLS\r\n", "220 go\r\n"],
            None,
            TlsUse::Required,
            "451 4.4.2 connection lost waiting for the TLS handshake",
        ),
        (
            &[hello[0], hello[1], "250 ok\r\n550 5.1.1 Nobody\r\n503 no\r\n", "221 x\r\n"],
            None,
            TlsUse::Off,
            "550 5.1.1 Nobody",
        ),
    ] {
        let (outcome, _) = deliver(Script { room, ..Script::of(reads) }, tls);
        assert!(outcome.starts_with(want), "{outcome}");
    }
    let mut silent = Script::default();
    silent.reads.push_back(Err(ErrorKind::TimedOut.into()));
    let (outcome, _) = deliver(silent, TlsUse::Off);
    assert_eq!(outcome, "451 4.4.2 timed out waiting for the greeting");
}
