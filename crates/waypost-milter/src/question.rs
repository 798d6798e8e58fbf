//! What a filter is asked.

use std::net::IpAddr;

use waypost_types::{Domain, Mailbox, QueueId, ReversePath};

/// Facts about the client's TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts<'a> {
    /// The version, as `TLSv1.3`.
    pub version: &'a str,
    /// The cipher suite's name; empty: unknown.
    pub cipher: &'a str,
    /// The cipher's effective bits; 0: unknown.
    pub bits: u16,
}

/// All that a filter is told about one message (D17, E2).
///
/// It borrows everything, so that a question costs no copy. Made by [`FilterQuestion::new`]; what is
/// not known stays as it makes it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FilterQuestion<'a> {
    /// Our own name (macro `j`).
    pub own_name: &'a Domain,
    /// Who is connected: the client, or the gateway that hands the message over.
    pub client_ip: IpAddr,
    /// The source found behind gateways. It is what the filter is told as the client's address (E2);
    /// the connected one is then in the macro `{gateway_addr}`. `None`: the client itself.
    pub source_ip: Option<IpAddr>,
    /// The port of whoever is told as the client; 0: unknown.
    pub port: u16,
    /// The verified name of whoever is told as the client; `None`: unknown.
    pub host_name: Option<&'a str>,
    /// The argument of HELO, as given.
    pub helo: Option<&'a str>,
    /// The user that AUTH proved.
    pub auth: Option<&'a str>,
    /// The mechanism by which; `None`: unknown.
    pub auth_mechanism: Option<&'a str>,
    /// TLS, if the client used it.
    pub tls: Option<TlsFacts<'a>>,
    /// The message's queue id, if it has one by now (macro `i`).
    pub queue_id: Option<QueueId>,
    /// The sender of MAIL.
    pub sender: &'a ReversePath,
    /// The recipients that were taken, in their order.
    pub recipients: Vec<&'a Mailbox>,
    /// The message as it is stored: dot-stuffed lines ended by CR LF, without the final dot. The
    /// filter gets it without the stuffed dots.
    pub message: &'a [u8],
}

impl<'a> FilterQuestion<'a> {
    /// A question of which only the needful is known.
    #[must_use]
    pub fn new(
        own_name: &'a Domain,
        client_ip: IpAddr,
        sender: &'a ReversePath,
        recipients: impl IntoIterator<Item = &'a Mailbox>,
        message: &'a [u8],
    ) -> Self {
        Self {
            own_name,
            client_ip,
            source_ip: None,
            port: 0,
            host_name: None,
            helo: None,
            auth: None,
            auth_mechanism: None,
            tls: None,
            queue_id: None,
            sender,
            recipients: recipients.into_iter().collect(),
            message,
        }
    }

    /// The address that the filter is told as the client's: the source, else whoever is connected.
    #[must_use]
    pub fn told_ip(&self) -> IpAddr {
        self.source_ip.unwrap_or(self.client_ip).to_canonical()
    }
}
