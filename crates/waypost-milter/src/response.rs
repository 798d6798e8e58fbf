//! What a filter answers.

use waypost_types::{EnhancedCode, Reply, ReplyClass};

use crate::fault::{Fault, excerpt};
use crate::field::{FieldName, FieldValue, HeaderEdit};
use crate::frame::{self, Frame, put_text, take_number, take_text};
use crate::options::Options;

/// What a filter does to a message; only in answer to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Modification {
    /// To its header.
    Header(HeaderEdit),
    /// A piece of another body.
    Body(Vec<u8>),
    /// One more recipient.
    AddRecipient {
        /// The address, with or without angle brackets.
        address: Box<str>,
        /// Its ESMTP parameters, parted by blanks; `None`: none can stand there.
        parameters: Option<Box<str>>,
    },
    /// One recipient fewer.
    DeleteRecipient(Box<str>),
    /// Another sender.
    ChangeSender {
        /// The address, with or without angle brackets.
        address: Box<str>,
        /// Its ESMTP parameters, parted by blanks.
        parameters: Box<str>,
    },
    /// The message is to be held, for this reason.
    Quarantine(Box<str>),
}

/// What a filter answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Response {
    /// What is agreed upon.
    Options(Options),
    /// Go on.
    Continue,
    /// Take the message, and tell nothing more of it.
    Accept,
    /// Refuse it for good, in the server's words.
    Reject,
    /// Refuse it for now, in the server's words.
    TempFail,
    /// Refuse it in these words (4yz or 5yz).
    Reply(Reply),
    /// Say that it was taken, and throw it away.
    Discard,
    /// Tell no more of this kind (`SMFIP_SKIP`).
    Skip,
    /// Still at work: wait on.
    Progress,
    /// Refuse it and close the connection with 421.
    Shutdown,
    /// Treat the connection to the filter as failed.
    ConnectionFailed,
    /// Do this to the message; more answers follow.
    Modify(Modification),
}

impl Response {
    /// Its name, for texts.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Options(_) => "options",
            Self::Continue => "continue",
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::TempFail => "tempfail",
            Self::Reply(_) => "replycode",
            Self::Discard => "discard",
            Self::Skip => "skip",
            Self::Progress => "progress",
            Self::Shutdown => "shutdown",
            Self::ConnectionFailed => "connection failed",
            Self::Modify(modification) => match modification {
                Modification::Header(HeaderEdit::Add { .. }) => "add header",
                Modification::Header(HeaderEdit::Insert { .. }) => "insert header",
                Modification::Header(_) => "change header",
                Modification::Body(_) => "replace body",
                Modification::AddRecipient { .. } => "add recipient",
                Modification::DeleteRecipient(_) => "delete recipient",
                Modification::ChangeSender { .. } => "change sender",
                Modification::Quarantine(_) => "quarantine",
            },
        }
    }

    /// Appends it as a frame. A NUL inside a text is left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_with(out, b"");
    }

    /// The same, with what stands before each value of a field.
    pub(crate) fn encode_with(&self, out: &mut Vec<u8>, lead: &[u8]) {
        frame::write(out, self.letter(), |out| match self {
            Self::Options(options) => options.encode(out),
            Self::Reply(reply) => {
                let mut text = Vec::new();
                // Whether the client asked for SMTPUTF8 is not known here.
                reply.in_ascii().write_to(&mut text);
                put_text(out, text.strip_suffix(b"\r\n").unwrap_or(&text));
            }
            Self::Modify(modification) => put_modification(out, modification, lead),
            _ => {}
        });
    }

    fn letter(&self) -> u8 {
        match self {
            Self::Options(_) => b'O',
            Self::Continue => b'c',
            Self::Accept => b'a',
            Self::Reject => b'r',
            Self::TempFail => b't',
            Self::Reply(_) => b'y',
            Self::Discard => b'd',
            Self::Skip => b's',
            Self::Progress => b'p',
            Self::Shutdown => b'4',
            Self::ConnectionFailed => b'f',
            Self::Modify(modification) => match modification {
                Modification::Header(HeaderEdit::Add { .. }) => b'h',
                Modification::Header(HeaderEdit::Insert { .. }) => b'i',
                Modification::Header(_) => b'm',
                Modification::Body(_) => b'b',
                Modification::AddRecipient { parameters: None, .. } => b'+',
                Modification::AddRecipient { .. } => b'2',
                Modification::DeleteRecipient(_) => b'-',
                Modification::ChangeSender { .. } => b'e',
                Modification::Quarantine(_) => b'q',
            },
        }
    }

    /// Reads a frame.
    ///
    /// Octets that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`Fault::Unknown`] for a letter of no answer, [`Fault::Payload`] for what does not fit it,
    /// [`Fault::Field`] for a field that could not be written into a header.
    pub fn decode(frame: Frame<'_>) -> Result<Self, Fault> {
        let Frame { letter, payload } = frame;
        let modification = match letter {
            b'O' => return Options::decode(payload).map(Self::Options),
            b'c' => return empty(Self::Continue, payload),
            b'a' => return empty(Self::Accept, payload),
            b'r' => return empty(Self::Reject, payload),
            b't' => return empty(Self::TempFail, payload),
            b'd' => return empty(Self::Discard, payload),
            b's' => return empty(Self::Skip, payload),
            b'p' => return empty(Self::Progress, payload),
            b'4' => return empty(Self::Shutdown, payload),
            b'f' => return empty(Self::ConnectionFailed, payload),
            b'y' => return reply(payload).map(Self::Reply),
            b'h' => Modification::Header(field("add header", payload, |name, value| {
                HeaderEdit::Add { name, value }
            })?),
            b'i' => {
                let (at, rest) = numbered("insert header", payload)?;
                Modification::Header(field("insert header", rest, |name, value| {
                    HeaderEdit::Insert { at, name, value }
                })?)
            }
            b'm' => {
                let frame = "change header";
                let (nth, rest) = numbered(frame, payload)?;
                if nth == 0 {
                    return Err(wrong(frame, payload, "fields of a name are counted from 1"));
                }
                Modification::Header(field(frame, rest, |name, value| match value.as_str() {
                    "" => HeaderEdit::Delete { name, nth },
                    _ => HeaderEdit::Change { name, nth, value },
                })?)
            }
            b'b' => Modification::Body(payload.to_vec()),
            b'+' => Modification::AddRecipient {
                address: text("add recipient", payload)?,
                parameters: None,
            },
            b'2' => {
                let (address, parameters) = address("add recipient", payload)?;
                Modification::AddRecipient { address, parameters: Some(parameters) }
            }
            b'-' => Modification::DeleteRecipient(text("delete recipient", payload)?),
            b'e' => {
                let (address, parameters) = address("change sender", payload)?;
                Modification::ChangeSender { address, parameters }
            }
            b'q' => Modification::Quarantine(text("quarantine", payload)?),
            other => return Err(Fault::Unknown(char::from(other))),
        };
        Ok(Self::Modify(modification))
    }
}

