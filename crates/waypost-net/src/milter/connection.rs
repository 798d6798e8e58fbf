//! One connection to a filter.

use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use waypost_milter::client::{Client, Limits};
use waypost_types::{Host, HostPort};

use super::address::Place;

/// A connection, and how far the protocol on it is.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    pub(super) client: Client,
    /// When it was used last.
    pub(super) used: Instant,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Connection {
    pub(super) async fn open(place: &Place) -> io::Result<Self> {
        let stream = match place {
            Place::Tcp(at) => Stream::Tcp(tcp(at).await?),
            Place::Unix(path) => Stream::Unix(unix(path).await?),
        };
        Ok(Self { stream, client: Client::new(Limits::default()), used: Instant::now() })
    }

    /// Whether the filter has neither closed it nor said anything unasked.
    pub(super) fn is_quiet(&self) -> bool {
        let mut octet = [0];
        let tried = match &self.stream {
            Stream::Tcp(stream) => stream.try_read(&mut octet),
            Stream::Unix(stream) => stream.try_read(&mut octet),
        };
        matches!(tried, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The two halves that a dialogue needs at the same time.
    pub(super) fn parts(&mut self) -> (Wire<'_>, &mut Client) {
        (Wire(&mut self.stream), &mut self.client)
    }

    /// Says goodbye, if that can be done without waiting.
    pub(super) fn quit(mut self) {
        let mut out = Vec::new();
        self.client.quit(&mut out);
        // Nobody waits for it, and the filter sees the end in any case.
        let _ = match &self.stream {
            Stream::Tcp(stream) => stream.try_write(&out),
            Stream::Unix(stream) => stream.try_write(&out),
        };
    }
}

/// The octets of a connection.
pub(super) struct Wire<'a>(&'a mut Stream);

impl Wire<'_> {
    /// Reads what there is; never nothing.
    pub(super) async fn read<'b>(&mut self, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
        let octets = match self.0 {
            Stream::Tcp(stream) => {
                acknowledge_at_once(stream);
                stream.read(buffer).await?
            }
            Stream::Unix(stream) => stream.read(buffer).await?,
        };
        match buffer.get(..octets) {
            Some(read @ [_, ..]) => Ok(read),
            _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")),
        }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.0 {
            Stream::Tcp(stream) => stream.write_all(bytes).await,
            Stream::Unix(stream) => stream.write_all(bytes).await,
        }
    }
}

async fn tcp(at: &HostPort) -> io::Result<TcpStream> {
    let stream = match &at.host {
        Host::Ip(ip) => TcpStream::connect((*ip, at.port)).await?,
        Host::Name(name) => TcpStream::connect((name.as_str(), at.port)).await?,
    };
    // Each step waits for its answer, so nothing is gained by waiting for more to send.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks the kernel not to wait with its acknowledgement of what comes next.
///
/// libmilter writes an answer of several frames in several pieces and lets its kernel hold back each
/// until the one before is acknowledged; that would take 40 ms a message.
fn acknowledge_at_once(stream: &TcpStream) {
    // Where it cannot be had, it is slower.
    #[cfg(target_os = "linux")]
    let _ = stream.set_quickack(true);
    #[cfg(not(target_os = "linux"))]
    let _ = stream;
}

async fn unix(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).await
}
