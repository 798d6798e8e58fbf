//! One connection, from accept to close.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;
use waypost_smtp::server::{CloseCause, Event, Server};
use waypost_types::{Session, TlsState};

use super::listener::{Configuration, Tls, turn_away};
use super::{Clock, Handler, Mail, Peer, Slot, StopSignal, TlsFacts};

/// Octets read at once. The buffer is on the stack, so an idle connection has none.
const CHUNK: usize = 16 << 10;

/// How long the client's end is waited for, and how much it may still say, once all is said.
const FAREWELL: Duration = Duration::from_secs(1);
const MOST_LEFT_OVER: usize = 256 << 10;

/// How a conversation came to its end.
enum End {
    StartTls,
    Closed(CloseCause),
}

pub(super) struct Connection<H> {
    pub(super) peer: Peer,
    pub(super) configuration: Arc<Configuration>,
    pub(super) handler: H,
    pub(super) clock: Clock,
    pub(super) stop: StopSignal,
    pub(super) session: Session,
    /// Octets of the message under way that may be held.
    pub(super) allowed: u64,
    /// Its place among the connections of all and of its client.
    pub(super) slot: Slot,
}

impl<H: Handler> Connection<H> {
    pub(super) async fn run(mut self, mut stream: TcpStream) {
        if self.configuration.trusted().sends_header(self.session.client_ip) {
            match Box::pin(self.read_header(&mut stream)).await {
                Ok(()) => {}
                Err(Some(reply)) => return turn_away(stream, &self.configuration, &reply),
                Err(None) => return,
            }
        }
        let mut server = None;
        if !matches!(self.configuration.tls(), Tls::Implicit(_)) {
            let clear = server.insert(self.new_server());
            match self.converse(&mut stream, clear).await {
                End::StartTls => {}
                // Nothing more will come: closing is enough.
                End::Closed(CloseCause::Quit | CloseCause::Disconnected)
                    if !matches!(stream.try_read(&mut [0]), Ok(1..)) =>
                {
                    return;
                }
                End::Closed(_) => return self.goodbye(&mut stream).await,
            }
        }
        // In a box, so that a session in clear text does not carry the room for TLS.
        Box::pin(self.run_inside_tls(stream, server)).await;
    }

    /// In a box, since it goes from one future to the next.
    fn new_server(&self) -> Box<Server> {
        let settings = Arc::clone(self.configuration.settings());
        let mut server = Box::new(Server::new(settings, self.clock.now()));
        if self.configuration.trusted().gives_xclient(self.session.client_ip) {
            server.offer_xclient();
        }
        server
    }

    /// Goes on with the server of the clear part, or a new one where TLS is implicit.
    async fn run_inside_tls(mut self, stream: TcpStream, clear: Option<Box<Server>>) {
        let patience = self.configuration.settings().timeouts.handshake;
        let handshake = timeout(patience, self.handshake(stream)).await;
        match (self.handshaken(handshake).await, clear) {
            (Some(mut stream), clear) => {
                let mut server = clear.unwrap_or_else(|| self.new_server());
                server.handle_tls(self.clock.now());
                self.converse(&mut stream, &mut server).await;
                self.goodbye(&mut stream).await;
            }
            (None, Some(mut server)) => {
                server.handle_eof();
                while let Some(event) = server.poll_event(self.clock.now()) {
                    self.handle(&mut server, event).await;
                }
            }
            (None, None) => {}
        }
    }

    async fn handshake(&mut self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        match self.configuration.tls() {
            Tls::Off => Err(io::Error::other("TLS is not configured")),
            Tls::StartTls(tls) | Tls::Implicit(tls) => {
                let accept = TlsAcceptor::from(Arc::clone(tls)).accept(stream);
                tokio::select! {
                    stream = accept => stream,
                    _ = self.stop.stopped() => Err(io::Error::other("the server is going down")),
                }
            }
        }
    }

