//! A blocking SMTP client that sends exactly what it is told.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// The longest wait for a reply.
const PATIENCE: Duration = Duration::from_secs(120);

/// One connection.
pub(crate) struct SmtpClient {
    stream: BufReader<Stream>,
}

enum Stream {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl SmtpClient {
    /// Connects, and reads the greeting.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let mut client = Self::silent(address);
        let greeting = client.reply();
        assert!(greeting.starts_with("220 "), "{greeting}");
        client
    }

    /// Connects; the greeting is the first reply.
    pub(crate) fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(Stream::Clear(stream)) }
    }

    /// Connects, reads the greeting, says EHLO as `name`.
    pub(crate) fn hello(address: SocketAddr, name: &str) -> Self {
        let mut client = Self::connect(address);
        client.ask(&format!("EHLO {name}"), "250");
        client
    }

    /// Connects, sends these octets before anything else, reads the greeting, says EHLO as `name`.
    pub(crate) fn behind(address: SocketAddr, header: &[u8], name: &str) -> Self {
        let mut client = Self::silent(address);
        client.send(header);
        let greeting = client.reply();
        assert!(greeting.starts_with("220 "), "{greeting}");
        client.ask(&format!("EHLO {name}"), "250");
        client
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    /// Sends bytes as they are; the peer may be gone.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)?;
        self.stream.get_mut().flush()
    }

    /// The next reply, its lines joined by LF.
    pub(crate) fn reply(&mut self) -> String {
        self.try_reply().unwrap()
    }

    /// The next reply; the peer may be gone.
    pub(crate) fn try_reply(&mut self) -> io::Result<String> {
        let mut whole = String::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up"));
            }
            let line = line.trim_end_matches("\r\n");
            whole.push_str(line);
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(whole);
            }
            whole.push('\n');
        }
    }

    /// Sends a command and reads its reply.
    pub(crate) fn say(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes());
        self.reply()
    }

    /// Sends a command whose reply must begin with `want`.
    pub(crate) fn ask(&mut self, command: &str, want: &str) -> String {
        let reply = self.say(command);
        assert!(reply.starts_with(want), "{command}: wanted {want}, got {reply}");
        reply
    }

    /// A whole transaction; the reply to the final dot. The message ends in CR LF or is empty.
    pub(crate) fn message(&mut self, from: &str, to: &[&str], message: &[u8]) -> String {
        self.ask(&format!("MAIL FROM:<{from}>"), "250");
        for to in to {
            self.ask(&format!("RCPT TO:<{to}>"), "250");
        }
        self.data(message)
    }

    /// DATA and a message; the reply to the final dot.
    pub(crate) fn data(&mut self, message: &[u8]) -> String {
        self.ask("DATA", "354");
        self.text(message)
    }

    /// A message behind DATA; the reply to the final dot.
    pub(crate) fn text(&mut self, message: &[u8]) -> String {
        let mut stuffed = stuff(message);
        stuffed.extend_from_slice(b".\r\n");
        self.send(&stuffed);
        self.reply()
    }

    /// As [`SmtpClient::message`], for a server that may die at any moment.
    pub(crate) fn try_message(&mut self, from: &str, to: &str, text: &[u8]) -> io::Result<String> {
        let commands = [format!("MAIL FROM:<{from}>"), format!("RCPT TO:<{to}>"), "DATA".into()];
        for command in commands {
            self.try_send(format!("{command}\r\n").as_bytes())?;
            self.try_reply()?;
        }
        let mut stuffed = stuff(text);
        stuffed.extend_from_slice(b".\r\n");
        self.try_send(&stuffed)?;
        self.try_reply()
    }

    /// Connects, reads the greeting, says EHLO; the peer may be gone.
    pub(crate) fn try_hello(address: SocketAddr, name: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream: BufReader::new(Stream::Clear(stream)) };
        let greeting = client.try_reply()?;
        if !greeting.starts_with("220 ") {
            return Err(io::Error::other(greeting));
        }
        client.try_say(&format!("EHLO {name}"))?;
        Ok(client)
    }

    /// Sends a command and reads its reply; the peer may be gone.
    pub(crate) fn try_say(&mut self, command: &str) -> io::Result<String> {
        self.try_send(format!("{command}\r\n").as_bytes())?;
        self.try_reply()
    }

    /// A whole transaction with a server that may refuse any of it or die at any moment: the first reply
    /// that refuses, or the one to the final dot.
    pub(crate) fn transaction(
        &mut self,
        from: &str,
        to: &[String],
        text: &[u8],
    ) -> io::Result<String> {
        let mut commands = vec![format!("MAIL FROM:<{from}>")];
        commands.extend(to.iter().map(|to| format!("RCPT TO:<{to}>")));
        commands.push("DATA".to_owned());
        for command in commands {
            let reply = self.try_say(&command)?;
            if !reply.starts_with(['2', '3']) {
                let _ = self.try_say("RSET");
                return Ok(reply);
            }
        }
        let mut stuffed = stuff(text);
        stuffed.extend_from_slice(b".\r\n");
        self.try_send(&stuffed)?;
        self.try_reply()
    }

    /// STARTTLS with these bytes behind it in the same write, then the handshake, then EHLO.
    pub(crate) fn start_tls_with(mut self, behind: &[u8], root: &CertificateDer<'_>) -> Self {
        self.send(&[b"STARTTLS\r\n", behind].concat());
        let reply = self.reply();
        assert!(reply.starts_with("220"), "{reply}");
        self.handshake(root)
    }

    /// TLS from here on.
    pub(crate) fn handshake(self, root: &CertificateDer<'_>) -> Self {
        self.handshake_with(root, super::serving::HOSTNAME)
    }

    /// STARTTLS with a server of this name, then EHLO again.
    pub(crate) fn start_tls_with_host(mut self, root: &CertificateDer<'_>, host: &str) -> Self {
        self.ask("STARTTLS", "220");
        let mut client = self.handshake_with(root, host);
        client.ask("EHLO client.elsewhere.example", "250");
        client
    }

    fn handshake_with(self, root: &CertificateDer<'_>, host: &str) -> Self {
        assert!(self.stream.buffer().is_empty(), "the server goes on talking in clear text");
        let Stream::Clear(stream) = self.stream.into_inner() else { panic!("TLS inside TLS") };
        let stream = Stream::Tls(Box::new(handshake(stream, root, host)));
        Self { stream: BufReader::new(stream) }
    }

    /// STARTTLS, handshake, EHLO again.
    pub(crate) fn start_tls(self, root: &CertificateDer<'_>, name: &str) -> Self {
        let mut client = self.start_tls_with(b"", root);
        client.ask(&format!("EHLO {name}"), "250");
        client
    }

    /// AUTH PLAIN with an initial response; the reply.
    pub(crate) fn auth_plain(&mut self, user: &str, password: &str) -> String {
        let response = base64(format!("\0{user}\0{password}").as_bytes());
        self.say(&format!("AUTH PLAIN {response}"))
    }

    /// AUTH LOGIN; the last reply.
    pub(crate) fn auth_login(&mut self, user: &str, password: &str) -> String {
        self.ask("AUTH LOGIN", "334");
        self.ask(&base64(user.as_bytes()), "334");
        self.say(&base64(password.as_bytes()))
    }
}

/// The octets with the dot of each line that begins with one doubled.
pub(crate) fn stuff(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 16);
    for line in message.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out
}

fn handshake(
    stream: TcpStream,
    root: &CertificateDer<'_>,
    host: &str,
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone().into_owned()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let at = |place: usize| u32::from(three.get(place).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            out.push(if place > three.len() { '=' } else { char::from(digit) });
        }
    }
    out
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Clear(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
