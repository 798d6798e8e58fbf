//! The spool: the queue in memory and its journal on disk, kept in step.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use waypost_net::server::Clock;
use waypost_queue::{
    Body, ConfigChange, Ended, Entry, Event, Finished, Limits, Queue, QueueError, QuotaCommit,
    Record, Recovery, Resting, Schedule, SetAside, Site, StoreError, Work,
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
    /// Whether a message may have to wait before it is taken in.
    full: AtomicBool,
    eased: Notify,
    waits: AtomicU64,
}

/// How long a message may wait before it is taken in. A client waits for the reply to its final dot for
/// ten minutes (RFC 5321 section 4.5.3.2.6), impatient ones for half a minute.
const PATIENCE: Duration = Duration::from_secs(20);

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
        std::fs::create_dir_all(path).map_err(directory)?;
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
            full: AtomicBool::new(false),
            eased: Notify::new(),
            waits: AtomicU64::new(0),
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

    /// Waits, not for long, while more mail is ready for a site of the message than can be delivered.
    ///
    /// Intake is so slowed to the pace of the next hop, and bodies stay in memory for their first
    /// attempt. Where the wait is in vain the site is slow, and waited for no more
    /// ([`Queue::stalled`]).
    pub(crate) async fn wait_for_room(&self, entry: &Entry) {
        if !self.full.load(Ordering::Relaxed) {
            return;
        }
        let due = entry.deliveries.iter().filter(|owed| owed.hold.is_none());
        let sites: HashSet<Site> = due.map(|owed| Site::of(&owed.delivery)).collect();
        let until = Instant::now() + PATIENCE;
        let mut waits = false;
        loop {
            let mut eased = pin!(self.eased.notified());
            eased.as_mut().enable();
            let full = {
                let queue = self.queue();
                sites.iter().find(|site| queue.is_full_for(site)).cloned()
            };
            let Some(site) = full else { return };
            if !waits {
                waits = true;
                self.waits.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(id = %entry.id, destination = %site.destination, "waits for room");
            }
            if timeout_at(until, eased).await.is_err() {
                tracing::warn!(
                    destination = %site.destination,
                    "mail comes faster than it is delivered; intake waits no more for the slowest \
                     destination until half of its backlog is done"
                );
                self.change(|queue| queue.stalled(&site));
                return;
            }
        }
    }

    /// Messages that had to wait before they were taken in.
    #[must_use]
    pub(crate) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
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
        match self.change(|queue| queue.accept(entry, Some(body), self.clock.now())) {
            Ok(None) => {}
            Ok(Some(done)) => self.commit_soon(vec![done]),
            Err(error) => tracing::error!(%id, %error, "a committed message cannot be queued"),
        }
        self.wake.notify_one();
    }

    /// The next work that may start now.
    pub(crate) fn take(&self) -> Option<Work> {
        self.change(|queue| queue.take(self.clock.now()))
    }

    /// A host that rested was found well: what waits for a rest to end is looked at again.
    pub(crate) fn rouse(&self) {
        self.change(|queue| queue.rouse(|_| true));
        self.wake.notify_one();
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
        let finished =
            self.change(|queue| queue.finished(work, results, schedule, self.clock.now()));
        self.conclude(finished, original, notices).await;
    }

    /// A work was not tried. Writes what its age asks for, if it does.
    pub(crate) async fn postponed(
        &self,
        work: Work,
        resting: Resting,
        schedule: &Schedule,
        notices: &Notices<'_>,
    ) {
        let original = work.body.clone();
        let finished =
            self.change(|queue| queue.postponed(work, resting, schedule, self.clock.now()));
        self.conclude(finished, original, notices).await;
    }

    async fn conclude(&self, finished: Finished, original: Option<Body>, notices: &Notices<'_>) {
        let Finished { events, notice } = finished;
        if events.is_empty() {
            return self.wake.notify_one();
        }
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
        if let Err(error) = self.committer.commit_lazily(record).await {
            tracing::error!(%error, "what became of an attempt could not be written down");
        }
        if let Some((entry, body)) = accepted {
            self.enqueue(entry, body);
        }
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

    /// Changes the queue, and tells those who wait for room what came of it.
    fn change<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.queue();
        let result = change(&mut queue);
        self.full.store(queue.is_full(), Ordering::Relaxed);
        if queue.take_eased() {
            self.eased.notify_waiters();
        }
        result
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
