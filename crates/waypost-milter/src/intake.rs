//! A filter that only gathers: sessions of a mail server become envelopes and whole messages.
//!
//! **In:** the octets of a mail server, in chunks of any size. **Out:** [`Event`]s that want a judgment,
//! with who is connected ([`MailClient`]), and octets for the server. Whatever wants none is answered
//! here. **Bounds:** one frame, and what [`IntakeLimits`] allows of a header, a body and recipients;
//! what is beyond is told by the event and not kept. **Errors:** [`Fault`] of the server.
//!
//! A header is kept as the message had it, as far as the protocol tells: fields alone, each ended by CR
//! LF. A text that could not stand in a field is made one that can, so that as many fields are read back
//! as were told.

use std::net::IpAddr;

use crate::command::{Command, Peer};
use crate::fault::Fault;
use crate::options::{Actions, Options, Step, Steps, VERSION};
use crate::response::Response;
use crate::server::{AnswerError, Server};

/// What is kept of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntakeLimits {
    /// Octets of a header.
    pub header: u64,
    /// Octets of a body; `None`: bodies are not asked for, and what comes all the same is dropped.
    pub body: Option<u64>,
}

/// Who is connected to the mail server, as that says. It is believed: whoever speaks for a server may
/// say who its client is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailClient {
    /// Its address; `None`: it came over no network, or the server does not know.
    pub ip: Option<IpAddr>,
    /// The argument of HELO or EHLO.
    pub helo: Option<Box<str>>,
    /// The user that it has proved to be (`{auth_authen}`).
    pub login: Option<Box<str>>,
    /// The version of TLS (`{tls_version}`); `None`: it came in clear text.
    pub tls: Option<Box<str>>,
    /// The cipher (`{cipher}`).
    pub cipher: Option<Box<str>>,
    /// The name of the server's port (`{daemon_name}`).
    pub port_name: Option<Box<str>>,
}

/// What wants a judgment: an [`Intake::answer`], before there is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// MAIL.
    Mail {
        /// Who sends.
        client: MailClient,
        /// The sender as the server told it, without angle brackets; empty: the null sender.
        sender: Box<str>,
        /// Its ESMTP parameters.
        parameters: Vec<Box<str>>,
    },
    /// RCPT.
    Rcpt {
        /// The recipient as the server told it, without angle brackets.
        recipient: Box<str>,
    },
    /// The message is all there. Changes come before the answer.
    Message(Gathered),
}

/// A message as it was gathered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    /// Its fields, each ended by CR LF.
    pub header: Vec<u8>,
    /// Its body, if bodies are asked for.
    pub body: Vec<u8>,
    /// What it had too much of; then it is not whole.
    pub too_large: Option<TooLarge>,
    /// The server's own name for it (`i`).
    pub queue_id: Option<Box<str>>,
}

/// What a message has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooLarge {
    /// Its header.
    Header,
    /// Its body.
    Body,
}

/// One connection of a mail server.
#[derive(Clone, Debug)]
pub struct Intake {
    server: Server,
    limits: IntakeLimits,
    peer: Option<IpAddr>,
    helo: Option<Box<str>>,
    message: Gathered,
}

/// The longest text of an envelope that is kept, in octets.
const MAX_TEXT: usize = 2048;
/// Parameters of MAIL that are kept.
const MAX_PARAMETERS: usize = 32;

