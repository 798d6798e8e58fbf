//! One thread that writes everything that waits in one batch with one sync.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use waypost_queue::{Body, Durability, Entry, Event, Record, Store, StoreError};
use waypost_types::QueueId;

/// What bounds a committer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitterOptions {
    /// Octets of records that may wait, at least 1 KiB; beyond that [`Handle::commit`] waits for
    /// room. 64 MiB by default.
    pub waiting: usize,
    /// Records that may wait, at least 1; 10,000 by default.
    pub records: usize,
    /// The longest time that a lazy record waits for company before it is written; 5 ms by default.
    /// Each write wakes the thread, and a synced record that comes meanwhile takes it along for
    /// nothing.
    pub linger: Duration,
    /// Lazy records that may wait, at least 1: what a kill may undo of them, and so what may be
    /// delivered twice after it, is at most this many. 256 by default.
    pub lazy_records: usize,
    /// The longest time that a lazy record, once written, stays without a sync; one second by
    /// default.
    pub lazy: Duration,
    /// The first pause before a failed store is opened anew; doubles up to `longest_pause`. 100 ms
    /// by default.
    pub first_pause: Duration,
    /// The longest pause; 2 seconds by default.
    pub longest_pause: Duration,
}

impl Default for CommitterOptions {
    fn default() -> Self {
        Self {
            waiting: 64 << 20,
            records: 10_000,
            linger: Duration::from_millis(5),
            lazy_records: 256,
            lazy: Duration::from_secs(1),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(2),
        }
    }
}

/// Why a record was not committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The store failed. The message is not ours: answer `451 4.3.0`, never 250.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The committer was shut down.
    #[error("the committer is shut down; nothing is accepted any more")]
    Closed,
}

/// What was done since the start, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records stored.
    pub records: u64,
    /// Syncs that succeeded; `records` over it is the size of a group.
    pub syncs: u64,
    /// Times that the store failed and was closed.
    pub failures: u64,
    /// Bodies asked for with [`Handle::body`]; mail that is delivered as it comes asks for none.
    pub bodies_read: u64,
}

/// One batch that was written, told to the observer of [`Committer::start_observed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Records in it; none when only a sync was due.
    pub records: usize,
    /// Whether it was synced.
    pub durability: Durability,
    /// How long writing took, and the sync if there was one.
    pub took: Duration,
}

/// The thread that owns a store and writes it: all that waits in one batch, with one sync.
///
/// While a sync runs, further records wait and form the next batch. After an error everyone who waits is
/// told, the store is closed and opened anew with growing pauses, new commits are refused meanwhile,
/// and lazy records are kept. Dropping it shuts it down.
#[derive(Debug)]
pub struct Committer {
    handle: Handle,
    thread: Option<JoinHandle<Result<(), StoreError>>>,
}

/// Hands records to the committer, and reads the store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    pending: Mutex<Pending>,
    wake: Condvar,
    /// One permit a KiB.
    room: Arc<Semaphore>,
    /// One permit a lazy record.
    lazy_room: Arc<Semaphore>,
    kib: u32,
    least_kib: u32,
    linger: Duration,
    /// `None` while it is being opened anew, and at the end.
    store: RwLock<Option<Box<dyn Store>>>,
    /// Refuse at once rather than wait for room behind kept records.
    down: AtomicBool,
    records: AtomicU64,
    syncs: AtomicU64,
    failures: AtomicU64,
    bodies_read: AtomicU64,
}

#[derive(Default)]
struct Pending {
    requests: VecDeque<Request>,
    /// Someone waits for a request's answer, or a lazy one has waited long enough.
    urgent: bool,
    /// When the thread looks again without being woken; `None`: never.
    looks_at: Option<Instant>,
    closing: bool,
}

struct Request {
    record: Record,
    /// `None`: lazy.
    answer: Option<oneshot::Sender<Result<(), CommitError>>>,
    _room: OwnedSemaphorePermit,
    _lazy_room: Option<OwnedSemaphorePermit>,
}

