//! The header of a message, split into fields in one pass.
//!
//! Goes in: the bytes of a message. Comes out: its fields in order, each with its name, its raw value
//! and its place. Nothing is copied or decoded. Time is linear in the bytes looked at; memory is
//! constant. Source: RFC 5322 section 2.2, read leniently as real mail needs it: a line may end in LF
//! alone, a line without a colon that continues nothing is passed over, blanks may stand before the
//! colon. Not done here: addresses, encoded words, MIME.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter};

/// A message's header block, borrowed: everything up to the first empty line.
#[derive(Clone, Copy, Debug)]
pub struct HeaderBlock<'a> {
    bytes: &'a [u8],
    body: usize,
}

impl<'a> HeaderBlock<'a> {
    /// Finds the end of the header in a message: one pass over the header, which copies nothing. A
    /// message without an empty line is all header.
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
        self.fields().named(name).next()
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
    /// The field that a line and its continuations make; nothing if it continues another, has no
    /// colon, or what stands before the colon is no name.
    fn of(text: &'a [u8], offset: usize) -> Option<Self> {
        let mark = text.iter().position(|b| !is_in_name(*b))?;
        let blanks = text.get(mark..)?.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let field = Self::at_colon(text, mark + blanks, offset)?;
        let name = field.name.get(..mark).filter(|name| !name.is_empty())?;
        Some(Self { name, ..field })
    }

    /// The field whose colon is known to stand, if it does, at `colon`; the name is not looked at.
    fn at_colon(text: &'a [u8], colon: usize, offset: usize) -> Option<Self> {
        let (name, raw) = text.split_at_checked(colon)?;
        let raw = raw.strip_prefix(b":")?;
        let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
        let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
        Some(Self { name, raw, offset })
    }

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

/// The fields of a header, topmost first.
///
/// The header is looked at no further than it is asked for: whoever stops at the first field has paid
/// for one.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// The fields at the head of a message, up to its first empty line, without looking for that line
    /// first.
    ///
    /// ```
    /// use waypost_types::Fields;
    /// let message = b"Subject: a\r\nTo: c\r\n\r\nBody: no field";
    /// assert_eq!(Fields::of(message).count(), 2);
    /// assert_eq!(Fields::of(message).named("to").next().unwrap().unfolded(), b"c".as_slice());
    /// ```
    #[must_use]
    pub fn of(message: &'a [u8]) -> Self {
        Self { bytes: message, at: 0 }
    }

    /// The fields of one name, compared without case; none if it can be no field's name.
    pub fn named<'n>(mut self, name: &'n str) -> impl Iterator<Item = Field<'a>> + use<'a, 'n> {
        let possible = !name.is_empty() && name.bytes().all(is_in_name);
        std::iter::from_fn(move || {
            if !possible {
                return None;
            }
            loop {
                self.pass_to(name.as_bytes());
                let (offset, text) = self.next_text()?;
                // The text begins as the name does, or is none.
                let plain = Field::at_colon(text, name.len(), offset);
                let other = || Field::of(text, offset).filter(|field| field.is(name));
                if let Some(field) = plain.or_else(other) {
                    return Some(field);
                }
            }
        })
    }

    /// Passes over lines, whole fields or not, up to one that begins as `name` does or is empty.
    fn pass_to(&mut self, name: &[u8]) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let initial = name.first().map_or(0, u8::to_ascii_lowercase);
        // Most lines are passed over by their first byte.
        let stops = |line: &usize| match rest.get(*line) {
            Some(b'\n') => true,
            Some(b'\r') => rest.get(line.saturating_add(1)) == Some(&b'\n'),
            Some(first) if first.to_ascii_lowercase() == initial => {
                let head = rest.get(*line..line.saturating_add(name.len()));
                head.is_some_and(|head| head.eq_ignore_ascii_case(name))
            }
            Some(_) => false,
            None => true,
        };
        if !stops(&0) {
            let line = memchr_iter(b'\n', rest).map(|end| end + 1).find(stops);
            self.at += line.unwrap_or(rest.len());
        }
    }

    /// The next line with the lines that continue it, and where it stands.
    fn next_text(&mut self) -> Option<(usize, &'a [u8])> {
        let offset = self.at;
        let rest = self.bytes.get(offset..)?;
        if matches!(rest, [] | [b'\n', ..] | [b'\r', b'\n', ..]) {
            return None;
        }
        let ends = memchr_iter(b'\n', rest).map(|line| line + 1);
        let mut ends = ends.filter(|end| !matches!(rest.get(*end), Some(b' ' | b'\t')));
        let length = ends.next().unwrap_or(rest.len());
        self.at = offset + length;
        Some((offset, rest.get(..length).unwrap_or_default()))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        loop {
            let (offset, text) = self.next_text()?;
            if let Some(field) = Field::of(text, offset) {
                return Some(field);
            }
        }
    }
}

impl<'a> From<&HeaderBlock<'a>> for Fields<'a> {
    fn from(header: &HeaderBlock<'a>) -> Self {
        header.fields()
    }
}

/// RFC 5322 section 2.2: printable ASCII but the colon.
fn is_in_name(b: u8) -> bool {
    (33..=126).contains(&b) && b != b':'
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
            // Looking for the end first or as one goes is the same.
            prop_assert!(Fields::of(&message).eq(header.fields()));
            for name in ["aa", "A", "", "a:a", "\r"] {
                let named: Vec<_> = header.fields().filter(|field| field.is(name)).collect();
                prop_assert!(Fields::of(&message).named(name).eq(named), "{name:?}");
            }
        }
    }
}
