//! Version 1: a line of text.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Announced, LONGEST_LINE, LinePart, Progress, ProxyHeaderError};

const START: &[u8] = b"PROXY ";

pub(super) fn read(octets: &[u8]) -> Result<Progress, ProxyHeaderError> {
    for (at, octet) in octets.iter().enumerate() {
        if START.get(at).is_some_and(|wanted| wanted != octet) {
            return Err(ProxyHeaderError::Missing);
        }
        match (octet, octets.get(at + 1)) {
            // The line feed would be one octet too many.
            _ if at + 1 >= LONGEST_LINE => return Err(ProxyHeaderError::LineTooLong),
            (b'\r', None) => return Ok(Progress::More),
            (b'\r', Some(b'\n')) => {
                let line = octets.get(..at).unwrap_or_default();
                return Ok(Progress::Whole { announced: announced(line)?, octets: at + 2 });
            }
            (b' '..=b'~', _) => {}
            _ => return Err(ProxyHeaderError::Line(LinePart::Octet)),
        }
    }
    Ok(Progress::More)
}

/// What a whole line says; only printable ASCII is in it.
fn announced(line: &[u8]) -> Result<Announced, ProxyHeaderError> {
    let wrong = |part| ProxyHeaderError::Line(part);
    let text = str::from_utf8(line).map_err(|_| wrong(LinePart::Octet))?;
    let mut words = text.split(' ').skip(1);
    let of_family = match words.next() {
        // What follows UNKNOWN is to be ignored.
        Some("UNKNOWN") => return Ok(Announced::Nobody),
        Some("TCP4") => ip::<Ipv4Addr>,
        Some("TCP6") => ip::<Ipv6Addr>,
        _ => return Err(wrong(LinePart::Protocol)),
    };
    let mut word = || words.next().ok_or(wrong(LinePart::Words));
    let (client, server, client_port, server_port) = (word()?, word()?, word()?, word()?);
    if words.next().is_some() {
        return Err(wrong(LinePart::Words));
    }
    let address = |ip: &str, digits: &str| {
        let ip = of_family(ip).ok_or(wrong(LinePart::Address))?;
        let port = port(digits).ok_or(wrong(LinePart::Port))?;
        Ok(SocketAddr::new(ip, port))
    };
    Ok(Announced::client(address(client, client_port)?, address(server, server_port)?))
}

fn ip<T: FromStr + Into<IpAddr>>(text: &str) -> Option<IpAddr> {
    text.parse::<T>().ok().map(Into::into)
}

fn port(digits: &str) -> Option<u16> {
    let decimal = digits.bytes().all(|octet| octet.is_ascii_digit());
    let shortest = digits == "0" || !digits.starts_with('0');
    digits.parse().ok().filter(|_| decimal && shortest)
}

pub(super) fn write(announced: Announced) -> Vec<u8> {
    let mut line = "PROXY ".to_owned();
    // Writing to a string does not fail.
    let _ = match announced {
        Announced::Nobody => write!(line, "UNKNOWN\r\n"),
        Announced::Client { client, server } => {
            let (from, to) = (client.port(), server.port());
            match (client.ip().to_canonical(), server.ip().to_canonical()) {
                (IpAddr::V4(client), IpAddr::V4(server)) => {
                    write!(line, "TCP4 {client} {server} {from} {to}\r\n")
                }
                (client, server) => {
                    let (client, server) = (v6(client), v6(server));
                    write!(line, "TCP6 {client} {server} {from} {to}\r\n")
                }
            }
        }
    };
    line.into_bytes()
}

pub(super) fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}
