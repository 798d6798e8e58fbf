//! A connection's octets, in clear text or inside TLS.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// How long a client that was told why may take to go.
const LINGER: Duration = Duration::from_secs(2);

enum Stream {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

pub(super) struct Wire {
    tcp: TcpStream,
    stream: Stream,
    buffer: Vec<u8>,
}

impl Wire {
    pub(super) fn new(tcp: TcpStream) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        let stream = Stream::Clear(tcp.try_clone()?);
        Ok(Self { tcp, stream, buffer: Vec::new() })
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Waits for the client's first octet, without taking it.
    pub(super) fn wait_for_client(&self) -> io::Result<()> {
        match self.tcp.peek(&mut [0])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// What came and was not asked for.
    pub(super) fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    pub(super) fn handshake(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        let mut tls = StreamOwned::new(connection, self.tcp.try_clone()?);
        while tls.conn.is_handshaking() {
            if let Err(error) = tls.conn.complete_io(&mut tls.sock) {
                // The alert says why.
                let _ = tls.conn.write_tls(&mut tls.sock);
                return Err(error);
            }
        }
        self.stream = Stream::Tls(Box::new(tls));
        Ok(())
    }

    /// A line with its end; `None` at the end of the stream.
    pub(super) fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|octet| *octet == b'\n') {
                return Ok(Some(self.buffer.drain(..=end).collect()));
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    /// Up to `most` octets; none at the end of the stream.
    pub(super) fn some(&mut self, most: usize) -> io::Result<Vec<u8>> {
        if self.buffer.is_empty() {
            self.fill()?;
        }
        let count = most.min(self.buffer.len());
        Ok(self.buffer.drain(..count).collect())
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream: &mut dyn Write = match &mut self.stream {
            Stream::Clear(tcp) => tcp,
            Stream::Tls(tls) => tls,
        };
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Closes without a word; what was not read makes a reset of it.
    pub(super) fn drop_it(&self) {
        let _ = self.tcp.shutdown(Shutdown::Both);
    }

    /// Closes so that the client reads all that was said.
    pub(super) fn close(&mut self) {
        if let Stream::Tls(tls) = &mut self.stream {
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
        let _ = self.tcp.shutdown(Shutdown::Write);
        let _ = self.tcp.set_read_timeout(Some(LINGER));
        let mut rest = [0; 4096];
        while matches!(self.tcp.read(&mut rest), Ok(1..)) {}
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut more = [0; 16 * 1024];
        let read = match &mut self.stream {
            Stream::Clear(tcp) => tcp.read(&mut more),
            Stream::Tls(tls) => tls.read(&mut more),
        };
        let count = match read {
            // A client that goes without saying so in TLS has gone all the same.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            read => read?,
        };
        self.buffer.extend_from_slice(more.get(..count).unwrap_or_default());
        Ok(count)
    }
}
