//! A header line that we add.

use std::fmt;

/// A header field to be added: a name and a value that can inject nothing (RFC 5322 section 2.2).
///
/// The name is 1 to 76 printable ASCII characters without a colon; the value holds no CR, LF, NUL or
/// other control character but the tab, and at most 4,096 octets. It is written as one line,
/// `Name: value`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "(String, String)", into = "(String, String)"))]
pub struct HeaderLine {
    name: Box<str>,
    value: Box<str>,
}

/// Why a name and value make no header line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderLineError {
    /// The name is empty, too long, or holds something other than printable ASCII without a colon.
    #[error(
        "`{0}` is no header field name; write 1 to 76 letters, digits or hyphens, such as `X-Legacy`"
    )]
    Name(String),
    /// The value holds a control character.
    #[error("the value of `{name}` holds {character:?}; a header value is one line of text")]
    Value {
        /// The field's name.
        name: String,
        /// The offending character.
        character: char,
    },
    /// The value is longer than 4,096 octets.
    #[error("the value of `{0}` has more than 4,096 octets; shorten it")]
    TooLong(String),
}

impl HeaderLine {
    /// A header line.
    ///
    /// # Errors
    /// [`HeaderLineError`] names the part that breaks a rule of the type.
    pub fn new(name: &str, value: &str) -> Result<Self, HeaderLineError> {
        let printable = |b: u8| (33..=126).contains(&b) && b != b':';
        if name.is_empty() || name.len() > 76 || !name.bytes().all(printable) {
            return Err(HeaderLineError::Name(name.chars().filter(|c| !c.is_control()).collect()));
        }
        if let Some(character) = value.chars().find(|c| c.is_control() && *c != '\t') {
            return Err(HeaderLineError::Value { name: name.to_owned(), character });
        }
        if value.len() > 4096 {
            return Err(HeaderLineError::TooLong(name.to_owned()));
        }
        Ok(Self { name: name.into(), value: value.into() })
    }

    /// The field's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The field's value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for HeaderLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.value)
    }
}

impl TryFrom<(String, String)> for HeaderLine {
    type Error = HeaderLineError;

    fn try_from((name, value): (String, String)) -> Result<Self, HeaderLineError> {
        Self::new(&name, &value)
    }
}

impl From<HeaderLine> for (String, String) {
    fn from(line: HeaderLine) -> (String, String) {
        (line.name.into(), line.value.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_be_injected_c6() {
        for (name, value, ok) in [
            ("X-Legacy", "yes", true),
            ("X-Legacy", "", true),
            ("X-Legacy", "é\tx", true),
            ("X-Legacy", "a\r\nBcc: x", false),
            ("X-Legacy", "a\nb", false),
            ("X-Legacy", "a\0", false),
            ("X:", "a", false),
            ("X Y", "a", false),
            ("X\r\nY", "a", false),
            ("", "a", false),
        ] {
            assert_eq!(HeaderLine::new(name, value).is_ok(), ok, "{name:?} {value:?}");
        }
    }
}