fn put_modification(out: &mut Vec<u8>, modification: &Modification, lead: &[u8]) {
    let put_field = |out: &mut Vec<u8>, name: &FieldName, value: &str| {
        put_text(out, name.as_str().as_bytes());
        if !value.is_empty() {
            out.extend_from_slice(lead);
        }
        // Folds are LF alone in this protocol.
        put_text(out, value.replace("\r\n", "\n").as_bytes());
    };
    match modification {
        Modification::Header(HeaderEdit::Add { name, value }) => {
            put_field(out, name, value.as_str())
        }
        Modification::Header(HeaderEdit::Insert { at: number, name, value })
        | Modification::Header(HeaderEdit::Change { nth: number, name, value }) => {
            out.extend_from_slice(&number.to_be_bytes());
            put_field(out, name, value.as_str());
        }
        Modification::Header(HeaderEdit::Delete { name, nth }) => {
            out.extend_from_slice(&nth.to_be_bytes());
            put_field(out, name, "");
        }
        Modification::Body(piece) => out.extend_from_slice(piece),
        Modification::AddRecipient { address, parameters: None }
        | Modification::DeleteRecipient(address) => put_text(out, address.as_bytes()),
        Modification::AddRecipient { address, parameters: Some(parameters) }
        | Modification::ChangeSender { address, parameters } => {
            put_text(out, address.as_bytes());
            if !parameters.is_empty() {
                put_text(out, parameters.as_bytes());
            }
        }
        Modification::Quarantine(reason) => put_text(out, reason.as_bytes()),
    }
}

fn wrong(frame: &'static str, payload: &[u8], rule: &'static str) -> Fault {
    Fault::Payload { frame, came: excerpt(payload), rule }
}

fn empty(response: Response, payload: &[u8]) -> Result<Response, Fault> {
    // Some filters end a frame without a payload by NUL.
    if matches!(payload, [] | [0]) {
        return Ok(response);
    }
    Err(wrong(response.name(), payload, "nothing stands in it"))
}

/// Text that can be shown: without control characters.
fn shown(text: &[u8]) -> Box<str> {
    let text = String::from_utf8_lossy(text);
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean.trim().into()
}

/// The longest address or reason, in octets.
const MAX_TEXT: usize = 2048;

