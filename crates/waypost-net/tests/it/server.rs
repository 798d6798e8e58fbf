//! Real sessions over loopback: clear text, STARTTLS, implicit TLS, limits, an orderly stop.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use waypost_net::server::{
    ClientLimits, Configuration, ConnectionLimits, Handler, Listener, Mail, Peer, SharedLimits,
    Stopper, Tls, TlsFacts, TrustedProxies, stop_signal,
};
use waypost_smtp::end_of_data::{Data, stuff};
use waypost_smtp::server::{
    AuthOffer, CloseCause, Credentials, HelloKind, ResetCause, Settings, Xclient,
};
use waypost_types::{ListenerRole, Mailbox, Recipient, Reply, Session};

/// Far more than any step takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Octets of a message that a recorder has room for.
const ROOM: u64 = 4_000_000;

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("nothing happened for a long time")
}

/// Says yes and tells what it heard.
struct Recorder(mpsc::UnboundedSender<String>);

impl Recorder {
    fn tell(&self, what: String) {
        let _ = self.0.send(what);
    }
}

impl Handler for Recorder {
    async fn connected(&mut self, session: &Session, peer: Peer) -> Result<(), Reply> {
        assert_eq!(session.client_ip, peer.client.ip());
        let by = peer.proxy.map(|proxy| format!(" by {}", proxy.ip())).unwrap_or_default();
        self.tell(format!("connected{by}"));
        Ok(())
    }

    async fn announced(&mut self, session: &Session, peer: Peer, _: &Xclient) -> Result<(), Reply> {
        assert_eq!(session.client_ip, peer.client.ip());
        assert_eq!((&session.helo, &session.auth), (&None, &None));
        let proxy = peer.proxy.unwrap().ip();
        self.tell(format!("announced {} by {proxy}", peer.client));
        if session.client_ip.is_ipv6() {
            return Err(Reply::new(550, (5, 7, 1), "Nothing from there"));
        }
        Ok(())
    }

    async fn tls(&mut self, session: &Session, facts: TlsFacts) {
        assert!(session.is_encrypted() && session.helo.is_none());
        self.tell(format!("tls {}", facts.version));
    }

    async fn tls_failed(&mut self, _session: &Session, _error: &std::io::Error) {
        self.tell("tls failed".into());
    }

    async fn hello(&mut self, _: &Session, _: HelloKind, name: &str) -> Result<(), Reply> {
        self.tell(format!("hello {name}"));
        Ok(())
    }

    async fn auth(&mut self, session: &Session, found: Credentials) -> Result<Mailbox, Reply> {
        assert!(session.is_encrypted());
        if found.password.as_bytes() == b"secret" {
            return Ok(format!("{}@solarmora.com", found.user).parse().unwrap());
        }
        Err(Reply::new(535, (5, 7, 8), "Wrong user or password"))
    }

    async fn mail(&mut self, session: &Session, mail: Mail) -> Result<(), Reply> {
        let user = session.auth.as_ref().map(|user| format!(" as {user}")).unwrap_or_default();
        self.tell(format!("mail {}{user}", mail.sender));
        Ok(())
    }

    async fn rcpt(&mut self, _session: &Session, recipient: Recipient) -> Result<(), Reply> {
        self.tell(format!("rcpt {}", recipient.address));
        Ok(())
    }

    async fn room(&mut self, _session: &Session, octets: u64) -> Option<u64> {
        (octets <= ROOM).then_some(ROOM)
    }

    async fn message(&mut self, session: &Session, data: Data) -> Reply {
        let helo = session.helo.as_deref().unwrap_or_default();
        self.tell(format!("message {} from {helo}", data.size));
        Reply::new(250, (2, 0, 0), "Queued")
    }

    async fn reset(&mut self, _session: &Session, _cause: ResetCause) {
        self.tell("reset".into());
    }

    async fn closed(&mut self, _session: &Session, cause: CloseCause) {
        self.tell(format!("closed {cause:?}"));
    }
}

struct Running {
    address: SocketAddr,
    log: mpsc::UnboundedReceiver<String>,
    stopper: Stopper,
    limits: SharedLimits,
    configure: watch::Sender<Arc<Configuration>>,
    server: JoinHandle<()>,
}

impl Running {
    fn start(settings: Settings, tls: Tls, limits: ConnectionLimits) -> Self {
        Self::with(Configuration::new(settings, tls, ListenerRole::Mx), limits)
    }

