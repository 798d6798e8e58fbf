//! What a peer says it can do.

/// The extensions that a peer offered in its reply to EHLO or LHLO.
///
/// Unknown keywords are passed over; nothing is offered after HELO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// `PIPELINING` (RFC 2920).
    pub pipelining: bool,
    /// `CHUNKING` (RFC 3030).
    pub chunking: bool,
    /// `STARTTLS` (RFC 3207).
    pub starttls: bool,
    /// `8BITMIME` (RFC 6152).
    pub eight_bit_mime: bool,
    /// `SMTPUTF8` (RFC 6531).
    pub smtputf8: bool,
    /// `DSN` (RFC 3461).
    pub dsn: bool,
    /// `SIZE` (RFC 1870).
    pub size: Size,
    /// `AUTH PLAIN` (RFC 4954, RFC 4616).
    pub auth_plain: bool,
    /// `AUTH LOGIN`.
    pub auth_login: bool,
}

/// What a peer says of the size of messages (RFC 1870).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Size {
    /// `SIZE` is not offered.
    #[default]
    Unsaid,
    /// Offered, without a limit.
    Unlimited,
    /// Offered, with the largest number of octets that the peer takes.
    AtMost(u64),
}

impl Extensions {
    /// From the lines of the reply; the first one is the peer's name and greeting.
    pub(super) fn from_lines(lines: &[Box<str>]) -> Self {
        let mut found = Self::default();
        for line in lines.iter().skip(1) {
            let mut words = line.split_ascii_whitespace();
            let Some(keyword) = words.next() else { continue };
            match keyword.to_ascii_uppercase().as_str() {
                "PIPELINING" => found.pipelining = true,
                "CHUNKING" => found.chunking = true,
                "STARTTLS" => found.starttls = true,
                "8BITMIME" => found.eight_bit_mime = true,
                "SMTPUTF8" => found.smtputf8 = true,
                "DSN" => found.dsn = true,
                "SIZE" => found.size = size(words.next()),
                "AUTH" => {
                    for mechanism in words {
                        found.auth_plain |= mechanism.eq_ignore_ascii_case("PLAIN");
                        found.auth_login |= mechanism.eq_ignore_ascii_case("LOGIN");
                    }
                }
                _ => {}
            }
        }
        found
    }
}

/// 0, nothing, or something that is no number: no limit is known.
fn size(limit: Option<&str>) -> Size {
    match limit.and_then(|digits| digits.parse::<u64>().ok()) {
        None | Some(0) => Size::Unlimited,
        Some(limit) => Size::AtMost(limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_read_without_case_and_the_greeting_is_none() {
        let read = |text: &str| {
            Extensions::from_lines(&text.split('|').map(Into::into).collect::<Vec<_>>())
        };
        let none = Extensions::default();
        for (text, want) in [
            ("PIPELINING", none),
            ("mx|pipelining", Extensions { pipelining: true, ..none }),
            ("mx|Chunking", Extensions { chunking: true, ..none }),
            ("mx|SIZE", Extensions { size: Size::Unlimited, ..none }),
            ("mx|SIZE 0", Extensions { size: Size::Unlimited, ..none }),
            ("mx|SIZE 10", Extensions { size: Size::AtMost(10), ..none }),
            ("mx|SIZE -1", Extensions { size: Size::Unlimited, ..none }),
            ("mx|SIZE 99999999999999999999999", Extensions { size: Size::Unlimited, ..none }),
            ("mx|AUTH gssapi Plain", Extensions { auth_plain: true, ..none }),
            ("mx|AUTH=PLAIN", none),
            ("mx|AUTH LOGIN PLAIN", Extensions { auth_plain: true, auth_login: true, ..none }),
            ("mx||  |X-PIPELINING|STARTTLS please", Extensions { starttls: true, ..none }),
            (
                "mx|DSN|8BITMIME|SMTPUTF8",
                Extensions { dsn: true, eight_bit_mime: true, smtputf8: true, ..none },
            ),
        ] {
            assert_eq!(read(text), want, "{text}");
        }
    }
}
