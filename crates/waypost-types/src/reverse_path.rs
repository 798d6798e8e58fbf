//! The envelope sender.

use std::fmt;
use std::str::FromStr;

use crate::{Domain, Mailbox, MailboxError};

/// The envelope sender: a mailbox, or the null path `<>` of bounces (RFC 5321 section 4.5.5).
///
/// Text form: the mailbox without angle brackets; the null path is the empty text, and `<>` is read
/// too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub enum ReversePath {
    /// `<>`: nothing may bounce to it.
    Null,
    /// A mailbox that bounces go to.
    Mailbox(Mailbox),
}

impl ReversePath {
    /// The mailbox, unless this is the null path.
    #[must_use]
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            ReversePath::Null => None,
            ReversePath::Mailbox(mailbox) => Some(mailbox),
        }
    }

    /// The mailbox's domain; `None` for the null path and for an address literal.
    #[must_use]
    pub fn domain(&self) -> Option<&Domain> {
        self.mailbox().and_then(Mailbox::domain)
    }

    /// Whether this is `<>`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, ReversePath::Null)
    }
}

impl From<Mailbox> for ReversePath {
    fn from(mailbox: Mailbox) -> Self {
        ReversePath::Mailbox(mailbox)
    }
}

impl FromStr for ReversePath {
    type Err = MailboxError;

    fn from_str(text: &str) -> Result<Self, MailboxError> {
        match text {
            "" | "<>" => Ok(ReversePath::Null),
            text => text.parse().map(ReversePath::Mailbox),
        }
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReversePath::Null => Ok(()),
            ReversePath::Mailbox(mailbox) => mailbox.fmt(f),
        }
    }
}

impl TryFrom<String> for ReversePath {
    type Error = MailboxError;

    fn try_from(text: String) -> Result<Self, MailboxError> {
        text.parse()
    }
}

impl From<ReversePath> for String {
    fn from(path: ReversePath) -> String {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_mailbox() {
        assert!("".parse::<ReversePath>().unwrap().is_null());
        assert!("<>".parse::<ReversePath>().unwrap().is_null());
        let path: ReversePath = "a@b.example".parse().unwrap();
        assert_eq!(path.domain().unwrap().as_str(), "b.example");
        assert_eq!(path.to_string(), "a@b.example");
        assert!("a".parse::<ReversePath>().is_err());
    }
}
