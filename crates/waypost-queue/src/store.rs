//! What a store must promise.

use std::path::PathBuf;

use waypost_types::{QueueId, Timestamp};

use crate::{Body, DecodeError, Event};

/// Events and bodies that belong together: all of them are stored, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// In the order in which they happened.
    pub events: Vec<Event>,
    /// The bodies of the messages that `events` accept.
    pub bodies: Vec<(QueueId, Body)>,
}

impl Record {
    /// An accepted message with its body, and the quotas that it counts against.
    #[must_use]
    pub fn accepted(entry: crate::Entry, body: Body, quota: Vec<crate::QuotaCommit>) -> Self {
        let bodies = vec![(entry.id, body)];
        let mut events = vec![Event::Accepted(Box::new(entry))];
        events.extend(quota.into_iter().map(Event::QuotaCommitted));
        Self { events, bodies }
    }

    /// Roughly the octets that the record holds in memory.
    #[must_use]
    pub fn weight(&self) -> usize {
        let bodies: usize = self.bodies.iter().map(|(_, body)| body.len()).sum();
        let events: usize = self.events.iter().map(weight).sum();
        bodies + events
    }
}

/// Roughly the octets that an event holds in memory, and in the store.
pub(crate) fn weight(event: &Event) -> usize {
    match event {
        Event::Accepted(entry) => {
            512 + entry.decision.len() + entry.trace.len() + 512 * entry.deliveries.len()
        }
        Event::Attempted(attempt) => 128 + 256 * attempt.results.len(),
        Event::QuotaCommitted(commit) => 128 + 64 * commit.recipients.len(),
        Event::ConfigChanged(change) => {
            256 + change.lines.iter().map(|line| 32 + line.len()).sum::<usize>()
        }
        _ => 256,
    }
}

impl From<Vec<Event>> for Record {
    fn from(events: Vec<Event>) -> Self {
        Self { events, bodies: Vec::new() }
    }
}

/// When a commit returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After the disk has it: nothing that was committed before is lost by a power cut (O1).
    Synced,
    /// At once: a crash may undo it, whole and with everything committed after it.
    Lazy,
}

/// Why a store did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the spool open.
    #[error("the spool {} is in use by another process; stop it, or ask it over its socket", path.display())]
    Locked {
        /// The spool.
        path: PathBuf,
    },
    /// The disk or the storage engine failed. The store must be opened anew; what it had not synced
    /// may or may not be there.
    #[error("the store failed to {doing}: {because}; look at the disk's free space and health")]
    Failed {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        because: String,
    },
    /// An event or body cannot be written or read.
    #[error("{what} cannot be stored or read: {because}")]
    Value {
        /// Which one.
        what: String,
        /// What is wrong.
        because: DecodeError,
    },
    /// The store is closed, or being opened anew.
    #[error("the store is closed; try again in a moment")]
    Closed,
}

/// A value that recovery could not read and moved out of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Which value: its kind and key.
    pub what: String,
    /// What is wrong with it.
    pub because: DecodeError,
    /// Where its bytes are now.
    pub kept_at: Option<PathBuf>,
}

/// Where events and bodies outlive the process. Blocking: never called on an async worker.
///
/// Events of messages are kept until the message is done or removed; quota commits, what
/// administrators were told and the spam that users relayed, until [`Store::forget_quota`]; the audit log's lines for ever.
pub trait Store: Send + Sync {
    /// Stores the records, all or none, in order. `Done` and `Removed` drop everything kept of their
    /// message. What was committed before is durable too when this one is.
    ///
    /// # Errors
    /// [`StoreError`]. Nothing is known then of these records and of earlier lazy ones; earlier
    /// synced ones are safe.
    fn commit(&self, records: &[Record], durability: Durability) -> Result<(), StoreError>;

    /// Shows every event kept, bodies excepted: `Accepted` before the message's other events, these
    /// in the order of their commits; quota commits and configuration changes in the order of theirs.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read at all; a single damaged value is set aside and
    /// returned.
    fn recover(&self, visit: &mut dyn FnMut(Event)) -> Result<Vec<SetAside>, StoreError>;

    /// The body of a message, if it is kept.
    ///
    /// # Errors
    /// [`StoreError::Value`] when it is damaged, else [`StoreError::Failed`].
    fn body(&self, id: QueueId) -> Result<Option<Body>, StoreError>;

    /// The entry of a message with its decision, if it is kept.
    ///
    /// # Errors
    /// As [`Store::body`].
    fn entry(&self, id: QueueId) -> Result<Option<crate::Entry>, StoreError>;

    /// Drops the quota commits, what administrators were told and the spam that users relayed, before a
    /// moment, lazily.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written; nothing is lost then but room.
    fn forget_quota(&self, before: Timestamp) -> Result<(), StoreError>;

    /// Shows the quota commits made since a moment, in their order, until `visit` returns false. Those
    /// that are damaged are left out. Unless a store knows better, everything that it holds is read.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read at all.
    fn quota(
        &self,
        since: Timestamp,
        visit: &mut dyn FnMut(crate::QuotaCommit) -> bool,
    ) -> Result<(), StoreError> {
        let mut goes_on = true;
        self.recover(&mut |event| match event {
            Event::QuotaCommitted(commit) if goes_on && commit.at >= since => {
                goes_on = visit(commit);
            }
            _ => {}
        })?;
        Ok(())
    }

    /// A page of the audit log, oldest first: at most `most` of the [`Event::ConfigChanged`] and
    /// [`Event::QueueChanged`] behind the place `after`, each with its place. Lines that are damaged
    /// are left out. Unless a store knows better, everything that it holds is read for each page.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read at all.
    fn audit(&self, after: Option<u64>, most: usize) -> Result<Vec<(u64, Event)>, StoreError> {
        let (mut page, mut place) = (Vec::new(), 0);
        self.recover(&mut |event| {
            if matches!(event, Event::ConfigChanged(_) | Event::QueueChanged(_)) {
                place += 1;
                if page.len() < most && after.is_none_or(|after| place > after) {
                    page.push((place, event));
                }
            }
        })?;
        Ok(page)
    }
}

impl<T: Store + ?Sized> Store for std::sync::Arc<T> {
    fn commit(&self, records: &[Record], durability: Durability) -> Result<(), StoreError> {
        (**self).commit(records, durability)
    }

    fn recover(&self, visit: &mut dyn FnMut(Event)) -> Result<Vec<SetAside>, StoreError> {
        (**self).recover(visit)
    }

    fn body(&self, id: QueueId) -> Result<Option<Body>, StoreError> {
        (**self).body(id)
    }

    fn entry(&self, id: QueueId) -> Result<Option<crate::Entry>, StoreError> {
        (**self).entry(id)
    }

    fn forget_quota(&self, before: Timestamp) -> Result<(), StoreError> {
        (**self).forget_quota(before)
    }

    fn quota(
        &self,
        since: Timestamp,
        visit: &mut dyn FnMut(crate::QuotaCommit) -> bool,
    ) -> Result<(), StoreError> {
        (**self).quota(since, visit)
    }

    fn audit(&self, after: Option<u64>, most: usize) -> Result<Vec<(u64, Event)>, StoreError> {
        (**self).audit(after, most)
    }
}
