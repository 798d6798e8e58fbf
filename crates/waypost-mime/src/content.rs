//! What a part's header says of its content.

use std::borrow::Cow;

use mail_parser::HeaderValue;
use mail_parser::parsers::MessageStream;
use memchr::memmem;
use waypost_types::{Field, Fields};

/// Octets of a `Content-` field that are read; a longer one counts as unreadable.
///
/// Some sequences of parameters take time by the square of their length.
pub(crate) const LONGEST_FIELD: usize = 4 << 10;
/// Octets of a boundary that are taken; RFC 2046 section 5.1.1 allows 70.
pub(crate) const LONGEST_BOUNDARY: usize = 200;

/// A media type, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Media {
    pub(crate) kind: String,
    pub(crate) subtype: String,
}

impl Media {
    pub(crate) fn new(kind: &str, subtype: &str) -> Self {
        Self { kind: kind.to_ascii_lowercase(), subtype: subtype.to_ascii_lowercase() }
    }
}

impl std::fmt::Display for Media {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.subtype)
    }
}

/// `Content-Disposition` (RFC 2183), as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// None, or `inline`.
    Inline,
    /// `attachment`, or one that is not known (RFC 2183 section 2.8).
    Attachment,
}

/// `Content-Transfer-Encoding` (RFC 2045 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `7bit`, `8bit`, `binary`, or none.
    Identity,
    Base64,
    QuotedPrintable,
    /// Any other: what is encoded so counts as `application/octet-stream` (RFC 2045 section 6.4).
    Unknown,
}

/// What a part's header says of its content.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    /// `None` where the type cannot be read, or two fields contradict each other.
    pub(crate) media: Option<Media>,
    /// The boundary, where all readers of mail take the same octets for it.
    pub(crate) boundary: Option<Vec<u8>>,
    pub(crate) disposition: Disposition,
    /// Every file name that is given, in `filename` or `name`.
    pub(crate) names: Vec<String>,
    pub(crate) encoding: Encoding,
}

impl Content {
    /// What fields say; `default` is the type of a part that names none.
    pub(crate) fn read(fields: Fields<'_>, default: Media) -> Self {
        let mut content = Self {
            media: Some(default),
            boundary: None,
            disposition: Disposition::Inline,
            names: Vec::new(),
            encoding: Encoding::Identity,
        };
        let (mut kind, mut encoding) = (None, None);
        for field in fields {
            if field.is("content-type") {
                let value = Value::of(&field);
                content.names.extend(value.names());
                if is_repeated(&mut kind, &field) {
                    content.media = content.media.filter(|_| kind.as_deref() == value.text());
                    continue;
                }
                content.media = value.media();
                content.boundary = value.boundary();
            } else if field.is("content-disposition") {
                let value = Value::of(&field);
                content.names.extend(value.names());
                if !matches!(value.token().as_str(), "" | "inline") {
                    content.disposition = Disposition::Attachment;
                }
            } else if field.is("content-transfer-encoding") {
                let value = Value::of(&field);
                let found = value.encoding();
                if is_repeated(&mut encoding, &field) && content.encoding != found {
                    content.encoding = Encoding::Unknown;
                    continue;
                }
                content.encoding = found;
            }
        }
        content
    }

    /// A part whose header cannot be read at all.
    pub(crate) fn unreadable() -> Self {
        Self {
            media: None,
            boundary: None,
            disposition: Disposition::Inline,
            names: Vec::new(),
            encoding: Encoding::Identity,
        }
    }

    pub(crate) fn is(&self, kind: &str) -> bool {
        self.media.as_ref().is_some_and(|media| media.kind == kind)
    }
}

/// Whether a field of that name stood before; the first one's value is kept.
fn is_repeated<'a>(first: &mut Option<Cow<'a, [u8]>>, field: &Field<'a>) -> bool {
    let is_repeated = first.is_some();
    first.get_or_insert_with(|| field.unfolded());
    is_repeated
}

/// The value of a field: a word, then parameters.
struct Value<'a> {
    raw: &'a [u8],
    /// Without folds; `None` where it is too long to be read.
    text: Option<Cow<'a, [u8]>>,
}

impl<'a> Value<'a> {
    fn of(field: &Field<'a>) -> Self {
        let text = (field.raw.len() <= LONGEST_FIELD).then(|| field.unfolded());
        Self { raw: field.raw, text }
    }

    fn text(&self) -> Option<&[u8]> {
        self.text.as_deref()
    }

    /// The first word, in lower case, up to a blank or semicolon.
    fn token(&self) -> String {
        let Some(text) = self.text() else { return "unreadable".into() };
        let end = text.iter().position(|b| matches!(b, b';' | b' ' | b'\t' | b'('));
        let word = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
        String::from_utf8_lossy(word).to_ascii_lowercase()
    }

