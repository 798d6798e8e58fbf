//! Both machines driven over a stream that blocks, for programs with a thread a connection.
//!
//! **In:** a stream, a clock, and how the stream is told how long a read may take, all the caller's;
//! a [`Server`] or a [`Client`]. **Out:** its events, one after the other; replies and commands are
//! written in between. **Units:** octets. **Bounds:** 16 KiB beside what the machine holds; a call
//! lasts until the next event, so never longer than the machine's next deadline. A write ends when
//! the stream says so: give it a time-out of its own. **Errors:** none: what the stream cannot do is
//! the end of the connection, and comes as its events. **Source:** RFC 5321 section 4.5.3.2 (time-outs,
//! kept by the machines); A9.
//!
//! **Not here:** opening streams; the TLS handshake (take the [stream](Wire::into_stream) at `StartTls`,
//! and go on with a new wire); many connections in one thread (`waypost-net` has them).
//!
//! # Example
//!
//! A server that takes every message and prints its size; the program `small_relay` among the
//! examples of the repository sends them on.
//!
//! ```no_run
//! use std::net::{TcpListener, TcpStream};
//! use std::time::SystemTime;
//! use waypost_smtp::{blocking::Wire, server::{Event, Server, Settings}};
//!
//! let now = || SystemTime::now().into();
//! let (stream, _) = TcpListener::bind("127.0.0.1:2525")?.accept()?;
//! let settings = Settings::new("mx.solarmora.com".parse()?);
//! let mut server = Server::new(settings.into(), now());
//! let mut wire = Wire::new(stream, TcpStream::set_read_timeout, now);
//! while let Some(event) = wire.server_event(&mut server) {
//!     if let Event::Message(data) = &event {
//!         println!("{} octets", data.size);
//!     }
//!     server.accept(now());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io::{ErrorKind, Read, Result, Write};
use std::time::Duration;

use waypost_types::{Failure, FailureScope, Outcome, Reply, Timestamp};

use crate::client::{self, Client, Extensions, Report, Transaction};
use crate::server::{self, Server};

/// Octets that are read or written at once.
const BLOCK: usize = 16 << 10;

/// A stream with its clock.
pub struct Wire<S> {
    stream: S,
    wait: fn(&S, Option<Duration>) -> Result<()>,
    clock: fn() -> Timestamp,
    buffer: Vec<u8>,
}

/// What came of waiting.
enum Heard {
    /// So many octets, in the buffer.
    Octets(usize),
    /// The peer sends no more.
    End(String),
    /// It is time to look at the clock.
    Late,
}

impl<S: Read + Write> Wire<S> {
    /// A stream; `wait` sets how long its next reads may take (`None`: for ever), after which they are
    /// to fail with `WouldBlock` or `TimedOut`, as `TcpStream::set_read_timeout` has it.
    #[must_use]
    pub fn new(
        stream: S,
        wait: fn(&S, Option<Duration>) -> Result<()>,
        clock: fn() -> Timestamp,
    ) -> Self {
        Self { stream, wait, clock, buffer: Vec::new() }
    }

    /// The stream, for a TLS handshake or for its end. All replies up to `StartTls` are written.
    #[must_use]
    pub fn into_stream(self) -> S {
        self.stream
    }

    /// Waits for a server's next event; `None` when the connection is over and all is written.
    ///
    /// The event is answered before the next call; one that was not is refused with `451 4.3.0`, and a
    /// TLS handshake that was not done has failed. A client that sends 64 KiB and more behind an AUTH
    /// whose refusal is held back is hung up on.
    pub fn server_event(&mut self, server: &mut Server) -> Option<server::Event> {
        loop {
            if server.is_asking() {
                server.answer((self.clock)(), Reply::new(451, (4, 3, 0), "No answer; try again"));
            }
            let event = server.poll_event((self.clock)());
            match event {
                // What is said up to here is said in clear text, or it is the last word.
                Some(server::Event::StartTls | server::Event::Closed(_)) => {
                    let _ = self.write(&server.take_output());
                    return event;
                }
                Some(_) => return event,
                None => {}
            }
            let output = server.take_output();
            if !output.is_empty() {
                if self.write(&output).is_err() {
                    server.handle_eof();
                }
            } else if server.is_closed() {
                return None;
            } else if !server.wants_read() {
                server.handle_eof();
            } else {
                match self.read(server.poll_timeout()) {
                    Heard::Octets(count) => {
                        let octets = self.buffer.get(..count).unwrap_or_default();
                        server.handle_bytes((self.clock)(), octets);
                    }
                    Heard::End(_) => server.handle_eof(),
                    Heard::Late => server.handle_timeout((self.clock)()),
                }
            }
        }
    }

