//! What is known of an SMTP client when it sends a command.

use std::net::IpAddr;

use crate::Mailbox;

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum ListenerRole {
    /// Mail from the world to our domains; never relays.
    Mx,
    /// Mail from admitted clients to anywhere.
    Relay,
    /// Relays what a relay entry admits; is an MX for the rest.
    Both,
}

/// Whether the session is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum TlsState {
    /// Clear text.
    Clear,
    /// Inside TLS, by STARTTLS or from the start.
    Encrypted,
}

/// The facts about a client that admission and routing look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The client's address (after PROXY or XCLIENT from trusted proxies), IPv4-mapped made IPv4.
    pub client_ip: IpAddr,
    /// The listener's role.
    pub role: ListenerRole,
    /// The argument of HELO or EHLO as given; `None` before it.
    pub helo: Option<Box<str>>,
    /// The user that AUTH proved.
    pub auth: Option<Mailbox>,
    /// Whether TLS is on.
    pub tls: TlsState,
}

impl Session {
    /// Whether the session is inside TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.tls == TlsState::Encrypted
    }
}