impl Committer {
    /// Starts the thread. `reopen` opens the store anew after a failure, when the old one is dropped.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start<S: Store + 'static>(
        store: S,
        reopen: impl FnMut() -> Result<S, StoreError> + Send + 'static,
        options: CommitterOptions,
    ) -> io::Result<Self> {
        Self::start_observed(store, reopen, options, |_| {})
    }

    /// As [`Committer::start`], and tells of every batch that was written, on the thread that writes:
    /// `observe` must not wait.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start_observed<S: Store + 'static>(
        store: S,
        mut reopen: impl FnMut() -> Result<S, StoreError> + Send + 'static,
        options: CommitterOptions,
        observe: impl FnMut(&Batch) + Send + 'static,
    ) -> io::Result<Self> {
        let kib = u32::try_from(options.waiting >> 10).unwrap_or(1 << 22).clamp(1, 1 << 22);
        let records = u32::try_from(options.records).unwrap_or(u32::MAX).max(1);
        let shared = Arc::new(Shared {
            pending: Mutex::default(),
            wake: Condvar::new(),
            room: Arc::new(Semaphore::new(usize::try_from(kib).unwrap_or(usize::MAX))),
            lazy_room: Arc::new(Semaphore::new(options.lazy_records.max(1))),
            kib,
            least_kib: (kib / records).max(1),
            linger: options.linger,
            store: RwLock::new(Some(Box::new(store))),
            down: AtomicBool::new(false),
            records: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            bodies_read: AtomicU64::new(0),
        });
        let mut worker = Worker {
            shared: Arc::clone(&shared),
            reopen: Box::new(move || reopen().map(|store| Box::new(store) as Box<dyn Store>)),
            observe: Box::new(observe),
            options,
            kept: Vec::new(),
            refused: Vec::new(),
            unsynced_since: None,
        };
        let thread =
            std::thread::Builder::new().name("committer".to_owned()).spawn(move || worker.run())?;
        Ok(Self { handle: Handle { shared }, thread: Some(thread) })
    }

    /// A handle for a user of the store.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Writes what waits, syncs, closes the store and ends the thread. Blocking.
    ///
    /// # Errors
    /// The store's, when the last batch could not be written.
    pub fn shutdown(mut self) -> Result<(), StoreError> {
        self.stop()
    }

    fn stop(&mut self) -> Result<(), StoreError> {
        self.handle.shared.close();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(StoreError::Closed),
            None => Ok(()),
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, "the last batch was not written");
        }
    }
}

impl Handle {
    /// Stores a record; on disk when it returns `Ok` (O1). Waits while too much waits before it.
    ///
    /// Once the record was handed over, dropping the future does not take it back.
    ///
    /// # Errors
    /// [`CommitError`]; the record may then be on disk all the same, and is removed from it when the
    /// store is open again.
    pub async fn commit(&self, record: Record) -> Result<(), CommitError> {
        if self.shared.down.load(Ordering::Relaxed) {
            return Err(StoreError::Closed.into());
        }
        let (answer, answered) = oneshot::channel();
        self.send(record, Some(answer)).await?;
        answered.await.unwrap_or(Err(CommitError::Closed))
    }

    /// Stores a record some time later, written after [`CommitterOptions::linger`] and synced after
    /// [`CommitterOptions::lazy`] at the latest: for outcomes and removals, whose loss means only that something is done twice. Waits for room only.
    /// A store that fails is no error: the record is kept for the one opened anew.
    ///
    /// # Errors
    /// [`CommitError::Closed`] when the committer was shut down.
    pub async fn commit_lazily(&self, record: Record) -> Result<(), CommitError> {
        self.send(record, None).await
    }

    /// The body of a message. Blocking.
    ///
    /// # Errors
    /// As [`Store::body`]; [`StoreError::Closed`] while the store is being opened anew.
    pub fn body(&self, id: QueueId) -> Result<Option<Body>, StoreError> {
        self.shared.bodies_read.fetch_add(1, Ordering::Relaxed);
        self.read(|store| store.body(id))
    }

    /// The entry of a message with its decision. Blocking.
    ///
    /// # Errors
    /// As [`Store::entry`]; [`StoreError::Closed`] while the store is being opened anew.
    pub fn entry(&self, id: QueueId) -> Result<Option<Entry>, StoreError> {
        self.read(|store| store.entry(id))
    }

