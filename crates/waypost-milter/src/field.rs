//! The text of header fields that a filter adds, and what is to be done with it.

use std::fmt;

/// Why a text is no name or value of a header field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldError {
    /// The name is empty, too long, or holds something other than printable ASCII without a colon.
    #[error(
        "`{0}` is no header field name (RFC 5322 section 2.2); write 1 to 76 printable ASCII \
         characters without a colon, such as `X-Spam`"
    )]
    Name(Box<str>),
    /// The value holds a control character.
    #[error(
        "the value `{value}` holds {character:?} (RFC 5322 section 2.2); write text, and fold lines \
         by a line end with a blank behind it"
    )]
    Control {
        /// The beginning of the value.
        value: Box<str>,
        /// The offending character.
        character: char,
    },
    /// A line of the value continues nothing: it would be a field, or the end of the header.
    #[error(
        "a line of the value `{0}` begins without a blank (RFC 5322 section 2.2.3), so it would be a \
         field of its own; begin each line of a folded value with a blank"
    )]
    Unfolded(Box<str>),
    /// A line of the value is blank: some readers take it for the end of the header.
    #[error("a line of the value `{0}` is blank (RFC 5322 section 3.2.2); leave it out")]
    Blank(Box<str>),
    /// A word is longer than a line may be.
    #[error(
        "the value `{0}` has a line of more than 998 octets (RFC 5322 section 2.1.1) without a blank \
         at which it could be folded; shorten it"
    )]
    Line(Box<str>),
    /// The value is too long as a whole.
    #[error("the value `{0}` has more than 65,536 octets; shorten it")]
    TooLong(Box<str>),
}

/// The longest name of a field, in octets: with its colon it leaves room on a line of 78.
const MAX_NAME: usize = 76;

/// The longest value of a field, in octets, folds included.
const MAX_VALUE: usize = 65_536;

/// The longest line, in octets, without CR LF (RFC 5322 section 2.1.1).
const MAX_LINE: usize = 998;

/// The name of a header field: 1 to 76 printable ASCII characters without a colon.
///
/// Shown as given; compare with [`FieldName::is`], which ignores case. Source: RFC 5322 section 2.2.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct FieldName(Box<str>);

impl FieldName {
    /// Reads a name.
    ///
    /// # Errors
    /// [`FieldError::Name`] when it is empty, too long, or holds anything but printable ASCII
    /// without a colon.
    pub fn new(name: &str) -> Result<Self, FieldError> {
        let printable = |b: u8| (33..=126).contains(&b) && b != b':';
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(printable) {
            return Err(FieldError::Name(excerpt(name)));
        }
        Ok(Self(name.into()))
    }

    /// The name as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is that name, compared without case.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name)
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for FieldName {
    type Error = FieldError;

    fn try_from(name: String) -> Result<Self, FieldError> {
        Self::new(&name)
    }
}

impl From<FieldName> for String {
    fn from(name: FieldName) -> String {
        name.0.into()
    }
}

/// The value of a header field, in a form that can be written behind `Name: ` as it is.
///
/// Its lines are parted by CR LF, and each but the first begins with a blank or tab and is not blank,
/// so that no value can make another field or end the header. It holds no other control character than
/// the tab. A line has at most 998 octets with 78 of them left free on the first for the name; a longer
/// one is folded at its blanks. At most 65,536 octets in all. Source: RFC 5322 sections 2.1.1 and
/// 2.2.3; filters write a fold as LF or as CR LF.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct FieldValue(Box<str>);

impl FieldValue {
    /// Reads a value, folded by LF or CR LF or not at all. Blanks and line ends at its ends are dropped.
    ///
    /// # Errors
    /// [`FieldError`] names what could not be written into a header.
    pub fn new(value: &str) -> Result<Self, FieldError> {
        let whole = value;
        let value = whole.trim_matches([' ', '\t', '\r', '\n']);
        if value.len() > MAX_VALUE {
            return Err(FieldError::TooLong(excerpt(whole)));
        }
        let mut out = String::with_capacity(value.len() + 8);
        for (number, line) in value.split('\n').enumerate() {
            let line = line.strip_suffix('\r').unwrap_or(line);
            if let Some(character) = line.chars().find(|c| c.is_control() && *c != '\t') {
                return Err(FieldError::Control { value: excerpt(whole), character });
            }
            if number > 0 {
                if !line.starts_with([' ', '\t']) {
                    return Err(FieldError::Unfolded(excerpt(whole)));
                }
                if line.trim_ascii().is_empty() {
                    return Err(FieldError::Blank(excerpt(whole)));
                }
                out.push_str("\r\n");
            }
            let room = if number == 0 { MAX_LINE - MAX_NAME - 2 } else { MAX_LINE };
            if !push_folded(&mut out, line, room) {
                return Err(FieldError::Line(excerpt(whole)));
            }
        }
        if out.len() > MAX_VALUE {
            return Err(FieldError::TooLong(excerpt(whole)));
        }
        Ok(Self(out.into()))
    }