impl Intake {
    /// A connection over which a filter asks for these actions.
    #[must_use]
    pub fn new(actions: Actions, limits: IntakeLimits) -> Self {
        let mut steps = Steps::NO_DATA
            .and(Steps::NO_UNKNOWN)
            .and(Steps::NO_REPLY_CONNECT)
            .and(Steps::NO_REPLY_HELO)
            .and(Steps::NO_REPLY_HEADER)
            .and(Steps::NO_REPLY_END_OF_HEADER)
            .and(Steps::NO_END_OF_HEADER)
            .and(Steps::LEADING_BLANK);
        steps = steps.and(match limits.body {
            Some(_) => Steps::NO_REPLY_BODY,
            None => Steps::NO_BODY,
        });
        let mut wanted = Options::new(VERSION, actions.and(Actions::CHOOSE_MACROS), steps);
        let names = |names: &[&str]| names.iter().map(|name| Box::from(*name)).collect();
        wanted.macros = vec![
            (Step::Connect, names(&["{daemon_name}"])),
            (Step::Helo, names(&["{tls_version}", "{cipher}"])),
            (Step::Mail, names(&["i", "{auth_authen}"])),
            (Step::EndOfMessage, names(&["i"])),
        ];
        Self {
            server: Server::with_options(wanted),
            limits,
            peer: None,
            helo: None,
            message: Gathered::default(),
        }
    }

    /// What was agreed upon, once it was.
    #[must_use]
    pub fn agreed(&self) -> Option<&Options> {
        self.server.agreed()
    }

    /// Takes what the server sent. Take out all events before handing over more.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.server.handle_bytes(bytes);
    }

    /// The step that waits for an answer.
    #[must_use]
    pub fn waiting(&self) -> Option<Step> {
        self.server.waiting()
    }

    /// Octets that are kept of the message so far, and of a frame that has begun.
    #[must_use]
    pub fn octets(&self) -> u64 {
        let message = self.message.header.len() + self.message.body.len();
        u64::try_from(message + self.server.octets()).unwrap_or(u64::MAX)
    }

    /// Whether a frame has begun and not ended.
    #[must_use]
    pub fn is_midway(&self) -> bool {
        self.server.octets() > 0
    }

    /// Gives memory back that holds nothing any more, before a long wait.
    pub fn give_back(&mut self) {
        self.server.give_back();
    }

    /// The next event; `None`: more octets are needed, or an answer to the last one.
    ///
    /// # Errors
    /// [`Fault`]: the server cannot be understood; close the connection.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Result<Option<Event>, Fault> {
        loop {
            let Some(command) = self.server.next(out)? else { return Ok(None) };
            let event = match command {
                Command::Connect { peer, .. } => {
                    self.helo = None;
                    self.peer = match peer {
                        Peer::Ip(ip, _) => Some(ip),
                        Peer::Unix(_) | Peer::Unknown => None,
                    };
                    None
                }
                Command::Helo(name) => {
                    self.helo = Some(text(name));
                    None
                }
                Command::Mail { path, parameters } => {
                    self.message = Gathered::default();
                    let sender = address(path);
                    let parameters =
                        parameters.into_iter().take(MAX_PARAMETERS).map(text).collect();
                    Some(Event::Mail { client: self.client(), sender, parameters })
                }
                Command::Rcpt { path, .. } => Some(Event::Rcpt { recipient: address(path) }),
                Command::Header { name, value } => {
                    let (name, value) = (name.to_vec(), value.to_vec());
                    let leads = self.server_leads();
                    self.message.add_field(&name, &value, leads, self.limits.header);
                    None
                }
                Command::Body(piece) => {
                    self.message.add_body(piece, self.limits.body);
                    None
                }
                Command::EndOfMessage(piece) => {
                    self.message.add_body(piece, self.limits.body);
                    let mut message = std::mem::take(&mut self.message);
                    message.queue_id = self.server.fact("i").map(text);
                    Some(Event::Message(message))
                }
                Command::Abort | Command::Quit | Command::QuitNewConnection => {
                    self.message = Gathered::default();
                    None
                }
                Command::Data
                | Command::EndOfHeader
                | Command::Unknown(_)
                | Command::Options(_)
                | Command::Macros { .. } => None,
            };
            if event.is_some() {
                return Ok(event);
            }
            // A server that cannot leave an answer out waits for one.
            if self.server.waiting().is_some() {
                let _ = self.server.answer(&Response::Continue, out);
            }
        }
    }

    /// Answers the last event; changes leave it waiting.
    ///
    /// # Errors
    /// [`AnswerError`]: nothing was written, and the event still waits.
    pub fn answer(&mut self, response: &Response, out: &mut Vec<u8>) -> Result<(), AnswerError> {
        self.server.answer(response, out)
    }

    fn client(&self) -> MailClient {
        let fact = |name| self.server.fact(name).filter(|value| !value.is_empty()).map(text);
        MailClient {
            ip: self.peer,
            helo: self.helo.clone(),
            login: fact("auth_authen"),
            tls: fact("tls_version"),
            cipher: fact("cipher"),
            port_name: fact("daemon_name"),
        }
    }

    /// Whether values come with what stood behind the colon.
    fn server_leads(&self) -> bool {
        self.server.agreed().is_some_and(|agreed| agreed.steps.has(Steps::LEADING_BLANK))
    }
}

