//! A domain name in the one form that can be compared: A-labels in lower case.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A domain name: A-labels in lower case, without a trailing dot (RFC 5321 section 4.1.2, RFC 5890).
///
/// Two domains are equal when their bytes are. At most 253 octets, each label 1 to 63 octets of
/// letters, digits, `-` and `_` (the last is not in the RFC, but in use), no label begins or ends with
/// a hyphen. The last label is not all digits, so an IP address is never taken for a name.
///
/// A clone shares its text and allocates nothing.
///
/// With the feature `idna`, U-labels are taken and converted (UTS 46, non-transitional); without it
/// they are [`DomainError::NotAscii`].
///
/// ```
/// use waypost_types::Domain;
/// let domain: Domain = "Mail.Solarmora.COM.".parse()?;
/// assert_eq!(domain.as_str(), "mail.solarmora.com");
/// # Ok::<(), waypost_types::DomainError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct Domain(Arc<str>);

/// Why a text is no domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DomainError {
    /// The text is empty, or a lone dot.
    #[error("a domain name is empty; write one such as `example.com`")]
    Empty,
    /// More than 253 octets.
    #[error("a domain name has more than 253 octets (RFC 1035 section 2.3.4); shorten it")]
    TooLong,
    /// A label is empty or has more than 63 octets.
    #[error("a label of a domain name has 1 to 63 octets (RFC 1035 section 2.3.4); look for `..`")]
    LabelLength,
    /// A character other than letters, digits, `-`, `_` and `.`.
    #[error("a domain name holds `{0}`; only letters, digits, `-`, `_` and `.` may stand there")]
    Character(char),
    /// A label begins or ends with a hyphen.
    #[error("a label of a domain name begins or ends with `-` (RFC 1123 section 2.1)")]
    Hyphen,
    /// The last label is all digits, as in an IPv4 address.
    #[error("a domain name ends in an all-digit label; write an IP address as `[192.0.2.1]`")]
    Numeric,
    /// A character outside ASCII, and the feature `idna` is off or the name is no valid IDN.
    #[error(
        "a domain name holds characters outside ASCII that are no valid internationalised name"
    )]
    NotAscii,
}

impl Domain {
    /// The name as text: A-labels, lower case, no trailing dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `ancestor` itself or a name below it (`mail.example.com` below `example.com`).
    #[must_use]
    pub fn is_at_or_below(&self, ancestor: &Domain) -> bool {
        match self.0.strip_suffix(&*ancestor.0) {
            Some("") => true,
            Some(rest) => rest.ends_with('.'),
            None => false,
        }
    }

    /// The name without its first label, or `None` for a single label.
    #[must_use]
    pub fn parent(&self) -> Option<Domain> {
        self.0.split_once('.').map(|(_, rest)| Domain(rest.into()))
    }

    /// This name and those above it, nearest first: `a.b.c`, `b.c`, `c`. Allocates nothing.
    pub fn suffixes(&self) -> impl Iterator<Item = &str> {
        let mut rest = Some(&*self.0);
        std::iter::from_fn(move || {
            let here = rest?;
            rest = here.split_once('.').map(|(_, above)| above);
            Some(here)
        })
    }

    /// Whether the name has one label only, as `localhost` has.
    #[must_use]
    pub fn is_unqualified(&self) -> bool {
        !self.0.contains('.')
    }
}

impl FromStr for Domain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_ascii() {
            checked(text.to_ascii_lowercase())
        } else {
            checked(to_a_labels(text)?)
        }
    }
}

fn checked(name: String) -> Result<Domain, DomainError> {
    if name.is_empty() {
        return Err(DomainError::Empty);
    }
    if name.len() > 253 {
        return Err(DomainError::TooLong);
    }
    let mut last = "";
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return Err(DomainError::LabelLength);
        }
        if let Some(odd) =
            label.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-' && *c != '_')
        {
            return Err(DomainError::Character(odd));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(DomainError::Hyphen);
        }
        last = label;
    }
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DomainError::Numeric);
    }
    Ok(Domain(name.into()))
}

#[cfg(feature = "idna")]
fn to_a_labels(text: &str) -> Result<String, DomainError> {
    idna::domain_to_ascii(text).map_err(|_| DomainError::NotAscii)
}

#[cfg(not(feature = "idna"))]
fn to_a_labels(_text: &str) -> Result<String, DomainError> {
    Err(DomainError::NotAscii)
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lets maps keyed by `Domain` be asked with a `&str` that is already in the stored form.
impl std::borrow::Borrow<str> for Domain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Domain {
    type Error = DomainError;

    fn try_from(text: String) -> Result<Self, DomainError> {
        text.parse()
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> String {
        domain.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_refuses() {
        let long_label = "a".repeat(64);
        let long_name = format!("{}com", "abcdefg.".repeat(32));
        let table: &[(&str, Result<&str, DomainError>)] = &[
            ("example.com", Ok("example.com")),
            ("EXAMPLE.Com.", Ok("example.com")),
            ("localhost", Ok("localhost")),
            ("_dmarc.example.com", Ok("_dmarc.example.com")),
            ("xn--bcher-kva.example", Ok("xn--bcher-kva.example")),
            ("3com.com", Ok("3com.com")),
            ("", Err(DomainError::Empty)),
            (".", Err(DomainError::Empty)),
            ("a..b", Err(DomainError::LabelLength)),
            (".a", Err(DomainError::LabelLength)),
            ("a.b..", Err(DomainError::LabelLength)),
            (&long_label, Err(DomainError::LabelLength)),
            (&long_name, Err(DomainError::TooLong)),
            ("a b.com", Err(DomainError::Character(' '))),
            ("a\r.com", Err(DomainError::Character('\r'))),
            ("-a.com", Err(DomainError::Hyphen)),
            ("a-.com", Err(DomainError::Hyphen)),
            ("192.0.2.1", Err(DomainError::Numeric)),
            ("12", Err(DomainError::Numeric)),
        ];
        for (text, want) in table {
            let got = text.parse::<Domain>();
            assert_eq!(got.as_ref().map(Domain::as_str), want.as_ref().copied(), "{text:?}");
        }
    }

    #[cfg(feature = "idna")]
    #[test]
    fn u_labels_become_a_labels() {
        assert_eq!("Bücher.Example".parse::<Domain>().unwrap().as_str(), "xn--bcher-kva.example");
        assert_eq!("a\u{fffd}.com".parse::<Domain>(), Err(DomainError::NotAscii));
    }

    #[test]
    fn below_means_a_whole_label_c3() {
        let ours: Domain = "solarmora.com".parse().unwrap();
        for (name, below) in [
            ("solarmora.com", true),
            ("mail.solarmora.com", true),
            ("notsolarmora.com", false),
            ("com", false),
            ("solarmora.com.example", false),
        ] {
            assert_eq!(name.parse::<Domain>().unwrap().is_at_or_below(&ours), below, "{name}");
        }
        let names: Vec<_> = ours.suffixes().collect();
        assert_eq!(names, ["solarmora.com", "com"]);
        assert_eq!(ours.parent().unwrap().as_str(), "com");
    }
}
