//! Reads replies off the wire, strictly and in bounded memory.

use waypost_types::Reply;

/// Octets of a reply line, CR LF included.
const MAX_LINE: usize = 2048;
/// Lines of a reply.
const MAX_LINES: usize = 100;

/// Why bytes from a peer are no reply (RFC 5321 section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// A line does not begin with a code from 200 to 599 and a blank, a hyphen or its end.
    #[error("a line that is no reply: it must begin with a code such as 250 (RFC 5321 4.2)")]
    Syntax,
    /// A line ends in LF without CR.
    #[error("a reply line that ends in LF without CR (RFC 5321 2.3.8)")]
    BareLineFeed,
    /// A line has more than 2,048 octets.
    #[error("a reply line of more than 2,048 octets (RFC 5321 4.5.3.1.5 allows 512)")]
    LineTooLong,
    /// A reply has more than 100 lines.
    #[error("a reply of more than 100 lines")]
    TooManyLines,
    /// The lines of one reply have different codes.
    #[error("a reply whose lines have different codes (RFC 5321 4.2.1)")]
    MixedCodes,
}

/// A reply and the text of each of its lines, as the peer sent them.
///
/// The text is for people; of it only EHLO's keywords and the enhanced code are ever looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawReply {
    pub(super) code: u16,
    pub(super) lines: Vec<Box<str>>,
}

impl RawReply {
    /// The reply in the form that can be stored and shown; the enhanced code is taken off the text
    /// when its class is that of the reply code (RFC 2034).
    pub(super) fn to_reply(&self) -> Reply {
        let class = self.code / 100;
        let enhanced = self
            .lines
            .first()
            .and_then(|line| split_enhanced(line))
            .map(|(enhanced, _)| enhanced)
            .filter(|enhanced| u16::from(enhanced.0) == class);
        let mut text = String::new();
        for (i, line) in self.lines.iter().enumerate() {
            if i > 0 {
                text.push('\n');
            }
            text.push_str(match split_enhanced(line) {
                Some((found, rest)) if Some(found) == enhanced => rest,
                _ => line,
            });
        }
        match enhanced {
            Some(enhanced) => Reply::new(self.code, enhanced, &text),
            None => Reply::plain(self.code, &text),
        }
    }
}

