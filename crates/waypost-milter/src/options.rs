//! What the two sides agree upon before anything else.

use std::fmt;

use crate::fault::{Fault, excerpt};
use crate::frame::{put_text, take_number, take_text};

/// The highest version of the protocol that is spoken, and the one that Sendmail 8.14 made.
pub const VERSION: u32 = 6;

/// The lowest version that is spoken.
pub const LOWEST_VERSION: u32 = 2;

/// A step of a session that a filter is told, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A client has connected.
    Connect,
    /// HELO or EHLO.
    Helo,
    /// MAIL.
    Mail,
    /// RCPT, once for each recipient.
    Rcpt,
    /// DATA.
    Data,
    /// One field of the header.
    Header,
    /// The header is over.
    EndOfHeader,
    /// A piece of the body.
    Body,
    /// The message is over.
    EndOfMessage,
    /// A command that the server does not know.
    Unknown,
}

impl Step {
    /// Each of them.
    pub const ALL: [Self; 10] = [
        Self::Connect,
        Self::Helo,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Header,
        Self::EndOfHeader,
        Self::Body,
        Self::EndOfMessage,
        Self::Unknown,
    ];

    /// The letter of its frame.
    #[must_use]
    pub const fn letter(self) -> u8 {
        match self {
            Self::Connect => b'C',
            Self::Helo => b'H',
            Self::Mail => b'M',
            Self::Rcpt => b'R',
            Self::Data => b'T',
            Self::Header => b'L',
            Self::EndOfHeader => b'N',
            Self::Body => b'B',
            Self::EndOfMessage => b'E',
            Self::Unknown => b'U',
        }
    }

    /// The step of a letter.
    #[must_use]
    pub fn of_letter(letter: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.letter() == letter)
    }

    /// The bit by which a filter asks not to be told of it.
    pub(crate) const fn unwanted(self) -> Steps {
        match self {
            Self::Connect => Steps::NO_CONNECT,
            Self::Helo => Steps::NO_HELO,
            Self::Mail => Steps::NO_MAIL,
            Self::Rcpt => Steps::NO_RCPT,
            Self::Data => Steps::NO_DATA,
            Self::Header => Steps::NO_HEADER,
            Self::EndOfHeader => Steps::NO_END_OF_HEADER,
            Self::Body => Steps::NO_BODY,
            Self::EndOfMessage => Steps(0),
            Self::Unknown => Steps::NO_UNKNOWN,
        }
    }

    /// The bit by which a filter says that it will not answer to it.
    pub(crate) const fn unanswered(self) -> Steps {
        match self {
            Self::Connect => Steps::NO_REPLY_CONNECT,
            Self::Helo => Steps::NO_REPLY_HELO,
            Self::Mail => Steps::NO_REPLY_MAIL,
            Self::Rcpt => Steps::NO_REPLY_RCPT,
            Self::Data => Steps::NO_REPLY_DATA,
            Self::Header => Steps::NO_REPLY_HEADER,
            Self::EndOfHeader => Steps::NO_REPLY_END_OF_HEADER,
            Self::Body => Steps::NO_REPLY_BODY,
            Self::EndOfMessage => Steps(0),
            Self::Unknown => Steps::NO_REPLY_UNKNOWN,
        }
    }

    /// The number by which the list of wanted macros names it.
    const fn symbols(self) -> Option<u32> {
        match self {
            Self::Connect => Some(0),
            Self::Helo => Some(1),
            Self::Mail => Some(2),
            Self::Rcpt => Some(3),
            Self::Data => Some(4),
            Self::EndOfMessage => Some(5),
            Self::EndOfHeader => Some(6),
            Self::Header | Self::Body | Self::Unknown => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connection",
            Self::Helo => "HELO",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Header => "header field",
            Self::EndOfHeader => "end of header",
            Self::Body => "body",
            Self::EndOfMessage => "end of message",
            Self::Unknown => "unknown command",
        })
    }
}

/// What a filter may do to a message, as bits (`SMFIF_…`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Actions(pub u32);

impl Actions {
    /// Add fields, at the end or at a place.
    pub const ADD_HEADERS: Self = Self(0x01);
    /// Replace the body.
    pub const CHANGE_BODY: Self = Self(0x02);
    /// Add recipients.
    pub const ADD_RECIPIENT: Self = Self(0x04);
    /// Delete recipients.
    pub const DELETE_RECIPIENT: Self = Self(0x08);
    /// Change and delete fields.
    pub const CHANGE_HEADERS: Self = Self(0x10);
    /// Have the message held.
    pub const QUARANTINE: Self = Self(0x20);
    /// Change the sender.
    pub const CHANGE_SENDER: Self = Self(0x40);
    /// Add recipients with parameters.
    pub const ADD_RECIPIENT_PARAMETERS: Self = Self(0x80);
    /// Say which macros are wanted.
    pub const CHOOSE_MACROS: Self = Self(0x100);
    /// All of these.
    pub const ALL: Self = Self(0x1ff);

    /// Whether all of these bits are set.
    #[must_use]
    pub const fn has(self, bits: Self) -> bool {
        self.0 & bits.0 == bits.0
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, bits: Self) -> Self {
        Self(self.0 | bits.0)
    }

    /// What both have.
    #[must_use]
    pub const fn common(self, bits: Self) -> Self {
        Self(self.0 & bits.0)
    }
}

/// What of the protocol is left out or done differently, as bits (`SMFIP_…`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Steps(pub u32);

