//! The header with which a proxy says whose connection it passes on: PROXY protocol, versions 1 and 2.
//!
//! **In:** the first octets of a connection. **Out:** for whom the proxy speaks ([`Announced`]), and how
//! many octets the header has: not one behind it is looked at. **Units:** octets. **Bounds:** a line of
//! at most [`LONGEST_LINE`] octets, a binary header of at most [`LONGEST`]; linear time, no memory.
//! **Errors:** [`ProxyHeaderError`], as soon as the octets can no longer become a header. **Source:** the
//! PROXY protocol specification of `HAProxy` (version 2 of 2020, sections 2.1 and 2.2); D15, E3.
//!
//! The reader is strict: one space between words, decimal numbers without leading zeros, a length that
//! holds what it must, TLVs that end where the header ends, a CRC32C that is right where there is one. Other TLVs are passed over;
//! what one of them says of TLS between client and proxy is not taken for TLS of ours.
//!
//! **Not here:** who may send a header (nobody, unless he is listed), time-outs, sockets.
//!
//! # Example
//!
//! ```
//! use waypost_smtp::proxy_header::{Announced, Progress, read};
//!
//! let octets = b"PROXY TCP4 192.0.2.7 203.0.113.1 40000 25\r\nEHLO client.example\r\n";
//! let Progress::Whole { announced, octets: length } = read(octets)? else { panic!() };
//! assert_eq!(&octets[length..], b"EHLO client.example\r\n");
//! let Announced::Client { client, .. } = announced else { panic!() };
//! assert_eq!(client, "192.0.2.7:40000".parse()?);
//! assert_eq!(read(b"PROXY TCP4 192.0")?, Progress::More);
//! assert!(read(b"EHLO client.example\r\n").is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod binary;
mod line;

use std::net::SocketAddr;

/// The longest header of version 1 in octets, CR LF included.
pub const LONGEST_LINE: usize = 107;
/// The longest header of version 2 in octets: its 16 fixed ones and 4 KiB of addresses and TLVs.
pub const LONGEST: usize = 16 + MOST_BEHIND_FIXED;

const MOST_BEHIND_FIXED: usize = 4096;

/// For whom a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// For itself (`LOCAL`: a health check), or it cannot say for whom (`UNKNOWN`, a Unix socket, no
    /// TCP): the addresses of the connection hold.
    Nobody,
    /// For a client. IPv4-mapped IPv6 addresses are IPv4.
    Client {
        /// The client's own address.
        client: SocketAddr,
        /// The address that the client connected to.
        server: SocketAddr,
    },
}

/// What the octets so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The beginning of a header: all of them belong to it, and at least one more does.
    More,
    /// A header, and perhaps octets behind it.
    Whole {
        /// What it says.
        announced: Announced,
        /// Its length, in octets.
        octets: usize,
    },
}

/// Why octets are no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyHeaderError {
    /// They begin neither as version 1 nor as version 2 does.
    #[error(
        "the connection does not begin with a PROXY header; let the proxy send one (`send-proxy`, \
         `send-proxy-v2`), or take its address off the list"
    )]
    Missing,
    /// No CR LF within [`LONGEST_LINE`] octets.
    #[error("the PROXY line has no CR LF within {LONGEST_LINE} octets (version 1, section 2.1)")]
    LineTooLong,
    /// Something that may not stand in the line.
    #[error("the PROXY line is wrong in its {0} (version 1, section 2.1)")]
    Line(LinePart),
    /// A version that is not 2.
    #[error("the PROXY header has version {0}; only 1 and 2 are known")]
    Version(u8),
    /// A command that is neither LOCAL nor PROXY.
    #[error(
        "the PROXY header has command {0}; only LOCAL (0) and PROXY (1) are known (section 2.2)"
    )]
    Command(u8),
    /// Address family or transport that nobody has assigned.
    #[error(
        "the PROXY header has family and transport {0:#04x}, which are not assigned (section 2.2)"
    )]
    Family(u8),
    /// Longer than is read; its length in octets.
    #[error("the PROXY header announces {0} octets; more than {MOST_BEHIND_FIXED} are not read")]
    TooLong(usize),
    /// Too short for the addresses of its family.
    #[error(
        "the PROXY header announces {octets} octets, but its addresses take {needed} (section 2.2)"
    )]
    TooShort {
        /// The length that it announces, in octets.
        octets: usize,
        /// What the addresses of its family take, in octets.
        needed: usize,
    },
    /// A TLV that does not end where the header ends, or a checksum that is no checksum.
    #[error("the PROXY header's TLVs do not fit its length (section 2.2)")]
    Tlv,
    /// The CRC32C is not that of the header.
    #[error(
        "the PROXY header has the CRC32C {said:08x}, but its octets have {found:08x} (section 2.2.3)"
    )]
    Checksum {
        /// The one in the header.
        said: u32,
        /// The one of the header.
        found: u32,
    },
}

/// A part of the line of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinePart {
    /// `TCP4`, `TCP6` or `UNKNOWN`.
    #[error("protocol")]
    Protocol,
    /// One of the two addresses.
    #[error("addresses")]
    Address,
    /// One of the two ports.
    #[error("ports")]
    Port,
    /// The words: their number, or what stands between them.
    #[error("words")]
    Words,
    /// A control character, a CR or LF alone, or an octet that is not ASCII.
    #[error("octets")]
    Octet,
}

/// Reads a header off the first octets of a connection: call it again with those and more while it says
/// [`Progress::More`]. How the octets were cut makes no difference to what it says in the end.
///
/// # Errors
/// [`ProxyHeaderError`]; no further octets can mend it.
pub fn read(octets: &[u8]) -> Result<Progress, ProxyHeaderError> {
    match octets.first() {
        None => Ok(Progress::More),
        Some(b'P') => line::read(octets),
        Some(b'\r') => binary::read(octets),
        Some(_) => Err(ProxyHeaderError::Missing),
    }
}

impl Announced {
    /// The header of version 1. Where the two addresses are not of one family, both are written as IPv6.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        line::write(*self)
    }

    /// The header of version 2, without TLVs. Families as in [`Announced::to_line`].
    #[must_use]
    pub fn to_binary(&self) -> Vec<u8> {
        binary::write(*self)
    }

    fn client(client: SocketAddr, server: SocketAddr) -> Self {
        Self::Client { client: canonical(client), server: canonical(server) }
    }
}

/// IPv4-mapped IPv6 as IPv4; without what only one host knows (scope, flow).
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