/// `5.1.1 rest` -> the code and the rest.
fn split_enhanced(line: &str) -> Option<((u8, u16, u16), &str)> {
    let (code, rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut parts = code.split('.');
    let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
    let short = |part: &str| {
        let digits = (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if digits { part.parse::<u16>().ok() } else { None }
    };
    if parts.next().is_some() || !matches!(class, "2" | "4" | "5") {
        return None;
    }
    Some(((class.parse().ok()?, short(subject)?, short(detail)?), rest.trim_start()))
}

/// Collects lines into replies. Holds at most one reply: 100 lines of 2,048 octets.
#[derive(Debug, Default)]
pub(super) struct ReplyReader {
    line: Vec<u8>,
    lines: Vec<Box<str>>,
    code: Option<u16>,
}

impl ReplyReader {
    /// Takes bytes off the front of `input` until a reply is whole or nothing is left.
    pub(super) fn read(&mut self, input: &mut &[u8]) -> Result<Option<RawReply>, ReplyError> {
        while !input.is_empty() {
            let Some(end) = memchr::memchr(b'\n', input) else {
                if self.line.len() + input.len() > MAX_LINE {
                    return Err(ReplyError::LineTooLong);
                }
                self.line.extend_from_slice(input);
                *input = &[];
                return Ok(None);
            };
            let (head, rest) = input.split_at(end + 1);
            *input = rest;
            if self.line.len() + head.len() > MAX_LINE {
                return Err(ReplyError::LineTooLong);
            }
            self.line.extend_from_slice(head);
            if let Some(reply) = self.end_of_line()? {
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    /// Whether part of a reply was read.
    pub(super) fn is_midway(&self) -> bool {
        !self.line.is_empty() || self.code.is_some()
    }

    /// Octets that are kept.
    pub(super) fn held(&self) -> usize {
        self.line.len() + self.lines.iter().map(|line| line.len()).sum::<usize>()
    }

    fn end_of_line(&mut self) -> Result<Option<RawReply>, ReplyError> {
        let line = self.line.strip_suffix(b"\r\n").ok_or(ReplyError::BareLineFeed)?;
        let (code, more, text) = parse_line(line).ok_or(ReplyError::Syntax)?;
        if self.code.is_some_and(|first| first != code) {
            return Err(ReplyError::MixedCodes);
        }
        if self.lines.len() == MAX_LINES {
            return Err(ReplyError::TooManyLines);
        }
        self.lines.push(String::from_utf8_lossy(text).into());
        self.code = Some(code);
        self.line.clear();
        if more {
            return Ok(None);
        }
        self.code = None;
        Ok(Some(RawReply { code, lines: std::mem::take(&mut self.lines) }))
    }
}

/// Code, whether more lines follow, text.
fn parse_line(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (code, rest) = line.split_at_checked(3)?;
    if !code.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = code.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    if !(200..600).contains(&code) {
        return None;
    }
    match rest {
        [] => Some((code, false, rest)),
        [b' ', text @ ..] => Some((code, false, text)),
        [b'-', text @ ..] => Some((code, true, text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(bytes: &[u8], chunk: usize) -> (Vec<RawReply>, Option<ReplyError>) {
        let (mut reader, mut found) = (ReplyReader::default(), Vec::new());
        for mut input in bytes.chunks(chunk.max(1)) {
            while !input.is_empty() {
                match reader.read(&mut input) {
                    Ok(Some(reply)) => found.push(reply),
                    Ok(None) => {}
                    Err(error) => return (found, Some(error)),
                }
            }
        }
        (found, None)
    }

    #[test]
    fn reads_and_refuses() {
        use ReplyError::*;
        let long = format!("250 {}\r\n", "x".repeat(2043));
        let longest = format!("250 {}\r\n", "x".repeat(2042));
        let many = format!("{}250 end\r\n", "250-x\r\n".repeat(100));
        let most = format!("{}250 end\r\n", "250-x\r\n".repeat(99));
        let table: &[(&str, Result<&str, ReplyError>)] = &[
            ("250 ok\r\n", Ok("250 ok")),
            ("250\r\n", Ok("250 ")),
            ("550 5.1.1 No such user\r\n", Ok("550 5.1.1 No such user")),
            ("550-5.1.1 a\r\n550 5.1.1 b\r\n", Ok("550 5.1.1 a b")),
            ("550-5.1.1 a\r\n550 b\r\n", Ok("550 5.1.1 a b")),
            ("550 4.1.1 a\r\n", Ok("550 4.1.1 a")), // the class is not the code's: text
            ("550 5.1.1\r\n", Ok("550 5.1.1 ")),
            ("550 5.1.1.1 a\r\n", Ok("550 5.1.1.1 a")),
            ("550 5.1.1234 a\r\n", Ok("550 5.1.1234 a")),
            ("250 a\0b\x1b[2J\r\n", Ok("250 a b [2J")),
            ("250 a\rb\r\n", Ok("250 a b")),
            (&longest, Ok("250 xx")),
            (&most, Ok("250 x x")),
            ("hello\r\n", Err(Syntax)),
            ("\r\n", Err(Syntax)),
            ("25\r\n", Err(Syntax)),
            ("250ok\r\n", Err(Syntax)),
            ("150 ok\r\n", Err(Syntax)),
            ("600 ok\r\n", Err(Syntax)),
            ("250 ok\n", Err(BareLineFeed)),
            ("250-a\r\n550 b\r\n", Err(MixedCodes)),
            (&long, Err(LineTooLong)),
            (&many, Err(TooManyLines)),
        ];
        for (bytes, want) in table {
            for chunk in [1, 3, usize::MAX] {
                let (found, error) = all(bytes.as_bytes(), chunk);
                match want {
                    Err(want) => assert_eq!(error, Some(*want), "{bytes:?}"),
                    Ok(want) => {
                        let shown = found[0].to_reply().to_string();
                        assert!(shown.starts_with(want), "{bytes:?}: {shown}");
                        assert_eq!((found.len(), error), (1, None), "{bytes:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_endless_line_is_cut_short() {
        let mut reader = ReplyReader::default();
        let block = [b'2'; 1024];
        let results: Vec<_> = (0..3).map(|_| reader.read(&mut &block[..])).collect();
        assert_eq!(results, [Ok(None), Ok(None), Err(ReplyError::LineTooLong)]);
        assert!(reader.line.capacity() <= 2 * MAX_LINE);
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(
            bytes in "(([2-5][0-9]{2}[ -][a-z0-9.\\n\\r]{0,6}\r?\n)|\\PC{0,4}){0,6}",
            chunk in 1usize..9,
        ) {
            prop_assert_eq!(all(bytes.as_bytes(), chunk), all(bytes.as_bytes(), usize::MAX));
        }
    }
}
