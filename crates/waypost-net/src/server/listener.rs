//! Listening sockets: bind, accept, stop.

use std::future::Future;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, error, warn};
use waypost_smtp::server::{Settings, TlsOffer};
use waypost_types::{ListenerRole, Session, TlsState};

use super::connection::Connection;
use super::{Clock, Handler, Peer, SharedLimits, StopSignal, TrustedProxies};

/// Connections that may wait for `accept()`.
const BACKLOG: i32 = 4096;
/// How long to wait when `accept()` fails for want of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);

/// How a listener does TLS, with its certificate.
#[derive(Clone, Debug)]
pub enum Tls {
    /// Not at all.
    Off,
    /// By STARTTLS.
    StartTls(Arc<ServerConfig>),
    /// From the first octet.
    Implicit(Arc<ServerConfig>),
}

/// What a listener offers; replaced as a whole, for connections that come later.
#[derive(Clone, Debug)]
pub struct Configuration {
    settings: Arc<Settings>,
    tls: Tls,
    role: ListenerRole,
    trusted: TrustedProxies,
}

impl Configuration {
    /// Settings, whose `tls` follows the other argument; and the role that sessions will name.
    #[must_use]
    pub fn new(mut settings: Settings, tls: Tls, role: ListenerRole) -> Self {
        settings.tls = match tls {
            Tls::Off => TlsOffer::Off,
            Tls::StartTls(_) => TlsOffer::StartTls,
            Tls::Implicit(_) => TlsOffer::Implicit,
        };
        Self { settings: Arc::new(settings), tls, role, trusted: TrustedProxies::default() }
    }

    /// The same, but these proxies are believed.
    #[must_use]
    pub fn with_trusted(self, trusted: TrustedProxies) -> Self {
        Self { trusted, ..self }
    }

    /// What each connection offers and allows.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// How TLS is done.
    #[must_use]
    pub fn tls(&self) -> &Tls {
        &self.tls
    }

    /// Which proxies are believed.
    #[must_use]
    pub fn trusted(&self) -> &TrustedProxies {
        &self.trusted
    }

    /// The listener's role.
    #[must_use]
    pub fn role(&self) -> ListenerRole {
        self.role
    }
}

/// A socket that clients can connect to; they wait until [`Listener::serve`] runs.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    /// The address of ours in all connections; `None` where each may have another one.
    local: Option<SocketAddr>,
}

/// Where connections come from; tests bring failures.
trait Accept: Send {
    fn accept(&mut self) -> impl Future<Output = io::Result<(TcpStream, Peer)>> + Send;
}

impl Accept for Listener {
    async fn accept(&mut self) -> io::Result<(TcpStream, Peer)> {
        let (stream, client) = self.socket.accept().await?;
        if !cfg!(target_os = "linux") {
            let _ = stream.set_nodelay(true);
        }
        let local = match self.local {
            Some(local) => local,
            None => stream.local_addr()?,
        };
        Ok((stream, Peer { client, proxy: None, local }))
    }
}

impl Listener {
    fn new(socket: TcpListener) -> io::Result<Self> {
        // Replies are small and complete: waiting to fill a segment only delays them. On Linux accepted
        // sockets have it from the one that listens.
        SockRef::from(&socket).set_tcp_nodelay(true)?;
        let local = socket.local_addr().ok().filter(|local| !local.ip().is_unspecified());
        Ok(Self { socket, local })
    }

    /// Binds an address; port 0 takes a free one. Up to 4,096 clients wait in the queue, if
    /// the system allows as many.
    ///
    /// # Errors
    /// Those of the system: the address is taken, not ours, or needs a privilege. Needs a tokio
    /// runtime.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::bound(address).and_then(Self::from_std)
    }

    /// The same without a runtime, for [`Listener::from_std`]: a server that gives up its privileges
    /// binds before it has any thread.
    ///
    /// # Errors
    /// Those of the system: the address is taken, not ours, or needs a privilege.
    pub fn bound(address: SocketAddr) -> io::Result<std::net::TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }

    /// Takes a socket that listens already: one of [`Listener::bound`], or one that socket activation
    /// handed over.
    ///
    /// # Errors
    /// Those of the system. Needs a tokio runtime.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).and_then(Self::new)
    }

    /// The address in use.
    ///
    /// # Errors
    /// Those of the system, if it does not know the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves clients, each in a task of its own with a handler of its own, until the stop; returns
    /// when the last connection has ended or the grace time is over.
    pub async fn serve<H, F>(
        self,
        configuration: watch::Receiver<Arc<Configuration>>,
        limits: SharedLimits,
        make_handler: F,
        stop: StopSignal,
    ) where
        H: Handler + 'static,
        F: Fn() -> H + Send,
    {
        serve(self, configuration, limits, make_handler, stop).await;
    }
}

