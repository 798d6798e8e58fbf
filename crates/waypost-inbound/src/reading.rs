//! One `Received` line, read.

use std::net::IpAddr;
use std::ops::Range;

use crate::clause::Clause;
use crate::client;

/// What the value of a `Received` field says about the client that handed the message over (E4).
///
/// ```
/// use waypost_inbound::Reading;
///
/// let hop = |line: &str| match Reading::of(line.as_bytes()) {
///     Reading::From(hop) => Some(hop.ip.to_string()),
///     Reading::By | Reading::Unreadable(_) => None,
/// };
/// assert_eq!(hop("from a (b.example [192.0.2.1]) by c; date").as_deref(), Some("192.0.2.1"));
/// assert_eq!(hop("from [192.0.2.1] (helo=8.8.8.8) by c; date").as_deref(), Some("192.0.2.1"));
/// assert_eq!(hop("from 8.8.8.8 (unknown [unix socket]) by c; date"), None);
/// assert_eq!(hop("by 192.0.2.1 with SMTP id x; date"), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The line names its client.
    From(Hop),
    /// The line is no hop: it does not begin with the word `from`.
    By,
    /// The line begins with `from`, but the client's address cannot be told.
    Unreadable(Unreadable),
}

/// The client of a `Received: from` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The client's address; an IPv4-mapped one is given as IPv4, a zone is cut off.
    pub ip: IpAddr,
    /// Where in the line it was found.
    pub place: Place,
    /// Where the address's text stands in the value that was read, in bytes.
    pub text: Range<usize>,
}

/// Where a line names its client (E4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// In the client information, `(name [ip])` and its like: what the server saw.
    ClientInformation,
    /// As a literal, right after `from` or behind the first word.
    Literal,
}

/// Why a line that begins with `from` names no client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unreadable {
    /// No address stands where the client's would: `from mail.example by …`.
    NoAddress,
    /// The client's place holds something else: `(unknown [])`, `([unix socket])`.
    Masked,
    /// Two places name different clients and either may be a forger's.
    Ambiguous,
    /// A parenthesis is not closed.
    Unbalanced,
}

impl Reading {
    /// Reads a field's value as it stands in the header, folds and all.
    ///
    /// Any bytes may be given. Time is linear in their number; nothing is allocated; no error: a line
    /// that cannot be read is a value.
    #[must_use]
    pub fn of(value: &[u8]) -> Self {
        Self::counted(value).0
    }

    /// The same with the number of bytes looked at, for the test of E12.
    fn counted(value: &[u8]) -> (Self, usize) {
        let Some(clause) = Clause::of(value) else { return (Self::By, 0) };
        let (read, steps) = client::read(value, clause);
        let reading = match read {
            Ok((found, place)) => Self::From(Hop { ip: found.ip.into(), place, text: found.at }),
            Err(because) => Self::Unreadable(because),
        };
        (reading, steps)
    }

    /// The client's address, if it could be read.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::From(hop) => Some(hop.ip),
            Self::By | Self::Unreadable(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_megabyte_is_looked_at_a_few_times_at_most_e12() {
        const LENGTH: usize = 1 << 20;
        for piece in [
            "a",
            " ",
            "(",
            ")",
            "()",
            "[",
            "[(",
            "[]",
            "[ ",
            "(\"",
            "\"",
            "\\",
            "@",
            "(a@",
            ",",
            ";",
            "(a b) ",
            "a ",
            "1.2.3.4 ",
            "([1.2.3.4] ",
            "(((",
            "[a[a",
            "by ",
            "(by ",
            "\0",
            ":",
            "=",
        ] {
            for head in ["from ", "from x (", "from x (r [", "from x; "] {
                let line = format!("{head}{}", piece.repeat(LENGTH / piece.len()));
                let (_, steps) = Reading::counted(line.as_bytes());
                assert!(steps <= 6 * line.len(), "{head}{piece}: {steps} steps");
            }
        }
    }
}