    /// Waits for a client's next event; `None` when the connection is over.
    ///
    /// A stream that fails or ends is told to the client as lost, all that was being written counted as
    /// written (A9). An idle client without anything to send waits until the peer says something or
    /// goes.
    pub fn client_event(&mut self, client: &mut Client) -> Option<client::Event> {
        loop {
            if let Some(event) = client.poll_event() {
                return Some(event);
            }
            if client.is_closed() {
                return None;
            }
            self.buffer.clear();
            for slice in client.transmit() {
                let room = BLOCK.saturating_sub(self.buffer.len());
                self.buffer.extend_from_slice(slice.get(..room).unwrap_or(slice));
            }
            if !self.buffer.is_empty() {
                let block = std::mem::take(&mut self.buffer);
                let written = self.write(&block);
                client.transmitted((self.clock)(), block.len());
                self.buffer = block;
                if let Err(error) = written {
                    client.lost(&error.to_string());
                }
                continue;
            }
            match self.read(client.poll_timeout()) {
                Heard::Octets(count) => {
                    let octets = self.buffer.get(..count).unwrap_or_default();
                    client.receive((self.clock)(), octets);
                }
                Heard::End(because) => client.lost(&because),
                Heard::Late => client.elapsed((self.clock)()),
            }
        }
    }

    /// Gets one message to a client's peer: waits until the client is ready, sends it, and waits for
    /// what became of it. More can follow; [`Client::quit`] and one more event end the connection.
    ///
    /// Where the connection ends first, each recipient is deferred with that failure. A handshake that
    /// the peer's STARTTLS asks for is not done here and ends it too: for TLS, take the events until
    /// `Ready` oneself, or tell the client [`TlsUse::Off`](client::TlsUse) or
    /// [`TlsUse::Implicit`](client::TlsUse).
    pub fn deliver(&mut self, client: &mut Client, transaction: Transaction) -> Report {
        let recipients = transaction.recipients.len();
        let unsent = |failure| Report {
            outcomes: vec![Outcome::Deferred(failure); recipients],
            mail_answered: false,
            offered: Extensions::default(),
        };
        let mut waiting = Some(transaction);
        loop {
            if client.is_ready()
                && let Some(transaction) = waiting.take()
            {
                // It is ready, so it takes it.
                let _ = client.send((self.clock)(), transaction);
            }
            match self.client_event(client) {
                Some(client::Event::Done(report)) => return report,
                Some(client::Event::Closed(closed)) => return unsent(closed.failure),
                Some(client::Event::StartTls) => client.lost("nobody does the TLS handshake"),
                Some(client::Event::Ready) => {}
                Some(client::Event::Quit) | None => {
                    let reply = Reply::new(451, (4, 4, 2), "the connection is over; open another");
                    return unsent(Failure { scope: FailureScope::Host, host: None, reply });
                }
            }
        }
    }

    fn write(&mut self, octets: &[u8]) -> Result<()> {
        self.stream.write_all(octets)?;
        self.stream.flush()
    }

    fn read(&mut self, until: Option<Timestamp>) -> Heard {
        let left = until.map(|until| until.since((self.clock)()));
        if left == Some(Duration::ZERO) {
            return Heard::Late;
        }
        self.buffer.resize(BLOCK, 0);
        let read =
            (self.wait)(&self.stream, left).and_then(|()| self.stream.read(&mut self.buffer));
        match read {
            Ok(0) => Heard::End("the peer hung up".to_owned()),
            Ok(count) => Heard::Octets(count),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Heard::Late,
                _ => Heard::End(error.to_string()),
            },
        }
    }
}
