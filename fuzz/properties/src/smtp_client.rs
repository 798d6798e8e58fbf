//! The SMTP client, whatever a peer does.

use std::sync::Arc;

use waypost_smtp::client::{
    Client, ClientConfig, Credentials, Event, Extensions, Message, Protocol, SharedBytes, TlsUse,
    Transaction,
};
use waypost_types::{MailParameters, Mailbox, Outcome, ReversePath, Timestamp, TlsState};

use crate::steer::{Steer, chunks};

/// Lines of the message, one of them with a dot, so that it goes by DATA.
const STUFFED: &str = "Subject: x\r\n\r\n..\r\ntext\r\n";
/// Lines without: it goes by BDAT where that is offered.
const PLAIN: &str = "Subject: x\r\n\r\nbody\r\ntext\r\n";
/// A reply: 100 lines of 2,048 octets, three times as many where they are shown as no UTF-8.
const MOST_HELD: usize = 3 * 100 * 2048 + 2048;
/// Far above all commands of a transaction of four recipients, and the message.
const MOST_OUTPUT: usize = 4096;

/// What a peer does; the first two bytes choose the client and the cuts.
///
/// Octets below `0x80` are said by the peer, those above are acts of the world: written octets are
/// taken or not, TLS is established, time runs out, the connection breaks. One outcome for each
/// recipient of each transaction, and no event after the end. A recipient is delivered only after the
/// final dot, or the last octet of the chunk, was taken. Mail and passwords never go out in clear text where TLS is demanded. Nothing
/// heard before TLS survives it. Output and what is kept of
/// the peer's are bounded; cuts make no difference.
pub fn smtp_client(bytes: &[u8]) {
    let mut steer = Steer::new(bytes);
    let choice = Choice::of(steer.byte());
    let seed = steer.byte();
    let acts = steer.rest();

    let whole = play(choice, acts, 0);
    if matches!(choice.tls, TlsUse::Off | TlsUse::Implicit) {
        assert_eq!(play(choice, acts, seed), whole, "cuts matter");
    } else {
        play(choice, acts, seed);
    }
}

#[derive(Clone, Copy)]
struct Choice {
    tls: TlsUse,
    protocol: Protocol,
    credentials: bool,
    recipients: usize,
    message: &'static str,
}

impl Choice {
    fn of(byte: u8) -> Self {
        let uses = [TlsUse::Off, TlsUse::Opportunistic, TlsUse::Required, TlsUse::Implicit];
        Self {
            tls: uses[usize::from(byte & 3)],
            protocol: if byte & 4 == 0 { Protocol::Smtp } else { Protocol::Lmtp },
            credentials: byte & 8 != 0,
            recipients: usize::from(byte >> 4 & 3),
            message: if byte & 0x40 == 0 { STUFFED } else { PLAIN },
        }
    }

    fn client(self) -> Client {
        let (peer, ehlo) = ("mx.example:25".parse().unwrap(), "us.example".parse().unwrap());
        let mut config = ClientConfig::new(peer, ehlo);
        (config.tls, config.protocol) = (self.tls, self.protocol);
        config.credentials = self
            .credentials
            .then(|| Credentials { user: "marie".into(), password: "secret".into() });
        Client::new(Arc::new(config), Timestamp::default())
    }

    fn transaction(self) -> Transaction {
        let recipient = |i| format!("r{i}@mx.example").parse::<Mailbox>().unwrap().into();
        Transaction {
            sender: ReversePath::Null,
            parameters: MailParameters::default(),
            recipients: (0..self.recipients).map(recipient).collect(),
            message: Message::new([SharedBytes::new(self.message)]).unwrap(),
        }
    }
}

struct World {
    choice: Choice,
    client: Client,
    now: Timestamp,
    /// What was written, apart for clear text and TLS.
    written: [Vec<u8>; 2],
    /// Octets written since the transaction began.
    of_transaction: Vec<u8>,
    sent: usize,
    done: usize,
    over: bool,
    handshake: bool,
    heard: Vec<Event>,
}

