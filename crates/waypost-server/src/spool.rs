//! The spool: the queue in memory and its journal on disk, kept in step.

mod commands;

use std::collections::HashSet;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use waypost_net::server::Clock;
use waypost_queue::{
    AdministratorsTold, Body, ConfigChange, Ended, Entry, Event, Finished, Limits, Queue,
    QueueError, QuotaCommit, Record, Recovery, Resting, Schedule, SenderTold, SetAside, Site,
    SpamRelayed, Store, StoreError, Tally, Work,
};
use waypost_store::{
    CommitError, Committer, CommitterOptions, Counts, FjallStore, Handle, free_octets,
};
use waypost_types::{Destination, Domain, Mailbox, Outcome, QueueId};

use crate::disk::{Disk, RESERVE};
use crate::metrics::Metrics;
use crate::queue_ids::QueueIds;
use crate::room::{Room, Share};

/// How often a closed store is asked again for a message that is due.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Queue and journal. Everything that changes the one is written to the other.
#[derive(Debug)]
pub(crate) struct Spool {
    path: PathBuf,
    clock: Clock,
    ids: QueueIds,
    queue: Mutex<Queue>,
    committer: Handle,
    wake: Notify,
    metrics: Arc<Metrics>,
    disk: Disk,
    intake: Room,
    reading: Room,
    /// Whether a message may have to wait before it is taken in.
    full: AtomicBool,
    eased: Notify,
}

/// Why no message may come in now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRoom {
    /// The queue holds as much as it may.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The disk is nearly full.
    #[error("{free} octets are free for the spool and {needed} are needed; free some space")]
    Disk {
        /// Octets that are free.
        free: u64,
        /// Octets that the next messages may need.
        needed: u64,
    },
    /// The store failed.
    #[error("the store failed and is being opened anew; look at the disk's health")]
    Store,
}

/// A message's bytes, read from the disk or still in memory. What was read has a share of the room for
/// it until it is dropped.
#[derive(Debug)]
pub(crate) struct Loaded {
    body: Body,
    _share: Option<Share>,
}

impl From<Body> for Loaded {
    fn from(body: Body) -> Self {
        Self { body, _share: None }
    }
}

impl Deref for Loaded {
    type Target = Body;

    fn deref(&self) -> &Body {
        &self.body
    }
}

/// How long a message may wait before it is taken in. A client waits for the reply to its final dot for
/// ten minutes (RFC 5321 section 4.5.3.2.6), impatient ones for half a minute.
const PATIENCE: Duration = Duration::from_secs(20);

/// What of a work is asked for when it is over.
struct Original {
    site: Arc<Site>,
    body: Option<Body>,
    size: u64,
}

impl Original {
    fn of(work: &Work) -> Self {
        Self { site: Arc::clone(&work.site), body: work.body.clone(), size: work.entry.size }
    }
}

