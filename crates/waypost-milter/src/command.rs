//! What a server tells a filter.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::fault::{Fault, excerpt};
use crate::frame::{self, Frame, put_text, take_text};
use crate::options::{Options, Step};

/// The longest payload that every filter takes, in octets; a body is sent in pieces of it.
pub const MAX_PIECE: usize = 65_535;

/// Parameters of a path, or macros of a step, that are taken.
const MAX_PARTS: usize = 1024;

/// Who is connected, as a filter is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer<'a> {
    /// An IP address and a port; 0: unknown.
    Ip(IpAddr, u16),
    /// A Unix socket with this path.
    Unix(&'a [u8]),
    /// Nobody knows.
    Unknown,
}

/// A macro's name, with the braces of a long one, and its value.
pub type Macro<'a> = (&'a [u8], &'a [u8]);

/// What a server tells a filter, borrowed. Text holds no NUL; none of it is checked further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// What the server offers. Once, before all else.
    Options(Options),
    /// Facts that belong to the next command.
    Macros {
        /// The step that comes next.
        step: Step,
        /// Names and values.
        macros: Vec<Macro<'a>>,
    },
    /// A client has connected.
    Connect {
        /// Its name; `unknown` or an address in brackets where there is none.
        host_name: &'a [u8],
        /// Its address.
        peer: Peer<'a>,
    },
    /// HELO or EHLO, with its argument.
    Helo(&'a [u8]),
    /// MAIL.
    Mail {
        /// The sender in angle brackets.
        path: &'a [u8],
        /// The parameters, as `SIZE=100`.
        parameters: Vec<&'a [u8]>,
    },
    /// RCPT.
    Rcpt {
        /// The recipient in angle brackets.
        path: &'a [u8],
        /// The parameters.
        parameters: Vec<&'a [u8]>,
    },
    /// DATA. From version 4 on.
    Data,
    /// One field; its folds are LF and blanks.
    Header {
        /// Its name.
        name: &'a [u8],
        /// Its value, with the blank behind the colon only if that was agreed.
        value: &'a [u8],
    },
    /// The header is over.
    EndOfHeader,
    /// A piece of the body.
    Body(&'a [u8]),
    /// The message is over; a last piece of the body may come with it.
    EndOfMessage(&'a [u8]),
    /// A command that the server does not know. From version 3 on.
    Unknown(&'a [u8]),
    /// The message is given up; the session goes on.
    Abort,
    /// The session is over, and the connection.
    Quit,
    /// The session is over; another one follows on this connection. From version 6 on.
    QuitNewConnection,
}

impl<'a> Command<'a> {
    /// Its name, for texts.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Options(_) => "options",
            Self::Macros { .. } => "macros",
            Self::Connect { .. } => "connect",
            Self::Helo(_) => "helo",
            Self::Mail { .. } => "mail",
            Self::Rcpt { .. } => "rcpt",
            Self::Data => "data",
            Self::Header { .. } => "header",
            Self::EndOfHeader => "end of header",
            Self::Body(_) => "body",
            Self::EndOfMessage(_) => "end of message",
            Self::Unknown(_) => "unknown command",
            Self::Abort => "abort",
            Self::Quit => "quit",
            Self::QuitNewConnection => "quit, new connection",
        }
    }

    /// The step that it is, if it is one.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        match self {
            Self::Connect { .. } => Some(Step::Connect),
            Self::Helo(_) => Some(Step::Helo),
            Self::Mail { .. } => Some(Step::Mail),
            Self::Rcpt { .. } => Some(Step::Rcpt),
            Self::Data => Some(Step::Data),
            Self::Header { .. } => Some(Step::Header),
            Self::EndOfHeader => Some(Step::EndOfHeader),
            Self::Body(_) => Some(Step::Body),
            Self::EndOfMessage(_) => Some(Step::EndOfMessage),
            Self::Unknown(_) => Some(Step::Unknown),
            Self::Options(_)
            | Self::Macros { .. }
            | Self::Abort
            | Self::Quit
            | Self::QuitNewConnection => None,
        }
    }

    /// Appends it as a frame. A NUL inside a text is left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let letter = match self {
            Self::Options(_) => b'O',
            Self::Macros { .. } => b'D',
            Self::Abort => b'A',
            Self::Quit => b'Q',
            Self::QuitNewConnection => b'K',
            step => step.step().map_or(b'U', Step::letter),
        };
        frame::write(out, letter, |out| match self {
            Self::Options(options) => options.encode(out),
            Self::Macros { step, macros } => {
                out.push(step.letter());
                for (name, value) in macros {
                    put_text(out, name);
                    put_text(out, value);
                }
            }
            Self::Connect { host_name, peer } => {
                put_text(out, host_name);
                put_peer(out, *peer);
            }
            Self::Helo(text) | Self::Unknown(text) => put_text(out, text),
            Self::Mail { path, parameters } | Self::Rcpt { path, parameters } => {
                put_text(out, path);
                for parameter in parameters {
                    put_text(out, parameter);
                }
            }
            Self::Header { name, value } => {
                put_text(out, name);
                put_text(out, value);
            }
            Self::Body(piece) | Self::EndOfMessage(piece) => out.extend_from_slice(piece),
            Self::Data | Self::EndOfHeader | Self::Abort | Self::Quit | Self::QuitNewConnection => {
            }
        });
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// [`Fault::Unknown`] for a letter of no command, [`Fault::Payload`] for what does not fit it,
    /// [`Fault::TooMuch`] above 1,024 parameters or macros.
    pub fn decode(frame: Frame<'a>) -> Result<Self, Fault> {
        let Frame { letter, payload } = frame;
        let mut rest = payload;
        let command = match letter {
            b'O' => return Options::decode(payload).map(Self::Options),
            b'D' => {
                let wrong = || {
                    wrong("macros", payload, "the letter of a step stands before pairs of texts")
                };
                let [step, pairs @ ..] = payload else { return Err(wrong()) };
                let step = Step::of_letter(*step).ok_or_else(wrong)?;
                let parts = texts(pairs, "macros")?.ok_or_else(wrong)?;
                let (pairs, []) = parts.as_chunks::<2>() else { return Err(wrong()) };
                Self::Macros {
                    step,
                    macros: pairs.iter().map(|[name, value]| (*name, *value)).collect(),
                }
            }
            b'C' => {
                let rule = "a name, a family (`4`, `6`, `L`, `U`), and but for `U` a port and an \
                            address of that family stand in it";
                let host_name = take_text(&mut rest);
                let peer = take_peer(rest);
                let (Some(host_name), Some(peer)) = (host_name, peer) else {
                    return Err(wrong("connect", payload, rule));
                };
                Self::Connect { host_name, peer }
            }
            b'H' => Self::Helo(only_text("helo", payload)?),
            b'U' => Self::Unknown(only_text("unknown command", payload)?),
            b'M' | b'R' => {
                let name = if letter == b'M' { "mail" } else { "rcpt" };
                let wrong = || {
                    wrong(name, payload, "a path and its parameters stand in it, each ended by NUL")
                };
                let mut parameters = texts(payload, "parameters")?.ok_or_else(wrong)?;
                if parameters.is_empty() {
                    return Err(wrong());
                }
                let path = parameters.remove(0);
                match letter {
                    b'M' => Self::Mail { path, parameters },
                    _ => Self::Rcpt { path, parameters },
                }
            }
            b'L' => match (take_text(&mut rest), take_text(&mut rest), rest) {
                (Some(name), Some(value), []) => Self::Header { name, value },
                _ => {
                    return Err(wrong(
                        "header",
                        payload,
                        "a name and a value stand in it, each ended by NUL",
                    ));
                }
            },
            b'B' => Self::Body(payload),
            b'E' => Self::EndOfMessage(payload),
            b'T' | b'N' | b'A' | b'Q' | b'K' => {
                let command = match letter {
                    b'T' => Self::Data,
                    b'N' => Self::EndOfHeader,
                    b'A' => Self::Abort,
                    b'Q' => Self::Quit,
                    _ => Self::QuitNewConnection,
                };
                if !payload.is_empty() {
                    return Err(wrong(command.name(), payload, "nothing stands in it"));
                }
                command
            }
            other => return Err(Fault::Unknown(char::from(other))),
        };
        Ok(command)
    }
}

