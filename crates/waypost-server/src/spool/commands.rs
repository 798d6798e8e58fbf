//! What an administrator's commands, and the spool's upkeep, ask of it.

use std::time::Duration;

use waypost_queue::{Entry, Event, Record, Status, StoreError};
use waypost_redis::History;
use waypost_relay::QuotaCommit;
use waypost_store::{CommitError, Handle};
use waypost_types::{QueueId, Timestamp};

use super::Spool;
use crate::server::replayed;

/// Messages of a page of the queue.
const PAGE_MESSAGES: usize = 256;
/// Deliveries of a page; the last message may go beyond.
const PAGE_DELIVERIES: usize = 1024;
/// How long quota commits are kept: the longest window, a day, and time for clocks to differ.
const QUOTA_KEPT: Duration = Duration::from_secs(25 * 3600);

/// The journal's quota commits.
pub(crate) struct QuotaHistory(Handle);

impl History for QuotaHistory {
    fn since(
        &self,
        since: Timestamp,
        visit: &mut dyn FnMut(QuotaCommit) -> bool,
    ) -> Result<(), String> {
        let mut visit = |commit| visit(replayed(&commit));
        self.0
            .read(|store| store.quota(since, &mut visit))
            .map_err(|error| format!("the journal cannot be read: {error}"))
    }
}

impl Spool {
    /// A page of the queue behind an id; empty at the end. Short, so that the lock is too.
    pub(crate) fn page(&self, after: Option<QueueId>) -> Vec<Status> {
        let mut deliveries = 0;
        let mut page = Vec::new();
        for status in self.queue().list_after(after) {
            deliveries += status.deliveries.len();
            page.push(status);
            if page.len() >= PAGE_MESSAGES || deliveries >= PAGE_DELIVERIES {
                break;
            }
        }
        page
    }

    /// The quota commits of the last day, for whoever must be told of them again.
    pub(crate) fn quota_history(&self) -> QuotaHistory {
        QuotaHistory(self.committer.clone())
    }

    /// Something was made ready.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// A message that was removed while the end of its attempt was on the way to the disk: nothing of
    /// it may stay there.
    pub(super) fn leave_nothing_of_removed(&self, unfinished: Option<QueueId>) {
        if let Some(id) = unfinished.filter(|id| self.queue().show(*id).is_none()) {
            self.commit_soon(vec![Event::Done { id, at: self.clock.now() }]);
        }
    }

    /// Writes a record; it is on disk when this returns `Ok`.
    ///
    /// # Errors
    /// [`CommitError`].
    pub(crate) async fn commit(&self, record: Record) -> Result<(), CommitError> {
        self.committer.commit(record).await
    }

    /// Writes a record some time later; a store that fails keeps it for when it is open again.
    ///
    /// # Errors
    /// [`CommitError::Closed`].
    pub(crate) async fn commit_lazily(&self, record: Record) -> Result<(), CommitError> {
        self.committer.commit_lazily(record).await
    }

    /// A message's entry, with its decision, from the disk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn entry(&self, id: QueueId) -> Result<Option<Entry>, StoreError> {
        let committer = self.committer.clone();
        off_the_workers(move || committer.entry(id)).await
    }

    /// A page of the audit log ([`waypost_queue::Store::audit`]).
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn audit(
        &self,
        after: Option<u64>,
        most: usize,
    ) -> Result<Vec<(u64, Event)>, StoreError> {
        let committer = self.committer.clone();
        off_the_workers(move || committer.read(|store| store.audit(after, most))).await
    }

    /// Drops the quota commits that no window reaches back to (D13).
    pub(crate) async fn forget_quota(&self) {
        let (committer, before) = (self.committer.clone(), self.clock.now().before(QUOTA_KEPT));
        let forget = move || committer.read(|store| store.forget_quota(before));
        if let Err(error) = off_the_workers(forget).await {
            tracing::warn!(%error, "old quota commits stay in the spool for now");
        }
    }
}

/// The message that a record writes an attempt of and that goes on.
pub(super) fn unfinished(record: &Record) -> Option<QueueId> {
    let attempt = record.events.iter().find(|event| matches!(event, Event::Attempted(_)))?;
    let is_over = |event: &Event| matches!(event, Event::Done { .. }) && event.id() == attempt.id();
    if record.events.iter().any(is_over) { None } else { attempt.id() }
}

async fn off_the_workers<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| {
        Err(StoreError::Failed { doing: "read", because: error.to_string() })
    })
}