    fn media(&self) -> Option<Media> {
        let token = self.token();
        // What Unix mailers wrote before MIME.
        if self.text().is_some_and(|text| text.eq_ignore_ascii_case(b"text")) {
            return Some(Media::new("text", "plain"));
        }
        let (kind, subtype) = token.split_once('/')?;
        let readable = |part: &str| !part.is_empty() && part.bytes().all(is_token);
        (readable(kind) && readable(subtype)).then(|| Media::new(kind, subtype))
    }

    fn encoding(&self) -> Encoding {
        match self.token().as_str() {
            "" | "7bit" | "8bit" | "binary" => Encoding::Identity,
            "base64" => Encoding::Base64,
            "quoted-printable" => Encoding::QuotedPrintable,
            _ => Encoding::Unknown,
        }
    }

    /// The values of the parameters whose names `wanted` picks, RFC 2231 and RFC 2047 decoded.
    fn parameters(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let Some(text) = self.text() else { return Vec::new() };
        let line = [text, b"\r\n"].concat();
        let HeaderValue::ContentType(read) = MessageStream::new(&line).parse_content_type() else {
            return Vec::new();
        };
        let attributes = read.attributes.into_iter().flatten();
        attributes
            .filter(|attribute| wanted(&attribute.name.to_ascii_lowercase()))
            .map(|attribute| attribute.value.into_owned())
            .collect()
    }

    fn names(&self) -> Vec<String> {
        self.parameters(|name| matches!(name.trim_end_matches('*'), "name" | "filename"))
    }

    /// The boundary, if there is one parameter of that name, and nobody can take another text for it.
    fn boundary(&self) -> Option<Vec<u8>> {
        let text = self.text()?;
        let [read] = self.parameters(|name| name.starts_with("boundary")).try_into().ok()?;
        let (range, value) = plain_boundary(text)?;
        let rest = [text.get(..range.start)?, b" ", text.get(range.end..)?].concat();
        let again = rest.to_ascii_lowercase().windows(8).any(|word| word == b"boundary");
        // A fold inside of it: some readers of mail keep its blank, some do not.
        let folded = memmem::find(self.raw, value).is_none();
        (value == read.as_bytes() && !again && !folded).then(|| value.to_vec())
    }
}

/// Where `boundary=…` stands, and its value: a run of printable characters, in quotes with single
/// blanks or without.
fn plain_boundary(text: &[u8]) -> Option<(std::ops::Range<usize>, &[u8])> {
    const NAME: &[u8] = b"boundary";
    let begins = |at: &usize| {
        let before = at.checked_sub(1).and_then(|before| text.get(before));
        matches!(before, Some(b';' | b' ' | b'\t'))
            && text.get(*at..at + NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME))
    };
    let start = (0..text.len()).find(begins)?;
    let mut at = start + NAME.len();
    let skip_blanks = |at: &mut usize| {
        while matches!(text.get(*at), Some(b' ' | b'\t')) {
            *at += 1;
        }
    };
    skip_blanks(&mut at);
    if text.get(at) != Some(&b'=') {
        return None;
    }
    at += 1;
    skip_blanks(&mut at);
    let quoted = text.get(at) == Some(&b'"');
    at += usize::from(quoted);
    let value = text.get(at..)?;
    let length = value.iter().position(|b| match quoted {
        true => *b == b'"',
        false => matches!(b, b';' | b' ' | b'\t' | b'"' | b'('),
    });
    let length = match (length, quoted) {
        (Some(length), _) => length,
        (None, false) => value.len(),
        (None, true) => return None,
    };
    let value = value.get(..length)?;
    let plain =
        |b: &u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\') || (quoted && *b == b' ');
    if value.is_empty()
        || value.len() > LONGEST_BOUNDARY
        || !value.iter().all(plain)
        || value.starts_with(b" ")
        || value.ends_with(b" ")
    {
        return None;
    }
    at += length + usize::from(quoted);
    let end = at;
    skip_blanks(&mut at);
    matches!(text.get(at), None | Some(b';' | b'(')).then_some((start..end, value))
}

