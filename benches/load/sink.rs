//! Where all mail ends: a server on one thread that takes every message and notes its id.
//!
//! It shares the processors with the program under test, so it does little: one read for what has come,
//! one search for the end of the message, one write for all replies; nothing is allocated for a message.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use memchr::{memchr, memmem};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::message::{Id, finder};

/// Messages of one run at most.
pub(crate) const MOST: u64 = 1 << 22;

const LISTENER: Token = Token(usize::MAX);
/// Octets a read.
const BUFFER: usize = 256 << 10;
/// Octets that are kept of a message whose id has not come, and of a command.
const KEPT: usize = 16 << 10;
const END: &[u8] = b"\r\n.\r\n";

/// What has arrived in the present run.
pub(crate) struct Arrivals {
    epoch: Instant,
    run: AtomicU32,
    /// Octets that a message must have.
    size: AtomicU64,
    /// One bit a number.
    seen: Vec<AtomicU64>,
    unique: AtomicU64,
    again: AtomicU64,
    strange: AtomicU64,
    short: AtomicU64,
    connections: AtomicU64,
    /// When the last new one came: nanoseconds since `epoch`.
    last: AtomicU64,
}

/// Counts of a run that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    /// Different messages of this run.
    pub(crate) unique: u64,
    /// Messages that had come before.
    pub(crate) again: u64,
    /// Messages without an id, or with one of another run.
    pub(crate) strange: u64,
    /// Messages that are shorter than they were sent.
    pub(crate) short: u64,
    /// Connections that were made to the sink.
    pub(crate) connections: u64,
}

impl Arrivals {
    fn new() -> Self {
        Self {
            epoch: Instant::now(),
            run: AtomicU32::new(0),
            size: AtomicU64::new(0),
            seen: (0..MOST / 64).map(|_| AtomicU64::new(0)).collect(),
            unique: AtomicU64::new(0),
            again: AtomicU64::new(0),
            strange: AtomicU64::new(0),
            short: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            last: AtomicU64::new(0),
        }
    }

    /// Forgets what came, and counts messages of this run from now on.
    pub(crate) fn begin(&self, run: u32, size: usize) {
        self.run.store(run, Relaxed);
        self.size.store(size as u64, Relaxed);
        for word in &self.seen {
            word.store(0, Relaxed);
        }
        let counts =
            [&self.unique, &self.again, &self.strange, &self.short, &self.connections, &self.last];
        for count in counts {
            count.store(0, Relaxed);
        }
    }

    /// How many of these messages have not come; one bit a number.
    pub(crate) fn missing(&self, acknowledged: &[u64]) -> u64 {
        let words = acknowledged.iter().zip(&self.seen);
        words.map(|(asked, seen)| u64::from((asked & !seen.load(Relaxed)).count_ones())).sum()
    }

    /// What came.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            unique: self.unique.load(Relaxed),
            again: self.again.load(Relaxed),
            strange: self.strange.load(Relaxed),
            short: self.short.load(Relaxed),
            connections: self.connections.load(Relaxed),
        }
    }

    /// When the last new message came.
    pub(crate) fn last(&self) -> Instant {
        self.epoch + std::time::Duration::from_nanos(self.last.load(Relaxed))
    }

    // One thread writes, so a load and a store are enough.
    fn arrived(&self, id: Option<Id>, octets: u64) {
        let add = |count: &AtomicU64| count.store(count.load(Relaxed) + 1, Relaxed);
        let Some(id) = id.filter(|id| id.run == self.run.load(Relaxed) && id.number < MOST) else {
            return add(&self.strange);
        };
        if octets < self.size.load(Relaxed) {
            add(&self.short);
        }
        let (word, bit) = (&self.seen[(id.number / 64) as usize], 1 << (id.number % 64));
        if word.load(Relaxed) & bit != 0 {
            return add(&self.again);
        }
        word.store(word.load(Relaxed) | bit, Relaxed);
        self.last.store(self.epoch.elapsed().as_nanos() as u64, Relaxed);
        add(&self.unique);
    }
}

