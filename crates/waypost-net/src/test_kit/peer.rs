//! A running peer.

use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::record::{Received, Session};
use super::script::Script;
use super::talk::talk;

/// The longest wait of [`Peer::wait`] and [`Peer::wait_until`].
const PATIENCE: Duration = Duration::from_secs(60);

/// A running peer. Dropped, it closes its port and all connections.
pub struct Peer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

/// What the threads of a peer share.
pub(super) struct Shared {
    pub(super) script: Script,
    seen: Mutex<Seen>,
    /// Rung at each change of `seen`.
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    sessions: Vec<Session>,
    sockets: Vec<TcpStream>,
    /// Messages whose content came to its end.
    whole: usize,
    is_released: bool,
    is_stopped: bool,
}

impl Peer {
    pub(super) fn start(script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind(script.bind)?;
        let address = listener.local_addr()?;
        let (seen, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { script, seen, changed });
        let own = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                // An error is the client's: it was gone before it was taken.
                let Ok(stream) = stream else { continue };
                let Some(number) = own.begin(&stream) else { return };
                let shared = Arc::clone(&own);
                std::thread::spawn(move || {
                    talk(stream, number, &shared);
                    shared.note(number, |session| session.is_over = true);
                });
            }
        });
        Ok(Self { address, shared, accepting: Some(accepting) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The messages that were taken so far, for one recipient at least, in the order in which their
    /// contents came to their ends.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        taken(&self.shared.seen().sessions)
    }

    /// All connections so far.
    #[must_use]
    pub fn sessions(&self) -> Vec<Session> {
        self.shared.seen().sessions.clone()
    }

    /// Lets everything go on that stalls now, and all that would stall later.
    pub fn release(&self) {
        self.shared.seen().is_released = true;
        self.shared.changed.notify_all();
    }

    /// Blocks this thread until so many messages were taken; all that were.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] after a minute, with how many came.
    pub fn wait(&self, count: usize) -> io::Result<Vec<Received>> {
        let enough = |sessions: &[Session]| all_taken(sessions).count() >= count;
        self.wait_until(enough).map(|sessions| taken(&sessions))
    }

    /// Blocks this thread until what was seen fulfils a condition; all that was seen.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] after a minute, with what was seen.
    pub fn wait_until(&self, enough: impl Fn(&[Session]) -> bool) -> io::Result<Vec<Session>> {
        let until = Instant::now() + PATIENCE;
        let mut seen = self.shared.seen();
        while !enough(&seen.sessions) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let text = format!("waited for more than {:?}", seen.sessions);
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            let waited = self.shared.changed.wait_timeout(seen, left);
            seen = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(seen.sessions.clone())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        {
            let mut seen = self.shared.seen();
            seen.is_stopped = true;
            for socket in &seen.sockets {
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
        self.shared.changed.notify_all();
        // Wakes the thread that waits for clients.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Shared {
    /// The number of a new connection; `None` when the peer has ended.
    fn begin(&self, stream: &TcpStream) -> Option<usize> {
        let mut seen = self.seen();
        if seen.is_stopped {
            return None;
        }
        seen.sockets.extend(stream.try_clone());
        seen.sessions.push(Session::default());
        self.changed.notify_all();
        Some(seen.sessions.len() - 1)
    }

    pub(super) fn note(&self, number: usize, what: impl FnOnce(&mut Session)) {
        if let Some(session) = self.seen().sessions.get_mut(number) {
            what(session);
        }
        self.changed.notify_all();
    }

    /// The number of a message whose content has come.
    pub(super) fn count_whole(&self) -> usize {
        let mut seen = self.seen();
        seen.whole += 1;
        seen.whole - 1
    }

    /// Waits for [`Peer::release`], or the end of the peer.
    pub(super) fn stall(&self) {
        let mut seen = self.seen();
        while !seen.is_released && !seen.is_stopped {
            seen = self.changed.wait(seen).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn all_taken(sessions: &[Session]) -> impl Iterator<Item = &Received> {
    let all = sessions.iter().flat_map(|session| &session.transactions);
    all.filter(|transaction| transaction.is_taken())
}

fn taken(sessions: &[Session]) -> Vec<Received> {
    let mut all: Vec<&Received> = all_taken(sessions).collect();
    all.sort_by_key(|one| one.whole);
    all.into_iter().cloned().collect()
}
