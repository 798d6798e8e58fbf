//! The spool: the queue in memory and its journal on disk, kept in step.

mod commands;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use waypost_net::server::Clock;
use waypost_queue::{
    Body, ConfigChange, Ended, Entry, Event, Finished, Limits, Queue, QueueError, QuotaCommit,
    Record, Recovery, Schedule, SetAside, StoreError, Work,
};
use waypost_store::{CommitError, Committer, CommitterOptions, Counts, FjallStore, Handle};
use waypost_types::{Destination, Domain, Mailbox, QueueId};

use crate::queue_ids::QueueIds;

/// Queue and journal. Everything that changes the one is written to the other.
#[derive(Debug)]
pub(crate) struct Spool {
    path: PathBuf,
    clock: Clock,
    ids: QueueIds,
    queue: Mutex<Queue>,
    committer: Handle,
    wake: Notify,
}

/// What a spool held when it was opened.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// Quota commits, oldest first.
    pub(crate) quota: Vec<QuotaCommit>,
    /// Damaged values that were moved out of the way.
    pub(crate) set_aside: Vec<SetAside>,
    /// How many messages are owed.
    pub(crate) messages: usize,
}

/// Why a spool cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The directory cannot be made or used.
    #[error("the spool {path} cannot be used: {source}; check the path and its owner")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Spool {
    /// Opens a spool, makes it if it is missing, and reads what is owed. Blocking.
    ///
    /// # Errors
    /// [`SpoolError`], among them a spool that another process has open.
    pub(crate) fn open(
        path: &Path,
        clock: Clock,
    ) -> Result<(Self, Committer, Recovered), SpoolError> {
        let directory = |source| SpoolError::Directory { path: path.to_owned(), source };
        let store = FjallStore::open(path)?;
        let mut recovery = Recovery::new();
        let mut highest = None;
        let set_aside = waypost_queue::Store::recover(&store, &mut |event: Event| {
            highest = highest.max(event.id());
            recovery.event(event);
        })?;
        let recovered = recovery.finish(Limits::default(), clock.now());
        let reopened = path.to_owned();
        let committer = Committer::start(
            store,
            move || FjallStore::open(&reopened),
            CommitterOptions::default(),
        )
        .map_err(directory)?;
        let spool = Self {
            path: path.to_owned(),
            clock,
            ids: QueueIds::after(highest),
            queue: Mutex::new(recovered.queue),
            committer: committer.handle(),
            wake: Notify::new(),
        };
        let left_over =
            Recovered { quota: recovered.quota, set_aside, messages: spool.queue().len() };
        spool.commit_soon(recovered.events);
        Ok((spool, committer, left_over))
    }

    /// The directory.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A new id.
    pub(crate) fn next_id(&self) -> QueueId {
        self.ids.next(self.clock.now())
    }

    /// Whether another message may come in.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) fn room(&self) -> Result<(), QueueError> {
        self.queue().room()
    }

    /// Makes a message ours: returns when it is on disk, and then it is due. Runs to its end even if
    /// the caller is dropped, provided it is spawned.
    ///
    /// # Errors
    /// [`CommitError`]: nothing was accepted, answer with a 4yz.
    pub(crate) async fn accept(
        &self,
        entry: Entry,
        body: Body,
        quota: Vec<QuotaCommit>,
    ) -> Result<(), CommitError> {
        self.committer.commit(Record::accepted(entry.clone(), body.clone(), quota)).await?;
        self.enqueue(entry, body);
        Ok(())
    }

    fn enqueue(&self, entry: Entry, body: Body) {
        let id = entry.id;
        match self.queue().accept(entry, Some(body), self.clock.now()) {
            Ok(None) => {}
            Ok(Some(done)) => self.commit_soon(vec![done]),
            Err(error) => tracing::error!(%id, %error, "a committed message cannot be queued"),
        }
        self.wake.notify_one();
    }

    /// The next work that may start now.
    pub(crate) fn take(&self) -> Option<Work> {
        self.queue().take(self.clock.now())
    }

    /// Waits until [`Spool::take`] may have something: an event, or the next due time.
    pub(crate) async fn ready(&self) {
        let due = self.queue().next_due();
        match due {
            Some(due) => {
                let due = self.clock.instant(due);
                let _ = tokio::time::timeout_at(due, self.wake.notified()).await;
            }
            None => self.wake.notified().await,
        }
    }

    /// A work ended. Writes what became of it, and the notice that it asks for.
    pub(crate) async fn finished(
        &self,
        work: Work,
        results: Vec<Ended>,
        schedule: &Schedule,
        notices: &Notices<'_>,
    ) {
        let original = work.body.clone();
        let Finished { events, notice } =
            self.queue().finished(work, results, schedule, self.clock.now());
        let mut record = Record::from(events);
        let mut accepted = None;
        if let Some(notice) = notice {
            match (notices.destination)(notice.recipient()) {
                Some(destination) => {
                    let body = match original {
                        Some(body) => Some(body),
                        None => self.body(notice.about()).await,
                    };
                    let original = body.as_deref().unwrap_or_default();
                    let (entry, body) =
                        notice.compose(self.next_id(), notices.hostname, original, destination);
                    record.events.insert(0, Event::Accepted(Box::new(entry.clone())));
                    record.bodies.push((entry.id, body.clone()));
                    accepted = Some((entry, body));
                }
                None => tracing::warn!(
                    id = %notice.about(), to = %notice.recipient(),
                    "a notice has nowhere to go: its recipient is unknown here"
                ),
            }
        }
        let unfinished = commands::unfinished(&record);
        if let Err(error) = self.committer.commit_lazily(record).await {
            tracing::error!(%error, "what became of an attempt could not be written down");
        }
        if let Some((entry, body)) = accepted {
            self.enqueue(entry, body);
        }
        self.leave_nothing_of_removed(unfinished);
        self.wake.notify_one();
    }

    /// A message's bytes from the disk; `None` when they cannot be read, which is logged.
    pub(crate) async fn body(&self, id: QueueId) -> Option<Body> {
        let committer = self.committer.clone();
        let read = tokio::task::spawn_blocking(move || committer.body(id)).await;
        match read {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => {
                tracing::error!(%id, %error, "a message's body cannot be read");
                None
            }
            Err(error) => {
                tracing::error!(%id, %error, "reading a message's body failed");
                None
            }
        }
    }

    /// Writes a change of the configuration into the audit log.
    ///
    /// # Errors
    /// [`CommitError`].
    pub(crate) async fn record_change(&self, change: ConfigChange) -> Result<(), CommitError> {
        self.committer.commit(Record::from(vec![Event::ConfigChanged(change)])).await
    }

    /// How many messages are owed.
    #[must_use]
    pub(crate) fn messages(&self) -> usize {
        self.queue().len()
    }

    /// What the committer did.
    #[must_use]
    pub(crate) fn counts(&self) -> Counts {
        self.committer.counts()
    }

    fn commit_soon(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let committer = self.committer.clone();
        let task = async move {
            if let Err(error) = committer.commit_lazily(Record::from(events)).await {
                tracing::error!(%error, "events of the queue could not be written down");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(task)),
            Err(error) => tracing::error!(%error, "the spool was opened outside a runtime"),
        }
    }

    /// A thread that panicked while it held the lock left a queue whose every step is complete.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How notices to senders are made.
pub(crate) struct Notices<'a> {
    /// Our name.
    pub(crate) hostname: &'a Domain,
    /// The way to a recipient; `None` when there is none.
    pub(crate) destination: &'a (dyn Fn(&Mailbox) -> Option<Destination> + Sync),
}