    /// Tells the handler how the handshake went; the stream if it went well.
    async fn handshaken(
        &mut self,
        handshake: Result<io::Result<TlsStream<TcpStream>>, tokio::time::error::Elapsed>,
    ) -> Option<TlsStream<TcpStream>> {
        match handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                self.session.tls = TlsState::Encrypted;
                self.session.helo = None;
                self.session.auth = None;
                let (_, tls) = stream.get_ref();
                let shown = |text: Option<String>| text.unwrap_or_default().into_boxed_str();
                let facts = TlsFacts {
                    version: shown(tls.protocol_version().map(|version| format!("{version:?}"))),
                    cipher: shown(
                        tls.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())),
                    ),
                    server_name: tls.server_name().map(Into::into),
                };
                self.handler.tls(&self.session, facts).await;
                Some(stream)
            }
            Err(error) => {
                debug!(client = %self.peer.client, %error, "TLS handshake failed");
                self.handler.tls_failed(&self.session, &error).await;
                None
            }
        }
    }

    /// Moves octets and events until the connection, or its clear part, ends.
    async fn converse<S>(&mut self, stream: &mut S, server: &mut Server) -> End
    where
        S: Early + AsyncRead + AsyncWrite + Unpin + Send,
    {
        let mut stopping = false;
        loop {
            let mut end = None;
            while let Some(event) = server.poll_event(self.clock.now()) {
                match event {
                    Event::StartTls => {
                        end = Some(End::StartTls);
                        break;
                    }
                    Event::Connect => self.connect(stream, server).await,
                    Event::Closed(cause) => {
                        // The last words go out before the handler's last work.
                        self.send(stream, server).await;
                        self.handle(server, event).await;
                        end = Some(End::Closed(cause));
                        break;
                    }
                    event => self.handle(server, event).await,
                }
            }
            for refusal in server.take_refusals() {
                self.handler.refused(&self.session, refusal).await;
            }
            let sent = self.send(stream, server).await;
            match end {
                Some(end) => return end,
                None if sent => continue,
                None => {}
            }
            if let Some(octets) = server.message_octets().filter(|octets| *octets > self.allowed) {
                match self.handler.room(&self.session, octets).await {
                    Some(allowed) => self.allowed = allowed,
                    None => server.discard_message(),
                }
            }
            let (clock, reads, deadline) = (self.clock, server.wants_read(), server.poll_timeout());
            let at = clock.instant(deadline.unwrap_or(clock.now()));
            tokio::select! {
                read = poll_fn(|cx| poll_chunk(stream, cx, server, &clock)), if reads => {
                    if !matches!(read, Ok(1..)) {
                        server.handle_eof();
                    }
                }
                () = sleep_until(at), if deadline.is_some() => {
                    server.handle_timeout(self.clock.now());
                }
                _ = self.stop.stopped(), if !stopping => {
                    stopping = true;
                    server.handle_shutdown();
                }
            }
        }
    }

    /// Sends what is to be said; whether there was anything.
    async fn send<S>(&mut self, stream: &mut S, server: &mut Server) -> bool
    where
        S: AsyncWrite + Unpin + Send,
    {
        let output = server.take_output();
        if output.is_empty() {
            return false;
        }
        let patience = self.configuration.settings().timeouts.command;
        let write = async {
            stream.write_all(&output).await?;
            stream.flush().await
        };
        if !matches!(timeout(patience, write).await, Ok(Ok(()))) {
            server.handle_eof();
        }
        true
    }

    /// Ends our sending side and waits a moment for the client's end: a socket that is closed with
    /// unread octets in it takes the last reply with it.
    async fn goodbye<S>(&mut self, stream: &mut S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let farewell = async {
            stream.shutdown().await?;
            let mut room = MOST_LEFT_OVER;
            while room > 0 {
                match poll_fn(|cx| poll_discard(stream, cx)).await? {
                    0 => break,
                    count => room = room.saturating_sub(count),
                }
            }
            Ok::<(), io::Error>(())
        };
        let _ = timeout(FAREWELL, farewell).await;
    }

    async fn connect<S: Early>(&mut self, stream: &mut S, server: &mut Server) {
        let answer = self.handler.connected(&self.session, self.peer).await;
        // Who has already said something has not waited for the greeting.
        if stream.has_spoken() {
            server.handle_bytes(self.clock.now(), b"?");
        }
        match answer {
            Ok(()) => server.accept(self.clock.now()),
            Err(reply) => server.answer(self.clock.now(), reply),
        }
    }

    async fn handle(&mut self, server: &mut Server, event: Event) {
        let (handler, session) = (&mut self.handler, &mut self.session);
        let answer = match event {
            Event::Hello { kind, name } => {
                let answer = handler.hello(session, kind, &name).await;
                if answer.is_ok() {
                    session.helo = Some(name);
                }
                answer
            }
            Event::Xclient(said) => Box::pin(self.take_xclient(&said)).await,
            // What an application does here and at RCPT is large: in boxes of their own, it takes no room
            // in a connection that waits.
            Event::Auth(credentials) => match Box::pin(handler.auth(session, credentials)).await {
                Ok(user) => {
                    session.auth = Some(user.clone());
                    return server.accept_auth(self.clock.now(), user);
                }
                Err(reply) => Err(reply),
            },
            Event::Mail { sender, parameters, size } => {
                handler.mail(session, Mail { sender, parameters, size }).await
            }
            Event::Rcpt(recipient) => {
                if handler.looks_ahead() {
                    let ahead = server.recipients_ahead(MOST_AHEAD);
                    if !ahead.is_empty() {
                        Box::pin(handler.recipients_ahead(session, &recipient, ahead)).await;
                    }
                }
                Box::pin(handler.rcpt(session, recipient)).await
            }
            Event::Data => {
                self.allowed = 0;
                handler.data(session).await
            }
            Event::Message(data) => {
                let reply = Box::pin(handler.message(session, data)).await;
                return server.answer(self.clock.now(), reply);
            }
            Event::Reset(cause) => return handler.reset(session, cause).await,
            Event::Closed(cause) => return handler.closed(session, cause).await,
            Event::Connect | Event::StartTls => Ok(()),
        };
        match answer {
            Ok(()) => server.accept(self.clock.now()),
            Err(reply) => server.answer(self.clock.now(), reply),
        }
    }
}

