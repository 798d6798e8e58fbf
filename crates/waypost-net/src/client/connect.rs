//! From an address to a connection that is ready for mail.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use waypost_smtp::client::{Client, ClientConfig, Closed, Event, TlsUse};
use waypost_types::{Failure, FailureScope, HostPort, Reply, Timestamp};

use super::connection::Connection;
use super::hop::{ConnectSettings, Hop};
use super::stream::Stream;
use crate::tls::{PemError, TlsClients, TlsFailure, TlsSwitch, server_name, verify_name};

/// Why there is no connection that mail can go over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// There is no address to connect to.
    #[error("the host has no address; check its name in DNS")]
    NoAddress,
    /// TCP did not come about.
    #[error("cannot connect to {address}: {error}")]
    Tcp {
        /// Where to.
        address: SocketAddr,
        /// What went wrong.
        error: io::Error,
    },
    /// TLS did not come about as it should.
    #[error("{0}")]
    Tls(#[from] TlsFailure),
    /// The route's root file is of no use.
    #[error("{0}")]
    Roots(#[from] PemError),
    /// The SMTP session ended before it was ready.
    #[error("{}", .0.failure)]
    Smtp(Box<Closed>),
}

impl ConnectError {
    /// As it stands in outcomes: of scope `Tls` if TLS is what failed; `Message` if this machine
    /// lacks descriptors, ports or memory, which says nothing about the host (A9); otherwise `Host`.
    #[must_use]
    pub fn to_failure(&self, host: &HostPort) -> Failure {
        let (scope, enhanced) = match self {
            ConnectError::Smtp(closed) => return closed.failure.clone(),
            ConnectError::NoAddress => (FailureScope::Host, (4, 4, 4)),
            ConnectError::Tcp { error, .. } if is_our_own(error) => {
                (FailureScope::Message, (4, 3, 1))
            }
            ConnectError::Tcp { .. } => (FailureScope::Host, (4, 4, 1)),
            ConnectError::Tls(failure) => (failure.scope(), (4, 7, 5)),
            ConnectError::Roots(_) => (FailureScope::Host, (4, 3, 5)),
        };
        let reply = Reply::new(451, enhanced, &self.to_string());
        Failure { scope, host: Some(host.clone()), reply }
    }

    /// The failure of TLS, if that is what this is.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsFailure> {
        match self {
            ConnectError::Tls(failure) => Some(failure),
            _ => None,
        }
    }
}

/// Whether an error is a lack of this machine's: descriptors (ENFILE, EMFILE), buffers (ENOBUFS on
/// Linux), ports or memory.
fn is_our_own(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory)
        || matches!(error.raw_os_error(), Some(23 | 24 | 105))
}

impl From<Closed> for ConnectError {
    fn from(closed: Closed) -> Self {
        match TlsFailure::from_closed(&closed) {
            Some(failure) => ConnectError::Tls(failure),
            None => ConnectError::Smtp(Box::new(closed)),
        }
    }
}

/// Connects to one address of a hop and brings the session to where mail can be sent: greeting,
/// EHLO, TLS and AUTH as the hop asks for.
///
/// With all three switches off a failed handshake leads to clear text over a second connection
/// (A5). Each connection takes no longer than [`ConnectSettings::connect`] for TCP, the same again for TLS, and
/// [`ConnectSettings::timeouts`] for each reply.
///
/// # Errors
/// [`ConnectError`] says how far it came.
pub async fn connect(
    ip: IpAddr,
    hop: &Hop,
    settings: &ConnectSettings,
    tls: &TlsClients,
) -> Result<Connection, ConnectError> {
    match attempt(ip, hop, hop.tls.tls, settings, tls).await {
        Err(ConnectError::Tls(failure)) if hop.tls.falls_back() => {
            tracing::info!(host = %hop.host, %failure, "no TLS; clear text instead");
            attempt(ip, hop, TlsUse::Off, settings, tls).await.map(Connection::instead_of_tls)
        }
        made => made,
    }
}

