//! The message as a filter gets it: fields one by one, then the body without stuffed dots, in pieces.

use std::borrow::Cow;

use memchr::{memchr, memmem};
use waypost_types::{Fields, HeaderBlock};

use crate::command::MAX_PIECE;

/// The fields that are still to be sent.
#[derive(Debug)]
pub(super) struct Header<'q> {
    fields: Fields<'q>,
    value: Vec<u8>,
}

/// The body that is still to be sent.
#[derive(Debug)]
pub(super) struct Body<'q> {
    /// What stands in the header and is none of its fields; it goes before the body, so that a filter
    /// sees all that a reader may be shown. Most messages have nothing of the kind.
    strays: Cow<'q, [u8]>,
    stuffed: &'q [u8],
    piece: Vec<u8>,
    /// The next octet begins a line.
    at_line: bool,
}

/// Both, of a message as it is stored.
pub(super) fn header_and_body(message: &[u8]) -> (Header<'_>, Body<'_>) {
    let block = HeaderBlock::of(message);
    let body = message.get(block.body_offset()..).unwrap_or_default();
    let header = Header { fields: block.fields(), value: Vec::new() };
    let strays = strays(&block);
    (header, Body { strays, stuffed: body, piece: Vec::new(), at_line: true })
}

/// What stands between the fields.
fn strays<'q>(block: &HeaderBlock<'q>) -> Cow<'q, [u8]> {
    let bytes = block.as_bytes();
    let mut found = Vec::new();
    let mut keep = |from: usize, until: usize| {
        let lines = bytes.get(from..until).unwrap_or_default();
        for line in lines.split_inclusive(|octet| *octet == b'\n') {
            found.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
    };
    let mut from = 0;
    for field in block.fields() {
        keep(from, field.offset);
        let rest = bytes.get(field.offset..).unwrap_or_default();
        // A name holds no colon, so the first one is behind it.
        let colon = memchr(b':', rest).map_or(0, |at| at + 1);
        let end = field.offset + colon + field.raw.len();
        let behind = bytes.get(end..).unwrap_or_default();
        from = end
            + match behind {
                [b'\r', b'\n', ..] => 2,
                [b'\n', ..] => 1,
                _ => 0,
            };
    }
    keep(from, bytes.len());
    Cow::Owned(found)
}

impl<'q> Header<'q> {
    /// The next field: its name, and its value with LF for each line end; cut to what each filter takes.
    pub(super) fn next(&mut self, with_blank: bool) -> Option<(&'q [u8], &[u8])> {
        let field = self.fields.next()?;
        // A dot that begins a name was stuffed.
        let name = field.name.strip_prefix(b".").unwrap_or(field.name);
        let raw = match with_blank {
            true => field.raw,
            false => field.raw.strip_prefix(b" ").unwrap_or(field.raw),
        };
        let room = MAX_PIECE.saturating_sub(name.len() + 2);
        self.value.clear();
        for line in raw.split_inclusive(|octet| *octet == b'\n') {
            match line.strip_suffix(b"\r\n") {
                Some(text) => {
                    self.value.extend_from_slice(text);
                    self.value.push(b'\n');
                }
                None => self.value.extend_from_slice(line),
            }
        }
        self.value.truncate(room);
        let name = name.get(..MAX_PIECE / 2).unwrap_or(name);
        Some((name, &self.value))
    }
}

impl Body<'_> {
    /// The next piece, of 65,535 octets unless it is the last one.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        self.piece.clear();
        while self.piece.len() < MAX_PIECE {
            let room = MAX_PIECE - self.piece.len();
            if !self.strays.is_empty() {
                let all = std::mem::take(&mut self.strays);
                let (now, later) = all.split_at(room.min(all.len()));
                self.piece.extend_from_slice(now);
                self.strays = Cow::Owned(later.to_vec());
                continue;
            }
            if self.at_line {
                self.at_line = false;
                self.stuffed = self.stuffed.strip_prefix(b".").unwrap_or(self.stuffed);
            }
            if self.stuffed.is_empty() {
                break;
            }
            let window = self.stuffed.get(..room).unwrap_or(self.stuffed);
            // Up to a line end behind which a dot may have been stuffed.
            let end =
                match memmem::find(self.stuffed.get(..room + 1).unwrap_or(self.stuffed), b"\n.") {
                    Some(at) => {
                        self.at_line = true;
                        at + 1
                    }
                    None => window.len(),
                };
            let (now, later) = self.stuffed.split_at(end.min(self.stuffed.len()));
            self.piece.extend_from_slice(now);
            self.stuffed = later;
        }
        (!self.piece.is_empty()).then_some(self.piece.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(message: &[u8]) -> (Vec<(String, String)>, Vec<u8>) {
        let (mut header, mut body) = header_and_body(message);
        let mut fields = Vec::new();
        while let Some((name, value)) = header.next(false) {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            fields.push((text(name), text(value)));
        }
        let mut whole = Vec::new();
        while let Some(piece) = body.next() {
            assert!(piece.len() <= MAX_PIECE);
            whole.extend_from_slice(piece);
        }
        (fields, whole)
    }

    #[test]
    fn nothing_of_a_message_is_kept_from_the_filter_d17() {
        let long = "x".repeat(70_000);
        for (message, fields, body) in [
            ("A: 1\r\nB:  2\r\n\r\nx\r\n", &[("A", "1"), ("B", " 2")][..], "x\r\n"),
            ("A: 1\r\n\t2\r\n\r\n", &[("A", "1\n\t2")], ""),
            ("A: 1\r\n\r\n..\r\n.", &[("A", "1")], ".\r\n"),
            ("..A: 1\r\n\r\n..x\r\n...\r\n", &[(".A", "1")], ".x\r\n..\r\n"),
            ("no header\r\nat all\r\n", &[], "no header\r\nat all\r\n"),
            ("From x\r\nA: 1\r\n\r\nb\r\n", &[("A", "1")], "From x\r\nb\r\n"),
            ("A: 1\r\nstray\r\nB: 2\r\n\r\nb\r\n", &[("A", "1"), ("B", "2")], "stray\r\nb\r\n"),
            ("..dot\r\nA: 1\r\n...\r\n\r\n", &[("A", "1")], ".dot\r\n..\r\n"),
            ("A : 1\r\n\r\n", &[("A", "1")], ""),
            ("", &[], ""),
            ("\r\n", &[], ""),
        ] {
            let (got, whole) = parts(message.as_bytes());
            let got: Vec<_> = got.iter().map(|(name, value)| (&**name, &**value)).collect();
            assert_eq!(got, fields, "{message:?}");
            assert_eq!(String::from_utf8_lossy(&whole), body, "{message:?}");
        }
        let (got, _) = parts(format!("A: {long}\r\n\r\n").as_bytes());
        assert_eq!(got[0].1.len(), MAX_PIECE - 3, "cut to what a filter takes");
    }

    proptest! {
        #[test]
        fn the_body_is_the_stored_one_without_stuffed_dots(
            lines in proptest::collection::vec(("[.ab]{0,3}", 0_usize..40_000), 0..9),
        ) {
            let mut body = String::new();
            let mut stuffed = String::from("A: 1\r\n\r\n");
            for (head, fill) in &lines {
                let line = format!("{head}{}\r\n", "x".repeat(*fill));
                if line.starts_with('.') {
                    stuffed.push('.');
                }
                stuffed.push_str(&line);
                body.push_str(&line);
            }
            let (_, got) = parts(stuffed.as_bytes());
            prop_assert!(got == body.as_bytes());
        }
    }
}
