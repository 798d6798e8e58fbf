//! Next hops that speak TLS, well or badly, and that may demand AUTH: blocking SMTP and LMTP servers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::smtp_client::base64;

/// The longest wait for a message.
const PATIENCE: Duration = Duration::from_secs(60);

/// An authority of the test's own.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, for `roots`.
    pub(crate) pem: String,
}

impl Authority {
    /// A new one.
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A server whose certificate it signed, for these names.
    pub(crate) fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        server(params(names), Some(self))
    }
}

/// What a certificate for these names is made of.
pub(crate) fn params(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap()
}

/// A server with a certificate signed by an authority, or by itself.
pub(crate) fn server(params: CertificateParams, by: Option<&Authority>) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let certificate = match by {
        Some(authority) => params.signed_by(&key, &authority.issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    let secret = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], secret)
        .unwrap();
    Arc::new(config)
}

/// How a sink does TLS.
#[derive(Clone)]
pub(crate) enum Tls {
    /// STARTTLS is not offered.
    Absent,
    /// STARTTLS is offered, and refused with 454.
    Refused,
    /// By STARTTLS.
    Upgraded(Arc<ServerConfig>),
    /// By STARTTLS; this stands behind its 220 in the same write.
    Injecting(&'static str, Arc<ServerConfig>),
    /// From the first octet on.
    Implicit(Arc<ServerConfig>),
    /// What follows the 220 is no TLS.
    Broken,
    /// The connection ends behind the 220.
    Dropped,
    /// What follows the 220 is another server's.
    HandedTo(SocketAddr),
}

/// What a sink is like.
#[derive(Clone)]
pub(crate) struct Manner {
    /// How it does TLS.
    pub(crate) tls: Tls,
    /// What the reply to EHLO holds before TLS, and inside it or without it at the end.
    pub(crate) offers: [&'static str; 2],
    /// The user and the password without which it takes no mail.
    pub(crate) login: Option<(&'static str, &'static str)>,
}

impl From<Tls> for Manner {
    fn from(tls: Tls) -> Self {
        Self { tls, offers: ["", "PIPELINING"], login: None }
    }
}

/// A message that a sink took.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    /// Whether it came inside TLS.
    pub(crate) inside_tls: bool,
    /// MAIL and RCPT, as they came.
    pub(crate) commands: Vec<String>,
    /// The connection's number.
    pub(crate) connection: usize,
}

/// A running sink; dropped, it closes its port.
pub(crate) struct TlsSink {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    taken: Mutex<Vec<Taken>>,
    came: Condvar,
    /// The server name of each handshake.
    names: Mutex<Vec<Option<String>>>,
    /// Every line that was heard, in clear text or not.
    heard: Mutex<Vec<String>>,
    stopped: AtomicBool,
}

impl TlsSink {
    /// On a free port.
    pub(crate) fn start(manner: impl Into<Manner>) -> Self {
        let manner = manner.into();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        let task = std::thread::spawn(move || {
            for (number, tcp) in listener.incoming().enumerate() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let (shared, manner) = (Arc::clone(&accepting), manner.clone());
                std::thread::spawn(move || {
                    let _ = connection(tcp.unwrap(), number, &manner, &shared);
                });
            }
        });
        Self { address, shared, task: Some(task) }
    }

    /// What it took so far.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.shared.taken.lock().unwrap().clone()
    }

    /// Waits until it took so many.
    pub(crate) fn wait(&self, count: usize) -> Vec<Taken> {
        let until = Instant::now() + PATIENCE;
        let mut taken = self.shared.taken.lock().unwrap();
        while taken.len() < count {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} of {count} came", taken.len());
            taken = self.shared.came.wait_timeout(taken, left).unwrap().0;
        }
        taken.clone()
    }

    /// The server names of the handshakes that were done.
    pub(crate) fn names(&self) -> Vec<Option<String>> {
        self.shared.names.lock().unwrap().clone()
    }

    /// Every line of a command that it heard.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.shared.heard.lock().unwrap().clone()
    }
}

impl Drop for TlsSink {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(task) = self.task.take() {
            task.join().unwrap();
        }
    }
}

fn connection(tcp: TcpStream, number: usize, manner: &Manner, shared: &Shared) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let talk = Talk { manner, shared, number };
    if let Tls::Implicit(config) = &manner.tls {
        let mut inside = BufReader::new(handshake(tcp, config, shared)?);
        inside.get_mut().write_all(b"220 sink.example ESMTP\r\n")?;
        return talk.session(&mut inside, true).map(drop);
    }
    let mut clear = BufReader::new(tcp);
    clear.get_mut().write_all(b"220 sink.example ESMTP\r\n")?;
    if !talk.session(&mut clear, false)? {
        return Ok(());
    }
    let mut tcp = clear.into_inner();
    match &manner.tls {
        Tls::Upgraded(config) => {
            tcp.write_all(b"220 2.0.0 Go on\r\n")?;
            talk.session(&mut BufReader::new(handshake(tcp, config, shared)?), true).map(drop)
        }
        Tls::Injecting(behind, config) => {
            tcp.write_all(format!("220 2.0.0 Go on\r\n{behind}").as_bytes())?;
            talk.session(&mut BufReader::new(handshake(tcp, config, shared)?), true).map(drop)
        }
        Tls::Broken => {
            tcp.write_all(b"220 2.0.0 Go on\r\n")?;
            // Waits for the client to begin, so that this is no injection.
            tcp.read_exact(&mut [0])?;
            tcp.write_all(b"this is no TLS record at all\r\n")?;
            io::copy(&mut tcp, &mut io::sink()).map(drop)
        }
        Tls::Dropped => {
            tcp.write_all(b"220 2.0.0 Go on\r\n")?;
            // All of the first record, or the end would be a reset.
            let mut head = [0; 5];
            tcp.read_exact(&mut head)?;
            let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
            tcp.read_exact(&mut vec![0; length])
        }
        Tls::HandedTo(other) => {
            let other = TcpStream::connect(other)?;
            tcp.write_all(b"220 2.0.0 Go on\r\n")?;
            let (mut from, mut to) = (other.try_clone()?, tcp.try_clone()?);
            let back = std::thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
            let _ = io::copy(&mut tcp, &mut &other);
            let _ = other.shutdown(std::net::Shutdown::Both);
            back.join().unwrap();
            Ok(())
        }
        Tls::Absent | Tls::Refused | Tls::Implicit(_) => Ok(()),
    }
}

