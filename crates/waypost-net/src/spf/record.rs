//! The text of an SPF record (RFC 7208 sections 4.6 and 12).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::SpfResult;
use super::macros::check;

/// What a record says, in its order.
#[derive(Debug, PartialEq)]
pub(super) struct Record {
    pub(super) directives: Vec<Directive>,
    /// The domain whose record holds when no directive matches.
    pub(super) redirect: Option<Box<str>>,
}

/// A mechanism and what it means when it matches.
#[derive(Debug, PartialEq)]
pub(super) struct Directive {
    /// As written.
    pub(super) text: Box<str>,
    pub(super) result: SpfResult,
    pub(super) mechanism: Mechanism,
}

/// The prefix lengths that an address is compared under.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Prefix {
    pub(super) v4: u8,
    pub(super) v6: u8,
}

#[derive(Debug, PartialEq)]
pub(super) enum Mechanism {
    All,
    Include(Box<str>),
    A(Option<Box<str>>, Prefix),
    Mx(Option<Box<str>>, Prefix),
    Ptr(Option<Box<str>>),
    Ip4(Ipv4Addr, u8),
    Ip6(Ipv6Addr, u8),
    Exists(Box<str>),
}

/// Whether a TXT record is an SPF record (RFC 7208 section 4.5).
pub(super) fn is_spf(text: &str) -> bool {
    let version = text.split(' ').next().unwrap_or_default();
    version.eq_ignore_ascii_case("v=spf1")
}

impl Record {
    /// Reads a record; a fault anywhere makes the whole unusable (RFC 7208 section 4.6).
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut record = Record { directives: Vec::new(), redirect: None };
        let mut explained = false;
        for term in text.split(' ').skip(1).filter(|term| !term.is_empty()) {
            let wrong = |what: &str| format!("`{term}` {what}");
            match modifier(term) {
                Some(("redirect", domain)) => {
                    check(domain).map_err(|what| wrong(&what))?;
                    if record.redirect.replace(domain.into()).is_some() {
                        return Err(wrong("is the second `redirect=`"));
                    }
                }
                Some(("exp", domain)) => {
                    check(domain).map_err(|what| wrong(&what))?;
                    if std::mem::replace(&mut explained, true) {
                        return Err(wrong("is the second `exp=`"));
                    }
                }
                Some(_) => {}
                None => record.directives.push(directive(term).map_err(|what| wrong(&what))?),
            }
        }
        Ok(record)
    }
}

/// Name, in lower case where it is a known one, and value of `name=value`.
fn modifier(term: &str) -> Option<(&str, &str)> {
    let (name, value) = term.split_once('=')?;
    let mut letters = name.bytes();
    let begins = letters.next().is_some_and(|first| first.is_ascii_alphabetic());
    if !begins || !letters.all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return None;
    }
    let known = ["redirect", "exp"].into_iter().find(|known| known.eq_ignore_ascii_case(name));
    Some((known.unwrap_or(name), value))
}

fn directive(term: &str) -> Result<Directive, String> {
    let (result, rest) = match term.split_at_checked(1) {
        Some(("+", rest)) => (SpfResult::Pass, rest),
        Some(("-", rest)) => (SpfResult::Fail, rest),
        Some(("~", rest)) => (SpfResult::SoftFail, rest),
        Some(("?", rest)) => (SpfResult::Neutral, rest),
        _ => (SpfResult::Pass, term),
    };
    let end = rest.find([':', '/']).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    let mechanism = match (name.to_ascii_lowercase().as_str(), rest.strip_prefix(':')) {
        ("all", None) if rest.is_empty() => Mechanism::All,
        ("include", Some(domain)) => Mechanism::Include(spec(domain)?),
        ("exists", Some(domain)) => Mechanism::Exists(spec(domain)?),
        ("ptr", None) if rest.is_empty() => Mechanism::Ptr(None),
        ("ptr", Some(domain)) => Mechanism::Ptr(Some(spec(domain)?)),
        ("a", _) => {
            let (domain, prefix) = target(rest)?;
            Mechanism::A(domain, prefix)
        }
        ("mx", _) => {
            let (domain, prefix) = target(rest)?;
            Mechanism::Mx(domain, prefix)
        }
        ("ip4", Some(block)) => {
            let (ip, length) = block_of(block, 32)?;
            Mechanism::Ip4(ip.parse().map_err(|_| "has no IPv4 address".to_owned())?, length)
        }
        ("ip6", Some(block)) => {
            let (ip, length) = block_of(block, 128)?;
            Mechanism::Ip6(ip.parse().map_err(|_| "has no IPv6 address".to_owned())?, length)
        }
        _ => return Err("is no mechanism of SPF".to_owned()),
    };
    Ok(Directive { text: term.into(), result, mechanism })
}

fn spec(domain: &str) -> Result<Box<str>, String> {
    check(domain)?;
    Ok(domain.into())
}