fn wrong(frame: &'static str, payload: &[u8], rule: &'static str) -> Fault {
    Fault::Payload { frame, came: excerpt(payload), rule }
}

/// All texts; `None`: the last one has no end.
fn texts<'a>(mut rest: &'a [u8], what: &'static str) -> Result<Option<Vec<&'a [u8]>>, Fault> {
    let mut texts = Vec::new();
    while !rest.is_empty() {
        if texts.len() > MAX_PARTS * 2 {
            return Err(Fault::TooMuch { what, limit: MAX_PARTS as u64 });
        }
        let Some(text) = take_text(&mut rest) else { return Ok(None) };
        texts.push(text);
    }
    Ok(Some(texts))
}

fn only_text<'a>(name: &'static str, payload: &'a [u8]) -> Result<&'a [u8], Fault> {
    let mut rest = payload;
    match (take_text(&mut rest), rest) {
        (Some(text), []) => Ok(text),
        _ => Err(wrong(name, payload, "one text stands in it, ended by NUL")),
    }
}

fn put_peer(out: &mut Vec<u8>, peer: Peer<'_>) {
    match peer {
        Peer::Unknown => out.push(b'U'),
        Peer::Unix(path) => {
            out.extend_from_slice(b"L\0\0");
            put_text(out, path);
        }
        Peer::Ip(ip, port) => {
            out.push(if ip.is_ipv4() { b'4' } else { b'6' });
            out.extend_from_slice(&port.to_be_bytes());
            put_text(out, ip.to_string().as_bytes());
        }
    }
}

fn take_peer(payload: &[u8]) -> Option<Peer<'_>> {
    let (family, rest) = payload.split_first()?;
    if *family == b'U' {
        // Some servers write a port and an empty address all the same.
        return Some(Peer::Unknown);
    }
    let (port, mut rest) = rest.split_first_chunk::<2>()?;
    let (port, text) = (u16::from_be_bytes(*port), take_text(&mut rest)?);
    if !rest.is_empty() {
        return None;
    }
    let shown = std::str::from_utf8(text).ok();
    match family {
        b'L' => Some(Peer::Unix(text)),
        b'4' => shown?.parse::<Ipv4Addr>().ok().map(|ip| Peer::Ip(ip.into(), port)),
        b'6' => {
            let shown = shown?;
            let tag = shown.get(..5).filter(|tag| tag.eq_ignore_ascii_case("ipv6:"));
            let plain = tag.and_then(|_| shown.get(5..)).unwrap_or(shown);
            plain.parse::<Ipv6Addr>().ok().map(|ip| Peer::Ip(ip.into(), port))
        }
        _ => None,
    }
}