fn play(choice: Choice, acts: &[u8], seed: u8) -> (Vec<Event>, [Vec<u8>; 2]) {
    let client = choice.client();
    let now = Timestamp::default();
    let mut world = World {
        choice,
        client,
        now,
        written: Default::default(),
        of_transaction: Vec::new(),
        sent: 0,
        done: 0,
        over: false,
        handshake: false,
        heard: Vec::new(),
    };
    for run in acts.chunk_by(|a, b| *a < 0x80 && *b < 0x80) {
        match run {
            [act @ 0x80..=0xff] => world.act(*act),
            said => {
                for part in chunks(said, seed) {
                    world.client.receive(now, part);
                }
            }
        }
        world.see();
    }
    world.client.lost("the end");
    world.see();
    assert!(world.client.is_closed());
    assert_eq!(world.done, world.sent, "transactions without a report");
    assert_eq!(world.client.transmit().count(), 0, "a closed client has something to say");
    assert_eq!(world.client.poll_timeout(), None);
    (world.heard, world.written)
}

impl World {
    fn act(&mut self, act: u8) {
        match act & 7 {
            0 | 1 => self.take(usize::MAX),
            2 => self.take(usize::from(act >> 3)),
            3 => {
                // A peer that talks in mid-handshake has ended the connection.
                if self.handshake && !self.over {
                    self.handshake = false;
                    self.client.tls_established(self.now);
                    // What was heard in clear text is forgotten.
                    assert_eq!(*self.client.extensions(), Extensions::default());
                    assert_eq!(self.client.tls(), TlsState::Encrypted);
                    assert!(!self.client.is_ready(), "EHLO is said again");
                }
            }
            4 => self.client.elapsed(self.now),
            5 => {
                let due = self.client.poll_timeout();
                self.client.elapsed(due.unwrap_or(self.now));
                assert!(due.is_none() || self.client.is_closed(), "a time-out that is none");
            }
            6 => self.client.quit(self.now),
            _ => self.client.lost("gone"),
        }
    }

    fn take(&mut self, most: usize) {
        let all: Vec<u8> = self.client.transmit().flatten().copied().collect();
        assert!(all.len() <= MOST_OUTPUT, "{} octets wait", all.len());
        let taken = &all[..all.len().min(most)];
        let encrypted = self.client.tls() == TlsState::Encrypted;
        self.written[usize::from(encrypted)].extend_from_slice(taken);
        self.of_transaction.extend_from_slice(taken);
        self.client.transmitted(self.now, taken.len());
        let clear = &self.written[0];
        if self.choice.tls == TlsUse::Required || self.choice.credentials {
            assert!(!has_command(clear, b"MAIL"), "mail in clear text");
        }
        assert!(!has_command(clear, b"AUTH"), "a password in clear text");
    }

    fn see(&mut self) {
        while let Some(event) = self.client.poll_event() {
            assert!(!self.over, "an event after the end: {event:?}");
            match &event {
                Event::StartTls => self.handshake = true,
                Event::Done(report) => {
                    self.done += 1;
                    assert_eq!(report.outcomes.len(), self.choice.recipients);
                    let delivered =
                        report.outcomes.iter().any(|o| matches!(o, Outcome::Delivered { .. }));
                    assert!(!delivered || self.is_whole(), "delivered before the end");
                }
                Event::Closed(_) | Event::Quit => self.over = true,
                _ => {}
            }
            self.heard.push(event);
        }
        assert!(self.client.held() <= MOST_HELD, "{} octets kept", self.client.held());
        if self.client.is_ready() && self.sent < 3 {
            self.sent += 1;
            self.of_transaction.clear();
            self.client.send(self.now, self.choice.transaction()).unwrap();
        }
    }
}

impl World {
    /// Whether the message went out to its end, by DATA or by BDAT.
    fn is_whole(&self) -> bool {
        let message = self.choice.message;
        let by_data = format!("{message}.\r\n");
        let by_chunk = format!("\r\nBDAT {} LAST\r\n{message}", message.len());
        let written = &self.of_transaction;
        let may_chunk = message == PLAIN && self.choice.protocol == Protocol::Smtp;
        written.ends_with(by_data.as_bytes())
            || (may_chunk && written.ends_with(by_chunk.as_bytes()))
    }
}

/// Whether a line begins with that word.
fn has_command(written: &[u8], word: &[u8]) -> bool {
    written.split(|octet| *octet == b'\n').any(|line| line.starts_with(word))
}