impl Gathered {
    fn add_field(&mut self, name: &[u8], value: &[u8], leads: bool, limit: u64) {
        let room = limit.saturating_sub(u64::try_from(self.header.len()).unwrap_or(u64::MAX));
        let wanted = u64::try_from(name.len() + value.len() + 4).unwrap_or(u64::MAX);
        if wanted > room || self.too_large == Some(TooLarge::Header) {
            self.too_large = Some(TooLarge::Header);
            return;
        }
        if name.is_empty() {
            return;
        }
        // No name holds these: a line of its own, or the end of the header, would begin.
        let is_odd = |b: u8| b.is_ascii_control() || b == b':';
        self.header.extend(name.iter().map(|b| if is_odd(*b) { b'_' } else { *b }));
        self.header.push(b':');
        if !leads && !value.is_empty() {
            self.header.push(b' ');
        }
        let mut lines = value.split(|b| *b == b'\n');
        let first = lines.next().unwrap_or_default();
        put_line(&mut self.header, first);
        for line in lines {
            if !matches!(line.first(), Some(b' ' | b'\t')) {
                self.header.push(b' ');
            }
            put_line(&mut self.header, line);
        }
        // Folds have grown.
        if u64::try_from(self.header.len()).unwrap_or(u64::MAX) > limit {
            self.header = Vec::new();
            self.too_large = Some(TooLarge::Header);
        }
    }

    fn add_body(&mut self, piece: &[u8], limit: Option<u64>) {
        let Some(limit) = limit else { return };
        let held = u64::try_from(self.body.len() + piece.len()).unwrap_or(u64::MAX);
        if held > limit {
            self.body = Vec::new();
            self.too_large.get_or_insert(TooLarge::Body);
        }
        if self.too_large.is_none() {
            self.body.extend_from_slice(piece);
        }
    }
}

/// A line without the CR that may end it; another CR would end it for some readers.
fn put_line(out: &mut Vec<u8>, line: &[u8]) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    out.extend(line.iter().map(|b| if *b == b'\r' { b' ' } else { *b }));
    out.extend_from_slice(b"\r\n");
}

/// Text of an envelope, cut where it is too long for anything.
fn text(octets: &[u8]) -> Box<str> {
    String::from_utf8_lossy(octets.get(..MAX_TEXT).unwrap_or(octets)).into()
}