fn handshake(
    mut tcp: TcpStream,
    config: &Arc<ServerConfig>,
    shared: &Shared,
) -> io::Result<StreamOwned<ServerConnection, TcpStream>> {
    let mut tls = ServerConnection::new(Arc::clone(config)).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp)?;
    }
    shared.names.lock().unwrap().push(tls.server_name().map(str::to_owned));
    Ok(StreamOwned::new(tls, tcp))
}

struct Talk<'a> {
    manner: &'a Manner,
    shared: &'a Shared,
    number: usize,
}

impl Talk<'_> {
    /// Whether TLS is to begin.
    fn session<S: Read + Write>(
        &self,
        stream: &mut BufReader<S>,
        inside_tls: bool,
    ) -> io::Result<bool> {
        let Manner { tls, login, .. } = self.manner;
        let mut commands = Vec::new();
        let (mut lmtp, mut is_known) = (false, login.is_none());
        while let Some(line) = self.line(stream)? {
            let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            let reply = match verb.as_str() {
                "EHLO" | "LHLO" => {
                    lmtp = verb == "LHLO";
                    self.hello(inside_tls)
                }
                "STARTTLS" if matches!(tls, Tls::Refused) => "454 4.7.0 TLS not available".into(),
                "STARTTLS" if !inside_tls && !matches!(tls, Tls::Absent) => return Ok(true),
                "AUTH" => {
                    is_known = self.auth(stream, &line)?;
                    match is_known {
                        true => "235 2.7.0 Welcome".to_owned(),
                        false => "535 5.7.8 Wrong credentials".to_owned(),
                    }
                }
                "MAIL" if !is_known => "530 5.7.0 Authentication required".to_owned(),
                "MAIL" | "RCPT" => {
                    commands.push(line);
                    "250 2.1.0 Ok".to_owned()
                }
                "DATA" => {
                    let recipients = commands.len() - 1;
                    say(stream, "354 Go on")?;
                    while self.line(stream)?.is_some_and(|line| line != ".") {}
                    self.taken(std::mem::take(&mut commands), inside_tls);
                    let replies = if lmtp { recipients } else { 1 };
                    vec!["250 2.0.0 Taken"; replies].join("\r\n")
                }
                "QUIT" => {
                    say(stream, "221 2.0.0 Bye")?;
                    return Ok(false);
                }
                _ => "250 2.0.0 Ok".to_owned(),
            };
            say(stream, &reply)?;
        }
        Ok(false)
    }

    fn hello(&self, inside_tls: bool) -> String {
        let offers_tls = !inside_tls && !matches!(self.manner.tls, Tls::Absent | Tls::Implicit(_));
        let last = inside_tls || !offers_tls;
        let mut lines = vec!["sink.example"];
        lines.extend(self.manner.offers[usize::from(last)].split('|').filter(|l| !l.is_empty()));
        lines.extend(offers_tls.then_some("STARTTLS"));
        let end = lines.len() - 1;
        let mark = |at: usize| if at == end { ' ' } else { '-' };
        let lines = lines.iter().enumerate().map(|(at, line)| format!("250{}{line}", mark(at)));
        lines.collect::<Vec<_>>().join("\r\n")
    }

    /// PLAIN with or without an initial response, or LOGIN; whether it is the right login.
    fn auth<S: Read + Write>(&self, stream: &mut BufReader<S>, line: &str) -> io::Result<bool> {
        let Some((user, password)) = self.manner.login else { return Ok(true) };
        let words: Vec<&str> = line.split(' ').collect();
        if words.get(1) == Some(&"LOGIN") {
            say(stream, "334 VXNlcm5hbWU6")?;
            let said_user = self.line(stream)?;
            say(stream, "334 UGFzc3dvcmQ6")?;
            let said_password = self.line(stream)?;
            let right = [base64(user.as_bytes()), base64(password.as_bytes())];
            return Ok([said_user.unwrap_or_default(), said_password.unwrap_or_default()] == right);
        }
        let said = match words.get(2) {
            Some(said) => (*said).to_owned(),
            None => {
                say(stream, "334 ")?;
                self.line(stream)?.unwrap_or_default()
            }
        };
        Ok(said == base64(format!("\0{user}\0{password}").as_bytes()))
    }

    fn line<S: Read + Write>(&self, stream: &mut BufReader<S>) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&line).trim_end_matches("\r\n").to_owned();
        self.shared.heard.lock().unwrap().push(line.clone());
        Ok(Some(line))
    }

    fn taken(&self, commands: Vec<String>, inside_tls: bool) {
        let taken = Taken { inside_tls, commands, connection: self.number };
        self.shared.taken.lock().unwrap().push(taken);
        self.shared.came.notify_all();
    }
}

fn say<S: Read + Write>(stream: &mut BufReader<S>, text: &str) -> io::Result<()> {
    stream.get_mut().write_all(format!("{text}\r\n").as_bytes())?;
    stream.get_mut().flush()
}
