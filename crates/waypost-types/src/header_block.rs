//! The header of a message, split into fields in one pass.
//!
//! Goes in: the bytes of a message. Comes out: its fields in order, each with its name, its raw value
//! and its place. Nothing is copied or decoded. Time is linear in the bytes looked at; memory is
//! constant. Source: RFC 5322 section 2.2, read leniently as real mail needs it: a line may end in LF
//! alone, a line without a colon that continues nothing is passed over, blanks may stand before the
//! colon. Not done here: addresses, encoded words, MIME.

use std::borrow::Cow;

use memchr::memchr;

/// A message's header block, borrowed: everything up to the first empty line.
#[derive(Clone, Copy, Debug)]
pub struct HeaderBlock<'a> {
    bytes: &'a [u8],
    body: usize,
}

impl<'a> HeaderBlock<'a> {
    /// Finds the end of the header in a message. A message without an empty line is all header.
    ///
    /// ```
    /// use waypost_types::HeaderBlock;
    /// let header = HeaderBlock::of(b"Subject: a\r\n b\r\nTo: c\r\n\r\nbody");
    /// let names: Vec<_> = header.fields().map(|field| field.name).collect();
    /// assert_eq!(names, [b"Subject".as_slice(), b"To"]);
    /// assert_eq!(header.first("subject").unwrap().unfolded(), b"a b".as_slice());
    /// assert_eq!(header.body_offset(), 25);
    /// ```
    #[must_use]
    pub fn of(message: &'a [u8]) -> Self {
        let mut at = 0;
        loop {
            let rest = message.get(at..).unwrap_or_default();
            let Some(end) = memchr(b'\n', rest) else {
                return Self { bytes: message, body: message.len() };
            };
            match rest.get(..end) {
                Some(b"" | b"\r") => {
                    let bytes = message.get(..at).unwrap_or_default();
                    return Self { bytes, body: at + end + 1 };
                }
                _ => at += end + 1,
            }
        }
    }

    /// The bytes of the header, without the empty line that ends it.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Where the body begins in the message that was given.
    #[must_use]
    pub fn body_offset(&self) -> usize {
        self.body
    }

    /// The fields, newest (topmost) first.
    #[must_use]
    pub fn fields(&self) -> Fields<'a> {
        Fields { bytes: self.bytes, at: 0 }
    }

    /// The first field of that name, compared without case.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<Field<'a>> {
        self.fields().find(|field| field.is(name))
    }
}

/// One header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name, without blanks around it.
    pub name: &'a [u8],
    /// Everything behind the colon, folds and all, without the last line end.
    pub raw: &'a [u8],
    /// Where the field's first byte stands in the header block.
    pub offset: usize,
}

impl<'a> Field<'a> {
    /// Whether the field has that name, compared without case.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value with each fold (line end and the blanks behind it) turned into one blank, and no
    /// blanks at its ends (E9). Borrowed when there is no fold.
    #[must_use]
    pub fn unfolded(&self) -> Cow<'a, [u8]> {
        let value = self.raw.trim_ascii();
        if memchr(b'\n', value).is_none() {
            return Cow::Borrowed(value);
        }
        let mut out = Vec::with_capacity(value.len());
        for line in value.split(|b| *b == b'\n') {
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            if !out.is_empty() {
                out.push(b' ');
            }
            out.extend_from_slice(line);
        }
        Cow::Owned(out)
    }
}

/// The fields of a [`HeaderBlock`], topmost first.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        loop {
            let offset = self.at;
            let rest = self.bytes.get(offset..).filter(|rest| !rest.is_empty())?;
            let length = field_length(rest);
            self.at = offset + length;
            let text = rest.get(..length).unwrap_or_default();
            if matches!(text.first(), Some(b' ' | b'\t')) {
                continue;
            }
            let Some(colon) = memchr(b':', text) else { continue };
            let name = text.get(..colon).unwrap_or_default().trim_ascii_end();
            if name.is_empty() || !name.iter().all(|b| (33..=126).contains(b)) {
                continue;
            }
            let raw = text.get(colon + 1..).unwrap_or_default();
            let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
            let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
            return Some(Field { name, raw, offset });
        }
    }
}

/// The length of the first field with its continuation lines and line ends.
fn field_length(rest: &[u8]) -> usize {
    let mut end = 0;
    loop {
        match memchr(b'\n', rest.get(end..).unwrap_or_default()) {
            None => return rest.len(),
            Some(line) => end += line + 1,
        }
        if !matches!(rest.get(end), Some(b' ' | b'\t')) {
            return end;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listed(message: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        HeaderBlock::of(message)
            .fields()
            .map(|field| (text(field.name), text(&field.unfolded())))
            .collect()
    }

    #[test]
    fn splits_as_real_mail_needs() {
        let table: &[(&str, &[(&str, &str)])] = &[
            ("A: b\r\n\r\nC: d", &[("A", "b")]),
            ("A: b\nC:d\n\nE: f", &[("A", "b"), ("C", "d")]),
            ("A: b\r\n\tc\r\n  d\r\nE: f", &[("A", "b c d"), ("E", "f")]),
            ("A : b\r\n", &[("A", "b")]),
            ("A:\r\n b\r\n", &[("A", "b")]),
            ("A:\r\n", &[("A", "")]),
            ("no colon\r\nA: b\r\n", &[("A", "b")]),
            (" leading fold: x\r\nA: b\r\n", &[("A", "b")]),
            ("From me Thu Jan 1 00:00:00\r\nA: b", &[("A", "b")]),
            (": x\r\nA: b", &[("A", "b")]),
            ("\r\nA: b", &[]),
            ("", &[]),
        ];
        for (message, want) in table {
            let want: Vec<_> =
                want.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            assert_eq!(listed(message.as_bytes()), want, "{message:?}");
        }
    }

    #[test]
    fn body_begins_behind_the_empty_line() {
        for (message, offset) in
            [("A: b\r\n\r\nx", 8), ("A: b\n\nx", 6), ("\r\nx", 2), ("A: b", 4), ("A: b\r\n", 6)]
        {
            assert_eq!(HeaderBlock::of(message.as_bytes()).body_offset(), offset, "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn fields_lie_in_order_inside_the_block(message in proptest::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), Just(b' '), Just(b'a'), any::<u8>()], 0..200,
        )) {
            let header = HeaderBlock::of(&message);
            prop_assert!(header.body_offset() <= message.len());
            let mut end = 0;
            for field in header.fields() {
                prop_assert!(field.offset >= end);
                end = field.offset + field.name.len() + field.raw.len();
                prop_assert!(end <= header.as_bytes().len());
            }
        }
    }
}