    /// Anything else that the store can do. Blocking; a reopening waits for it.
    ///
    /// # Errors
    /// What `read` says; [`StoreError::Closed`] while the store is being opened anew.
    pub fn read<T>(
        &self,
        read: impl FnOnce(&dyn Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let store = self.shared.store.read().unwrap_or_else(PoisonError::into_inner);
        read(&**store.as_ref().ok_or(StoreError::Closed)?)
    }

    /// What was done since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            records: self.shared.records.load(Ordering::Relaxed),
            syncs: self.shared.syncs.load(Ordering::Relaxed),
            failures: self.shared.failures.load(Ordering::Relaxed),
            bodies_read: self.shared.bodies_read.load(Ordering::Relaxed),
        }
    }

    /// Whether records are taken: not while a failed store is opened anew, nor after the end.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.shared.down.load(Ordering::Relaxed) && !self.shared.room.is_closed()
    }

    /// Whether the end was asked for: what is refused now is refused for good.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.shared.room.is_closed()
    }

    async fn send(
        &self,
        record: Record,
        answer: Option<oneshot::Sender<Result<(), CommitError>>>,
    ) -> Result<(), CommitError> {
        let shared = &self.shared;
        let kib = u32::try_from(record.weight() >> 10).unwrap_or(u32::MAX).saturating_add(1);
        let kib = kib.max(shared.least_kib).min(shared.kib);
        let lazy_room = match answer {
            Some(_) => None,
            None => {
                let turn = Arc::clone(&shared.lazy_room).acquire_owned().await;
                Some(turn.map_err(|_| CommitError::Closed)?)
            }
        };
        let room = Arc::clone(&shared.room)
            .acquire_many_owned(kib)
            .await
            .map_err(|_| CommitError::Closed)?;
        let mut pending = shared.pending();
        if pending.closing {
            return Err(CommitError::Closed);
        }
        let wakes = if answer.is_some() {
            !std::mem::replace(&mut pending.urgent, true)
        } else {
            let latest = Instant::now() + shared.linger;
            pending.looks_at.is_none_or(|looks_at| looks_at > latest)
        };
        pending.requests.push_back(Request { record, answer, _room: room, _lazy_room: lazy_room });
        drop(pending);
        if wakes {
            shared.wake.notify_one();
        }
        Ok(())
    }
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.pending().closing = true;
        self.room.close();
        self.lazy_room.close();
        self.wake.notify_all();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("kib", &self.kib).finish_non_exhaustive()
    }
}

type Reopen = Box<dyn FnMut() -> Result<Box<dyn Store>, StoreError> + Send>;

struct Worker {
    shared: Arc<Shared>,
    reopen: Reopen,
    observe: Box<dyn FnMut(&Batch) + Send>,
    options: CommitterOptions,
    /// Lazy records that a failed store did not take.
    kept: Vec<Request>,
    /// Messages refused because the store failed, which may be on disk all the same.
    refused: Vec<Event>,
    unsynced_since: Option<Instant>,
}

/// What the thread was woken for.
enum Task {
    Batch(Vec<Request>),
    Sync,
    End,
}

