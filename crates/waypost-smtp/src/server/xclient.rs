//! The attributes of XCLIENT.
//!
//! **In:** what stands behind the verb. **Out:** an [`Xclient`]. **Bounds:** linear in the line.
//! **Errors:** a `501` that names the attribute and the cure. **Source:** Postfix's `XCLIENT_README`;
//! xtext is that of RFC 3461 section 4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use waypost_types::Reply;

use super::HelloKind;
use super::command::{self, arguments};

/// What a trusted proxy says of the client that it passes on, by XCLIENT. What it does not say is
/// `None`.
///
/// What it says was proved to the proxy at best, never to us: a [`login`](Self::login) is for the log,
/// and gives no right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Xclient {
    /// `ADDR`: the client's address, IPv4-mapped made IPv4.
    pub address: Option<Told<IpAddr>>,
    /// `PORT`: the client's port.
    pub port: Option<Told<u16>>,
    /// `NAME`: the client's name by DNS.
    pub name: Option<Told<Box<str>>>,
    /// `HELO`: what the client said in HELO or EHLO; characters as in
    /// [`Event::Hello`](super::Event::Hello).
    pub helo: Option<Told<Box<str>>>,
    /// `PROTO`: whether the client said EHLO (`ESMTP`) or HELO (`SMTP`).
    pub protocol: Option<HelloKind>,
    /// `LOGIN`: the user that the client proved to be to the proxy.
    pub login: Option<Told<Box<str>>>,
    /// `DESTADDR`: the address that the client connected to.
    pub destination: Option<Told<IpAddr>>,
    /// `DESTPORT`: and its port.
    pub destination_port: Option<Told<u16>>,
}

/// A value, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<T> {
    /// The value.
    Known(T),
    /// `[UNAVAILABLE]`: there is none.
    Unavailable,
    /// `[TEMPUNAVAIL]`: there is none at the moment.
    Later,
}

impl<T> Told<T> {
    /// The value, if there is one.
    pub fn known(&self) -> Option<&T> {
        match self {
            Told::Known(value) => Some(value),
            Told::Unavailable | Told::Later => None,
        }
    }
}

/// Behind XCLIENT in the reply to EHLO.
pub(super) const ATTRIBUTES: &str = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT";

/// The attributes of one command; one at least, none twice.
pub(super) fn parse(rest: &str) -> Result<Xclient, Reply> {
    let mut said = Xclient::default();
    let mut words = rest.split(' ').filter(|word| !word.is_empty()).peekable();
    if words.peek().is_none() {
        return Err(arguments("Write XCLIENT and attributes, such as ADDR=192.0.2.1"));
    }
    for word in words {
        let (name, value) = word
            .split_once('=')
            .ok_or_else(|| arguments("An attribute of XCLIENT is a name, `=` and a value"))?;
        let name = name.to_ascii_uppercase();
        let value = xtext(value).ok_or_else(|| wrong(&name, "xtext (RFC 3461 section 4)"))?;
        let (name, value) = (&*name, &*value);
        match name {
            "ADDR" => put(&mut said.address, name, told(name, value, "an IP address", ip)?),
            "PORT" => put(&mut said.port, name, told(name, value, "a port", port)?),
            "NAME" => put(&mut said.name, name, told(name, value, "a host name", host)?),
            "HELO" => put(&mut said.helo, name, told(name, value, "a HELO name", helo)?),
            "LOGIN" => put(&mut said.login, name, told(name, value, "a user's name", login)?),
            "DESTADDR" => put(&mut said.destination, name, told(name, value, "an IP address", ip)?),
            "DESTPORT" => put(&mut said.destination_port, name, told(name, value, "a port", port)?),
            "PROTO" => {
                let kind = protocol(value).ok_or_else(|| wrong(name, "SMTP or ESMTP"))?;
                put(&mut said.protocol, name, kind)
            }
            _ => Err(arguments("XCLIENT knows no such attribute; EHLO names the known ones")),
        }?;
    }
    Ok(said)
}