    /// Clients from here are proxies that are believed.
    fn behind_proxies(settings: Settings, tls: Tls) -> Self {
        let here = vec!["127.0.0.0/8".parse().unwrap()];
        let trusted = TrustedProxies { proxy_protocol: here.clone(), xclient: here };
        let configuration = Configuration::new(settings, tls, ListenerRole::Mx);
        Self::with(configuration.with_trusted(trusted), ConnectionLimits::default())
    }

    fn with(configuration: Configuration, limits: ConnectionLimits) -> Self {
        let (sender, log) = mpsc::unbounded_channel();
        let (configure, configuration) = watch::channel(Arc::new(configuration));
        let limits = SharedLimits::new(ClientLimits::new(limits));
        let (stopper, stop) = stop_signal();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let make = move || Recorder(sender.clone());
        let server = tokio::spawn(listener.serve(configuration, limits.clone(), make, stop));
        Self { address, log, stopper, limits, configure, server }
    }

    async fn connect(&self) -> Client<TcpStream> {
        Client(BufReader::new(soon(TcpStream::connect(self.address)).await.unwrap()))
    }

    async fn next(&mut self) -> String {
        soon(self.log.recv()).await.unwrap()
    }

    /// What was heard up to and including `last`.
    async fn until(&mut self, last: &str) -> Vec<String> {
        let mut heard = Vec::new();
        while heard.last().is_none_or(|heard| heard != last) {
            heard.push(self.next().await);
        }
        heard
    }
}

struct Client<S>(BufReader<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn say(&mut self, text: &str) {
        soon(self.0.get_mut().write_all(text.as_bytes())).await.unwrap();
        soon(self.0.get_mut().flush()).await.unwrap();
    }

    /// One whole reply, its lines parted by `\n`; empty at the end of the connection.
    async fn hear(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            soon(self.0.read_line(&mut line)).await.unwrap();
            reply += line.trim_end();
            if line.as_bytes().get(3) != Some(&b'-') {
                return reply;
            }
            reply += "\n";
        }
    }

    async fn ask(&mut self, command: &str) -> String {
        self.say(&format!("{command}\r\n")).await;
        self.hear().await
    }

    async fn expect(&mut self, command: &str, code: &str) {
        let reply = self.ask(command).await;
        assert!(reply.starts_with(code), "{command}: {reply}, not {code}");
    }
}

fn settings() -> Settings {
    let mut settings = Settings::new("mx.solarmora.com".parse().unwrap());
    settings.auth = AuthOffer::InsideTls;
    settings.timeouts.auth_failure_pause = Duration::ZERO;
    settings
}

fn certificate() -> (Arc<ServerConfig>, TlsConnector) {
    let made = rcgen::generate_simple_self_signed(vec!["mx.solarmora.com".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&ring))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), TlsConnector::from(Arc::new(client)))
}

async fn handshake(
    connector: &TlsConnector,
    stream: TcpStream,
) -> Client<tokio_rustls::client::TlsStream<TcpStream>> {
    let name = ServerName::try_from("mx.solarmora.com").unwrap();
    Client(BufReader::new(soon(connector.connect(name, stream)).await.unwrap()))
}

#[tokio::test]
async fn a_plain_session_with_two_messages() {
    let mut running = Running::start(settings(), Tls::Off, ConnectionLimits::default());
    let mut client = running.connect().await;
    assert_eq!(client.hear().await, "220 mx.solarmora.com ESMTP");
    let hello = client.ask("EHLO client.example").await;
    assert!(!hello.contains("AUTH") && !hello.contains("STARTTLS"), "{hello}");
    for _ in 0..2 {
        let group = "MAIL FROM:<a@b.example>\r\nRCPT TO:<marie@solarmora.com>\r\nDATA\r\n";
        client.say(group).await;
        for code in ["250 2.1.0", "250 2.1.5", "354"] {
            assert!(client.hear().await.starts_with(code));
        }
        client.expect("Subject: x\r\n\r\n..\r\n.", "250 2.0.0 Queued").await;
    }
    client.expect("QUIT", "221").await;
    assert_eq!(client.hear().await, "");
    let message =
        ["mail a@b.example", "rcpt marie@solarmora.com", "message 17 from client.example"];
    let want = [&["connected", "hello client.example"][..], &message, &message, &["closed Quit"]];
    assert_eq!(running.until("closed Quit").await, want.concat());
}