    /// The value with its folds, each of them CR LF and a blank or tab.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value on one line: the CR LF of each fold is left out (RFC 5322 section 2.2.3).
    #[must_use]
    pub fn unfolded(&self) -> String {
        self.0.replace("\r\n", "")
    }
}

/// Appends a line, folded before blanks where it is longer than `room`. False: it cannot be.
fn push_folded(out: &mut String, mut line: &str, mut room: usize) -> bool {
    while line.len() > room {
        let head = line.as_bytes().get(..=room).unwrap_or_default();
        // A fold before the last blank that still fits, with text on both of its sides.
        let text = head.iter().position(|b| !matches!(b, b' ' | b'\t')).unwrap_or(head.len());
        let blank = head.iter().rposition(|b| matches!(b, b' ' | b'\t'));
        let Some(at) = blank.filter(|at| *at > text) else { return false };
        let Some((first, rest)) = line.split_at_checked(at) else { return false };
        if rest.trim_ascii().is_empty() {
            line = first;
            continue;
        }
        out.push_str(first);
        out.push_str("\r\n");
        (line, room) = (rest, MAX_LINE);
    }
    out.push_str(line);
    true
}

/// The beginning of a text, fit to be shown on a line.
pub(crate) fn excerpt(text: &str) -> Box<str> {
    let mut shown: String =
        text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    shown.into()
}

impl fmt::Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.unfolded())
    }
}

impl TryFrom<String> for FieldValue {
    type Error = FieldError;

    fn try_from(value: String) -> Result<Self, FieldError> {
        Self::new(&value)
    }
}

impl From<FieldValue> for String {
    fn from(value: FieldValue) -> String {
        value.0.into()
    }
}

/// What a filter wants done to the header. Edits are to be carried out in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum HeaderEdit {
    /// A field behind all others.
    Add {
        /// Its name.
        name: FieldName,
        /// Its value.
        value: FieldValue,
    },
    /// A field at a place of the whole header.
    Insert {
        /// How many fields stand above it: 0 is the top. Above the number of fields: behind all.
        at: u32,
        /// Its name.
        name: FieldName,
        /// Its value.
        value: FieldValue,
    },
    /// Another value for a field; where there is no such field, a field behind all others.
    Change {
        /// The name, compared without case.
        name: FieldName,
        /// Which of the fields of that name, counted from the top; the first one is 1.
        nth: u32,
        /// The new value.
        value: FieldValue,
    },
    /// A field taken away; where there is none, nothing.
    Delete {
        /// The name, compared without case.
        name: FieldName,
        /// Which of the fields of that name, counted from the top; the first one is 1.
        nth: u32,
    },
}

impl HeaderEdit {
    /// The field's name.
    #[must_use]
    pub fn name(&self) -> &FieldName {
        match self {
            Self::Add { name, .. }
            | Self::Insert { name, .. }
            | Self::Change { name, .. }
            | Self::Delete { name, .. } => name,
        }
    }

    /// The value that the field has afterwards; `None`: it is gone.
    #[must_use]
    pub fn value(&self) -> Option<&FieldValue> {
        match self {
            Self::Add { value, .. } | Self::Insert { value, .. } | Self::Change { value, .. } => {
                Some(value)
            }
            Self::Delete { .. } => None,
        }
    }
}

impl fmt::Display for HeaderEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { name, value } => write!(f, "add `{name}: {value}`"),
            Self::Insert { at, name, value } => write!(f, "insert `{name}: {value}` at {at}"),
            Self::Change { name, nth, value } => write!(f, "change {name} {nth} to `{value}`"),
            Self::Delete { name, nth } => write!(f, "delete {name} {nth}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_values_inject_nothing_d17() {
        for (name, ok) in [
            ("X-Spam", true),
            ("x", true),
            ("", false),
            ("X Spam", false),
            ("X:", false),
            ("X\r\nBcc", false),
            ("Xé", false),
        ] {
            assert_eq!(FieldName::new(name).is_ok(), ok, "{name:?}");
        }
        for (value, want) in [
            ("Yes", Some("Yes")),
            (" Yes ", Some("Yes")),
            ("", Some("")),
            ("a\n\tb", Some("a\r\n\tb")),
            ("a\r\n b", Some("a\r\n b")),
            ("é\tx", Some("é\tx")),
            ("a\n b\n", Some("a\r\n b")),
            ("a\nBcc: x", None),
            ("a\r\nBcc: x", None),
            ("a\n\n b", None),
            ("a\n \n b", None),
            ("a\rb", None),
            ("a\0b", None),
            ("a\x1bb", None),
        ] {
            let got = FieldValue::new(value).ok();
            assert_eq!(got.as_ref().map(FieldValue::as_str), want, "{value:?}");
        }
    }

    #[test]
    fn long_lines_are_folded_at_blanks_and_else_refused() {
        let words = "word ".repeat(1000);
        let folded = FieldValue::new(&words).unwrap();
        assert_eq!(folded.unfolded(), words.trim_end());
        assert!(folded.as_str().split("\r\n").all(|line| line.len() <= MAX_LINE));
        let long = FieldValue::new(&"x".repeat(1000));
        assert!(matches!(long, Err(FieldError::Line(_))), "{long:?}");
        let whole = FieldValue::new(&"x ".repeat(40_000));
        assert!(matches!(whole, Err(FieldError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn a_value_is_one_field_whatever_it_was(value in "([a-c:é \t\r\n]|[xy]{600}){0,12}") {
            let Ok(made) = FieldValue::new(&value) else { return Ok(()) };
            prop_assert_eq!(FieldValue::new(made.as_str()), Ok(made.clone()), "read back");
            let text = format!("A: 1\r\nX: {}\r\nB: 2\r\n\r\n", made.as_str());
            let header = waypost_types::HeaderBlock::of(text.as_bytes());
            let names: Vec<_> = header.fields().map(|field| field.name.to_vec()).collect();
            prop_assert_eq!(names, [b"A", b"X", b"B"]);
            prop_assert!(text.split("\r\n").all(|line| line.len() <= MAX_LINE));
        }
    }
}
