//! One connection of the source, in clear text or TLS.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::message::{Id, Message};

/// The name on the certificate of the programs under test.
pub(crate) const SERVER: &str = "relay.example";

pub(crate) struct Wire {
    stream: TcpStream,
    token: Token,
    tls: Option<Box<ClientConnection>>,
    /// What is to be written before the body, and how much of it is.
    out: Vec<u8>,
    written: usize,
    /// Octets at the end of the body that are to be written.
    body: usize,
    /// Whether an event tells when it can be written again.
    asked: bool,
}

impl Wire {
    /// Begins to connect.
    pub(crate) fn connect(to: SocketAddr, registry: &Registry, token: Token) -> io::Result<Self> {
        let mut stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        registry.register(&mut stream, token, Interest::READABLE)?;
        let out = Vec::with_capacity(512);
        Ok(Self { stream, token, tls: None, out, written: 0, body: 0, asked: false })
    }

    /// Text to be written by the next flush.
    pub(crate) fn say(&mut self, text: &[u8]) {
        self.out.extend_from_slice(text);
    }

    /// A message to be written by the next flushes, which are given its body.
    pub(crate) fn message(&mut self, message: &Message, id: Id) {
        message.head(id, &mut self.out);
        self.body = message.body.len();
    }

    /// Writes as much as can be.
    pub(crate) fn flush(&mut self, body: &[u8], registry: &Registry) -> io::Result<()> {
        match self.write(body) {
            Ok(()) if !self.asked => Ok(()),
            Ok(()) => self.ask(Interest::READABLE, registry),
            Err(error) if error.kind() == ErrorKind::WouldBlock && self.asked => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.ask(Interest::READABLE | Interest::WRITABLE, registry)
            }
            Err(error) => Err(error),
        }
    }

    fn ask(&mut self, interest: Interest, registry: &Registry) -> io::Result<()> {
        self.asked = interest.is_writable();
        registry.reregister(&mut self.stream, self.token, interest)
    }

    fn write(&mut self, body: &[u8]) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(&self.out[self.written..])?;
            tls.writer().write_all(&body[body.len() - self.body..])?;
            self.out.clear();
            (self.written, self.body) = (0, 0);
            while tls.wants_write() {
                tls.write_tls(&mut self.stream)?;
            }
            return Ok(());
        }
        while self.written < self.out.len() || self.body > 0 {
            let head = IoSlice::new(&self.out[self.written..]);
            let rest = IoSlice::new(&body[body.len() - self.body..]);
            let wrote = match self.stream.write_vectored(&[head, rest]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            };
            let of_head = wrote.min(self.out.len() - self.written);
            self.written += of_head;
            self.body -= wrote - of_head;
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads what there is; 0 at the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.read(buffer) };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            if tls.read_tls(&mut self.stream)? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }

    /// Whether what is said is encrypted.
    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// From here on TLS; the handshake is the caller's to drive. Whether it could be begun.
    pub(crate) fn start_tls(&mut self, config: &Arc<ClientConfig>) -> bool {
        let Ok(name) = ServerName::try_from(SERVER) else { return false };
        let Ok(mut tls) = ClientConnection::new(Arc::clone(config), name) else { return false };
        tls.set_buffer_limit(None);
        self.tls = Some(Box::new(tls));
        true
    }

    /// Goes on with the handshake; whether it is over.
    pub(crate) fn handshake(&mut self, registry: &Registry) -> io::Result<bool> {
        loop {
            self.flush(&[], registry)?;
            let Some(tls) = &mut self.tls else { return Ok(false) };
            if !tls.is_handshaking() {
                return Ok(true);
            }
            match tls.read_tls(&mut self.stream) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }
}
