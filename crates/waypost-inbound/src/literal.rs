//! Address literals as servers write them in `Received` lines.
//!
//! Goes in: the bytes of one word. Comes out: an address and where its text stands in the word. Known
//! are `1.2.3.4`, `2001:db8::1`, a tag (`IPv6:`), a zone (`fe80::1%eth0`, which is cut), a port behind
//! (`1.2.3.4:25`, `[1.2.3.4]:25`) or, in brackets only, `[1.2.3.4.25]`, and `[(1.2.3.4)]`. An octet
//! with a leading zero is no number here: some read it as octal. Source: RFC 5321 section 4.1.3.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;

/// No address, with all that may stand around it in its brackets, is longer.
const LONGEST: usize = 80;

/// An address and its text's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The address; an IPv4-mapped one is the same as its IPv4 address.
    pub(crate) ip: Address,
    pub(crate) at: Range<usize>,
}

/// An address as one number, IPv4 as IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2): cheap to copy and to
/// compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address(u128);

impl Address {
    fn v4(octets: [u8; 4]) -> Self {
        Self((0xffff << 32) | u128::from(u32::from_be_bytes(octets)))
    }

    fn is_v4(self) -> bool {
        self.0 >> 32 == 0xffff
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::v4(ip.octets()),
            IpAddr::V6(ip) => Self(ip.to_bits()),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        Ipv6Addr::from_bits(address.0).to_canonical()
    }
}

/// Reads a text that is nothing but an address: tag, address, zone.
fn exact(text: &[u8], at: usize) -> Option<Found> {
    if text.len() > LONGEST || !text.contains(&b':') {
        return None;
    }
    let (tag, text) = match text.split_at_checked(5) {
        Some((tag, rest)) if tag.eq_ignore_ascii_case(b"ipv6:") => (5, rest),
        Some((tag, rest)) if tag.eq_ignore_ascii_case(b"ipv4:") => (5, rest),
        _ => (0, text),
    };
    let at = at + tag;
    if !text.contains(&b':') {
        return dotted(text, at);
    }
    let text = std::str::from_utf8(text).ok()?;
    let (address, zone) = text.split_once('%').map_or((text, None), |(a, z)| (a, Some(z)));
    if !zone.is_none_or(is_zone) {
        return None;
    }
    let ip = IpAddr::V6(address.parse().ok()?);
    let length = address.len();
    Some(Found { ip: ip.into(), at: at..at + length })
}

/// Reads `1.2.3.4` and nothing else: four numbers of one to three digits, none above 255, none with a
/// leading zero.
pub(crate) fn dotted(text: &[u8], at: usize) -> Option<Found> {
    let mut octets = [0_u8; 4];
    let mut rest = text;
    for (i, octet) in octets.iter_mut().enumerate() {
        if i > 0 {
            rest = rest.strip_prefix(b".")?;
        }
        let mut number = 0_u16;
        let mut digits = 0;
        while let [digit @ b'0'..=b'9', tail @ ..] = rest {
            digits += 1;
            if digits > 3 || (digits == 2 && number == 0) {
                return None;
            }
            number = number * 10 + u16::from(*digit - b'0');
            rest = tail;
        }
        *octet = u8::try_from(number).ok().filter(|_| digits > 0)?;
    }
    rest.is_empty().then(|| Found { ip: Address::v4(octets), at: at..at + text.len() })
}