/// The only text of a frame; its NUL may be missing.
fn text(frame: &'static str, payload: &[u8]) -> Result<Box<str>, Fault> {
    let mut rest = payload;
    let text = take_text(&mut rest).unwrap_or(payload);
    if text.len() != payload.len() && !rest.is_empty() {
        return Err(wrong(frame, payload, "one text stands in it"));
    }
    if text.len() > MAX_TEXT {
        return Err(wrong(frame, payload, "a text has at most 2,048 octets"));
    }
    Ok(shown(text))
}

/// An address, and behind its NUL the parameters, if there are any.
fn address(frame: &'static str, payload: &[u8]) -> Result<(Box<str>, Box<str>), Fault> {
    let mut rest = payload;
    let Some(address) = take_text(&mut rest) else {
        return Ok((text(frame, payload)?, Box::default()));
    };
    if address.len() > MAX_TEXT {
        return Err(wrong(frame, payload, "a text has at most 2,048 octets"));
    }
    Ok((shown(address), text(frame, rest)?))
}

fn numbered<'a>(frame: &'static str, payload: &'a [u8]) -> Result<(u32, &'a [u8]), Fault> {
    let mut rest = payload;
    let number = take_number(&mut rest);
    let number =
        number.ok_or_else(|| wrong(frame, payload, "a number of four octets stands first"))?;
    Ok((number, rest))
}

fn field(
    frame: &'static str,
    payload: &[u8],
    edit: impl FnOnce(FieldName, FieldValue) -> HeaderEdit,
) -> Result<HeaderEdit, Fault> {
    let mut rest = payload;
    let (Some(name), Some(value), []) = (take_text(&mut rest), take_text(&mut rest), rest) else {
        return Err(wrong(frame, payload, "a name and a value stand in it, each ended by NUL"));
    };
    let wrong = |source| Fault::Field { frame, source };
    let name = FieldName::new(&String::from_utf8_lossy(name)).map_err(wrong)?;
    let value = FieldValue::new(&String::from_utf8_lossy(value)).map_err(wrong)?;
    Ok(edit(name, value))
}

/// A reply as it goes to a client: lines `554-5.7.1 text`, the last one `554 5.7.1 text`.
fn reply(payload: &[u8]) -> Result<Reply, Fault> {
    let rule = "lines with one code from 400 to 599 stand in it, as `554 5.7.1 Spam`";
    let wrong = || wrong("replycode", payload, rule);
    let mut rest = payload;
    let text = take_text(&mut rest).unwrap_or(payload);
    if text.len() != payload.len() && !rest.is_empty() {
        return Err(wrong());
    }
    let text = String::from_utf8_lossy(text);
    let mut code = None;
    let mut enhanced = None;
    let mut words = Vec::new();
    let mut lines = text.trim_end_matches(['\r', '\n']).split('\n').peekable();
    while let Some(line) = lines.next() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let (digits, rest) = line.split_at_checked(3).ok_or_else(wrong)?;
        let number: u16 = match digits.as_bytes() {
            [b'4' | b'5', b'0'..=b'9', b'0'..=b'9'] => digits.parse().map_err(|_| wrong())?,
            _ => return Err(wrong()),
        };
        let is_last = lines.peek().is_none();
        let rest = match rest.as_bytes().first() {
            None => rest,
            Some(b' ') if is_last => rest.get(1..).unwrap_or_default(),
            Some(b'-') if !is_last => rest.get(1..).unwrap_or_default(),
            Some(_) => return Err(wrong()),
        };
        if *code.get_or_insert(number) != number {
            return Err(wrong());
        }
        let (own, rest) = enhanced_code(rest, number);
        if words.is_empty() {
            enhanced = own;
        }
        words.push(rest);
    }
    let code = code.ok_or_else(wrong)?;
    let text = words.join("\n");
    Ok(match enhanced {
        Some(EnhancedCode(class, subject, detail)) => {
            Reply::new(code, (class, subject, detail), &text)
        }
        None => Reply::plain(code, &text),
    })
}

/// The enhanced code at the beginning of a line, if one of this class stands there, and the rest.
fn enhanced_code(line: &str, code: u16) -> (Option<EnhancedCode>, &str) {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let read = || {
        let mut parts = word.split('.');
        let class: u8 = parts.next()?.parse().ok()?;
        let mut part = || parts.next().filter(|part| part.len() <= 3)?.parse::<u16>().ok();
        let found = EnhancedCode(class, part()?, part()?);
        (parts.next().is_none() && u16::from(class) == code / 100).then_some(found)
    };
    match read() {
        Some(found) => (Some(found), rest),
        None => (None, line),
    }
}

/// Whether a reply refuses for good.
pub(crate) fn is_permanent(reply: &Reply) -> bool {
    reply.class() == ReplyClass::Permanent
}