fn wrong(name: &str, wanted: &str) -> Reply {
    // A long one is none of ours.
    let name = if name.len() <= 10 { command::ascii(name) } else { "an attribute".to_owned() };
    arguments(&format!("The value of {name} in XCLIENT is not {wanted}"))
}

fn put<T>(place: &mut Option<T>, name: &str, value: T) -> Result<(), Reply> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(arguments(&format!("{name} stands twice in XCLIENT"))),
    }
}

fn told<T>(
    name: &str,
    value: &str,
    wanted: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Told<T>, Reply> {
    if value.eq_ignore_ascii_case("[UNAVAILABLE]") {
        return Ok(Told::Unavailable);
    }
    if value.eq_ignore_ascii_case("[TEMPUNAVAIL]") {
        return Ok(Told::Later);
    }
    parse(value).map(Told::Known).ok_or_else(|| wrong(name, wanted))
}

/// Decodes xtext: printable ASCII, `+` and two upper-case hexadecimal digits for the rest.
fn xtext(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        out.push(match octet {
            b'+' => hexadecimal(octets.next()?)? << 4 | hexadecimal(octets.next()?)?,
            b'!'..=b'~' if octet != b'=' => octet,
            _ => return None,
        });
    }
    String::from_utf8(out).ok()
}

fn hexadecimal(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn ip(text: &str) -> Option<IpAddr> {
    let tagged = text.split_at_checked(5).filter(|(tag, _)| tag.eq_ignore_ascii_case("IPV6:"));
    match tagged {
        Some((_, text)) => text.parse::<Ipv6Addr>().ok().map(|ip| ip.to_canonical()),
        None => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|_| text.bytes().all(|octet| octet.is_ascii_digit()))
}

fn host(text: &str) -> Option<Box<str>> {
    let fits = |octet: u8| octet.is_ascii_alphanumeric() || b"-._".contains(&octet);
    ((1..=255).contains(&text.len()) && text.bytes().all(fits)).then(|| text.into())
}

fn helo(text: &str) -> Option<Box<str>> {
    command::is_hello_name(text).then(|| text.into())
}

fn login(text: &str) -> Option<Box<str>> {
    let fits = (1..=255).contains(&text.len()) && !text.contains(char::is_control);
    fits.then(|| text.into())
}

fn protocol(text: &str) -> Option<HelloKind> {
    match text {
        _ if text.eq_ignore_ascii_case("SMTP") => Some(HelloKind::Helo),
        _ if text.eq_ignore_ascii_case("ESMTP") => Some(HelloKind::Ehlo),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(rest: &str) -> String {
        let said = match parse(rest) {
            Ok(said) => said,
            Err(reply) => return reply.to_string(),
        };
        let mut out = Vec::new();
        let mut show = |name: &str, value: Option<String>| {
            out.extend(value.map(|value| format!("{name}={value}")));
        };
        show("addr", said.address.map(|told| format!("{told:?}")));
        show("port", said.port.map(|told| format!("{told:?}")));
        show("name", said.name.map(|told| format!("{told:?}")));
        show("helo", said.helo.map(|told| format!("{told:?}")));
        show("proto", said.protocol.map(|kind| format!("{kind:?}")));
        show("login", said.login.map(|told| format!("{told:?}")));
        show("destaddr", said.destination.map(|told| format!("{told:?}")));
        show("destport", said.destination_port.map(|told| format!("{told:?}")));
        out.join(" ")
    }

    #[test]
    fn attributes_of_xclient() {
        for (rest, want) in [
            ("ADDR=192.0.2.7", "addr=Known(192.0.2.7)"),
            ("addr=192.0.2.7  Port=40000", "addr=Known(192.0.2.7) port=Known(40000)"),
            ("ADDR=IPV6:2001:db8::7", "addr=Known(2001:db8::7)"),
            ("ADDR=ipv6:2001:DB8::7", "addr=Known(2001:db8::7)"),
            ("ADDR=IPV6:::ffff:192.0.2.7", "addr=Known(192.0.2.7)"),
            ("ADDR=[UNAVAILABLE] NAME=[tempunavail]", "addr=Unavailable name=Later"),
            ("ADDR=+5BUNAVAILABLE+5D", "addr=Unavailable"),
            (
                "NAME=mail.a.example HELO=[192.0.2.7]",
                "name=Known(\"mail.a.example\") helo=Known(\"[192.0.2.7]\")",
            ),
            ("PROTO=esmtp", "proto=Ehlo"),
            ("PROTO=SMTP", "proto=Helo"),
            ("LOGIN=marie+40a.example", "login=Known(\"marie@a.example\")"),
            ("LOGIN=+C3+A9", "login=Known(\"\u{e9}\")"),
            ("DESTADDR=203.0.113.1 DESTPORT=25", "destaddr=Known(203.0.113.1) destport=Known(25)"),
            ("", "501 5.5.4 Write XCLIENT and attributes, such as ADDR=192.0.2.1"),
            ("ADDR", "501 5.5.4 An attribute of XCLIENT is a name, `=` and a value"),
            ("SHOE=1", "501 5.5.4 XCLIENT knows no such attribute; EHLO names the known ones"),
            ("ADDR=1.2.3.4 ADDR=1.2.3.4", "501 5.5.4 ADDR stands twice in XCLIENT"),
            ("ADDR=1.2.3.04", "501 5.5.4 The value of ADDR in XCLIENT is not an IP address"),
            ("ADDR=2001:db8::7", "501 5.5.4 The value of ADDR in XCLIENT is not an IP address"),
            ("ADDR=IPV6:192.0.2.7", "501 5.5.4 The value of ADDR in XCLIENT is not an IP address"),
            ("ADDR=[192.0.2.7]", "501 5.5.4 The value of ADDR in XCLIENT is not an IP address"),
            ("ADDR=", "501 5.5.4 The value of ADDR in XCLIENT is not an IP address"),
            ("DESTADDR=x", "501 5.5.4 The value of DESTADDR in XCLIENT is not an IP address"),
            ("PORT=+31", "port=Known(1)"),
            ("PORT=+2B1", "501 5.5.4 The value of PORT in XCLIENT is not a port"),
            ("PORT=65536", "501 5.5.4 The value of PORT in XCLIENT is not a port"),
            ("PROTO=LMTP", "501 5.5.4 The value of PROTO in XCLIENT is not SMTP or ESMTP"),
            ("PROTO=[UNAVAILABLE]", "501 5.5.4 The value of PROTO in XCLIENT is not SMTP or ESMTP"),
            ("HELO=a(b)", "501 5.5.4 The value of HELO in XCLIENT is not a HELO name"),
            ("HELO=a+0D+0AEHLO", "501 5.5.4 The value of HELO in XCLIENT is not a HELO name"),
            ("NAME=a+20b", "501 5.5.4 The value of NAME in XCLIENT is not a host name"),
            ("LOGIN=a+00", "501 5.5.4 The value of LOGIN in XCLIENT is not a user's name"),
            (
                "LOGIN=+FF",
                "501 5.5.4 The value of LOGIN in XCLIENT is not xtext (RFC 3461 section 4)",
            ),
            (
                "LOGIN=+4",
                "501 5.5.4 The value of LOGIN in XCLIENT is not xtext (RFC 3461 section 4)",
            ),
            (
                "LOGIN=+4g",
                "501 5.5.4 The value of LOGIN in XCLIENT is not xtext (RFC 3461 section 4)",
            ),
            (
                "LOGIN=a=b",
                "501 5.5.4 The value of LOGIN in XCLIENT is not xtext (RFC 3461 section 4)",
            ),
        ] {
            assert_eq!(shown(rest), want, "{rest:?}");
        }
        let long = "X".repeat(300);
        assert!(shown(&format!("{long}=+")).starts_with("501 5.5.4 The value"), "a long name");
        assert!(shown(&format!("LOGIN={long}")).starts_with("501 5.5.4"), "a long value");
    }
}