/// Tells everyone when the thread ends, however it ends.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.close();
        self.0.pending().requests.clear();
        *self.0.store.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Worker {
    fn run(&mut self) -> Result<(), StoreError> {
        let _ending = Ending(Arc::clone(&self.shared));
        loop {
            let done = match self.wait() {
                Task::Batch(requests) => self.batch(requests),
                Task::Sync => self.write(&[], Durability::Synced),
                Task::End => return self.write(&[], Durability::Synced),
            };
            if let Err(error) = done {
                self.recover(error)?;
            }
        }
    }

    fn wait(&self) -> Task {
        let linger = self.options.linger;
        let mut pending = self.shared.pending();
        let mut waited_since = None;
        // What comes soon after a batch finds the thread looking again by itself: while mail flows it is
        // woken only to sync.
        let mut just_written = true;
        loop {
            let now = Instant::now();
            let lingered = waited_since.is_some_and(|since| now.duration_since(since) >= linger);
            if !pending.requests.is_empty() && (pending.urgent || pending.closing || lingered) {
                pending.urgent = false;
                pending.looks_at = None;
                return Task::Batch(pending.requests.drain(..).collect());
            }
            if pending.closing {
                return Task::End;
            }
            let sync_at = self.unsynced_since.map(|since| since + self.options.lazy);
            if pending.requests.is_empty() {
                waited_since = None;
                if sync_at.is_some_and(|at| at <= now) {
                    return Task::Sync;
                }
            } else {
                waited_since = waited_since.or(Some(now));
            }
            let looks_at = match waited_since {
                Some(since) => Some(since + linger),
                None if just_written => Some(now + linger),
                None => sync_at,
            };
            just_written = false;
            pending.looks_at = looks_at;
            pending = match looks_at {
                None => self.shared.wake.wait(pending).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let rest = at.saturating_duration_since(now);
                    let woken = self.shared.wake.wait_timeout(pending, rest);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Stores all requests with one sync, and answers them. An error is the store's: it must be opened
    /// anew.
    fn batch(&mut self, mut requests: Vec<Request>) -> Result<(), StoreError> {
        let synced = requests.iter().any(|request| request.answer.is_some());
        let durability = if synced { Durability::Synced } else { Durability::Lazy };
        let records: Vec<Record> =
            requests.iter_mut().map(|request| std::mem::take(&mut request.record)).collect();
        match self.write(&records, durability) {
            Ok(()) => {
                for answer in requests.into_iter().filter_map(|request| request.answer) {
                    let _ = answer.send(Ok(()));
                }
                Ok(())
            }
            // One record that cannot be written must not refuse the others.
            Err(StoreError::Value { .. }) if records.len() > 1 => {
                let mut rest = requests.into_iter().zip(records);
                while let Some((request, record)) = rest.next() {
                    if let Err(error) = self.batch(vec![Request { record, ..request }]) {
                        self.shared.down.store(true, Ordering::Relaxed);
                        rest.for_each(|(request, record)| self.put_off(request, record, &error));
                        return Err(error);
                    }
                }
                Ok(())
            }
            Err(error @ StoreError::Value { .. }) => {
                tracing::error!(%error, "a record cannot be written");
                for answer in requests.into_iter().filter_map(|request| request.answer) {
                    let _ = answer.send(Err(error.clone().into()));
                }
                Ok(())
            }
            Err(error) => {
                // Before anyone is told, so that who asks then hears the same.
                self.shared.down.store(true, Ordering::Relaxed);
                for (request, record) in requests.into_iter().zip(records) {
                    self.put_off(request, record, &error);
                }
                Err(error)
            }
        }
    }

    /// What a failed store did not take: who waits is told, what is lazy is kept.
    fn put_off(&mut self, mut request: Request, record: Record, error: &StoreError) {
        match request.answer.take() {
            Some(answer) => {
                self.refused.extend(record.events.iter().filter_map(undone));
                let _ = answer.send(Err(error.clone().into()));
            }
            None => self.kept.push(Request { record, ..request }),
        }
    }

    fn write(&mut self, records: &[Record], durability: Durability) -> Result<(), StoreError> {
        let begun = Instant::now();
        let store = self.shared.store.read().unwrap_or_else(PoisonError::into_inner);
        store.as_ref().ok_or(StoreError::Closed)?.commit(records, durability)?;
        (self.observe)(&Batch { records: records.len(), durability, took: begun.elapsed() });
        let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
        self.shared.records.fetch_add(count, Ordering::Relaxed);
        match durability {
            Durability::Synced => {
                self.shared.syncs.fetch_add(1, Ordering::Relaxed);
                self.unsynced_since = None;
            }
            Durability::Lazy => {
                self.unsynced_since.get_or_insert_with(Instant::now);
            }
        }
        Ok(())
    }

    /// Closes the store and opens it anew until that succeeds, or until the end is asked for.
    fn recover(&mut self, mut error: StoreError) -> Result<(), StoreError> {
        let mut pause = self.options.first_pause;
        self.shared.down.store(true, Ordering::Relaxed);
        loop {
            self.shared.failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, ?pause, "the store failed; it is opened anew after a pause");
            *self.shared.store.write().unwrap_or_else(PoisonError::into_inner) = None;
            if self.refuse_for(pause) {
                return Err(error);
            }
            pause = pause.saturating_mul(2).min(self.options.longest_pause);
            match (self.reopen)() {
                Ok(store) => {
                    *self.shared.store.write().unwrap_or_else(PoisonError::into_inner) =
                        Some(store);
                    match self.catch_up() {
                        Ok(()) => {
                            self.shared.down.store(false, Ordering::Relaxed);
                            return Ok(());
                        }
                        Err(next) => error = next,
                    }
                }
                Err(next) => error = next,
            }
        }
    }

    /// Refuses commits and keeps lazy records for a while; says whether the end was asked for.
    fn refuse_for(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let shared = Arc::clone(&self.shared);
        let mut pending = shared.pending();
        loop {
            for mut request in pending.requests.drain(..) {
                match request.answer.take() {
                    Some(answer) => {
                        let _ = answer.send(Err(StoreError::Closed.into()));
                    }
                    None => self.kept.push(request),
                }
            }
            let rest = until.saturating_duration_since(Instant::now());
            if pending.closing || rest.is_zero() {
                return pending.closing;
            }
            let woken = shared.wake.wait_timeout(pending, rest);
            pending = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Removes what was refused and writes what was kept.
    fn catch_up(&mut self) -> Result<(), StoreError> {
        self.write(&[Record::from(self.refused.clone())], Durability::Synced)?;
        self.refused.clear();
        let kept = std::mem::take(&mut self.kept);
        if kept.is_empty() { Ok(()) } else { self.batch(kept) }
    }
}

/// The event that takes an acceptance back.
fn undone(event: &Event) -> Option<Event> {
    match event {
        Event::Accepted(entry) => Some(Event::Removed {
            id: entry.id,
            at: entry.accepted_at,
            by: "the committer: refused, the store failed".into(),
        }),
        _ => None,
    }
}
