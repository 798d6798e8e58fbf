//! One connection: the state machine, driven.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use waypost_smtp::client::{Client, Event, Extensions, Report, Transaction};
use waypost_types::{Failure, FailureScope, Outcome, Reply, Timestamp};

use super::stream::Stream;

/// Slices given to one write: the commands, the lines on top, the message, the dot, and more.
const SLICES: usize = 16;
/// How long QUIT may take; nothing depends on it.
const GOODBYE: Duration = Duration::from_secs(5);

/// The TLS session of a connection, for reports (A8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// Such as `TLSv1_3`.
    pub version: String,
    /// The cipher suite by its IANA name.
    pub cipher: String,
    /// The certificates in DER, the host's own first.
    pub chain: Vec<Vec<u8>>,
}

/// A connection to a next hop, ready for transactions, one at a time.
///
/// Dropping it closes the socket without QUIT; a transaction that is cut off so has no outcome.
pub struct Connection {
    stream: Stream,
    client: Client,
    /// The client's time 0.
    start: Instant,
    buffer: Box<[u8; 4096]>,
    tls: Option<TlsFacts>,
    messages: u32,
    handshakes_failed: u32,
}

impl Connection {
    pub(super) fn new(stream: Stream, client: Client, start: Instant) -> Self {
        let tls = facts(&stream);
        Self {
            stream,
            client,
            start,
            buffer: Box::new([0; 4096]),
            tls,
            messages: 0,
            handshakes_failed: 0,
        }
    }

    /// Sends a transaction: one outcome for each recipient, in their order. It ends within the
    /// time-outs of [`ConnectSettings`](super::ConnectSettings), whatever the peer does.
    pub async fn send(&mut self, transaction: Transaction) -> Vec<Outcome> {
        self.send_and_report(transaction).await.outcomes
    }

    /// Sends a transaction, and says also what the peer offers and whether it answered MAIL.
    pub async fn send_and_report(&mut self, transaction: Transaction) -> Report {
        let recipients = transaction.recipients.len();
        self.messages = self.messages.saturating_add(1);
        if self.client.send(self.now(), transaction).is_err() {
            return nothing_sent(recipients);
        }
        loop {
            match self.next_event().await {
                Event::Done(report) => return report,
                // `Done` comes before `Closed`; without it no transaction was under way.
                Event::Closed(_) | Event::Quit => return nothing_sent(recipients),
                _ => {}
            }
        }
    }

    /// Says QUIT and waits for the answer, five seconds at most.
    pub async fn quit(mut self) {
        self.client.quit(self.now());
        if !self.client.is_closed() {
            let _ = timeout(GOODBYE, self.next_event()).await;
        }
    }

    /// Whether another transaction can be sent, as far as is known without asking the peer: it has
    /// not closed the connection nor said anything.
    pub fn is_usable(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        if self.client.is_ready() {
            let _ = self.poll_read(&mut cx);
        }
        self.client.is_ready()
    }

    /// Transactions sent so far.
    #[must_use]
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// What the peer offers.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        self.client.extensions()
    }

    /// The TLS session; `None` in clear text.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.tls.as_ref()
    }

    /// Handshakes that failed before this connection was made in clear text instead.
    pub(super) fn handshakes_failed(&self) -> u32 {
        self.handshakes_failed
    }

    /// This connection is in clear text because a handshake failed.
    pub(super) fn instead_of_tls(self) -> Self {
        Self { handshakes_failed: self.handshakes_failed.saturating_add(1), ..self }
    }

    pub(super) fn into_parts(self) -> (Stream, Client, Instant) {
        (self.stream, self.client, self.start)
    }

    /// Reads, writes and waits until there is news. Ends within the client's time-outs.
    pub(super) async fn next_event(&mut self) -> Event {
        loop {
            if let Some(event) = self.client.poll_event() {
                return event;
            }
            if self.client.is_closed() {
                return Event::Quit; // Nothing can come any more.
            }
            let deadline =
                self.client.poll_timeout().map(|at| self.start + at.since(Timestamp::default()));
            let step = poll_fn(|cx| self.poll_step(cx));
            match deadline {
                None => step.await,
                Some(deadline) => {
                    if timeout_at(deadline, step).await.is_err() {
                        let now = self.now().max(self.client.poll_timeout().unwrap_or_default());
                        self.client.elapsed(now);
                    }
                }
            }
        }
    }

    /// Ready when anything was read or written.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let wrote = self.poll_write(cx);
        let read = self.poll_read(cx);
        if wrote.is_ready() || read.is_ready() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut slices = [io::IoSlice::new(&[]); SLICES];
        let mut offered = 0;
        for (slot, slice) in slices.iter_mut().zip(self.client.transmit()) {
            *slot = io::IoSlice::new(slice);
            offered += slice.len();
        }
        let written = match offered {
            0 => match self.stream.poll_flush(cx) {
                Poll::Ready(Err(error)) => Err(error),
                _ => return Poll::Pending,
            },
            _ => match self.stream.poll_write(cx, &slices) {
                Poll::Ready(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => written,
                Poll::Pending => return Poll::Pending,
            },
        };
        let now = self.now();
        match written {
            Ok(count) => self.client.transmitted(now, count),
            Err(error) => {
                if self.stream.is_tls() {
                    // Some of it may have left in a record before the error.
                    self.client.transmitted(now, offered);
                }
                // The peer may have said why.
                while self.poll_read(cx).is_ready() && !self.client.is_closed() {}
                self.client.lost(&error.to_string());
            }
        }
        Poll::Ready(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.stream.poll_read(cx, &mut self.buffer[..]) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0)) => self.client.lost("the host closed it"),
            Poll::Ready(Ok(count)) => {
                let now = self.now();
                self.client.receive(now, self.buffer.get(..count).unwrap_or_default());
            }
            Poll::Ready(Err(error)) => self.client.lost(&error.to_string()),
        }
        Poll::Ready(())
    }

    fn now(&self) -> Timestamp {
        Timestamp::default() + self.start.elapsed()
    }
}

fn facts(stream: &Stream) -> Option<TlsFacts> {
    let Stream::Tls(tls) = stream else { return None };
    let (_, session) = tls.get_ref();
    let version = session.protocol_version().map(|version| format!("{version:?}"));
    let cipher = session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
    let chain = session.peer_certificates().unwrap_or_default();
    Some(TlsFacts {
        version: version.unwrap_or_default(),
        cipher: cipher.unwrap_or_default(),
        chain: chain.iter().map(|certificate| certificate.to_vec()).collect(),
    })
}

/// The report for a connection that was closed when it was asked to send.
fn nothing_sent(recipients: usize) -> Report {
    let text = "the connection was closed before the message could be sent";
    let reply = Reply::new(451, (4, 4, 2), text);
    let failure = Failure { scope: FailureScope::Host, host: None, reply };
    let outcomes = vec![Outcome::Deferred(failure); recipients];
    Report { outcomes, mail_answered: false, offered: Extensions::default() }
}
