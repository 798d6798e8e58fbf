//! Whereto, and how.

use std::time::Duration;

use waypost_smtp::client::{Chunking, Credentials, EightBitPolicy, Protocol, Timeouts};
use waypost_types::{Host, HostPort};

use crate::tls::TlsPolicy;

/// A next hop: what decides whether a connection that is open can be used for another message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// The host as it was named, and the port; outcomes and SNI name it.
    pub host: HostPort,
    /// Another name that the certificate may bear (with MX lookup: the route's own name, A7).
    pub alias: Option<Host>,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// What is asked of TLS.
    pub tls: TlsPolicy,
    /// For AUTH.
    pub credentials: Option<Credentials>,
}

impl Hop {
    /// A hop that speaks SMTP, without AUTH.
    #[must_use]
    pub fn new(host: HostPort, tls: TlsPolicy) -> Self {
        Self { host, alias: None, protocol: Protocol::Smtp, tls, credentials: None }
    }
}

/// What is the same for all hops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectSettings {
    /// Our own name, for EHLO.
    pub ehlo: Host,
    /// For the TCP connection, and again for the TLS handshake; 30 seconds by
    /// [`ConnectSettings::new`].
    pub connect: Duration,
    /// For the phases of SMTP; the RFC's by [`ConnectSettings::new`].
    pub timeouts: Timeouts,
    /// What to do with 8-bit messages that a peer does not take.
    pub eight_bit: EightBitPolicy,
    /// Whether BDAT is used where a peer offers it.
    pub chunking: Chunking,
}

impl ConnectSettings {
    /// 30 seconds to connect, the RFC's time-outs from there on.
    #[must_use]
    pub fn new(ehlo: Host) -> Self {
        Self {
            ehlo,
            connect: Duration::from_secs(30),
            timeouts: Timeouts::default(),
            eight_bit: EightBitPolicy::default(),
            chunking: Chunking::default(),
        }
    }
}