/// RFC 2045 section 5.1.
fn is_token(b: u8) -> bool {
    b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str) -> Content {
        Content::read(Fields::of(header.as_bytes()), Media::new("text", "plain"))
    }

    #[test]
    fn types_are_read_as_all_readers_read_them() {
        for (header, want) in [
            ("", "text/plain"),
            ("Content-Type: Text/HTML; charset=utf-8\r\n", "text/html"),
            ("content-type :text/html\r\n", "text/html"),
            ("Content-Type:\r\n application/pdf;\r\n\tname=x\r\n", "application/pdf"),
            ("Content-Type: text\r\n", "text/plain"),
            ("Content-Type: text/plain (a comment)\r\n", "text/plain"),
            ("Content-Type: text/plain\r\nContent-Type: text/plain\r\n", "text/plain"),
            ("Content-Type: text/plain\r\nContent-Type: text/html\r\n", "?"),
            ("Content-Type: text/plain\r\nContent-Type: application/pdf\r\n", "?"),
            ("Content-Type:\r\n", "?"),
            ("Content-Type: pdf\r\n", "?"),
            ("Content-Type: (x) text/plain\r\n", "?"),
            ("Content-Type: text /plain\r\n", "?"),
            ("Content-Type: text/plain, application/pdf\r\n", "?"),
            ("Content-Type: \"text/plain\"\r\n", "?"),
        ] {
            let got = read(header).media.map_or("?".into(), |media| media.to_string());
            assert_eq!(got, want, "{header:?}");
        }
        let long = format!("Content-Type: text/plain; x={}\r\n", "x".repeat(LONGEST_FIELD));
        assert_eq!(read(&long).media, None);
    }

    #[test]
    fn a_boundary_is_taken_only_where_it_is_plain() {
        for (parameters, want) in [
            ("; boundary=abc", "abc"),
            ("; boundary=\"abc\"", "abc"),
            ("; BOUNDARY = \"a b=_(c)\" ; charset=x", "a b=_(c)"),
            (";\r\n\tboundary=----=_Part_1_2.3", "----=_Part_1_2.3"),
            ("; boundary=\"Boundary_(ID_1)\"", "Boundary_(ID_1)"),
            ("; type=\"text/html\"; boundary=a/b:c?", "a/b:c?"),
            ("; boundary=abc (comment)", "abc"),
            ("", "?"),
            ("; boundary=", "?"),
            ("; boundary=\"\"", "?"),
            ("; boundary=\"abc", "?"),
            ("; boundary=\"a\\bc\"", "?"),
            ("; boundary=\"abc \"", "?"),
            ("; boundary=a b", "?"),
            ("; boundary=\"a\"b", "?"),
            ("; boundary=a; boundary=b", "?"),
            ("; boundary*=utf-8''abc", "?"),
            ("; boundary*0=ab; boundary*1=c", "?"),
            ("; boundary=abc; boundary*=utf-8''def", "?"),
            ("; boundary=\"=?utf-8?q?abc?=\"", "?"),
            ("; x=\"; boundary=abc\"; boundary=def", "?"),
            ("; boundary=é", "?"),
            ("; boundary=\"ab\r\n c\"", "?"),
        ] {
            let got = read(&format!("Content-Type: multipart/mixed{parameters}\r\n")).boundary;
            let got = got.map_or("?".into(), |got| String::from_utf8(got).unwrap());
            assert_eq!(got, want, "{parameters:?}");
        }
    }

    #[test]
    fn names_are_decoded_rfc_2231_and_rfc_2047() {
        for (header, want) in [
            ("Content-Type: a/b; name=x.pdf\r\n", vec!["x.pdf"]),
            ("Content-Type: a/b; name=\"x y.pdf\"\r\n", vec!["x y.pdf"]),
            ("Content-Disposition: attachment; filename*=utf-8''%C3%A9.pdf\r\n", vec!["é.pdf"]),
            (
                "Content-Disposition: attachment; filename*0*=utf-8''%C3%A9;\r\n filename*1=.pdf\r\n",
                vec!["é.pdf"],
            ),
            ("Content-Type: a/b; name=\"=?utf-8?B?w6kucGRm?=\"\r\n", vec!["é.pdf"]),
            (
                "Content-Type: a/b; name=a\r\nContent-Disposition: inline; filename=b\r\n",
                vec!["a", "b"],
            ),
            ("Content-Type: a/b\r\n", vec![]),
        ] {
            assert_eq!(read(header).names, want, "{header:?}");
        }
    }

    #[test]
    fn dispositions_and_encodings() {
        use Disposition::{Attachment, Inline};
        for (value, want) in [
            ("", Inline),
            ("inline; filename=x", Inline),
            ("INLINE", Inline),
            ("attachment", Attachment),
            ("Attachment;filename=x", Attachment),
            ("x-other", Attachment),
        ] {
            let got = read(&format!("Content-Disposition: {value}\r\n")).disposition;
            assert_eq!(got, want, "{value:?}");
        }
        let both = "Content-Disposition: inline\r\nContent-Disposition: attachment\r\n";
        assert_eq!(read(both).disposition, Attachment);
        for (value, want) in [
            ("", Encoding::Identity),
            ("7bit", Encoding::Identity),
            ("8BIT", Encoding::Identity),
            ("binary", Encoding::Identity),
            ("Base64", Encoding::Base64),
            ("quoted-printable", Encoding::QuotedPrintable),
            ("x-uuencode", Encoding::Unknown),
            ("base64\r\nContent-Transfer-Encoding: 7bit", Encoding::Unknown),
            ("base64\r\nContent-Transfer-Encoding: BASE64", Encoding::Base64),
        ] {
            let got = read(&format!("Content-Transfer-Encoding: {value}\r\n")).encoding;
            assert_eq!(got, want, "{value:?}");
        }
    }
}