/// A path without its angle brackets. One that is too long is left so that it is still too long for an
/// address.
fn address(path: &[u8]) -> Box<str> {
    let path = path.strip_prefix(b"<").unwrap_or(path);
    text(path.strip_suffix(b">").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use waypost_types::HeaderBlock;

    use super::*;
    use crate::frame::Frames;

    const LIMITS: IntakeLimits = IntakeLimits { header: 200, body: Some(20) };

    fn offers(version: u32, steps: Steps) -> Command<'static> {
        Command::Options(Options::new(version, Actions::ALL, steps))
    }

    /// What comes out, and the letters of the answers.
    fn play(intake: &mut Intake, commands: &[Command<'_>]) -> (Vec<Event>, String) {
        let (mut events, mut out) = (Vec::new(), Vec::new());
        for command in commands {
            let mut bytes = Vec::new();
            command.encode(&mut bytes);
            intake.handle_bytes(&bytes);
            while let Some(event) = intake.next(&mut out).unwrap() {
                events.push(event);
                intake.answer(&Response::Continue, &mut out).unwrap();
            }
        }
        let mut frames = Frames::new(1 << 20);
        frames.push(&out);
        let mut letters = String::new();
        while let Some(frame) = frames.take().unwrap() {
            letters.push(char::from(frame.letter));
        }
        (events, letters)
    }

    fn message(steps: Steps) -> (Vec<Event>, String) {
        let ip = Peer::Ip("192.0.2.25".parse().unwrap(), 25);
        let mut intake = Intake::new(Actions::ADD_HEADERS, LIMITS);
        let macros = |step, macros: &[(&'static [u8], &'static [u8])]| Command::Macros {
            step,
            macros: macros.to_vec(),
        };
        play(
            &mut intake,
            &[
                offers(6, steps),
                macros(Step::Connect, &[(b"{daemon_name}", b"mx")]),
                Command::Connect { host_name: b"x", peer: ip },
                macros(Step::Helo, &[(b"{tls_version}", b"TLSv1.3")]),
                Command::Helo(b"gw.example"),
                macros(Step::Mail, &[(b"{auth_authen}", b"marie")]),
                Command::Mail { path: b"<a@b.example>", parameters: vec![b"SIZE=3"] },
                Command::Rcpt { path: b"<c@d.example>", parameters: vec![] },
                Command::Header { name: b"Subject", value: b" a\n\tb" },
                Command::Header { name: b"X:y", value: b"c\n\nEvil: 1\r" },
                Command::EndOfHeader,
                Command::Body(b"text"),
                macros(Step::EndOfMessage, &[(b"i", b"4Q")]),
                Command::EndOfMessage(b"!"),
            ],
        )
    }

    #[test]
    fn what_is_kept_is_told_and_given_back_e12() {
        let mut intake = Intake::new(Actions::ADD_HEADERS, LIMITS);
        let offers = offers(6, Steps::OFFERED);
        let connect = Command::Connect { host_name: b"x", peer: Peer::Unknown };
        let mail = Command::Mail { path: b"<a@b.example>", parameters: vec![] };
        play(&mut intake, &[offers, connect, mail]);
        intake.give_back();
        assert_eq!((intake.octets(), intake.is_midway()), (0, false));
        play(&mut intake, &[Command::Header { name: b"A", value: b" b" }]);
        assert_eq!((intake.octets(), intake.is_midway()), (6, false), "A: b CR LF");
        // A frame that has begun counts too.
        intake.handle_bytes(b"\0\0\x01\0Bhalf");
        assert!(intake.next(&mut Vec::new()).unwrap().is_none());
        intake.give_back();
        assert_eq!((intake.octets(), intake.is_midway()), (15, true));
    }

    #[test]
    fn macros_are_bounded_in_all_e12() {
        let mut intake = Intake::new(Actions::ADD_HEADERS, LIMITS);
        play(&mut intake, &[offers(6, Steps::OFFERED)]);
        let value = vec![b'x'; 40_000];
        let mut told = |step| {
            let mut bytes = Vec::new();
            Command::Macros { step, macros: vec![(b"{x}", &value)] }.encode(&mut bytes);
            intake.handle_bytes(&bytes);
            intake.next(&mut Vec::new()).map(|event| event.is_some())
        };
        assert_eq!(told(Step::Connect), Ok(false));
        assert_eq!(told(Step::Connect), Ok(false), "in the place of the last ones");
        let refused = told(Step::Helo).unwrap_err();
        assert!(refused.to_string().contains("octets of macros"), "{refused}");
    }

    #[test]
    fn a_message_is_gathered_as_it_was_d17() {
        let (events, letters) = message(Steps::OFFERED);
        let [
            Event::Mail { client, sender, parameters },
            Event::Rcpt { recipient },
            Event::Message(all),
        ] = &*events
        else {
            panic!("{events:?}")
        };
        let want = MailClient {
            ip: Some("192.0.2.25".parse().unwrap()),
            helo: Some("gw.example".into()),
            login: Some("marie".into()),
            tls: Some("TLSv1.3".into()),
            cipher: None,
            port_name: Some("mx".into()),
        };
        assert_eq!(*client, want);
        assert_eq!(
            (&**sender, &*parameters[0], &**recipient),
            ("a@b.example", "SIZE=3", "c@d.example")
        );
        let header = "Subject: a\r\n\tb\r\nX_y:c\r\n \r\n Evil: 1\r\n";
        assert_eq!(String::from_utf8_lossy(&all.header), header);
        assert_eq!(HeaderBlock::of(&all.header).fields().count(), 2);
        assert_eq!((&*all.body, all.too_large), (&b"text!"[..], None));
        assert_eq!(all.queue_id.as_deref(), Some("4Q"));
        assert_eq!(letters, "Occc", "options, MAIL, RCPT, the end");
    }

    #[test]
    fn a_server_that_can_leave_nothing_out_is_answered_each_time_d17() {
        let (events, letters) = message(Steps::default());
        assert_eq!(letters, "Occccccccc");
        let Some(Event::Message(all)) = events.last() else { panic!() };
        assert!(all.header.starts_with(b"Subject:  a\r\n"), "its values have no blank");
    }

    #[test]
    fn what_is_too_large_is_told_and_not_kept_e12() {
        let long = [b'x'; 300];
        for (field, body, want) in [
            (&long[..185], &long[..20], None),
            (&long[..186], &long[..20], Some(TooLarge::Header)),
            (&long[..9], &long[..21], Some(TooLarge::Body)),
            (&[b'\n'; 190][..], &long[..2], Some(TooLarge::Header)),
            (&long[..300], &long[..21], Some(TooLarge::Header)),
        ] {
            let mut intake = Intake::new(Actions::default(), LIMITS);
            let commands = [
                offers(6, Steps::OFFERED),
                Command::Connect { host_name: b"x", peer: Peer::Unknown },
                Command::Mail { path: b"<>", parameters: vec![] },
                Command::Header { name: b"Name12", value: field },
                Command::Header { name: b"X", value: b"y" },
                Command::Body(body),
                Command::EndOfMessage(b""),
            ];
            let (events, _) = play(&mut intake, &commands[..6]);
            assert!(intake.octets() <= 220 && events.len() == 1);
            let (events, _) = play(&mut intake, &commands[6..]);
            let [Event::Message(all)] = &*events else { panic!("{events:?}") };
            assert_eq!(all.too_large, want, "{} {}", field.len(), body.len());
        }
    }

    #[test]
    fn another_session_knows_nothing_of_the_last_one_d3() {
        let mut intake = Intake::new(Actions::default(), LIMITS);
        let ip = Peer::Ip("192.0.2.25".parse().unwrap(), 25);
        let macros = vec![(&b"{auth_authen}"[..], &b"marie"[..])];
        let mail = || Command::Mail { path: b"<a@b.example>", parameters: vec![] };
        let (events, _) = play(
            &mut intake,
            &[
                offers(6, Steps::OFFERED),
                Command::Connect { host_name: b"x", peer: ip },
                Command::Helo(b"one"),
                Command::Macros { step: Step::Mail, macros },
                mail(),
                Command::Abort,
                mail(),
                Command::Abort,
                Command::QuitNewConnection,
                Command::Connect { host_name: b"x", peer: Peer::Unknown },
                mail(),
            ],
        );
        let who = |event: &Event| match event {
            Event::Mail { client, .. } => {
                (client.ip.is_some(), client.helo.is_some(), client.login.is_some())
            }
            other => panic!("{other:?}"),
        };
        let all: Vec<_> = events.iter().map(who).collect();
        assert_eq!(all, [(true, true, true), (true, true, false), (false, false, false)]);
    }
}