/// Recipients that a handler is told of before their turn comes.
const MOST_AHEAD: usize = 63;

/// A stream that can tell whether the client has said something before it was greeted.
trait Early {
    fn has_spoken(&mut self) -> bool;
}

impl Early for TcpStream {
    /// Asks the system: the runtime knows only of octets that came after it began to watch.
    fn has_spoken(&mut self) -> bool {
        let mut octet = [MaybeUninit::uninit()];
        matches!(SockRef::from(&*self).peek(&mut octet), Ok(1..))
    }
}

impl Early for TlsStream<TcpStream> {
    /// What came with the end of the handshake; records that are still in the socket may be its own.
    fn has_spoken(&mut self) -> bool {
        let (_, tls) = self.get_mut();
        tls.process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() > 0)
    }
}

/// Reads what is there and gives it to the server; how many octets, 0 at the end.
fn poll_chunk<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    server: &mut Server,
    clock: &Clock,
) -> Poll<io::Result<usize>> {
    poll_read(stream, cx, |chunk| server.handle_bytes(clock.now(), chunk))
}

fn poll_discard<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    poll_read(stream, cx, |_| ())
}

fn poll_read<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]),
) -> Poll<io::Result<usize>> {
    let mut space = [const { MaybeUninit::<u8>::uninit() }; CHUNK];
    let mut chunk = ReadBuf::uninit(&mut space);
    ready!(Pin::new(stream).poll_read(cx, &mut chunk))?;
    take(chunk.filled());
    Poll::Ready(Ok(chunk.filled().len()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, DuplexStream};
    use waypost_smtp::end_of_data::Data;
    use waypost_smtp::server::Settings;
    use waypost_types::{ListenerRole, Reply};

    use super::super::{ClientLimits, ConnectionLimits, SharedLimits};
    use super::*;

    struct Yes;

    impl Handler for Yes {
        async fn message(&mut self, _session: &Session, _data: Data) -> Reply {
            Reply::new(250, (2, 0, 0), "Taken")
        }
    }

    /// Counts writes.
    struct Counting(DuplexStream, Arc<AtomicUsize>);

    impl Early for Counting {
        fn has_spoken(&mut self) -> bool {
            false
        }
    }

    impl AsyncRead for Counting {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Counting {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            octets: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.0).poll_write(cx, octets)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    #[tokio::test]
    async fn replies_to_pipelined_commands_go_out_in_one_write() {
        let settings = Settings::new("mx.solarmora.com".parse().unwrap());
        let local = "127.0.0.1:25".parse().unwrap();
        let (_stopper, stop) = crate::server::stop_signal();
        let limits = SharedLimits::new(ClientLimits::new(ConnectionLimits::default()));
        let mut connection = Connection {
            peer: Peer { client: local, proxy: None, local },
            configuration: Arc::new(Configuration::new(settings, Tls::Off, ListenerRole::Mx)),
            handler: Yes,
            clock: Clock::start(),
            stop,
            session: Session {
                client_ip: local.ip(),
                role: ListenerRole::Mx,
                helo: None,
                auth: None,
                tls: TlsState::Clear,
            },
            allowed: 0,
            slot: limits.admit_proxy().unwrap(),
        };
        let writes = Arc::new(AtomicUsize::new(0));
        let (mut client, stream) = tokio::io::duplex(1 << 16);
        let mut stream = Counting(stream, Arc::clone(&writes));
        let mut server = connection.new_server();
        let serve = connection.converse(&mut stream, &mut server);
        let talk = async {
            let mut said = [0; 4096];
            for (group, replies) in [
                ("", 1),
                ("EHLO client.example\r\n", 1),
                ("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@b.example>\r\nDATA\r\n", 3),
                (
                    "x\r\n.\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@b.example>\r\nBDAT 1\r\nyBDAT 0 LAST\r\nNOOP\r\nQUIT\r\n",
                    7,
                ),
            ] {
                client.write_all(group.as_bytes()).await.unwrap();
                let count = client.read(&mut said).await.unwrap();
                let said = str::from_utf8(&said[..count]).unwrap();
                let whole = said.lines().filter(|line| line.as_bytes()[3] == b' ').count();
                assert_eq!(whole, replies, "{said}");
                assert_eq!(writes.swap(0, Ordering::Relaxed), 1, "{group}");
            }
        };
        let (_, ()) = tokio::join!(serve, talk);
    }
}