/// What a spool held when it was opened.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// Quota commits, oldest first.
    pub(crate) quota: Vec<QuotaCommit>,
    /// Damaged values that were moved out of the way.
    pub(crate) set_aside: Vec<SetAside>,
    /// What administrators were told.
    pub(crate) told: Vec<AdministratorsTold>,
    /// The spam that users relayed, oldest first.
    pub(crate) spam: Vec<SpamRelayed>,
    /// What senders were told of refused recipients, oldest first.
    pub(crate) senders_told: Vec<SenderTold>,
    /// The messages of which something is over a limit.
    pub(crate) over_limit: Vec<QueueId>,
    /// How many messages are owed.
    pub(crate) messages: usize,
    /// The last configuration that took effect.
    pub(crate) in_force: Option<ConfigChange>,
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
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Committer, Recovered), SpoolError> {
        let spool = path.to_owned();
        Self::open_with(path, clock, metrics, move || FjallStore::open(&spool))
    }

    fn open_with<S: Store + 'static>(
        path: &Path,
        clock: Clock,
        metrics: Arc<Metrics>,
        mut open: impl FnMut() -> Result<S, StoreError> + Send + 'static,
    ) -> Result<(Self, Committer, Recovered), SpoolError> {
        let directory = |source| SpoolError::Directory { path: path.to_owned(), source };
        let store = open()?;
        let mut recovery = Recovery::new();
        let mut highest = None;
        let set_aside = Store::recover(&store, &mut |event: Event| {
            highest = highest.max(event.id());
            recovery.event(event);
        })?;
        let recovered = recovery.finish(Limits::default(), clock.now());
        let reopened = path.to_owned();
        let reopen = move || space_to_open(&reopened).and_then(|()| open());
        let committer = Committer::start_observed(
            store,
            reopen,
            CommitterOptions::default(),
            metrics.observe_batches(),
        );
        let committer = committer.map_err(directory)?;
        let spool = Self {
            path: path.to_owned(),
            clock,
            ids: QueueIds::after(highest),
            queue: Mutex::new(recovered.queue),
            committer: committer.handle(),
            wake: Notify::new(),
            metrics,
            disk: Disk::new(path.to_owned(), clock.now()),
            intake: Room::new(),
            reading: Room::new(),
            full: AtomicBool::new(false),
            eased: Notify::new(),
        };
        let left_over = Recovered {
            quota: recovered.quota,
            told: recovered.told,
            spam: recovered.spam,
            senders_told: recovered.senders_told,
            over_limit: recovered.over_limit,
            set_aside,
            messages: spool.queue().len(),
            in_force: recovered.in_force,
        };
        spool.commit_soon(recovered.events);
        Ok((spool, committer, left_over))
    }

    /// The directory.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is counted.
    #[must_use]
    pub(crate) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// A new id.
    pub(crate) fn next_id(&self) -> QueueId {
        self.ids.next(self.clock.now())
    }

    /// Whether another message may come in: below the limits of the queue, with the store open, and
    /// with room on the disk for two messages of `largest` octets beside those on their way.
    ///
    /// # Errors
    /// What there is too little of.
    pub(crate) fn room(&self, largest: u64) -> Result<(), NoRoom> {
        self.queue().room()?;
        if !self.committer.is_open() {
            return Err(NoRoom::Store);
        }
        self.space(largest.saturating_mul(2).saturating_add(self.intake.used()))
    }

    /// Whether the disk has room for so many octets.
    ///
    /// # Errors
    /// How many there are, and how many are needed for the store to live on.
    pub(crate) fn space(&self, octets: u64) -> Result<(), NoRoom> {
        let (free, needed) = (self.disk.free(self.clock.now()), octets.saturating_add(RESERVE));
        if free < needed { Err(NoRoom::Disk { free, needed }) } else { Ok(()) }
    }

    /// Where messages find room in memory until they are committed.
    pub(crate) fn intake(&self) -> &Room {
        &self.intake
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
                self.metrics.intake_waits.inc();
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
        let body = framed(body).await;
        self.committer.commit(Record::accepted(entry.clone(), body.clone(), quota)).await?;
        self.enqueue(entry, body);
        Ok(())
    }

    /// Puts a mail to administrators, or a notice to a sender, into the queue, with the note that they were
    /// told; both are on disk when this returns.
    ///
    /// # Errors
    /// [`CommitError`]: neither is.
    pub(crate) async fn tell(
        &self,
        entry: Entry,
        body: Body,
        told: Event,
    ) -> Result<(), CommitError> {
        let body = framed(body).await;
        let mut record = Record::accepted(entry.clone(), body.clone(), Vec::new());
        record.events.push(told);
        self.committer.commit(record).await?;
        self.enqueue(entry, body);
        Ok(())
    }

    fn enqueue(&self, mut entry: Entry, body: Body) {
        let id = entry.id;
        // It may stay for days: one of four places in a vector that was grown is enough for most.
        entry.deliveries.shrink_to_fit();
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
        let of = Original::of(&work);
        let finished =
            self.change(|queue| queue.finished(work, results, schedule, self.clock.now()));
        self.conclude(of, finished, notices).await;
    }

    /// A work was not tried. Writes what its age asks for, if it does.
    pub(crate) async fn postponed(
        &self,
        work: Work,
        resting: Resting,
        schedule: &Schedule,
        notices: &Notices<'_>,
    ) {
        let of = Original::of(&work);
        let finished =
            self.change(|queue| queue.postponed(work, resting, schedule, self.clock.now()));
        self.conclude(of, finished, notices).await;
    }

    async fn conclude(&self, of: Original, finished: Finished, notices: &Notices<'_>) {
        let Finished { events, notice } = finished;
        if events.is_empty() {
            return self.wake.notify_one();
        }
        self.metrics.routes.of(&of.site.destination).count_expired(expired(&events));
        let mut record = Record::from(events);
        let mut accepted = None;
        if let Some(notice) = notice {
            match (notices.destination)(notice.recipient()) {
                Some(destination) => {
                    let body = match of.body {
                        Some(body) => Some(Loaded::from(body)),
                        None => self.body(notice.about(), of.size).await,
                    };
                    let original = body.as_ref().map_or(&[][..], |body| body);
                    let (entry, body) =
                        notice.compose(self.next_id(), notices.hostname, original, destination);
                    let body = framed(body).await;
                    self.metrics.notice(notice.action_name());
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

    /// The `size` octets of a message from the disk; waits for room in memory, and for a store that is
    /// being opened anew. `None` when they cannot be read, which is logged; when they are lost the
    /// message is held, since no further attempt could do better.
    pub(crate) async fn body(&self, id: QueueId, size: u64) -> Option<Loaded> {
        let share = loop {
            match self.reading.share(size).await {
                Some(share) => break share,
                None => tracing::warn!(%id, size, "waits for room in memory to be read into"),
            }
        };
        loop {
            let committer = self.committer.clone();
            let read = tokio::task::spawn_blocking(move || committer.body(id)).await;
            match read {
                Ok(Ok(Some(body))) => return Some(Loaded { body, _share: Some(share) }),
                Ok(Ok(None)) => self.hold_damaged(id, "its bytes are not in the spool"),
                Ok(Err(StoreError::Closed)) if !self.committer.is_shut_down() => {
                    tokio::time::sleep(ASK_AGAIN).await;
                    continue;
                }
                Ok(Err(error @ StoreError::Value { .. })) => {
                    self.hold_damaged(
                        id,
                        &format!("{error}; its bytes are in the spool's corrupt/"),
                    );
                }
                Ok(Err(error)) => tracing::error!(%id, %error, "a message's body cannot be read"),
                Err(error) => tracing::error!(%id, %error, "reading a message's body failed"),
            }
            return None;
        }
    }

    fn hold_damaged(&self, id: QueueId, because: &str) {
        let by = format!("the spool: {because}");
        let held = self.change(|queue| queue.hold(id, &by, self.clock.now()));
        // Of a message that is over, only a notice's copy is missing.
        let Ok(held) = held else { return tracing::error!(%id, because, "no copy for a notice") };
        self.metrics.damaged.inc();
        tracing::error!(%id, because, "a message is lost; it is held until someone removes it");
        self.commit_soon(vec![held]);
    }

    /// Writes a change of the configuration into the audit log.
    ///
    /// # Errors
    /// [`CommitError`].
    pub(crate) async fn record_change(&self, change: ConfigChange) -> Result<(), CommitError> {
        self.committer.commit(Record::from(vec![Event::ConfigChanged(change)])).await
    }

    /// Writes down what a message counts for that is not in this spool.
    ///
    /// # Errors
    /// [`CommitError`].
    pub(crate) async fn record_quota(&self, counted: QuotaCommit) -> Result<(), CommitError> {
        self.committer.commit(Record::from(vec![Event::QuotaCommitted(counted)])).await
    }

    /// How many messages are owed.
    #[must_use]
    pub(crate) fn messages(&self) -> usize {
        self.queue().len()
    }

    /// How much is in the queue, by state; the queue is locked for `step` messages at a time.
    pub(crate) async fn tally(&self, step: usize) -> Tally {
        let (mut tally, mut after) = (Tally::default(), None);
        loop {
            after = self.queue().tally(after, step, &mut tally);
            if after.is_none() {
                return tally;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Whether the store takes records.
    #[must_use]
    pub(crate) fn is_open(&self) -> bool {
        self.committer.is_open()
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

    /// Does something with the queue, quickly, since sessions and deliveries wait meanwhile; and tells
    /// those who wait for room what came of it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
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

/// Octets of a body that are copied where they are; more are copied off the async workers.
const COPIED_HERE: usize = 1 << 20;

/// A body as the store keeps it, so that both hold the same octets: of a message that waits for its first
/// attempt, what the store has not sorted yet is no second copy.
pub(crate) async fn framed(body: Body) -> Body {
    if body.len() <= COPIED_HERE {
        return body.framed();
    }
    let plain = body.clone();
    tokio::task::spawn_blocking(move || body.framed()).await.unwrap_or(plain)
}

/// Deliveries that were deferred once more, and for which the schedule says no more.
fn expired(events: &[Event]) -> u64 {
    let attempts = events.iter().filter_map(|event| match event {
        Event::Attempted(attempt) if attempt.next.is_none() => Some(attempt),
        _ => None,
    });
    let deferred = attempts
        .flat_map(|attempt| &attempt.results)
        .filter(|ended| matches!(ended.outcome, Outcome::Deferred(_)));
    u64::try_from(deferred.count()).unwrap_or(u64::MAX)
}

/// What must be free before a store that failed is opened anew. Less than [`RESERVE`], so that what is queued goes on
/// its way, and is written down, before there is room for more.
const TO_OPEN: u64 = RESERVE / 4;

/// A store that is opened on a full disk cannot write down that it was, and fails again.
fn space_to_open(path: &Path) -> Result<(), StoreError> {
    match free_octets(path) {
        Ok(free) if free < TO_OPEN => Err(StoreError::Failed {
            doing: "open",
            because: format!("{free} octets are free for the spool, {TO_OPEN} are needed"),
        }),
        _ => Ok(()),
    }
}

/// How notices to senders are made.
pub(crate) struct Notices<'a> {
    /// Our name.
    pub(crate) hostname: &'a Domain,
    /// The way to a recipient; `None` when there is none.
    pub(crate) destination: &'a (dyn Fn(&Mailbox) -> Option<Destination> + Sync),
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
