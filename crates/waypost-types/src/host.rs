//! Where one can connect to: a name or an address, and a port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::{Domain, DomainError};

/// A host: a name to be looked up, or an IP address.
///
/// Text forms taken: `mail.example`, `192.0.2.1`, `[192.0.2.1]`, `2001:db8::1`, `[2001:db8::1]`,
/// `[IPv6:2001:db8::1]`. An IPv4-mapped IPv6 address becomes the IPv4 address it stands for.
/// Shown without brackets; [`HostPort`] and [`Mailbox`](crate::Mailbox) add theirs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub enum Host {
    /// A name for DNS.
    Name(Domain),
    /// An address to connect to as it is.
    Ip(IpAddr),
}

/// Why a text names no host, or no host and port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Brackets with something other than an IP address inside.
    #[error("`{0}` is no IP address; write `[192.0.2.1]` or `[2001:db8::1]`")]
    Literal(String),
    /// Neither an address nor a name.
    #[error("`{text}` is no host name: {source}")]
    Name {
        /// The text as given.
        text: String,
        /// The rule that it breaks.
        source: DomainError,
    },
    /// The port is missing, zero or above 65535.
    #[error("`{0}` is no port; write a number from 1 to 65535")]
    Port(String),
}

impl Host {
    /// The name, if this is one.
    #[must_use]
    pub fn name(&self) -> Option<&Domain> {
        match self {
            Host::Name(name) => Some(name),
            Host::Ip(_) => None,
        }
    }

    /// The address, if this is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Host::Name(_) => None,
            Host::Ip(ip) => Some(*ip),
        }
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        Host::Ip(ip.to_canonical())
    }
}

impl From<Domain> for Host {
    fn from(name: Domain) -> Self {
        Host::Name(name)
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if let Some(inside) = text.strip_prefix('[') {
            let inside = inside.strip_suffix(']').ok_or_else(|| HostError::Literal(text.into()))?;
            return literal(inside).map(Host::Ip).ok_or_else(|| HostError::Literal(text.into()));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(ip.into());
        }
        text.parse()
            .map(Host::Name)
            .map_err(|source| HostError::Name { text: text.to_owned(), source })
    }
}

/// The inside of an address literal: `192.0.2.1`, `2001:db8::1`, `IPv6:2001:db8::1`.
fn literal(inside: &str) -> Option<IpAddr> {
    let v6 = inside.get(..5).filter(|tag| tag.eq_ignore_ascii_case("ipv6:"));
    let ip = match v6 {
        Some(_) => IpAddr::V6(inside.get(5..)?.parse::<Ipv6Addr>().ok()?),
        None => match inside.parse::<Ipv4Addr>() {
            Ok(v4) => IpAddr::V4(v4),
            Err(_) => IpAddr::V6(inside.parse().ok()?),
        },
    };
    Some(ip.to_canonical())
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => name.fmt(f),
            Host::Ip(ip) => ip.fmt(f),
        }
    }
}

impl TryFrom<String> for Host {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

impl From<Host> for String {
    fn from(host: Host) -> String {
        host.to_string()
    }
}

/// A host and a TCP port, shown as `mail.example:25`, `192.0.2.1:25` or `[2001:db8::1]:25`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct HostPort {
    /// The host.
    pub host: Host,
    /// The port, 1 to 65535 when parsed.
    pub port: u16,
}

impl HostPort {
    /// Puts the two together.
    #[must_use]
    pub fn new(host: impl Into<Host>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Reads `host`, `host:port`, `ip`, `[ip]` or `[ip]:port` (B1); without a port, `default_port`.
    ///
    /// A bare IPv6 address is all address: a port needs brackets.
    ///
    /// # Errors
    /// [`HostError`] names the part that is wrong.
    pub fn parse_or(text: &str, default_port: u16) -> Result<Self, HostError> {
        let (host, port) = match (text.rfind(']'), text.rfind(':')) {
            (Some(bracket), Some(colon)) if colon > bracket => text.split_at(colon),
            (None, Some(colon)) if text.find(':') == Some(colon) => text.split_at(colon),
            _ => (text, ""),
        };
        let port = match port.strip_prefix(':') {
            None => default_port,
            Some(digits) => parse_port(digits)?,
        };
        Ok(Self { host: host.parse()?, port })
    }
}

fn parse_port(digits: &str) -> Result<u16, HostError> {
    let wrong = || HostError::Port(digits.to_owned());
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    digits.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)
}

impl FromStr for HostPort {
    type Err = HostError;

    /// As [`HostPort::parse_or`], but the port must be there.
    fn from_str(text: &str) -> Result<Self, HostError> {
        match Self::parse_or(text, 0)? {
            Self { port: 0, .. } => Err(HostError::Port(text.to_owned())),
            found => Ok(found),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

impl TryFrom<String> for HostPort {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(host: HostPort) -> String {
        host.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_forms_b1() {
        for (text, want) in [
            ("smarthost.example", Some("smarthost.example:25")),
            ("smarthost.example:587", Some("smarthost.example:587")),
            ("192.0.2.1", Some("192.0.2.1:25")),
            ("192.0.2.1:2525", Some("192.0.2.1:2525")),
            ("[192.0.2.1]", Some("192.0.2.1:25")),
            ("[192.0.2.1]:587", Some("192.0.2.1:587")),
            ("2001:db8::1", Some("[2001:db8::1]:25")),
            ("[2001:db8::1]", Some("[2001:db8::1]:25")),
            ("[IPv6:2001:db8::1]:587", Some("[2001:db8::1]:587")),
            ("::ffff:192.0.2.1", Some("192.0.2.1:25")),
            ("smarthost.example:", None),
            ("smarthost.example:0", None),
            ("smarthost.example:65536", None),
            ("smarthost.example:+25", None),
            ("[smarthost.example]", None),
            ("[192.0.2.1", None),
            ("192.0.2.1]", None),
            ("", None),
            (":25", None),
        ] {
            let got = HostPort::parse_or(text, 25).ok().map(|found| found.to_string());
            assert_eq!(got.as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn display_parses_back() {
        for text in ["a.example:25", "192.0.2.1:25", "[2001:db8::1]:465"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        assert!("a.example".parse::<HostPort>().is_err());
    }
}
