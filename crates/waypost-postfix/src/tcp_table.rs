//! tcp tables: a request is a line `get key`, an answer a line of a code and a text (`tcp_table(5)`).

use memchr::memchr;

use crate::buffer::take_out;
use crate::error::RequestError;
use crate::text::{one_line, shown};

/// Octets of a line, request or answer, its end included.
pub const MAX_LINE: usize = 4096;

/// One look-up. There is one table at each address, so it has no name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRequest {
    /// What is looked up.
    pub key: Box<str>,
}

/// The answer to a look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableReply {
    /// 200: the key's value.
    Found(Box<str>),
    /// 500: there is none.
    NotFound,
    /// 400: it cannot be told, and why; Postfix tries again later.
    Failed(Box<str>),
}

/// Reads requests from octets that come in any pieces. After an error it gives the same for ever.
#[derive(Clone, Debug, Default)]
pub struct TableReader {
    buffer: Vec<u8>,
}

impl TableReader {
    /// Takes octets in.
    pub fn feed(&mut self, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
    }

    /// Octets that are kept: those of requests that were not taken out. None where none was begun.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.buffer.len()
    }

    /// The next request; `None` until its line is complete.
    ///
    /// # Errors
    /// [`RequestError`] when a line is no request, or longer than [`MAX_LINE`]; close the
    /// connection.
    pub fn next_request(&mut self) -> Result<Option<TableRequest>, RequestError> {
        let window = self.buffer.get(..MAX_LINE).unwrap_or(&self.buffer);
        let Some(end) = memchr(b'\n', window) else {
            return match self.buffer.len() >= MAX_LINE {
                true => Err(RequestError::TooLong { most: MAX_LINE }),
                false => Ok(None),
            };
        };
        let line = self.buffer.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let key = line.strip_prefix(b"get ").ok_or_else(|| RequestError::NotGet(shown(line)))?;
        let key = decoded(key).ok_or_else(|| RequestError::Encoding(shown(line)))?;
        take_out(&mut self.buffer, end + 1);
        Ok(Some(TableRequest { key: String::from_utf8_lossy(&key).into() }))
    }
}

impl TableRequest {
    /// The request as it goes over the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        format!("get {}\n", encoded(&self.key)).into_bytes()
    }
}

impl TableReply {
    /// The answer as it goes over the wire. A value that does not fit into a line is an answer of 400:
    /// cut off it would mean something else.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let line = match self {
            Self::Found(value) => format!("200 {}\n", encoded(value)),
            Self::NotFound => "500 not%20found\n".to_owned(),
            Self::Failed(because) => format!("400 {}\n", encoded(&one_line(because, 1000))),
        };
        match line.len() <= MAX_LINE {
            true => line.into_bytes(),
            false => b"400 the%20value%20is%20too%20long\n".to_vec(),
        }
    }

    /// Reads a line without its end, for clients.
    ///
    /// # Errors
    /// [`RequestError::NotAnAnswer`] when it does not begin with `200 `, `400 ` or `500 `, or what
    /// follows is not encoded as it must be.
    pub fn decode(line: &[u8]) -> Result<Self, RequestError> {
        let not = || RequestError::NotAnAnswer(shown(line));
        let (code, text) = line.split_at_checked(4).ok_or_else(not)?;
        let text = String::from_utf8(decoded(text).ok_or_else(not)?).map_err(|_| not())?;
        Ok(match code {
            b"200 " => Self::Found(text.into()),
            b"500 " => Self::NotFound,
            b"400 " => Self::Failed(text.into()),
            _ => return Err(not()),
        })
    }
}

/// Blanks, `%`, control characters and whatever is not ASCII as `%XX`.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len() + 8);
    for octet in text.bytes() {
        match octet {
            b'!'..=b'~' if octet != b'%' => out.push(char::from(octet)),
            // Writing to a text cannot fail.
            _ => drop(write!(out, "%{octet:02X}")),
        }
    }
    out
}

fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut octets = text.iter();
    while let Some(octet) = octets.next() {
        out.push(match octet {
            b'%' => {
                let digit = |octet: Option<&u8>| char::from(*octet?).to_digit(16);
                let (high, low) = (digit(octets.next())?, digit(octets.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            0..=b' ' | 0x7F => return None,
            octet => *octet,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let read = |text: &[u8]| {
            let mut reader = TableReader::default();
            reader.feed(text);
            reader.next_request()
        };
        for (line, key) in [
            (&b"get a@b.example\n"[..], "a@b.example"),
            (b"get a%20b@c\r\n", "a b@c"),
            (b"get %0aget\n", "\nget"),
            (b"get \n", ""),
            (b"get caf\xc3\xa9\n", "caf\u{e9}"),
        ] {
            assert_eq!(&*read(line).unwrap().unwrap().key, key);
        }
        assert_eq!(read(b"get x").unwrap(), None);
        for wrong in [
            &b"put a b\n"[..],
            b"get a b\n",
            b"get %\n",
            b"get %2\n",
            b"get %gg\n",
            b"\n",
            b"get a\tb\n",
            &[b'x'; MAX_LINE],
        ] {
            assert!(read(wrong).is_err(), "{}", shown(wrong));
        }
    }

    #[test]
    fn answers() {
        for (reply, line) in [
            (TableReply::Found("smtp:[a.example]:25".into()), "200 smtp:[a.example]:25\n"),
            (TableReply::Found("error:5.1.1 no".into()), "200 error:5.1.1%20no\n"),
            (TableReply::NotFound, "500 not%20found\n"),
            (TableReply::Failed("later\n100%".into()), "400 later%20100%25\n"),
        ] {
            assert_eq!(String::from_utf8(reply.encode()).unwrap(), line);
        }
        let long = TableReply::Found("x".repeat(MAX_LINE).into()).encode();
        assert!(long.starts_with(b"400 "), "{}", shown(&long));
    }
}
