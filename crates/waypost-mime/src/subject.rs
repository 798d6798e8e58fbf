//! Text before a message's subject.

use mail_parser::HeaderValue;
use mail_parser::parsers::MessageStream;
use memchr::memchr;
use waypost_types::Fields;

use crate::edit::Edit;
use crate::field::{encoded, one_line};

/// Octets of a line that is better folded (RFC 5322 section 2.1.1).
const LONG_LINE: usize = 78;
/// Octets of a subject that are looked at for the prefix.
const LOOKED_AT: usize = 8 << 10;

/// What replies and forwarded messages begin with, in the languages of common mail programs.
const MARKS: [&str; 9] = ["re", "fw", "fwd", "aw", "wg", "tr", "sv", "vs", "antw"];

/// How a message gets its prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prefixed {
    /// The subject has it already, or the prefix is blank.
    Already,
    /// The first line of the first `Subject:` field changes.
    Changed(Edit),
    /// There is no subject: this field, ended by CR LF, is to be added.
    Missing(String),
}

/// Puts `prefix` before the subject of a message, with a blank between them.
///
/// Nothing is done where the subject, decoded, begins with the prefix already, also behind marks such as
/// `Re:`, so that a reply does not gather prefixes. The prefix alone is encoded (RFC 2047), and only
/// where it is not ASCII or has more than 77 octets, also in a message that came with SMTPUTF8; the
/// subject's own octets stay as they are. A line that would pass 78 octets is folded between them.
///
/// Time is linear in the header; only the first line of the field is copied.
///
/// ```
/// use waypost_mime::{Prefixed, prefix_subject};
/// let message = b"From: a@b.example\r\nSubject: Hello\r\n\r\nText\r\n";
/// let Prefixed::Changed(edit) = prefix_subject(message, "[EXT] ") else { unreachable!() };
/// assert_eq!(edit.text, b"Subject: [EXT] Hello\r\n");
/// assert_eq!(edit.range, 19..35);
/// ```
#[must_use]
pub fn prefix_subject(message: &[u8], prefix: &str) -> Prefixed {
    let prefix = one_line(prefix);
    let prefix = prefix.trim();
    if prefix.is_empty() {
        return Prefixed::Already;
    }
    let Some(subject) = Fields::of(message).named("subject").next() else {
        return Prefixed::Missing(format!(
            "Subject: {}\r\n",
            words(prefix, "Subject: ".len(), false)
        ));
    };
    if begins_with(subject.raw, prefix) {
        return Prefixed::Already;
    }
    let field = message.get(subject.offset..).unwrap_or_default();
    let colon = memchr(b':', field).unwrap_or_default();
    let name = field.get(..=colon).unwrap_or_default();
    let (first, ended) = match memchr(b'\n', subject.raw) {
        Some(end) => (subject.raw.get(..end).unwrap_or_default(), true),
        None => {
            let rest = field.get(name.len() + subject.raw.len()..).unwrap_or_default();
            (subject.raw, matches!(rest, [b'\n', ..] | [b'\r', b'\n', ..]))
        }
    };
    let first = first.strip_suffix(b"\r").unwrap_or(first);
    let line = memchr(b'\n', field).map_or(field.len(), |end| end + 1);
    // Blanks between two encoded words are not shown.
    let meets_encoded = subject.raw.trim_ascii_start().starts_with(b"=?");
    let words = words(prefix, name.len() + 1, meets_encoded);
    let mut text = name.to_vec();
    text.push(b' ');
    text.extend_from_slice(words.as_bytes());
    if !first.trim_ascii().is_empty() {
        let last = words.rsplit('\n').next().map_or(0, str::len);
        let before = if words.contains('\n') { 0 } else { name.len() + 1 };
        if before + last + first.len() > LONG_LINE {
            text.extend_from_slice(b"\r\n");
        }
        if !matches!(first, [b' ' | b'\t', ..]) {
            text.push(b' ');
        }
        text.extend_from_slice(first);
    }
    if ended {
        text.extend_from_slice(b"\r\n");
    }
    Prefixed::Changed(Edit { range: subject.offset..subject.offset + line, text })
}