fn is_zone(zone: &str) -> bool {
    zone.starts_with(|c: char| c.is_ascii_alphanumeric())
        && zone.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_port(text: &[u8]) -> bool {
    (1..=5).contains(&text.len()) && text.iter().all(u8::is_ascii_digit)
}

/// Splits `text` at the last `mark` when a port follows it.
fn without_port(text: &[u8], mark: u8) -> Option<&[u8]> {
    let dot = text.iter().rposition(|b| *b == mark)?;
    let (head, tail) = (text.get(..dot)?, text.get(dot + 1..)?);
    is_port(tail).then_some(head)
}

/// Reads a word without brackets that is nothing but an address, maybe with `:port` behind it.
pub(crate) fn bare(text: &[u8], at: usize) -> Option<Found> {
    if text.len() > LONGEST {
        return None;
    }
    dotted(text, at).or_else(|| exact(text, at)).or_else(|| {
        let text = without_port(text, b':')?;
        dotted(text, at).or_else(|| exact(text, at).filter(|found| found.ip.is_v4()))
    })
}

/// Reads what stands between brackets.
pub(crate) fn bracketed(content: &[u8], at: usize) -> Option<Found> {
    let at = at + content.iter().take_while(|b| b.is_ascii_whitespace()).count();
    let content = content.trim_ascii();
    if content.len() > LONGEST {
        return None;
    }
    let (content, at) = match content.strip_prefix(b"(").and_then(|inner| inner.strip_suffix(b")"))
    {
        Some(inner) => (inner, at + 1),
        None => (content, at),
    };
    bare(content, at).or_else(|| {
        let content = without_port(content, b'.')?;
        dotted(content, at).or_else(|| exact(content, at))
    })
}

/// Whether what stands behind a closing bracket is only a port or a comma.
pub(crate) fn ends_literal(suffix: &[u8]) -> bool {
    let suffix = suffix.strip_suffix(b",").unwrap_or(suffix);
    match suffix.split_first() {
        None => true,
        Some((b':' | b'.', rest)) => rest.is_empty() || is_port(rest),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_that_servers_write() {
        let table: &[(&str, bool, Option<&str>)] = &[
            // (text, in brackets, address)
            ("192.0.2.1", true, Some("192.0.2.1")),
            (" 192.0.2.1 ", true, Some("192.0.2.1")),
            ("(192.0.2.1)", true, Some("192.0.2.1")),
            ("192.0.2.1:25", true, Some("192.0.2.1")),
            ("192.0.2.1.25", true, Some("192.0.2.1")),
            ("192.0.2.1.25", false, None),
            ("192.0.2.1:25", false, Some("192.0.2.1")),
            ("192.0.2.1:", false, None),
            ("IPv6:2001:db8::1", true, Some("2001:db8::1")),
            ("ipv6:2001:DB8::1", true, Some("2001:db8::1")),
            ("IPv6:::1", true, Some("::1")),
            ("2001:db8::1", false, Some("2001:db8::1")),
            ("::ffff:192.0.2.1", false, Some("192.0.2.1")),
            ("::FFFF:5102:45D8", true, Some("81.2.69.216")),
            ("IPv6:::ffff:192.0.2.1", true, Some("192.0.2.1")),
            ("fe80::1%eth0", true, Some("fe80::1")),
            ("fe80::1%9", false, Some("fe80::1")),
            ("fe80::1%", true, None),
            ("192.0.2.1%eth0", true, None),
            ("192.0.02.1", true, None),
            ("0192.0.2.1", true, None),
            ("256.0.2.1", true, None),
            ("192.0.2", true, None),
            ("192.0.2.xxx", true, None),
            ("3221225985", true, None),
            ("0xc0000201", true, None),
            ("2002:xxxx::1", true, None),
            ("unix socket", true, None),
            ("", true, None),
            ("192.0.2.1\0", true, None),
        ];
        for (text, in_brackets, want) in table {
            let read = if *in_brackets { bracketed } else { bare };
            let found = read(text.as_bytes(), 0);
            let want: Option<IpAddr> = want.map(|ip| ip.parse().unwrap());
            assert_eq!(found.as_ref().map(|found| found.ip.into()), want, "{text:?}");
            if let Some(found) = found {
                let text: IpAddr = text[found.at].parse().unwrap();
                assert_eq!(text.to_canonical(), IpAddr::from(found.ip));
            }
        }
    }
}