/// `[":" domain] ["/" v4] ["//" v6]`.
fn target(rest: &str) -> Result<(Option<Box<str>>, Prefix), String> {
    let (rest, v6) = match rest.rsplit_once("//") {
        Some((rest, length)) => (rest, prefix_length(length, 128)?),
        None => (rest, 128),
    };
    // A slash inside `%{…}` is a delimiter.
    let slash = rest.rfind('/').filter(|at| rest.get(*at..).is_some_and(|end| !end.contains('}')));
    let (domain, v4) = match slash.and_then(|at| rest.split_at_checked(at)) {
        Some((domain, length)) => (domain, prefix_length(length.get(1..).unwrap_or(""), 32)?),
        None => (rest, 32),
    };
    let domain = match domain.strip_prefix(':') {
        Some(domain) => Some(spec(domain)?),
        None if domain.is_empty() => None,
        None => return Err("is no mechanism of SPF".to_owned()),
    };
    Ok((domain, Prefix { v4, v6 }))
}

fn block_of(block: &str, longest: u8) -> Result<(&str, u8), String> {
    match block.split_once('/') {
        Some((ip, length)) => Ok((ip, prefix_length(length, longest)?)),
        None => Ok((block, longest)),
    }
}

fn prefix_length(digits: &str, longest: u8) -> Result<u8, String> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let written = plain && (digits == "0" || !digits.starts_with('0'));
    let length = digits.parse().ok().filter(|length| written && *length <= longest);
    length.ok_or_else(|| format!("has a prefix length other than 0 to {longest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_version_makes_a_record_b4() {
        for (text, want) in [
            ("v=spf1", true),
            ("v=spf1 -all", true),
            ("V=SPF1 -all", true),
            ("v=spf10 -all", false),
            ("v=spf1,-all", false),
            (" v=spf1 -all", false),
            ("spf2.0/pra -all", false),
            ("", false),
        ] {
            assert_eq!(is_spf(text), want, "{text}");
        }
    }

    #[test]
    fn terms_b4() {
        let domain = |text: &str| Some(text.into());
        for (term, want) in [
            ("all", Ok(Mechanism::All)),
            ("ALL", Ok(Mechanism::All)),
            ("include:_spf.a.example", Ok(Mechanism::Include("_spf.a.example".into()))),
            ("a", Ok(Mechanism::A(None, Prefix { v4: 32, v6: 128 }))),
            ("a/24", Ok(Mechanism::A(None, Prefix { v4: 24, v6: 128 }))),
            ("a//64", Ok(Mechanism::A(None, Prefix { v4: 32, v6: 64 }))),
            (
                "a:b.example/24//64",
                Ok(Mechanism::A(domain("b.example"), Prefix { v4: 24, v6: 64 })),
            ),
            ("mx:b.example", Ok(Mechanism::Mx(domain("b.example"), Prefix { v4: 32, v6: 128 }))),
            (
                "a:%{d1r/}.example",
                Ok(Mechanism::A(domain("%{d1r/}.example"), Prefix { v4: 32, v6: 128 })),
            ),
            ("ptr", Ok(Mechanism::Ptr(None))),
            ("ip4:192.0.2.0/24", Ok(Mechanism::Ip4(Ipv4Addr::new(192, 0, 2, 0), 24))),
            ("ip4:192.0.2.1", Ok(Mechanism::Ip4(Ipv4Addr::new(192, 0, 2, 1), 32))),
            ("ip6:2001:db8::/32", Ok(Mechanism::Ip6("2001:db8::".parse().unwrap(), 32))),
            ("exists:%{i}._spf.a.example", Ok(Mechanism::Exists("%{i}._spf.a.example".into()))),
            ("ip4:192.0.2.0/33", Err("has a prefix length other than 0 to 32")),
            ("ip4:192.0.2.0/024", Err("has a prefix length other than 0 to 32")),
            ("ip4:192.0.2", Err("has no IPv4 address")),
            ("ip4:2001:db8::1", Err("has no IPv4 address")),
            ("ip6:192.0.2.1", Err("has no IPv6 address")),
            ("ip4", Err("is no mechanism of SPF")),
            ("all:x", Err("is no mechanism of SPF")),
            ("include", Err("is no mechanism of SPF")),
            ("include:", Err("names no domain")),
            ("a:", Err("names no domain")),
            ("ipv4:192.0.2.1", Err("is no mechanism of SPF")),
            ("exists:%{x}.example", Err("has a macro that is none: `%{x}`")),
            ("exists:%{d0}.example", Err("has a macro that is none: `%{d0}`")),
            ("exists:%a", Err("has a lone `%`")),
        ] {
            let got = directive(term).map(|found| found.mechanism);
            assert_eq!(got, want.map_err(ToOwned::to_owned), "{term}");
        }
    }

    #[test]
    fn records_b4() {
        for (text, want) in [
            ("v=spf1", "0 -"),
            ("v=spf1  mx   -all ", "2 -"),
            ("v=spf1 redirect=_spf.a.example", "0 _spf.a.example"),
            ("v=spf1 moo=%{xyz REDIRECT=b.example", "0 b.example"),
            ("v=spf1 redirect=a.example redirect=b.example", "`redirect=b.example` is the second"),
            ("v=spf1 exp=a.example exp=b.example", "`exp=b.example` is the second"),
            ("v=spf1 redirect=", "`redirect=` names no domain"),
            ("v=spf1 ip4:192.0.2.1,ip4:192.0.2.2", "`ip4:192.0.2.1,ip4:192.0.2.2` has no IPv4"),
        ] {
            let got = match Record::read(text) {
                Ok(found) => {
                    let redirect = found.redirect.as_deref().unwrap_or("-");
                    format!("{} {redirect}", found.directives.len())
                }
                Err(what) => what,
            };
            assert!(got.starts_with(want), "{text}: {got}");
        }
    }
}