async fn serve<A, H, F>(
    mut listener: A,
    configuration: watch::Receiver<Arc<Configuration>>,
    limits: SharedLimits,
    make_handler: F,
    mut stop: StopSignal,
) where
    A: Accept,
    H: Handler + 'static,
    F: Fn() -> H + Send,
{
    let clock = Clock::start();
    let mut connections = JoinSet::new();
    let grace = loop {
        let accepted = tokio::select! {
            grace = stop.stopped() => break grace,
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                log_panic(ended);
                continue;
            }
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(failure) => {
                back_off(&failure, &mut stop).await;
                continue;
            }
        };
        let configuration = Arc::clone(&configuration.borrow());
        let client_ip = peer.client.ip().to_canonical();
        let trusted = configuration.trusted();
        let admitted = if trusted.sends_header(client_ip) || trusted.gives_xclient(client_ip) {
            limits.admit_proxy()
        } else {
            limits.admit(clock.now(), client_ip)
        };
        let slot = match admitted {
            Ok(slot) => slot,
            Err(refusal) => {
                debug!(client = %peer.client, %refusal, "connection refused");
                turn_away(stream, &configuration, &refusal.reply());
                continue;
            }
        };
        let connection = Connection {
            peer,
            session: Session {
                client_ip,
                role: configuration.role(),
                helo: None,
                auth: None,
                tls: TlsState::Clear,
            },
            configuration,
            allowed: 0,
            handler: make_handler(),
            clock,
            stop: stop.clone(),
            slot,
        };
        connections.spawn(connection.run(stream));
    };
    drop(listener);
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    };
    if timeout(grace, all_ended).await.is_err() {
        warn!(connections = connections.len(), "grace time is over; connections are cut");
        connections.shutdown().await;
    }
}

/// A client that went away before we came to it is its own matter; anything else may last.
async fn back_off(failure: &io::Error, stop: &mut StopSignal) {
    if matches!(
        failure.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    ) {
        return;
    }
    warn!(%failure, "accept failed; trying again");
    tokio::select! {
        () = sleep(BACK_OFF) => {}
        // Heard again by the caller.
        _ = stop.stopped() => {}
    }
}

/// Says 421 and closes. A new socket has room for one line, so this never waits; inside implicit
/// TLS nothing can be said.
pub(super) fn turn_away(
    stream: TcpStream,
    configuration: &Configuration,
    reply: &waypost_types::Reply,
) {
    if let Tls::Implicit(_) = configuration.tls() {
        return;
    }
    let mut line = Vec::new();
    reply.write_to(&mut line);
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write_all(&line);
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(failure) = ended {
        error!(%failure, "a connection's task ended abnormally");
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::AsyncReadExt;
    use waypost_smtp::end_of_data::Data;
    use waypost_types::Reply;

    use super::super::{ClientLimits, ConnectionLimits, stop_signal};
    use super::*;

    struct Nobody;

    impl Handler for Nobody {
        async fn message(&mut self, _session: &Session, _data: Data) -> Reply {
            Reply::new(451, (4, 3, 0), "Nobody is here")
        }
    }

    /// Fails a few times, as a process out of descriptors does, before it accepts.
    struct Failing {
        listener: Listener,
        failures: Vec<io::Error>,
    }

    impl Accept for Failing {
        async fn accept(&mut self) -> io::Result<(TcpStream, Peer)> {
            match self.failures.pop() {
                Some(failure) => Err(failure),
                None => self.listener.accept().await,
            }
        }
    }

    fn parts() -> (watch::Receiver<Arc<Configuration>>, SharedLimits) {
        let settings = Settings::new("mx.solarmora.com".parse().unwrap());
        let configuration = Configuration::new(settings, Tls::Off, ListenerRole::Mx);
        let (_, receiver) = watch::channel(Arc::new(configuration));
        (receiver, SharedLimits::new(ClientLimits::new(ConnectionLimits::default())))
    }

    #[tokio::test]
    async fn a_listener_outlives_failures_of_accept() {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let failures = [24, 103, 104, 4].map(io::Error::from_raw_os_error).into();
        let failing = Failing { listener, failures };
        let (configuration, limits) = parts();
        let (stopper, stop) = stop_signal();
        let server = tokio::spawn(serve(failing, configuration, limits, || Nobody, stop));
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut greeting = [0; 3];
        client.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"220");
        stopper.stop(BACK_OFF);
        server.await.unwrap();
    }

    #[tokio::test]
    async fn an_idle_connection_is_small() {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let local = client.local_addr().unwrap();
        let (configuration, limits) = parts();
        let configuration = Arc::clone(&configuration.borrow());
        let (_stopper, stop) = stop_signal();
        let connection = Connection {
            peer: Peer { client: local, proxy: None, local },
            session: Session {
                client_ip: local.ip(),
                role: ListenerRole::Mx,
                helo: None,
                auth: None,
                tls: TlsState::Clear,
            },
            configuration,
            allowed: 0,
            handler: Nobody,
            clock: Clock::start(),
            stop,
            slot: limits.admit_proxy().unwrap(),
        };
        let size = size_of_val(&connection.run(client));
        let server = size_of::<waypost_smtp::server::Server>();
        println!("the future of a connection: {size} octets, and {server} of its state machine");
        assert!(size + server <= 3072, "{size} octets and {server}");
    }
}
