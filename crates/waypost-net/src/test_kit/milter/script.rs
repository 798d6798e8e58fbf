//! What a filter is told to do.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use waypost_milter::{
    Actions, FieldError, FieldName, FieldValue, HeaderEdit, Modification, Options, Response, Step,
    Steps, VERSION,
};
use waypost_types::Reply;

use super::FakeMilter;
use super::asked::Asked;

/// What a filter answers to a message: changes, and the last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MilterAnswer {
    pub(super) changes: Vec<Modification>,
    pub(super) last: Response,
}

impl MilterAnswer {
    fn of(last: Response) -> Self {
        Self { changes: Vec::new(), last }
    }

    /// The message is to be taken: `continue` to its end, so that the connection can be used again.
    #[must_use]
    pub fn accept() -> Self {
        Self::of(Response::Continue)
    }

    /// The message is to be refused with this reply, 4yz or 5yz.
    #[must_use]
    pub fn refuse(reply: Reply) -> Self {
        Self::of(Response::Reply(reply))
    }

    /// The message is to be thrown away.
    #[must_use]
    pub fn discard() -> Self {
        Self::of(Response::Discard)
    }

    /// The message is to be held, for this reason.
    #[must_use]
    pub fn quarantine(reason: &str) -> Self {
        Self::accept().change(Modification::Quarantine(reason.into()))
    }

    /// And a field added.
    ///
    /// # Errors
    /// [`FieldError`] when they are no name or no value of a field.
    pub fn field(self, name: &str, value: &str) -> Result<Self, FieldError> {
        let (name, value) = (FieldName::new(name)?, FieldValue::new(value)?);
        Ok(self.change(Modification::Header(HeaderEdit::Add { name, value })))
    }

    /// And this done.
    #[must_use]
    pub fn change(mut self, change: Modification) -> Self {
        self.changes.push(change);
        self
    }
}

/// Where in a dialogue something goes wrong: in place of the answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MilterPhase {
    /// The options.
    Options,
    /// A step; for steps that come more than once, the first one of a message.
    Step(Step),
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MilterFault {
    /// No answer before [`FakeMilter::release`]; then as usual.
    Silent,
    /// The connection is closed.
    Drop,
    /// These octets in place of the answer.
    Bytes(Vec<u8>),
    /// The answer octet by octet, with such a pause before each.
    Slow(Duration),
    /// Half of the answer, then the connection is closed.
    Half,
}

#[derive(Clone)]
struct Wrong {
    at: MilterPhase,
    fault: MilterFault,
    /// How often it may still happen; `None`: always. Shared by all connections.
    left: Option<Arc<Mutex<usize>>>,
}

#[derive(Clone)]
enum When {
    Token(String),
    Source(IpAddr),
}

/// What a filter answers, and its table of faults.
///
/// Without any, it is a good filter that speaks version 6, wants to be told everything, and takes every
/// message. The first line of a table that fits decides.
#[derive(Clone)]
pub struct MilterScript {
    pub(super) options: Options,
    answers: Vec<(When, MilterAnswer)>,
    otherwise: MilterAnswer,
    wrongs: Vec<Wrong>,
}

impl Default for MilterScript {
    fn default() -> Self {
        Self::new()
    }
}

impl MilterScript {
    /// A good filter that takes every message.
    #[must_use]
    pub fn new() -> Self {
        Self {
            options: Options::new(VERSION, Actions::ALL, Steps::default()),
            answers: Vec::new(),
            otherwise: MilterAnswer::accept(),
            wrongs: Vec::new(),
        }
    }

    /// The options that it asks for.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The answer to a message in which this text stands, in a field's value or in the body.
    #[must_use]
    pub fn token(mut self, token: &str, answer: MilterAnswer) -> Self {
        self.answers.push((When::Token(token.to_owned()), answer));
        self
    }

    /// The answer to a message from this address, as the filter is told.
    #[must_use]
    pub fn source(mut self, address: IpAddr, answer: MilterAnswer) -> Self {
        self.answers.push((When::Source(address), answer));
        self
    }

    /// The answer to all other messages.
    #[must_use]
    pub fn otherwise(mut self, answer: MilterAnswer) -> Self {
        self.otherwise = answer;
        self
    }

    /// Always goes wrong there.
    #[must_use]
    pub fn at(mut self, at: MilterPhase, fault: MilterFault) -> Self {
        self.wrongs.push(Wrong { at, fault, left: None });
        self
    }

    /// Goes wrong there for the first so many times.
    #[must_use]
    pub fn first(mut self, times: usize, at: MilterPhase, fault: MilterFault) -> Self {
        self.wrongs.push(Wrong { at, fault, left: Some(Arc::new(Mutex::new(times))) });
        self
    }

    /// Starts it on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start(self) -> io::Result<FakeMilter> {
        FakeMilter::start(self, None)
    }

    /// Starts it on a Unix socket, which it makes.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start_at(self, socket: &Path) -> io::Result<FakeMilter> {
        FakeMilter::start(self, Some(socket))
    }

    pub(super) fn answer(&self, asked: &Asked) -> &MilterAnswer {
        let fits = |when: &When| match when {
            When::Token(token) => asked.contains(token),
            When::Source(address) => asked.address == Some(*address),
        };
        let found = self.answers.iter().find(|(when, _)| fits(when));
        found.map_or(&self.otherwise, |(_, answer)| answer)
    }

    pub(super) fn fault(&self, at: MilterPhase) -> Option<&MilterFault> {
        let found = self.wrongs.iter().filter(|wrong| wrong.at == at).find(|wrong| {
            let Some(left) = &wrong.left else { return true };
            let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
            let may = *left > 0;
            *left = left.saturating_sub(1);
            may
        });
        found.map(|wrong| &wrong.fault)
    }
}