impl Steps {
    /// The connection is not told.
    pub const NO_CONNECT: Self = Self(0x1);
    /// HELO is not told.
    pub const NO_HELO: Self = Self(0x2);
    /// MAIL is not told.
    pub const NO_MAIL: Self = Self(0x4);
    /// RCPT is not told.
    pub const NO_RCPT: Self = Self(0x8);
    /// The body is not sent.
    pub const NO_BODY: Self = Self(0x10);
    /// The header is not sent.
    pub const NO_HEADER: Self = Self(0x20);
    /// The end of the header is not told.
    pub const NO_END_OF_HEADER: Self = Self(0x40);
    /// No answer to fields.
    pub const NO_REPLY_HEADER: Self = Self(0x80);
    /// Unknown commands are not told.
    pub const NO_UNKNOWN: Self = Self(0x100);
    /// DATA is not told.
    pub const NO_DATA: Self = Self(0x200);
    /// The filter may answer `skip`: no more of these.
    pub const SKIP: Self = Self(0x400);
    /// Recipients that the server refused are told too.
    pub const REFUSED_RECIPIENTS: Self = Self(0x800);
    /// No answer to the connection.
    pub const NO_REPLY_CONNECT: Self = Self(0x1000);
    /// No answer to HELO.
    pub const NO_REPLY_HELO: Self = Self(0x2000);
    /// No answer to MAIL.
    pub const NO_REPLY_MAIL: Self = Self(0x4000);
    /// No answer to RCPT.
    pub const NO_REPLY_RCPT: Self = Self(0x8000);
    /// No answer to DATA.
    pub const NO_REPLY_DATA: Self = Self(0x1_0000);
    /// No answer to unknown commands.
    pub const NO_REPLY_UNKNOWN: Self = Self(0x2_0000);
    /// No answer to the end of the header.
    pub const NO_REPLY_END_OF_HEADER: Self = Self(0x4_0000);
    /// No answer to the body.
    pub const NO_REPLY_BODY: Self = Self(0x8_0000);
    /// Values of fields come and go with the blank behind the colon.
    pub const LEADING_BLANK: Self = Self(0x10_0000);
    /// Bodies may come in pieces of 256 KiB, or of 1 MiB: never used here.
    pub const LARGE_PIECES: Self = Self(0x3000_0000);
    /// What a server can do for a filter, all but [`Steps::REFUSED_RECIPIENTS`].
    pub const OFFERED: Self = Self(0x1f_f7ff);

    /// Whether all of these bits are set.
    #[must_use]
    pub const fn has(self, bits: Self) -> bool {
        bits.0 != 0 && self.0 & bits.0 == bits.0
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, bits: Self) -> Self {
        Self(self.0 | bits.0)
    }

    /// What both have.
    #[must_use]
    pub const fn common(self, bits: Self) -> Self {
        Self(self.0 & bits.0)
    }
}

/// What one side offers, or asks for, or what both agreed upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The version of the protocol.
    pub version: u32,
    /// What the filter may do.
    pub actions: Actions,
    /// What is left out or done differently.
    pub steps: Steps,
    /// The macros that the filter wants at a step, in place of the usual ones.
    pub macros: Vec<(Step, Vec<Box<str>>)>,
}

/// Macros that a filter may want at one step.
const MAX_MACROS: usize = 256;

impl Options {
    /// Options without a choice of macros.
    #[must_use]
    pub fn new(version: u32, actions: Actions, steps: Steps) -> Self {
        Self { version, actions, steps, macros: Vec::new() }
    }

    /// The macros that were chosen for a step; `None`: the usual ones.
    pub(crate) fn chosen(&self, step: Step) -> Option<&[Box<str>]> {
        let found = self.macros.iter().find(|(chosen, _)| *chosen == step);
        found.map(|(_, names)| names.as_slice())
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.version, self.actions.0, self.steps.0] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        for (step, names) in &self.macros {
            if let Some(number) = step.symbols() {
                out.extend_from_slice(&number.to_be_bytes());
                put_text(out, names.join(" ").as_bytes());
            }
        }
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, Fault> {
        let wrong = |rule| Fault::Payload { frame: "options", came: excerpt(payload), rule };
        let mut rest = payload;
        let numbers = "three numbers of four octets stand in it: version, actions, steps";
        let mut number = || take_number(&mut rest).ok_or_else(|| wrong(numbers));
        let (version, actions, steps) = (number()?, Actions(number()?), Steps(number()?));
        let mut macros = Vec::new();
        while !rest.is_empty() {
            let rule =
                "behind the numbers stand steps from 0 to 6, each once, with the names of macros";
            let symbols = take_number(&mut rest).ok_or_else(|| wrong(rule))?;
            let text = take_text(&mut rest).ok_or_else(|| wrong(rule))?;
            let step = Step::ALL.into_iter().find(|step| step.symbols() == Some(symbols));
            let step = step.ok_or_else(|| wrong(rule))?;
            if macros.iter().any(|(known, _)| *known == step) {
                return Err(wrong(rule));
            }
            let text = String::from_utf8_lossy(text);
            let names: Vec<Box<str>> = text
                .split([' ', ',', '\t'])
                .filter(|name| !name.is_empty())
                .map(Box::from)
                .collect();
            if names.len() > MAX_MACROS {
                return Err(Fault::TooMuch { what: "macros at a step", limit: MAX_MACROS as u64 });
            }
            macros.push((step, names));
        }
        Ok(Self { version, actions, steps, macros })
    }
}
