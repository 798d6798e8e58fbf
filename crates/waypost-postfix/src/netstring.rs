//! Netstrings: a length in digits, a colon, so many octets, a comma.

use crate::buffer::take_out;
use crate::error::RequestError;

/// Octets inside a netstring; Postfix reads no longer ones either.
pub const MAX_NETSTRING: usize = 100_000;

/// Octets as a netstring.
#[must_use]
pub fn netstring(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() + 8);
    out.extend_from_slice(octets.len().to_string().as_bytes());
    out.push(b':');
    out.extend_from_slice(octets);
    out.push(b',');
    out
}

/// Reads netstrings from octets that come in any pieces. After an error it gives the same for ever.
#[derive(Clone, Debug)]
pub struct NetstringReader {
    buffer: Vec<u8>,
    most: usize,
}

impl NetstringReader {
    /// A reader of netstrings with at most so many octets inside, and never more than
    /// [`MAX_NETSTRING`].
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { buffer: Vec::new(), most: most.min(MAX_NETSTRING) }
    }

    /// Takes octets in.
    pub fn feed(&mut self, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
    }

    /// Octets that are kept: those of netstrings that were not taken out. None where none was begun.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.buffer.len()
    }

    /// What is inside the next netstring; `None` until it is complete.
    ///
    /// # Errors
    /// [`RequestError`]: no netstring, or too long a one, which is told as soon as its length is known.
    pub fn next_octets(&mut self) -> Result<Option<Vec<u8>>, RequestError> {
        let digits = self.buffer.iter().take_while(|b| b.is_ascii_digit()).count();
        let length = self.buffer.get(..digits).unwrap_or_default();
        // Two digits more than any length that is taken has; so the search is bounded.
        if digits > 8 {
            return Err(RequestError::TooLong { most: self.most });
        }
        match self.buffer.get(digits) {
            None => return Ok(None),
            Some(b':') if digits > 0 => {}
            Some(_) => return Err(RequestError::Netstring("a length and `:` are wanted")),
        }
        if digits > 1 && length.first() == Some(&b'0') {
            return Err(RequestError::Netstring("a length has no 0 in front"));
        }
        let length = length.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
        if length > self.most {
            return Err(RequestError::TooLong { most: self.most });
        }
        let (begin, end) = (digits + 1, digits + 1 + length);
        match self.buffer.get(end) {
            None => return Ok(None),
            Some(b',') => {}
            Some(_) => return Err(RequestError::Netstring("`,` is wanted at its end")),
        }
        let inside = self.buffer.get(begin..end).unwrap_or_default().to_vec();
        take_out(&mut self.buffer, end + 1);
        Ok(Some(inside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netstrings() {
        let read = |text: &str| {
            let mut reader = NetstringReader::new(100);
            reader.feed(text.as_bytes());
            reader.next_octets()
        };
        for (text, want) in [
            ("0:,", ""),
            ("3:abc,", "abc"),
            ("3:a:,,", "a:,"),
            ("12:hello world!,x", "hello world!"),
        ] {
            assert_eq!(read(text).unwrap().unwrap(), want.as_bytes(), "{text}");
        }
        for midway in ["", "1", "3:", "3:abc", "100:x"] {
            assert_eq!(read(midway).unwrap(), None, "{midway}");
        }
        for wrong in [
            ":",
            "x",
            "3;abc,",
            "3:abcd",
            "101:",
            "03:abc,",
            "00:,",
            "-1:,",
            " 3:abc,",
            "999999999",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