#[tokio::test]
async fn a_listed_proxy_names_its_clients_d15() {
    let mut running = Running::behind_proxies(settings(), Tls::Off);
    let mut client = running.connect().await;
    client.say("PROXY UNKNOWN\r\n").await;
    assert_eq!(client.hear().await, "220 mx.solarmora.com ESMTP");
    client.expect("EHLO proxy.example", "250").await;
    client.expect("XCLIENT ADDR=192.0.2.7 PORT=4711 HELO=client.example", "220").await;
    client.expect("MAIL FROM:<a@b.example>", "503").await;
    client.expect("EHLO proxy.example", "250").await;
    // A refusal of the application ends the connection, whatever its code.
    client.expect("XCLIENT ADDR=IPV6:2001:db8::7", "550 5.7.1 Nothing").await;
    assert_eq!(client.hear().await, "");
    let want = [
        "connected",
        "hello proxy.example",
        "announced 192.0.2.7:4711 by 127.0.0.1",
        "hello client.example",
        "announced [2001:db8::7]:0 by 127.0.0.1",
        "closed Refused",
    ];
    assert_eq!(running.until("closed Refused").await, want);

    // Who is announced by a header is no proxy, though his proxy is one.
    let mut client = running.connect().await;
    client.say("PROXY TCP4 192.0.2.7 203.0.113.1 4711 25\r\n").await;
    assert_eq!(client.hear().await, "220 mx.solarmora.com ESMTP");
    client.expect("XCLIENT ADDR=192.0.2.8", "550 5.7.0").await;
    drop(client);
    assert_eq!(running.until("closed Disconnected").await[0], "connected by 127.0.0.1");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_header() {
    let running = Running::behind_proxies(settings(), Tls::Off);
    let mut client = running.connect().await;
    client.say("PROXY TCP4 192.0.2.7").await;
    while running.limits.lock().open() == 0 {
        tokio::task::yield_now().await;
    }
    running.stopper.stop(PATIENCE * 2);
    soon(running.server).await.unwrap();
    assert_eq!(client.hear().await, "");
}

#[tokio::test]
async fn a_message_without_room_is_read_to_its_end_and_refused() {
    let mut running = Running::start(settings(), Tls::Off, ConnectionLimits::default());
    let mut client = running.connect().await;
    client.hear().await;
    client.expect("EHLO client.example", "250").await;
    let line = format!("{}\r\n", "x".repeat(98));
    // Neither a small one before nor the one without room changes what the next one may have.
    for (lines, code) in
        [(10, "250"), (90_000, "452 4.3.1"), (39_000, "250"), (42_000, "452 4.3.1"), (1, "250")]
    {
        client.expect("MAIL FROM:<a@b.example>", "250").await;
        client.expect("RCPT TO:<marie@solarmora.com>", "250").await;
        client.expect("DATA", "354").await;
        client.say(&line.repeat(lines)).await;
        client.expect(".", code).await;
    }
    for (lines, code) in [(90_000, "452 4.3.1"), (39_000, "250"), (42_000, "452 4.3.1")] {
        client.expect("MAIL FROM:<a@b.example>", "250").await;
        client.expect("RCPT TO:<marie@solarmora.com>", "250").await;
        let message = line.repeat(lines);
        client.say(&format!("BDAT {} LAST\r\n{message}", message.len())).await;
        let reply = client.hear().await;
        assert!(reply.starts_with(code), "BDAT of {lines} lines: {reply}");
    }
    client.expect("QUIT", "221").await;
    let heard = running.until("closed Quit").await;
    let count = |what: &str| heard.iter().filter(|heard| heard.starts_with(what)).count();
    assert_eq!((count("message"), count("reset")), (4, 4), "{heard:?}");
}

#[tokio::test]
async fn commands_injected_behind_starttls_are_dropped() {
    let (tls, connector) = certificate();
    let mut running = Running::start(settings(), Tls::StartTls(tls), ConnectionLimits::default());
    let mut client = running.connect().await;
    client.hear().await;
    client.expect("EHLO client.example", "250").await;
    client.expect("AUTH PLAIN AG1hcmllAHNlY3JldA==", "538 5.7.11").await;
    let injected = "STARTTLS\r\nEHLO evil.example\r\nMAIL FROM:<evil@b.example>\r\nRSET\r\n";
    client.say(injected).await;
    assert!(client.hear().await.starts_with("220 2.0.0"));
    let mut client = handshake(&connector, client.0.into_inner()).await;
    // Were anything of it still alive, its reply would come before this one.
    client.expect("NOOP", "250 2.0.0 Ok").await;
    client.expect("MAIL FROM:<a@b.example>", "503 5.5.1 Give EHLO").await;
    let hello = client.ask("EHLO client.example").await;
    assert!(hello.contains("AUTH PLAIN LOGIN") && !hello.contains("STARTTLS"), "{hello}");
    client.expect("AUTH PLAIN AG1hcmllAHdyb25n", "535 5.7.8").await;
    client.expect("AUTH PLAIN AG1hcmllAHNlY3JldA==", "235 2.7.0").await;
    client.expect("MAIL FROM:<a@b.example>", "250").await;
    drop(client);
    let heard = running.until("closed Disconnected").await;
    let want = [
        "connected",
        "hello client.example",
        "tls TLSv1_3",
        "hello client.example",
        "mail a@b.example as marie@solarmora.com",
        "closed Disconnected",
    ];
    assert_eq!(heard, want);
}

#[tokio::test]
async fn implicit_tls_carries_a_large_message() {
    let (tls, connector) = certificate();
    let mut running = Running::start(settings(), Tls::Implicit(tls), ConnectionLimits::default());
    let stream = soon(TcpStream::connect(running.address)).await.unwrap();
    let mut client = handshake(&connector, stream).await;
    assert!(client.hear().await.starts_with("220"));
    client.expect("EHLO client.example", "250").await;
    client.expect("MAIL FROM:<a@b.example>", "250").await;
    client.expect("RCPT TO:<marie@solarmora.com>", "250").await;
    client.expect("DATA", "354").await;
    let message = ".a line that begins with a dot\r\n".repeat(100_000);
    let wire = String::from_utf8(stuff(message.as_bytes()).into_owned()).unwrap();
    client.say(&wire).await;
    client.expect(".", "250 2.0.0 Queued").await;
    let last = format!("message {} from client.example", message.len());
    assert_eq!(running.until(&last).await.first().map(String::as_str), Some("tls TLSv1_3"));
}

#[tokio::test]
async fn a_failed_handshake_is_told() {
    let (tls, _) = certificate();
    for (tls, greets) in [(Tls::Implicit(Arc::clone(&tls)), false), (Tls::StartTls(tls), true)] {
        let mut running = Running::start(settings(), tls, ConnectionLimits::default());
        let mut client = running.connect().await;
        if greets {
            client.hear().await;
            client.expect("STARTTLS", "220").await;
        }
        client.say("EHLO this.is.no.handshake\r\n").await;
        running.until("tls failed").await;
        if greets {
            assert_eq!(running.next().await, "closed TlsFailed");
        }
    }
}

#[tokio::test]
async fn connections_of_a_client_are_limited_d15() {
    let limits = ConnectionLimits { per_client: 1, ..ConnectionLimits::default() };
    let mut running = Running::start(settings(), Tls::Off, limits);
    let mut first = running.connect().await;
    assert!(first.hear().await.starts_with("220"));
    let mut second = running.connect().await;
    let reply = second.hear().await;
    assert!(reply.starts_with("421 4.7.0 your address has 1 connections open"), "{reply}");
    assert_eq!(second.hear().await, "");
    drop(first);
    running.until("closed Disconnected").await;
    soon(async {
        while running.limits.lock().open() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut third = running.connect().await;
    assert!(third.hear().await.starts_with("220"));
    // Messages over one connection are not limited.
    third.expect("EHLO client.example", "250").await;
    for _ in 0..200 {
        third.say("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@solarmora.com>\r\nDATA\r\n.\r\n").await;
        for code in ["250", "250", "354", "250 2.0.0 Queued"] {
            assert!(third.hear().await.starts_with(code));
        }
    }
}

#[tokio::test]
async fn an_early_talker_is_turned_away() {
    let mut settings = settings();
    settings.timeouts.greeting_pause = Duration::from_secs(3600);
    let mut running = Running::start(settings, Tls::Off, ConnectionLimits::default());
    let mut client = running.connect().await;
    assert!(client.ask("EHLO client.example").await.starts_with("554 5.5.1 Wait"));
    assert_eq!(running.until("closed EarlyTalker").await.len(), 2);
}

#[tokio::test]
async fn what_came_before_the_connection_was_taken_is_early_too() {
    let (sender, mut log) = mpsc::unbounded_channel();
    let (_configure, configuration) =
        watch::channel(Arc::new(Configuration::new(settings(), Tls::Off, ListenerRole::Mx)));
    let limits = SharedLimits::new(ClientLimits::new(ConnectionLimits::default()));
    let (_stopper, stop) = stop_signal();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let stream = soon(TcpStream::connect(listener.local_addr().unwrap())).await.unwrap();
    let mut client = Client(BufReader::new(stream));
    client.say("EHLO client.example\r\n").await;
    tokio::spawn(listener.serve(configuration, limits, move || Recorder(sender.clone()), stop));
    assert!(client.hear().await.starts_with("554 5.5.1 Wait"));
    assert_eq!(client.hear().await, "");
    assert_eq!(soon(log.recv()).await.unwrap(), "connected");
    assert_eq!(soon(log.recv()).await.unwrap(), "closed EarlyTalker");
}

#[tokio::test]
async fn the_last_reply_reaches_a_client_that_goes_on_talking() {
    let mut settings = settings();
    settings.limits.errors = 0;
    let running = Running::start(settings, Tls::Off, ConnectionLimits::default());
    let mut client = running.connect().await;
    client.hear().await;
    client.say(&format!("X\r\n{}", "NOOP\r\n".repeat(10_000))).await;
    assert!(client.hear().await.starts_with("421 4.7.0 Too many errors"));
    assert_eq!(client.hear().await, "");
}

/// A session that has said this much of a transaction.
async fn in_transaction(running: &Running, commands: &[(&str, &str)]) -> Client<TcpStream> {
    let mut client = running.connect().await;
    client.hear().await;
    client.expect("EHLO busy.example", "250").await;
    client.expect("MAIL FROM:<a@b.example>", "250").await;
    for (command, code) in commands {
        client.expect(command, code).await;
    }
    client
}

const RCPT: (&str, &str) = ("RCPT TO:<marie@solarmora.com>", "250");

#[tokio::test]
async fn a_stop_lets_messages_finish_and_waits_for_nothing_else() {
    let mut running = Running::start(settings(), Tls::Off, ConnectionLimits::default());
    let mut idle = running.connect().await;
    idle.hear().await;
    let mut mail = in_transaction(&running, &[]).await;
    let mut rcpt = in_transaction(&running, &[RCPT]).await;
    let mut data = in_transaction(&running, &[RCPT, ("DATA", "354")]).await;
    let mut bdat = in_transaction(&running, &[RCPT, ("BDAT 3\r\na", "250 2.0.0 3")]).await;
    running.stopper.stop(PATIENCE);
    for waiting in [&mut idle, &mut mail, &mut rcpt] {
        assert!(waiting.hear().await.starts_with("421 4.3.2"));
        assert_eq!(waiting.hear().await, "");
    }
    data.expect("x\r\n.", "250 2.0.0 Queued").await;
    bdat.expect("BDAT 3 LAST\r\nb", "250 2.0.0 Queued").await;
    for served in [&mut data, &mut bdat] {
        assert!(served.hear().await.starts_with("421 4.3.2"));
        assert_eq!(served.hear().await, "");
    }
    soon(running.server).await.unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
    let mut heard = Vec::new();
    while let Some(what) = running.log.recv().await {
        heard.push(what);
    }
    assert_eq!(heard.iter().filter(|what| *what == "closed ShuttingDown").count(), 5);
    assert_eq!(heard.iter().filter(|what| what.starts_with("message ")).count(), 2);
}

#[tokio::test]
async fn a_stop_cuts_what_outlasts_the_grace_time() {
    let running = Running::start(settings(), Tls::Off, ConnectionLimits::default());
    let mut busy = in_transaction(&running, &[RCPT, ("DATA", "354")]).await;
    running.stopper.stop(Duration::ZERO);
    soon(running.server).await.unwrap();
    let mut rest = Vec::new();
    let _ = soon(busy.0.read_to_end(&mut rest)).await;
    assert_eq!(running.limits.lock().open(), 0);
}

#[tokio::test]
async fn a_new_configuration_holds_for_later_connections() {
    let running = Running::start(settings(), Tls::Off, ConnectionLimits::default());
    let mut before = running.connect().await;
    assert_eq!(before.hear().await, "220 mx.solarmora.com ESMTP");
    let other = Settings::new("other.solarmora.com".parse().unwrap());
    running.configure.send_replace(Arc::new(Configuration::new(other, Tls::Off, ListenerRole::Mx)));
    let mut after = running.connect().await;
    assert_eq!(after.hear().await, "220 other.solarmora.com ESMTP");
    assert_eq!(before.ask("HELO client.example").await, "250 mx.solarmora.com");
}

#[tokio::test]
async fn a_silent_client_is_timed_out() {
    let mut settings = settings();
    settings.timeouts.command = Duration::from_millis(20);
    let mut running = Running::start(settings, Tls::Off, ConnectionLimits::default());
    let mut client = running.connect().await;
    client.hear().await;
    assert!(client.hear().await.starts_with("421 4.4.2"));
    running.until("closed TimedOut").await;
}
