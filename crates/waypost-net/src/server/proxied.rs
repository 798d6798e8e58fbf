//! A connection whose client is behind a proxy: PROXY header, XCLIENT.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, warn};
use waypost_smtp::proxy_header::{self, Announced, Progress, ProxyHeaderError};
use waypost_smtp::server::{Told, Xclient};
use waypost_types::Reply;

use super::Handler;
use super::connection::Connection;

/// The longest wait for a whole header, which a proxy sends at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// Octets looked at together; nearly every header has fewer.
const CHUNK: usize = 512;

/// Why a connection has no header.
#[derive(Debug, thiserror::Error)]
enum NoHeader {
    /// As health checks do that only connect.
    #[error("it was closed before its first octet")]
    Unsaid,
    #[error("it was closed within its PROXY header")]
    CutOff,
    #[error("its PROXY header did not come within {0:?}")]
    TooSlow(Duration),
    #[error("the server is going down")]
    Stopping,
    #[error(transparent)]
    Wrong(#[from] ProxyHeaderError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl<H: Handler> Connection<H> {
    /// Reads the header that a listed proxy begins with, and takes what it says for true. An error: the
    /// connection is over, with this reply if there is one.
    pub(super) async fn read_header(
        &mut self,
        stream: &mut TcpStream,
    ) -> Result<(), Option<Reply>> {
        let patience = self.configuration.settings().timeouts.command.min(PATIENCE);
        let read = tokio::select! {
            read = timeout(patience, header(stream)) => {
                read.unwrap_or(Err(NoHeader::TooSlow(patience)))
            }
            _ = self.stop.stopped() => Err(NoHeader::Stopping),
        };
        match read {
            Ok(Announced::Nobody) => Ok(()),
            Ok(Announced::Client { client, .. }) => self.speaks_for(client).map_err(Some),
            Err(failure) => {
                let proxy = self.peer.client;
                match failure {
                    NoHeader::Unsaid | NoHeader::Stopping => {
                        debug!(%proxy, because = %failure, "connection from a proxy ended");
                    }
                    failure => warn!(
                        %proxy, because = %failure,
                        "connection from an address in proxy_protocol_from closed"
                    ),
                }
                Err(None)
            }
        }
    }

    /// XCLIENT: the session is another client's from now on. An error ends the connection.
    pub(super) async fn take_xclient(&mut self, said: &Xclient) -> Result<(), Reply> {
        if let Some(address) = &said.address {
            // Nobody's address, so that a client without one gets no right that the proxy has.
            let ip = address.known().copied().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
            let port = said.port.as_ref().and_then(Told::known).copied().unwrap_or_default();
            self.speaks_for(SocketAddr::new(ip, port))?;
        }
        self.session.helo = None;
        self.session.auth = None;
        self.handler.announced(&self.session, self.peer, said).await
    }

    /// The connection counts for this client from now on, unless it has too many.
    fn speaks_for(&mut self, client: SocketAddr) -> Result<(), Reply> {
        let proxy = *self.peer.proxy.get_or_insert(self.peer.client);
        self.peer.client = client;
        self.session.client_ip = client.ip();
        let counted = match client.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => {
                self.slot.withdraw();
                Ok(())
            }
            client => self.slot.announce(self.clock.now(), client),
        };
        counted.map_err(|refusal| {
            debug!(%client, %proxy, %refusal, "connection refused");
            refusal.reply()
        })
    }
}

/// Takes the header off a stream, and not one octet behind it.
async fn header(stream: &mut TcpStream) -> Result<Announced, NoHeader> {
    let mut header = Vec::new();
    let mut chunk = [0; CHUNK];
    loop {
        let count = stream.peek(&mut chunk).await?;
        let before = header.len();
        header.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let (end, announced) = match proxy_header::read(&header)? {
            Progress::More if count == 0 && before == 0 => return Err(NoHeader::Unsaid),
            Progress::More if count == 0 => return Err(NoHeader::CutOff),
            Progress::More => (header.len(), None),
            Progress::Whole { announced, octets } => (octets, Some(announced)),
        };
        // Only looked at so far; what is behind the header stays for who comes next.
        let taken = chunk.get_mut(..end.saturating_sub(before)).unwrap_or_default();
        stream.read_exact(taken).await?;
        if let Some(announced) = announced {
            return Ok(announced);
        }
    }
}