/// A sink, for as long as the process lives.
pub(crate) struct Sink {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What came.
    pub(crate) arrivals: Arc<Arrivals>,
}

impl Sink {
    /// Listens on a free port of loopback, on a thread of its own.
    pub(crate) fn start() -> io::Result<Self> {
        let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = listener.local_addr()?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let arrivals = Arc::new(Arrivals::new());
        let noted = Arc::clone(&arrivals);
        std::thread::Builder::new().name("sink".to_owned()).spawn(move || {
            if let Err(error) = serve(poll, &listener, &noted) {
                eprintln!("load: the sink ended: {error}");
                std::process::exit(2);
            }
        })?;
        Ok(Self { address, arrivals })
    }
}

fn serve(mut poll: Poll, listener: &TcpListener, arrivals: &Arrivals) -> io::Result<()> {
    let mut events = Events::with_capacity(256);
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut buffer = vec![0; BUFFER];
    let mut replies = Vec::with_capacity(4096);
    let finders = Finders { id: finder(), end: memmem::Finder::new(END) };
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Some(mut connection) = accept(listener)? {
                    let count = &arrivals.connections;
                    count.store(count.load(Relaxed) + 1, Relaxed);
                    let slot = free.pop().unwrap_or(connections.len());
                    let readable = Interest::READABLE;
                    poll.registry().register(&mut connection.stream, Token(slot), readable)?;
                    if slot == connections.len() {
                        connections.push(None);
                    }
                    connections[slot] = Some(connection);
                }
                continue;
            }
            let slot = event.token().0;
            let Some(connection) = &mut connections[slot] else { continue };
            let to_the_end = event.is_read_closed();
            let open = connection.turn(&mut buffer, &mut replies, &finders, arrivals, to_the_end);
            if !open {
                connections[slot] = None;
                free.push(slot);
            }
        }
    }
}

