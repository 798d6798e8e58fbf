//! A header field that we write.

use mail_builder::headers::Header;
use mail_builder::headers::text::Text;

/// Octets of a line without its end (RFC 5322 section 2.1.1).
const LONGEST_LINE: usize = 998;

/// Whether a field may hold UTF-8 (RFC 6532).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderText {
    /// The message came with SMTPUTF8, so its header is UTF-8 anyway.
    Utf8,
    /// Anything but ASCII becomes encoded words (RFC 2047).
    Ascii,
}

/// One header field, ended by CR LF: `name: value` in one line where that is ASCII (or `text` allows
/// more) and of at most 998 octets; else in encoded words of RFC 2047, folded.
///
/// A name may begin with a dot: the line is not stuffed. Control characters become blanks, so a field is one field whatever the value holds. `name` is
/// taken as it is: a [`HeaderLine`](waypost_types::HeaderLine) has checked it.
///
/// ```
/// use waypost_mime::{HeaderText, field};
/// assert_eq!(field("X-Legacy", "yes", HeaderText::Ascii), "X-Legacy: yes\r\n");
/// let encoded = field("X-Team", "Qualité", HeaderText::Ascii);
/// assert_eq!(encoded, "X-Team: =?utf-8?B?UXVhbGl0w6k=?=\r\n");
/// assert_eq!(field("X-Team", "Qualité", HeaderText::Utf8), "X-Team: Qualité\r\n");
/// ```
#[must_use]
pub fn field(name: &str, value: &str, text: HeaderText) -> String {
    let value = one_line(value);
    let may_stand = text == HeaderText::Utf8 || value.is_ascii();
    if may_stand && name.len() + 2 + value.len() <= LONGEST_LINE {
        return format!("{name}: {value}\r\n");
    }
    format!("{name}: {}", encoded(&value, name.len() + 2))
}

/// Text with a blank for each control character but the tab.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect()
}

/// Encoded words, ended by CR LF, behind `column` octets that stand in their line.
pub(crate) fn encoded(text: &str, column: usize) -> String {
    let mut out = Vec::new();
    Text::new(text).write_header(&mut out, column);
    String::from_utf8(out).unwrap_or_default()
}
