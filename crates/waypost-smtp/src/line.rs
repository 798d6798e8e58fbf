//! Reads lines that end in CR LF, and in nothing else.

use memchr::{memchr, memchr3};

/// Why a line is no command. Its octets are gone; the next line begins behind its CR LF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// More octets than the limit.
    #[error("the line has more than {limit} octets, CR LF included")]
    TooLong {
        /// The limit, in octets.
        limit: usize,
    },
    /// A CR without LF, an LF without CR, or a NUL inside the line.
    #[error("the line holds a CR, LF or NUL that is not its end; end lines in CR LF")]
    Octet,
}

/// Collects the octets of one line over any number of chunks.
///
/// Keeps at most `limit` octets; an over-long line is passed over up to its CR LF. Holds no memory
/// between lines.
#[derive(Debug)]
pub struct LineReader {
    partial: Vec<u8>,
    limit: usize,
    /// The octets of an over-long line are dropped; `Some` tells whether the last one was CR.
    dropping: Option<LastOctet>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastOctet {
    Cr,
    Other,
}

impl LineReader {
    /// A reader for lines of at most `limit` octets, CR LF included.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { partial: Vec::new(), limit, dropping: None }
    }

    /// Forgets the part of a line read so far.
    pub fn clear(&mut self) {
        // What a client says during AUTH is a secret.
        self.partial.fill(0);
        self.partial = Vec::new();
        self.dropping = None;
    }

    /// Reads to the end of a line: how many octets of `bytes` were taken, and the line without its
    /// CR LF if it ended there. Without a line all octets are taken.
    #[must_use]
    pub fn read(&mut self, bytes: &[u8]) -> (usize, Option<Result<Vec<u8>, LineError>>) {
        let mut from = 0;
        while let Some(at) = bytes.get(from..).and_then(|rest| memchr(b'\n', rest)) {
            let end = from + at + 1;
            if self.ends_in_cr(bytes.get(..end - 1).unwrap_or_default()) {
                self.push(bytes.get(..end).unwrap_or_default());
                return (end, Some(self.take()));
            }
            from = end;
        }
        self.push(bytes);
        (bytes.len(), None)
    }

    fn ends_in_cr(&self, before: &[u8]) -> bool {
        match (before, self.dropping) {
            ([.., last], _) => *last == b'\r',
            ([], Some(last)) => last == LastOctet::Cr,
            ([], None) => self.partial.ends_with(b"\r"),
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        if self.dropping.is_none() && self.partial.len() + bytes.len() <= self.limit {
            self.partial.extend_from_slice(bytes);
            return;
        }
        self.clear();
        self.dropping = Some(if *last == b'\r' { LastOctet::Cr } else { LastOctet::Other });
    }

    fn take(&mut self) -> Result<Vec<u8>, LineError> {
        let mut line = std::mem::take(&mut self.partial);
        if self.dropping.take().is_some() {
            return Err(LineError::TooLong { limit: self.limit });
        }
        line.truncate(line.len().saturating_sub(2));
        match memchr3(b'\r', b'\n', 0, &line) {
            None => Ok(line),
            Some(_) => Err(LineError::Octet),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Lines = Vec<Result<Vec<u8>, LineError>>;

    fn lines(chunks: &[&[u8]], limit: usize) -> Lines {
        let mut reader = LineReader::new(limit);
        let mut out = Vec::new();
        for chunk in chunks {
            let mut rest = *chunk;
            while !rest.is_empty() {
                let (used, line) = reader.read(rest);
                rest = &rest[used..];
                out.extend(line);
                assert!(reader.partial.len() <= limit);
            }
        }
        out
    }

    #[test]
    fn only_cr_lf_ends_a_line() {
        use LineError::{Octet, TooLong};
        let ok = |text: &str| Ok(text.as_bytes().to_vec());
        let table: &[(&str, Lines)] = &[
            ("NOOP\r\n", vec![ok("NOOP")]),
            ("\r\nA\r\n", vec![ok(""), ok("A")]),
            ("A\nB\r\nC\r\n", vec![Err(Octet), ok("C")]),
            ("A\rB\r\n", vec![Err(Octet)]),
            ("A\r\r\nB\r\n", vec![Err(Octet), ok("B")]),
            ("\n\r\n", vec![Err(Octet)]),
            ("A\0\r\n", vec![Err(Octet)]),
            ("A\n", vec![]),
            ("12345678\r\n", vec![ok("12345678")]),
            ("123456789\r\nA\r\n", vec![Err(TooLong { limit: 10 }), ok("A")]),
            ("123456789012345\n6\r7\r\nA\r\n", vec![Err(TooLong { limit: 10 }), ok("A")]),
        ];
        for (text, want) in table {
            assert_eq!(&lines(&[text.as_bytes()], 10), want, "{text:?}");
            let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(&lines(&single, 10), want, "{text:?} octet by octet");
        }
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(text in "[\r\n\0ab]{0,40}", cut in 0..40usize) {
            let (head, tail) = text.as_bytes().split_at(cut.min(text.len()));
            prop_assert_eq!(lines(&[head, tail], 10), lines(&[text.as_bytes()], 10));
        }
    }
}
