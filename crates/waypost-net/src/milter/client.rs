//! The client: a bounded number of connections, each with one message at a time.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use waypost_milter::client::Owed;
use waypost_milter::{Fault, FilterQuestion, FilterVerdict};

use super::connection::Connection;
use super::{FilterError, MilterAddress};

/// Bounds on what a filter may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MilterLimits {
    /// The time for a connection; 5 s by default.
    pub connect: Duration,
    /// The time for a message as a whole, waiting for a free connection included; 60 s by default.
    pub dialogue: Duration,
    /// Connections at once, each with one message; others wait in their own time. 64 by default, at
    /// least 1.
    pub at_once: usize,
    /// How long a connection is kept that nobody uses; 30 s by default.
    pub idle: Duration,
}

impl Default for MilterLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            dialogue: Duration::from_secs(60),
            at_once: 64,
            idle: Duration::from_secs(30),
        }
    }
}

/// Asks one filter. Cheap to clone; clones share connections and limits.
///
/// Connections are used again where the filter speaks version 6. Must be used inside a tokio runtime
/// with I/O and time.
#[derive(Clone, Debug)]
pub struct MilterClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: MilterAddress,
    limits: MilterLimits,
    turns: Semaphore,
    /// Connections without a message, the one used last at the end.
    idle: Mutex<Vec<Connection>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let idle = self.idle.get_mut().unwrap_or_else(PoisonError::into_inner);
        idle.drain(..).for_each(Connection::quit);
    }
}

/// How a dialogue failed.
enum Failure {
    /// The filter had said nothing yet, so it may not even have heard the question.
    Unheard(FilterError),
    Heard(FilterError),
}

/// Octets read at once.
const CHUNK: usize = 16 << 10;

impl MilterClient {
    /// A client of the filter at an address. Nothing is connected before it is asked.
    #[must_use]
    pub fn new(address: MilterAddress, mut limits: MilterLimits) -> Self {
        limits.at_once = limits.at_once.clamp(1, Semaphore::MAX_PERMITS);
        let turns = Semaphore::new(limits.at_once);
        Self(Arc::new(Inner { address, limits, turns, idle: Mutex::default() }))
    }

    /// Where the filter listens.
    #[must_use]
    pub fn address(&self) -> &MilterAddress {
        &self.0.address
    }

    /// Asks the filter about one message.
    ///
    /// Nothing of the message is copied but the piece being sent. Dropping the future closes its
    /// connection.
    ///
    /// # Errors
    /// [`FilterError`]: there is no verdict. It comes within [`MilterLimits::dialogue`].
    pub async fn filter(
        &self,
        question: &FilterQuestion<'_>,
    ) -> Result<FilterVerdict, FilterError> {
        let inner = &*self.0;
        let until = Instant::now() + inner.limits.dialogue;
        let busy = || {
            let (at_once, after) = (inner.limits.at_once, inner.limits.dialogue);
            FilterError::Busy { address: inner.address.clone(), at_once, after }
        };
        let Ok(Ok(_turn)) = timeout_at(until, inner.turns.acquire()).await else {
            return Err(busy());
        };
        // A turn that came with the last tick is of no use.
        if Instant::now() >= until {
            return Err(busy());
        }
        if let Some(used) = inner.idle() {
            match inner.ask(used, question, until).await {
                Ok(verdict) => return Ok(verdict),
                Err(Failure::Heard(error)) => return Err(error),
                // It was closed while nobody looked.
                Err(Failure::Unheard(_)) => {}
            }
        }
        let new = inner.connect(until).await?;
        inner.ask(new, question, until).await.map_err(|failure| match failure {
            Failure::Unheard(error) | Failure::Heard(error) => error,
        })
    }
}

impl Inner {
    async fn connect(&self, until: Instant) -> Result<Connection, FilterError> {
        let address = || self.address.clone();
        let now = Instant::now();
        let until = until.min(now + self.limits.connect);
        match timeout_at(until, Connection::open(self.address.place())).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(source)) => Err(FilterError::Connect { address: address(), source }),
            Err(_) => {
                let after = until.saturating_duration_since(now);
                Err(FilterError::ConnectTime { address: address(), after })
            }
        }
    }

    /// A connection that can be used again, if there is one; closes those that cannot.
    fn idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        self.close_old(&mut idle);
        while let Some(last) = idle.pop() {
            if last.is_quiet() {
                return Some(last);
            }
        }
        None
    }

    fn keep(&self, mut connection: Connection) {
        connection.used = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        self.close_old(&mut idle);
        idle.push(connection);
    }

    fn close_old(&self, idle: &mut Vec<Connection>) {
        let now = Instant::now();
        let young = idle.partition_point(|one| now.duration_since(one.used) >= self.limits.idle);
        idle.drain(..young).for_each(Connection::quit);
    }

    async fn ask(
        &self,
        mut connection: Connection,
        question: &FilterQuestion<'_>,
        until: Instant,
    ) -> Result<FilterVerdict, Failure> {
        let (mut wire, client) = connection.parts();
        let mut dialogue = client.ask(question);
        let (mut out, mut input) = (Vec::new(), vec![0; CHUNK]);
        let mut heard = false;
        let verdict = loop {
            out.clear();
            dialogue.write(&mut out);
            if !out.is_empty() {
                match timeout_at(until, wire.write(&out)).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => return Err(self.lost(heard, dialogue.owed(), error)),
                    Err(_) => return Err(self.late(dialogue.owed())),
                }
            }
            let read = match timeout_at(until, wire.read(&mut input)).await {
                Ok(Ok(read)) => read,
                Ok(Err(error)) => return Err(self.lost(heard, dialogue.owed(), error)),
                Err(_) => return Err(self.late(dialogue.owed())),
            };
            heard = true;
            dialogue.handle_bytes(read).map_err(|fault| self.fault(fault))?;
            if let Some(verdict) = dialogue.take_verdict() {
                break verdict;
            }
        };
        // The verdict counts, whatever becomes of the connection.
        out.clear();
        dialogue.write(&mut out);
        if let Ok(Ok(())) = timeout_at(until, wire.write(&out)).await
            && connection.client.is_reusable()
        {
            self.keep(connection);
        }
        Ok(verdict)
    }

    fn lost(&self, heard: bool, owed: Owed, source: io::Error) -> Failure {
        let owed = owed.to_string().into();
        let error = FilterError::Lost { address: self.address.clone(), owed, source };
        if heard { Failure::Heard(error) } else { Failure::Unheard(error) }
    }

    fn late(&self, owed: Owed) -> Failure {
        let (address, after) = (self.address.clone(), self.limits.dialogue);
        Failure::Heard(FilterError::Time { address, after, owed: owed.to_string().into() })
    }

    fn fault(&self, fault: Fault) -> Failure {
        Failure::Heard(FilterError::Fault { address: self.address.clone(), fault })
    }
}
