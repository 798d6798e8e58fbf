//! A mail server that has `waypost milter` for its milter, and tells it what Postfix tells.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use waypost_milter::{
    Actions, Command, Frames, HeaderEdit, Macro, Modification, Options, Peer, Response, Step, Steps,
};
use waypost_types::HeaderBlock;

use crate::support::serving::Serve;

/// A mail server that does what its milter says.
pub(crate) struct Mta<S> {
    pub(crate) stream: S,
    frames: Frames,
    pub(crate) steps: Steps,
}

/// What becomes of a message.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The reply to whatever was refused last; else the letter of the last answer.
    pub(crate) reply: String,
    pub(crate) refused: Vec<String>,
    pub(crate) header: String,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) added: Vec<String>,
    pub(crate) deleted: Vec<String>,
    pub(crate) sender: Option<String>,
    pub(crate) held: Option<String>,
}

impl Mta<TcpStream> {
    pub(crate) fn of(server: &Serve) -> Self {
        let stream = TcpStream::connect(server.address("milter")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self::over(stream)
    }
}

impl<S: Read + Write> Mta<S> {
    pub(crate) fn over(stream: S) -> Self {
        let mut mta = Self { stream, frames: Frames::new(1 << 20), steps: Steps::default() };
        mta.tell(&Command::Options(Options::new(6, Actions::ALL, Steps::OFFERED)));
        let Response::Options(agreed) = mta.response() else { panic!("no options") };
        mta.steps = agreed.steps;
        mta
    }

    pub(crate) fn tell(&mut self, command: &Command<'_>) {
        let mut octets = Vec::new();
        command.encode(&mut octets);
        self.stream.write_all(&octets).unwrap();
    }

    pub(crate) fn macros(&mut self, step: Step, macros: Vec<Macro<'_>>) {
        self.tell(&Command::Macros { step, macros });
    }

    pub(crate) fn response(&mut self) -> Response {
        loop {
            if let Some(frame) = self.frames.take().unwrap() {
                return Response::decode(frame).unwrap();
            }
            let mut chunk = [0; 4096];
            let count = self.stream.read(&mut chunk).unwrap();
            assert_ne!(count, 0, "it hung up");
            self.frames.push(&chunk[..count]);
        }
    }

    /// A client has come to a port of this name.
    pub(crate) fn client(&mut self, port: &str, ip: &str) {
        self.macros(Step::Connect, vec![(b"{daemon_name}", port.as_bytes())]);
        let peer = Peer::Ip(ip.parse().unwrap(), 12345);
        self.tell(&Command::Connect { host_name: b"unknown", peer });
        self.tell(&Command::Helo(b"client.elsewhere.example"));
    }

    /// `Err`: the reply that refuses.
    pub(crate) fn asked(&mut self, command: &Command<'_>) -> Result<(), String> {
        self.tell(command);
        match self.response() {
            Response::Continue => Ok(()),
            Response::Reply(reply) => Err(reply.to_string()),
            other => panic!("{other:?}"),
        }
    }

    /// Tells a whole message, and does not wait for what becomes of it.
    pub(crate) fn send(&mut self, from: &str, to: &[&str], message: &str) -> Outcome {
        let mut outcome = Outcome::default();
        let path = |address: &str| format!("<{address}>").into_bytes();
        let mail = self.asked(&Command::Mail { path: &path(from), parameters: vec![] });
        if let Err(reply) = mail {
            outcome.reply = reply;
            return outcome;
        }
        let mut stand = 0;
        for to in to {
            match self.asked(&Command::Rcpt { path: &path(to), parameters: vec![] }) {
                Ok(()) => stand += 1,
                Err(reply) => outcome.refused.push(reply),
            }
        }
        if stand == 0 {
            outcome.reply = outcome.refused[0].clone();
            self.tell(&Command::Abort);
            return outcome;
        }
        let block = HeaderBlock::of(message.as_bytes());
        for field in block.fields() {
            let value = String::from_utf8_lossy(field.raw).replace("\r\n", "\n");
            self.tell(&Command::Header { name: field.name, value: value.as_bytes() });
        }
        if !self.steps.has(Steps::NO_BODY) {
            self.tell(&Command::Body(&message.as_bytes()[block.body_offset()..]));
        }
        self.macros(Step::EndOfMessage, vec![(b"i", b"4QUEUEID")]);
        self.tell(&Command::EndOfMessage(b""));
        outcome
    }

    pub(crate) fn message(&mut self, from: &str, to: &[&str], message: &str) -> Outcome {
        let mut outcome = self.send(from, to, message);
        if !outcome.reply.is_empty() {
            return outcome;
        }
        let block = HeaderBlock::of(message.as_bytes());
        let own = ("Received".to_owned(), " own".to_owned());
        let field = |name: &[u8], raw: &[u8]| {
            let text = |octets| String::from_utf8_lossy(octets).into_owned();
            (text(name), text(raw))
        };
        let mut header: Vec<(String, String)> = vec![own];
        header.extend(block.fields().map(|one| field(one.name, one.raw)));
        loop {
            match self.response() {
                Response::Modify(Modification::Header(edit)) => carry_out(&mut header, &edit),
                Response::Modify(Modification::Body(piece)) => {
                    outcome.body.get_or_insert_default().extend(piece);
                }
                Response::Modify(Modification::AddRecipient { address, .. }) => {
                    outcome.added.push(address.into());
                }
                Response::Modify(Modification::DeleteRecipient(address)) => {
                    outcome.deleted.push(address.into());
                }
                Response::Modify(Modification::ChangeSender { address, .. }) => {
                    outcome.sender = Some(address.into());
                }
                Response::Modify(Modification::Quarantine(why)) => outcome.held = Some(why.into()),
                Response::Progress => {}
                Response::Reply(reply) => outcome.reply = reply.to_string(),
                last => outcome.reply = last.name().to_owned(),
            }
            if !outcome.reply.is_empty() {
                break;
            }
        }
        let lines = header.iter().filter(|(_, value)| value != " own");
        outcome.header = lines.map(|(name, value)| format!("{name}:{value}\r\n")).collect();
        outcome
    }
}

/// As Postfix does it: fields of a name are counted from 1, our own trace line is not.
fn carry_out(header: &mut Vec<(String, String)>, edit: &HeaderEdit) {
    let nth = |header: &[(String, String)], name: &str, nth: u32| {
        let same =
            |(one, value): &&(String, String)| one.eq_ignore_ascii_case(name) && value != " own";
        let places = header.iter().enumerate().filter(|(_, one)| same(one));
        places.map(|(place, _)| place).nth(nth as usize - 1).unwrap()
    };
    match edit {
        HeaderEdit::Insert { at, name, value } => {
            header.insert(*at as usize, (name.to_string(), format!(" {}", value.as_str())));
        }
        HeaderEdit::Change { name, nth: n, value } => {
            let place = nth(header, name.as_str(), *n);
            header[place].1 = format!(" {}", value.as_str());
        }
        HeaderEdit::Delete { name, nth: n } => {
            let place = nth(header, name.as_str(), *n);
            header.remove(place);
        }
        HeaderEdit::Add { .. } => panic!("nothing is added at the end"),
    }
}
