//! A filter on loopback that answers by what stands in a message, and fails as it is told.

mod asked;
mod script;
mod talk;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use waypost_types::HostPort;

pub use self::asked::Asked;
pub use self::script::{MilterAnswer, MilterFault, MilterPhase, MilterScript};
use crate::milter::MilterAddress;

/// The longest wait of [`FakeMilter::wait`].
const PATIENCE: Duration = Duration::from_secs(60);

/// A running filter that does what a [`MilterScript`] says. Dropped, it closes its port and all
/// connections.
///
/// It runs on threads of its own; one thread a connection, and all that it is told is kept in memory.
///
/// ```
/// use waypost_net::milter::{FilterAction, FilterQuestion, MilterClient, MilterLimits};
/// use waypost_net::test_kit::{MilterAnswer, MilterScript};
/// use waypost_types::{Domain, Mailbox, Reply, ReversePath};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let spam = Reply::new(554, (5, 7, 1), "Spam");
/// let filter = MilterScript::new()
///     .token("GTUBE", MilterAnswer::refuse(spam.clone()))
///     .token("pills", MilterAnswer::accept().field("X-Spam", "Yes")?)
///     .start()?;
///
/// let client = MilterClient::new(filter.address(), MilterLimits::default());
/// let (own, to): (Domain, Mailbox) = ("mx.example".parse()?, "marie@solarmora.com".parse()?);
/// let text = b"Subject: x\r\n\r\nGTUBE\r\n";
/// let ip = "192.0.2.1".parse()?;
/// let question = FilterQuestion::new(&own, ip, &ReversePath::Null, [&to], text);
/// let verdict = client.filter(&question).await?;
/// assert_eq!(verdict.action, FilterAction::Reject(spam));
/// assert_eq!(filter.asked()[0].address, Some(ip));
/// # Ok(())
/// # })
/// # }
/// ```
pub struct FakeMilter {
    at: Place,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What the threads of a filter share.
struct Shared {
    script: MilterScript,
    seen: Mutex<Seen>,
    /// Rung at each change of `seen`.
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    asked: Vec<Asked>,
    faults: Vec<String>,
    streams: Vec<Stream>,
    open: usize,
    most: usize,
    is_released: bool,
    is_stopped: bool,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen());
        self.changed.notify_all();
    }

    /// Waits for [`FakeMilter::release`].
    fn stall(&self) -> io::Result<()> {
        let mut seen = self.seen();
        while !(seen.is_released || seen.is_stopped) {
            seen = self.changed.wait(seen).unwrap_or_else(PoisonError::into_inner);
        }
        if seen.is_stopped { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}

impl FakeMilter {
    fn start(script: MilterScript, socket: Option<&Path>) -> io::Result<Self> {
        let (listener, at) = match socket {
            None => {
                let listener = TcpListener::bind((IpAddr::from([127, 0, 0, 1]), 0))?;
                let at = Place::Tcp(listener.local_addr()?);
                (Listener::Tcp(listener), at)
            }
            Some(path) => (Listener::Unix(UnixListener::bind(path)?), Place::Unix(path.into())),
        };
        let (seen, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { script, seen, changed });
        let own = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || {
            let mut number = 0;
            // An error is the client's: it was gone before it was taken.
            while !own.seen().is_stopped {
                let Ok(stream) = listener.accept() else { continue };
                let Ok(kept) = stream.copy() else { continue };
                let shared = Arc::clone(&own);
                own.change(|seen| {
                    seen.streams.push(kept);
                    seen.open += 1;
                    seen.most = seen.most.max(seen.open);
                });
                std::thread::spawn(move || {
                    talk::talk(stream, number, &shared);
                    shared.change(|seen| seen.open -= 1);
                });
                number += 1;
            }
        });
        Ok(Self { at, shared, accepting: Some(accepting) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> MilterAddress {
        match &self.at {
            Place::Tcp(at) => MilterAddress::tcp(HostPort::new(at.ip(), at.port())),
            Place::Unix(path) => MilterAddress::unix(path),
        }
    }

    /// The questions so far, in the order in which they ended.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.seen().asked.clone()
    }

    /// What servers did against the protocol so far.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        self.shared.seen().faults.clone()
    }

    /// Connections so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.seen().streams.len()
    }

    /// The most connections at once so far.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.shared.seen().most
    }

    /// Lets everything go on that is silent now, and all that would be silent later.
    pub fn release(&self) {
        self.shared.change(|seen| seen.is_released = true);
    }

    /// Closes all connections, and goes on listening.
    pub fn drop_connections(&self) {
        for stream in &self.shared.seen().streams {
            stream.close();
        }
    }

    /// Blocks this thread until so many questions have ended; all that have.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] after a minute, with what was seen.
    pub fn wait(&self, count: usize) -> io::Result<Vec<Asked>> {
        let until = Instant::now() + PATIENCE;
        let mut seen = self.shared.seen();
        while seen.asked.len() < count {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let text = format!("waited for {count} questions, and saw {:?}", seen.asked);
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            let waited = self.shared.changed.wait_timeout(seen, left);
            seen = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(seen.asked.clone())
    }
}

impl Drop for FakeMilter {
    fn drop(&mut self) {
        self.shared.change(|seen| {
            seen.is_stopped = true;
            for stream in &seen.streams {
                stream.close();
            }
        });
        // So that the thread that accepts sees it.
        match &self.at {
            Place::Tcp(at) => drop(TcpStream::connect(at)),
            Place::Unix(path) => drop(UnixStream::connect(path)),
        }
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
        if let Place::Unix(path) = &self.at {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl fmt::Debug for FakeMilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeMilter").field("address", &self.address()).finish_non_exhaustive()
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
            Self::Unix(listener) => Stream::Unix(listener.accept()?.0),
        })
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn copy(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }

    fn close(&self) {
        // It may be closed already.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