fn accept(listener: &TcpListener) -> io::Result<Option<Connection>> {
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                let greeted = stream
                    .set_nodelay(true)
                    .and_then(|()| stream.write_all(b"220 sink.example ESMTP\r\n"));
                if greeted.is_ok() {
                    return Ok(Some(Connection {
                        stream,
                        kept: Vec::new(),
                        state: State::Command,
                    }));
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

struct Finders {
    id: memmem::Finder<'static>,
    end: memmem::Finder<'static>,
}

#[derive(Clone, Copy)]
enum State {
    Command,
    Data { id: Option<Id>, octets: u64 },
}

struct Connection {
    stream: TcpStream,
    /// What has been read and not been understood yet.
    kept: Vec<u8>,
    state: State,
}

impl Connection {
    /// Reads what there is and answers it; whether the connection is still open.
    fn turn(
        &mut self,
        buffer: &mut [u8],
        replies: &mut Vec<u8>,
        finders: &Finders,
        arrivals: &Arrivals,
        to_the_end: bool,
    ) -> bool {
        loop {
            let before = self.kept.len();
            buffer[..before].copy_from_slice(&self.kept);
            let read = match self.stream.read(&mut buffer[before..]) {
                Ok(0) => return false,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            replies.clear();
            let end = before + read;
            let fed = feed(&mut self.state, &buffer[..end], replies, finders, arrivals);
            // Replies are short and the peer reads them: a full socket is a broken peer.
            let wrote = replies.is_empty() || self.stream.write_all(replies).is_ok();
            let Fed::Open(used) = fed else { return false };
            self.kept.clear();
            self.kept.extend_from_slice(&buffer[used..end]);
            if !wrote || self.kept.len() > KEPT {
                return false;
            }
            // Less than was asked for: the socket is empty, and the next octet is an event.
            if end < buffer.len() && !to_the_end {
                return true;
            }
        }
    }
}

enum Fed {
    /// So many octets are done with.
    Open(usize),
    /// The client quitted.
    Closed,
}

fn feed(
    state: &mut State,
    bytes: &[u8],
    replies: &mut Vec<u8>,
    finders: &Finders,
    arrivals: &Arrivals,
) -> Fed {
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        match state {
            State::Command => {
                let Some(end) = memchr(b'\n', rest) else { return Fed::Open(at) };
                at += end + 1;
                let mut verb = [0; 4];
                for (letter, came) in verb.iter_mut().zip(rest) {
                    *letter = came.to_ascii_uppercase();
                }
                let reply: &[u8] = match &verb {
                    b"EHLO" => b"250-sink.example\r\n250-PIPELINING\r\n250 SIZE 104857600\r\n",
                    b"DATA" => {
                        *state = State::Data { id: None, octets: 0 };
                        b"354 go on\r\n"
                    }
                    b"QUIT" => {
                        replies.extend_from_slice(b"221 bye\r\n");
                        return Fed::Closed;
                    }
                    b"HELO" | b"MAIL" | b"RCPT" | b"RSET" | b"NOOP" => b"250 ok\r\n",
                    _ => b"500 unknown\r\n",
                };
                replies.extend_from_slice(reply);
            }
            State::Data { id, octets } => {
                let end = finders.end.find(rest);
                if id.is_none() {
                    *id = Id::find(&finders.id, &rest[..end.unwrap_or(rest.len())]);
                }
                match end {
                    Some(end) => {
                        arrivals.arrived(*id, *octets + end as u64 + 2);
                        replies.extend_from_slice(b"250 taken\r\n");
                        *state = State::Command;
                        at += end + END.len();
                    }
                    // The id may be cut in two.
                    None if id.is_none() && rest.len() < KEPT => return Fed::Open(at),
                    // The end may be cut in two.
                    None => {
                        let done = rest.len().saturating_sub(END.len() - 1);
                        *octets += done as u64;
                        return Fed::Open(at + done);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    /// One session with two messages, cut at every place: the same replies, both counted once.
    #[test]
    fn cuts_make_no_difference() {
        let message = Message::new(700, "a@source.example", "b@dest.example");
        let mut talk = b"EHLO x\r\n".to_vec();
        for number in [0, 1] {
            talk.extend(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n");
            message.head(Id { run: 7, number }, &mut talk);
            talk.extend(&message.body);
        }
        talk.extend(b"QUIT\r\n");
        let finders = Finders { id: finder(), end: memmem::Finder::new(END) };
        for cut in 0..talk.len() {
            let arrivals = Arrivals::new();
            arrivals.begin(7, message.size());
            let (mut state, mut replies) = (State::Command, Vec::new());
            let first = feed(&mut state, &talk[..cut], &mut replies, &finders, &arrivals);
            let Fed::Open(used) = first else { panic!("closed at {cut}") };
            let second = feed(&mut state, &talk[used..], &mut replies, &finders, &arrivals);
            assert!(matches!(second, Fed::Closed), "{cut}");
            let counts = arrivals.counts();
            assert_eq!((counts.unique, counts.again, counts.strange, counts.short), (2, 0, 0, 0));
            let text = String::from_utf8(replies).unwrap();
            assert_eq!(text.matches("250 taken").count(), 2, "{cut}");
            assert_eq!(text.lines().count(), 3 + 2 * 4 + 1, "{cut}");
            assert_eq!(arrivals.missing(&[0b11]), 0);
            assert_eq!(arrivals.missing(&[0b111]), 1);
        }
    }

    #[test]
    fn what_comes_twice_short_or_from_elsewhere_is_told() {
        let arrivals = Arrivals::new();
        arrivals.begin(3, 100);
        let id = |run, number| Some(Id { run, number });
        for (id, octets) in [(id(3, 5), 100), (id(3, 5), 100), (id(3, 6), 99), (id(2, 7), 100)] {
            arrivals.arrived(id, octets);
        }
        arrivals.arrived(None, 100);
        let counts = arrivals.counts();
        assert_eq!((counts.unique, counts.again, counts.strange, counts.short), (2, 1, 2, 1));
    }
}