/// The prefix as it stands in the header, without a line end behind it.
fn words(prefix: &str, column: usize, meets_encoded: bool) -> String {
    if prefix.is_ascii() && prefix.len() < LONG_LINE {
        return prefix.to_owned();
    }
    let text = if meets_encoded { format!("{prefix} ") } else { prefix.to_owned() };
    encoded(&text, column).trim_ascii_end().to_owned()
}

/// Whether a subject begins with the prefix, as far as a reader sees.
fn begins_with(raw: &[u8], prefix: &str) -> bool {
    let raw = raw.get(..LOOKED_AT).unwrap_or(raw);
    let line = [raw, b"\r\n"].concat();
    let read = MessageStream::new(&line).parse_unstructured();
    let HeaderValue::Text(text) = read else { return false };
    let mut rest = text.trim_start();
    loop {
        if rest.starts_with(prefix) {
            return true;
        }
        let Some((mark, behind)) = rest.split_once(':') else { return false };
        let mark = mark.trim_end();
        if !MARKS.iter().any(|known| known.eq_ignore_ascii_case(mark)) {
            return false;
        }
        rest = behind.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use waypost_types::HeaderBlock;

    use super::*;
    use crate::edit::Edits;

    fn prefixed(message: &[u8], prefix: &str) -> Vec<u8> {
        match prefix_subject(message, prefix) {
            Prefixed::Already => message.to_vec(),
            Prefixed::Missing(field) => [field.as_bytes(), message].concat(),
            Prefixed::Changed(edit) => Edits::default().and([edit]).apply(message),
        }
    }

    #[test]
    fn c6_a_prefix_stands_before_the_subject() {
        let long = "x".repeat(75);
        let long_line = format!("Subject: {long}\r\n");
        let long_want = format!("Subject: [EXT]\r\n {long}\r\n");
        for (message, prefix, want) in [
            ("Subject: Hi\r\n", "[EXT] ", "Subject: [EXT] Hi\r\n"),
            ("Subject: Hi\r\n", "[EXT]", "Subject: [EXT] Hi\r\n"),
            ("Subject:Hi\r\n", "[EXT]", "Subject: [EXT] Hi\r\n"),
            ("subject :\tHi\r\n", "[EXT]", "subject : [EXT]\tHi\r\n"),
            ("Subject:\r\n Hi\r\n", "[EXT]", "Subject: [EXT]\r\n Hi\r\n"),
            ("Subject: \r\n Hi\r\n", "[EXT]", "Subject: [EXT]\r\n Hi\r\n"),
            ("Subject: a\r\n b\r\n\tc\r\n", "[EXT]", "Subject: [EXT] a\r\n b\r\n\tc\r\n"),
            ("Subject:\r\n", "[EXT]", "Subject: [EXT]\r\n"),
            ("Subject: \r\n", "[EXT]", "Subject: [EXT]\r\n"),
            ("Subject: Hi", "[EXT]", "Subject: [EXT] Hi"),
            ("Subject: Hi\n", "[EXT]", "Subject: [EXT] Hi\r\n"),
            (&long_line, "[EXT]", &long_want),
            // The first one counts, and only those of the header.
            (
                "A: b\r\nSubject: 1\r\nSubject: 2\r\n",
                "[E]",
                "A: b\r\nSubject: [E] 1\r\nSubject: 2\r\n",
            ),
            ("A: b\r\n\r\nSubject: no\r\n", "[E]", "Subject: [E]\r\nA: b\r\n\r\nSubject: no\r\n"),
            ("\r\nbody\r\n", "[E]", "Subject: [E]\r\n\r\nbody\r\n"),
            ("", "[E]", "Subject: [E]\r\n"),
            // Not twice.
            ("Subject: [EXT] Hi\r\n", "[EXT] ", "Subject: [EXT] Hi\r\n"),
            ("Subject: [EXT]\r\n", "[EXT] ", "Subject: [EXT]\r\n"),
            ("Subject:\r\n [EXT] Hi\r\n", "[EXT] ", "Subject:\r\n [EXT] Hi\r\n"),
            ("Subject: Re: [EXT] Hi\r\n", "[EXT] ", "Subject: Re: [EXT] Hi\r\n"),
            ("Subject: AW: Fwd : [EXT] Hi\r\n", "[EXT] ", "Subject: AW: Fwd : [EXT] Hi\r\n"),
            (
                "Subject: =?utf-8?q?[EXT]_=C3=A9?=\r\n",
                "[EXT] ",
                "Subject: =?utf-8?q?[EXT]_=C3=A9?=\r\n",
            ),
            ("Subject: Hi [EXT]\r\n", "[EXT] ", "Subject: [EXT] Hi [EXT]\r\n"),
            ("Subject: Note: [EXT]\r\n", "[EXT] ", "Subject: [EXT] Note: [EXT]\r\n"),
            ("Subject: [ext] Hi\r\n", "[EXT] ", "Subject: [EXT] [ext] Hi\r\n"),
            // Encoded words.
            ("Subject: Hi\r\n", "[é] ", "Subject: =?utf-8?B?W8OpXQ==?= Hi\r\n"),
            (
                "Subject: =?utf-8?q?=C3=A8?=\r\n",
                "[é] ",
                "Subject: =?utf-8?B?W8OpXSA=?= =?utf-8?q?=C3=A8?=\r\n",
            ),
            ("Subject: =?utf-8?q?=C3=A8?=\r\n", "[E]", "Subject: [E] =?utf-8?q?=C3=A8?=\r\n"),
            ("A: b\r\n", "[é]", "Subject: =?utf-8?B?W8OpXQ==?=\r\nA: b\r\n"),
            ("Subject: =?utf-8?q?[=C3=A9]?= Hi\r\n", "[é]", "Subject: =?utf-8?q?[=C3=A9]?= Hi\r\n"),
            // Nothing to add.
            ("Subject: Hi\r\n", " ", "Subject: Hi\r\n"),
            ("Subject: Hi\r\n", "a\r\nBcc: x", "Subject: a  Bcc: x Hi\r\n"),
        ] {
            let got = String::from_utf8(prefixed(message.as_bytes(), prefix)).unwrap();
            assert_eq!(got, want, "{prefix:?} {message:?}");
        }
    }

    fn decoded(message: &[u8]) -> String {
        let raw = HeaderBlock::of(message).first("subject").unwrap().raw;
        match MessageStream::new(&[raw, b"\r\n"].concat()).parse_unstructured() {
            HeaderValue::Text(text) => text.into_owned(),
            _ => String::new(),
        }
    }

    proptest! {
        /// One field more or the same number, no long line of ours, all other octets equal, once.
        #[test]
        fn c6_any_prefix_stays_in_the_subject(
            prefix in "\\PC{1,20}|[a-z\\[\\] =?_é\u{1f600}]{1,300}|[\r\n\t :a]{1,20}",
            subject in "( ?[a-zA-Z:\\[\\] ]{0,120}(\r\n [a-z]{1,30}){0,2})",
        ) {
            let message = format!("A: b\r\nSubject:{subject}\r\nC: d\r\n\r\nbody\r\n").into_bytes();
            let before = HeaderBlock::of(&message).fields().count();
            let edited = prefixed(&message, &prefix);
            prop_assert_eq!(HeaderBlock::of(&edited).fields().count(), before);
            prop_assert!(edited.starts_with(b"A: b\r\nSubject:"));
            prop_assert!(edited.ends_with(b"\r\nC: d\r\n\r\nbody\r\n"));
            prop_assert!(edited.is_ascii());
            for line in edited.split(|b| *b == b'\n') {
                prop_assert!(line.len() <= 160, "{}", line.escape_ascii());
                prop_assert!(line.first() != Some(&b'.'));
            }
            let again = prefixed(&edited, &prefix);
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            let clean = words(&one_line(&prefix));
            if !clean.contains("=?") && words(&decoded(&edited)).starts_with(&clean) && clean == one_line(&prefix).trim() {
                prop_assert_eq!(again, edited);
            }
        }
    }
}