async fn attempt(
    ip: IpAddr,
    hop: &Hop,
    tls_use: TlsUse,
    settings: &ConnectSettings,
    tls: &TlsClients,
) -> Result<Connection, ConnectError> {
    let config = ClientConfig {
        peer: hop.host.clone(),
        ehlo: settings.ehlo.clone(),
        protocol: hop.protocol,
        tls: tls_use,
        credentials: hop.credentials.clone(),
        timeouts: settings.timeouts,
        eight_bit: settings.eight_bit,
        chunking: settings.chunking,
    };
    let tcp = tcp(SocketAddr::new(ip, hop.host.port), settings).await?;
    let stream = match tls_use {
        TlsUse::Implicit => handshake(tcp, hop, settings, tls).await?,
        TlsUse::Off | TlsUse::Opportunistic | TlsUse::Required => Stream::Clear(tcp),
    };
    let start = Instant::now();
    let client = Client::new(Arc::new(config), Timestamp::default());
    let mut connection = Connection::new(stream, client, start);
    loop {
        match connection.next_event().await {
            Event::Ready => return Ok(connection),
            Event::Closed(closed) => return Err(closed.into()),
            Event::StartTls => {
                let (stream, mut client, start) = connection.into_parts();
                let stream = match stream {
                    Stream::Clear(tcp) => handshake(tcp, hop, settings, tls).await?,
                    already @ Stream::Tls(_) => already,
                };
                client.tls_established(Timestamp::default() + start.elapsed());
                connection = Connection::new(stream, client, start);
            }
            _ => {}
        }
    }
}

async fn tcp(address: SocketAddr, settings: &ConnectSettings) -> Result<TcpStream, ConnectError> {
    let wrong = |error| ConnectError::Tcp { address, error };
    let tcp = timeout(settings.connect, TcpStream::connect(address))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(wrong)?;
    tcp.set_nodelay(true).map_err(wrong)?;
    Ok(tcp)
}

async fn handshake(
    tcp: TcpStream,
    hop: &Hop,
    settings: &ConnectSettings,
    tls: &TlsClients,
) -> Result<Stream, ConnectError> {
    let config = tls.config(&hop.tls)?;
    let name = server_name(&hop.host.host).ok_or_else(|| {
        TlsFailure::Handshake(format!("`{}` cannot stand in a TLS handshake", hop.host.host))
    })?;
    let connecting = TlsConnector::from(config).connect(name, tcp);
    let stream = match timeout(settings.connect, connecting).await {
        Err(_) => return Err(TlsFailure::Lost("timed out".to_owned()).into()),
        Ok(Err(error)) => return Err(classified(TlsFailure::from_io(&error), hop).into()),
        Ok(Ok(stream)) => stream,
    };
    if hop.tls.verify_hostname {
        let (_, session) = stream.get_ref();
        let certificate = session
            .peer_certificates()
            .and_then(<[_]>::first)
            .ok_or_else(|| TlsFailure::Handshake("the host showed no certificate".to_owned()))?;
        verify_name(certificate, std::iter::once(&hop.host.host).chain(&hop.alias))?;
    }
    Ok(Stream::Tls(Box::new(stream)))
}

/// A certificate that is too broken for the handshake itself is no matter of a switch that is off.
fn classified(failure: TlsFailure, hop: &Hop) -> TlsFailure {
    match failure.switch() {
        Some(TlsSwitch::RequireCaSigned) if !hop.tls.require_ca_signed => match failure {
            TlsFailure::Certificate(text) => TlsFailure::Handshake(text),
            other => TlsFailure::Handshake(other.to_string()),
        },
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_lack_is_not_the_hosts_failure_a9() {
        let host: HostPort = "mx.example:25".parse().unwrap();
        let address = SocketAddr::from(([192, 0, 2, 1], 25));
        for (code, scope) in [
            (24, FailureScope::Message),
            (23, FailureScope::Message),
            (99, FailureScope::Message),
            (111, FailureScope::Host),
            (110, FailureScope::Host),
        ] {
            let error = ConnectError::Tcp { address, error: io::Error::from_raw_os_error(code) };
            assert_eq!(error.to_failure(&host).scope, scope, "{code}");
        }
    }
}
