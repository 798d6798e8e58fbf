//! Socketmap: a request is a netstring `name key`, an answer one too (`socketmap_table(5)`).

use std::fmt;

use crate::error::RequestError;
use crate::netstring::netstring;
use crate::text::{one_line, shown};

/// One look-up in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketmapRequest {
    /// The table's name: what stands last in `socketmap:unix:path:name`.
    pub name: Box<str>,
    /// What is looked up.
    pub key: Box<str>,
}

impl SocketmapRequest {
    /// Reads what is inside a netstring. Octets that are no UTF-8 become U+FFFD, which no key holds.
    ///
    /// # Errors
    /// [`RequestError::NoKey`] where there is no blank.
    pub fn decode(inside: &[u8]) -> Result<Self, RequestError> {
        let text = String::from_utf8_lossy(inside);
        match text.split_once(' ') {
            Some((name, key)) if !name.is_empty() => {
                Ok(Self { name: name.into(), key: key.into() })
            }
            _ => Err(RequestError::NoKey(shown(inside))),
        }
    }

    /// The request as it goes over the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        netstring(format!("{} {}", self.name, self.key).as_bytes())
    }
}

/// The answer to a look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketmapReply {
    /// The key's value.
    Ok(Box<str>),
    /// There is none.
    NotFound,
    /// It cannot be told now: Postfix tries again later.
    Temp(Box<str>),
    /// The same, since something took too long.
    Timeout(Box<str>),
    /// It can never be told: a mistake in a configuration.
    Perm(Box<str>),
}

impl fmt::Display for SocketmapReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let because = |text: &str| one_line(text, 1000);
        match self {
            Self::Ok(value) => write!(f, "OK {value}"),
            Self::NotFound => f.write_str("NOTFOUND "),
            Self::Temp(text) => write!(f, "TEMP {}", because(text)),
            Self::Timeout(text) => write!(f, "TIMEOUT {}", because(text)),
            Self::Perm(text) => write!(f, "PERM {}", because(text)),
        }
    }
}

impl SocketmapReply {
    /// The answer as it goes over the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        netstring(self.to_string().as_bytes())
    }

    /// Reads what is inside a netstring, for clients.
    ///
    /// # Errors
    /// [`RequestError::NotAnAnswer`] when it begins with none of the words of an answer.
    pub fn decode(inside: &[u8]) -> Result<Self, RequestError> {
        let not = || RequestError::NotAnAnswer(shown(inside));
        let text = std::str::from_utf8(inside).map_err(|_| not())?;
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        Ok(match word {
            "OK" => Self::Ok(rest.into()),
            "NOTFOUND" => Self::NotFound,
            "TEMP" => Self::Temp(rest.into()),
            "TIMEOUT" => Self::Timeout(rest.into()),
            "PERM" => Self::Perm(rest.into()),
            _ => return Err(not()),
        })
    }
}
