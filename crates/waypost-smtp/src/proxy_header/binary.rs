//! Version 2: octets in network order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::line::v6;
use super::{Announced, MOST_BEHIND_FIXED, Progress, ProxyHeaderError};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const FIXED: usize = 16;
const CRC32C: u8 = 3;

/// What family and transport say of the addresses.
enum Family {
    Unspecified,
    V4,
    V6,
    /// Unix sockets.
    Unix,
}

pub(super) fn read(octets: &[u8]) -> Result<Progress, ProxyHeaderError> {
    if octets.iter().zip(SIGNATURE).any(|(octet, wanted)| octet != wanted) {
        return Err(ProxyHeaderError::Missing);
    }
    let Some(command) = octets.get(12) else { return Ok(Progress::More) };
    if command >> 4 != 2 {
        return Err(ProxyHeaderError::Version(command >> 4));
    }
    let local = match command & 0xf {
        0 => true,
        1 => false,
        other => return Err(ProxyHeaderError::Command(other)),
    };
    let Some(family) = octets.get(13) else { return Ok(Progress::More) };
    // A transport that is no TCP carries no client of ours, but is no fault either.
    let (family, stream) = match (family, local) {
        // The family of LOCAL is to be ignored, and with it all that follows.
        (_, true) | (0, _) => (Family::Unspecified, false),
        (0x11 | 0x12, _) => (Family::V4, *family == 0x11),
        (0x21 | 0x22, _) => (Family::V6, *family == 0x21),
        (0x31 | 0x32, _) => (Family::Unix, false),
        (other, _) => return Err(ProxyHeaderError::Family(*other)),
    };
    let Some([high, low]) = octets.get(14..FIXED) else { return Ok(Progress::More) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > MOST_BEHIND_FIXED {
        return Err(ProxyHeaderError::TooLong(length));
    }
    let needed = match family {
        Family::Unspecified => 0,
        Family::V4 => 12,
        Family::V6 => 36,
        Family::Unix => 216,
    };
    if length < needed {
        return Err(ProxyHeaderError::TooShort { octets: length, needed });
    }
    let Some(header) = octets.get(..FIXED + length) else { return Ok(Progress::More) };
    if !matches!(family, Family::Unspecified) {
        check_tlvs(header, FIXED + needed)?;
    }
    let addresses = header.get(FIXED..FIXED + needed).unwrap_or_default();
    let announced = match family {
        Family::V4 if stream => of::<4>(addresses, |octets| Ipv4Addr::from(octets).into()),
        Family::V6 if stream => of::<16>(addresses, |octets| Ipv6Addr::from(octets).into()),
        _ => Some(Announced::Nobody),
    };
    let announced = announced.ok_or(ProxyHeaderError::TooShort { octets: length, needed })?;
    Ok(Progress::Whole { announced, octets: header.len() })
}

/// Two addresses of so many octets, and two ports.
fn of<const N: usize>(octets: &[u8], ip: impl Fn([u8; N]) -> IpAddr) -> Option<Announced> {
    let (client, rest) = octets.split_first_chunk::<N>()?;
    let (server, ports) = rest.split_first_chunk::<N>()?;
    let [a, b, c, d] = *ports.first_chunk::<4>()?;
    let client = SocketAddr::new(ip(*client), u16::from_be_bytes([a, b]));
    let server = SocketAddr::new(ip(*server), u16::from_be_bytes([c, d]));
    Some(Announced::client(client, server))
}

/// TLVs up to the header's end: their form, and the checksum if one of them is one.
fn check_tlvs(header: &[u8], from: usize) -> Result<(), ProxyHeaderError> {
    let (mut at, mut summed) = (from, false);
    while at < header.len() {
        let Some([kind, high, low]) = header.get(at..at + 3) else {
            return Err(ProxyHeaderError::Tlv);
        };
        let start = at + 3;
        at = start + usize::from(u16::from_be_bytes([*high, *low]));
        let value = header.get(start..at).ok_or(ProxyHeaderError::Tlv)?;
        if *kind != CRC32C {
            continue;
        }
        let &[a, b, c, d] = value else { return Err(ProxyHeaderError::Tlv) };
        if std::mem::replace(&mut summed, true) {
            return Err(ProxyHeaderError::Tlv);
        }
        let said = u32::from_be_bytes([a, b, c, d]);
        let found = checksum(header, start);
        if said != found {
            return Err(ProxyHeaderError::Checksum { said, found });
        }
    }
    Ok(())
}

/// The CRC32C of a header whose own, four octets at `at`, count as zeros.
fn checksum(header: &[u8], at: usize) -> u32 {
    let (before, rest) = header.split_at_checked(at).unwrap_or((header, &[]));
    let behind = rest.get(4..).unwrap_or_default();
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(before), &[0; 4]), behind)
}

pub(super) fn write(announced: Announced) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    let Announced::Client { client, server } = announced else {
        header.extend_from_slice(&[0x20, 0, 0, 0]);
        return header;
    };
    match (client.ip().to_canonical(), server.ip().to_canonical()) {
        (IpAddr::V4(client), IpAddr::V4(server)) => {
            header.extend_from_slice(&[0x21, 0x11, 0, 12]);
            header.extend_from_slice(&client.octets());
            header.extend_from_slice(&server.octets());
        }
        (client, server) => {
            header.extend_from_slice(&[0x21, 0x21, 0, 36]);
            header.extend_from_slice(&v6(client).octets());
            header.extend_from_slice(&v6(server).octets());
        }
    }
    header.extend_from_slice(&client.port().to_be_bytes());
    header.extend_from_slice(&server.port().to_be_bytes());
    header
}
