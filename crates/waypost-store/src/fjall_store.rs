//! The store in a spool folder.

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use byteview::ByteView;
use fjall::{
    AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch,
    PersistMode,
};
use waypost_queue::{
    Body, DecodeError, Durability, Entry, Event, QuotaCommit, Record, SetAside, Store, StoreError,
    Timestamp, decode, encode,
};
use waypost_types::QueueId;

use crate::journal;
use crate::lock::SpoolLock;
use crate::set_aside::{Corrupt, create_private, sync_folder};

const CACHE: u64 = 4 << 20;
/// What a keyspace may hold in memory before it is sorted into a table.
const MEMTABLE: u64 = 5 << 20;
const SMALL_MEMTABLE: u64 = 2 << 20;
/// So many times that it may hold while the one before is still being written, that one included.
const MEMTABLES: u64 = 4;
/// Keyspaces whose sorting is ours to say.
const KEYSPACES: usize = 5;
const JOURNALS: u64 = 256 << 20;
/// Tables not yet merged, from which on commits wait for the merging; the engine itself stops at 30,
/// and does not look there whether anyone is left to merge.
const UNMERGED: usize = 24;
/// Of two the engine lets one turn idle rounds while the other merges tables.
const WORKERS: usize = 1;
const A_MOMENT: Duration = Duration::from_millis(1);

/// A [`Store`] in a spool folder, one process at a time.
///
/// The folder is created if missing, for its owner alone. In it: `lock`, held while the store is
/// open; `db/`, the storage engine's; `corrupt/`, values that could not be read. A synced commit is one
/// write and one fdatasync; a lazy one is one write, which outlives the process but not a power cut.
pub struct FjallStore {
    db: Database,
    entries: Keyspace,
    events: Keyspace,
    bodies: Keyspace,
    quota: Keyspace,
    audit: Keyspace,
    meta: Keyspace,
    /// The numbers of the stored events of messages that are not done, so that removing reads nothing.
    live: Mutex<Live>,
    corrupt: Corrupt,
    // Last, so that the engine is closed before another process may open it.
    _lock: SpoolLock,
}

#[derive(Debug, Default)]
struct Live {
    next: u64,
    /// The number of this opening, while it is not on disk.
    opening: Option<u64>,
    events: HashMap<QueueId, Vec<u64>>,
    /// What each keyspace that is [sorted](FjallStore::sort) held when it was so last, in octets.
    sorted: [u64; KEYSPACES],
}

impl FjallStore {
    /// Opens or creates the spool.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it open; [`StoreError::Failed`] when the folder
    /// cannot be written or the engine cannot read it.
    pub fn open(spool: &Path) -> Result<Self, StoreError> {
        create_private(spool).map_err(failed("create the spool"))?;
        let lock = SpoolLock::take(spool)?;
        let corrupt = Corrupt::of(spool);
        let folder = spool.join("db");
        // Creation was cut short before anything could be committed: begin anew.
        if folder.exists() && !folder.join("version").exists() {
            corrupt.take_in(&folder).map_err(failed("set an unfinished database aside"))?;
        }
        journal::check(&folder).map_err(failed("open"))?;
        let db = Database::builder(&folder)
            .cache_size(CACHE)
            .max_journaling_size(JOURNALS)
            // As `journal` reads it.
            .journal_compression(CompressionType::None)
            .worker_threads(WORKERS)
            .open()
            .map_err(|error| match error {
                fjall::Error::Locked => StoreError::Locked { path: spool.to_owned() },
                error => failed("open")(error),
            })?;
        // When they are sorted is ours to say, in `sort`.
        let keyspace = |name: &str| {
            db.keyspace(name, || KeyspaceCreateOptions::default().max_memtable_size(u64::MAX))
                .map_err(failed("open a keyspace"))
        };
        let store = Self {
            entries: keyspace("entries")?,
            events: keyspace("events")?,
            bodies: keyspace("bodies")?,
            quota: keyspace("quota")?,
            audit: keyspace("audit")?,
            meta: db
                .keyspace("meta", KeyspaceCreateOptions::default)
                .map_err(failed("open a keyspace"))?,
            live: Mutex::default(),
            corrupt,
            _lock: lock,
            db,
        };
        store.number_on()?;
        for folder in [Some(spool), spool.parent()].into_iter().flatten() {
            sync_folder(folder).map_err(failed("sync the spool's folder"))?;
        }
        Ok(store)
    }

    /// Finds the numbers in use, so that new events sort after the old ones.
    fn number_on(&self) -> Result<(), StoreError> {
        // Every opening that writes has a range of its own. Its number is written with what is first
        // numbered by it, so that opening itself needs no room on the disk.
        let stored = self.meta.get("openings").map_err(failed("read"))?;
        let opening = stored.as_deref().and_then(number).unwrap_or(0).saturating_add(1);

        let mut live = self.live();
        (live.next, live.opening) = (opening << 40, Some(opening));
        for item in self.events.iter() {
            let key = item.key().map_err(failed("scan events"))?;
            if let Some((id, number)) = event_key_parts(&key) {
                live.events.entry(id).or_default().push(number);
            }
        }
        Ok(())
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(
        &self,
        batch: &mut OwnedWriteBatch,
        live: &mut Live,
        record: &Record,
    ) -> Result<(), StoreError> {
        let ended: Vec<QueueId> = record.events.iter().filter_map(ended).collect();
        for event in &record.events {
            let value = || encode(event).map_err(wrong(|| format!("an event of {:?}", event.id())));
            match event {
                Event::Accepted(entry) if ended.contains(&entry.id) => {}
                Event::Accepted(entry) => batch.insert(&self.entries, key(entry.id), value()?),
                Event::QuotaCommitted(commit) => {
                    let key = pair(commit.at.as_millis(), live.number());
                    batch.insert(&self.quota, key, value()?);
                }
                Event::AdministratorsTold(told) => {
                    let key = pair(told.at.as_millis(), live.number());
                    batch.insert(&self.quota, key, value()?);
                }
                Event::SpamRelayed(spam) => {
                    let key = pair(spam.at.as_millis(), live.number());
                    batch.insert(&self.quota, key, value()?);
                }
                Event::SenderTold(told) => {
                    let key = pair(told.at.as_millis(), live.number());
                    batch.insert(&self.quota, key, value()?);
                }
                Event::ConfigChanged(_) | Event::QueueChanged(_) => {
                    batch.insert(&self.audit, live.number().to_be_bytes(), value()?);
                }
                other => {
                    let Some(id) = other.id() else { continue };
                    if let Some(id) = self::ended(other) {
                        batch.remove(&self.entries, key(id));
                        batch.remove(&self.bodies, key(id));
                        for number in live.events.remove(&id).unwrap_or_default() {
                            batch.remove(&self.events, pair(id.number(), number));
                        }
                    } else if !ended.contains(&id) {
                        let number = live.number();
                        batch.insert(&self.events, pair(id.number(), number), value()?);
                        live.events.entry(id).or_default().push(number);
                    }
                }
            }
        }
        for (id, body) in &record.bodies {
            if !ended.contains(id) {
                let value = body.stored().map_err(wrong(|| format!("the body of {id}")))?;
                batch.insert(&self.bodies, key(*id), value);
            }
        }
        Ok(())
    }

    /// Has sorted what a keyspace holds in memory when that is enough for a table, and waits when it is
    /// too much. Left to itself the engine asks for it with every commit, which can fill the queue of
    /// its workers until they wait for themselves; and it holds several times as much in memory.
    ///
    /// What was sorted last counts as well: the engine frees it when the next is to be sorted.
    fn sort(&self, live: &mut Live) -> Result<(), StoreError> {
        let keyspaces: [_; KEYSPACES] = [
            (&self.entries, MEMTABLE),
            (&self.bodies, MEMTABLE),
            (&self.events, SMALL_MEMTABLE),
            (&self.quota, SMALL_MEMTABLE),
            (&self.audit, SMALL_MEMTABLE),
        ];
        for ((keyspace, enough), sorted) in keyspaces.into_iter().zip(&mut live.sorted) {
            let held = keyspace.tree.active_memtable().size();
            if held <= enough {
                continue;
            }
            let behind = || {
                keyspace.tree.sealed_memtable_count() > 0
                    || keyspace.tree.l0_run_count() >= UNMERGED
            };
            if behind() && held.saturating_add(*sorted) <= enough * MEMTABLES {
                continue;
            }
            while behind() {
                // An error, once a worker has failed: then nobody would come.
                self.db.persist(PersistMode::Buffer).map_err(failed("sort"))?;
                std::thread::sleep(A_MOMENT);
            }
            keyspace.rotate_memtable().map_err(failed("sort"))?;
            *sorted = held;
        }
        Ok(())
    }

    /// Shows the events of one keyspace; sets aside and returns what cannot be read.
    fn scan(
        &self,
        name: &'static str,
        keyspace: &Keyspace,
        visit: &mut dyn FnMut(Event),
        aside: &mut Vec<SetAside>,
    ) -> Result<(), StoreError> {
        for item in keyspace.iter() {
            let (key, value) = item.into_inner().map_err(failed("scan"))?;
            match decode(&value) {
                Ok(event) => visit(event),
                Err(because) => {
                    aside.push(self.put_aside(name, &key, &value, because)?);
                    keyspace.remove(key.clone()).map_err(failed("set a value aside"))?;
                    if name == "entry" {
                        self.put_rest_aside(&key, &mut self.live())?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The body and the events of an entry that is lost go where it went: a person may still save them.
    fn put_rest_aside(&self, key: &[u8], live: &mut Live) -> Result<(), StoreError> {
        if let Some(value) = self.bodies.get(key).map_err(failed("read"))? {
            self.corrupt
                .keep(&format!("body-{}", hex(key)), &value)
                .map_err(failed("set a body aside"))?;
            self.bodies.remove(key).map_err(failed("set a body aside"))?;
        }
        for item in self.events.prefix(key) {
            let (key, value) = item.into_inner().map_err(failed("scan"))?;
            self.corrupt
                .keep(&format!("event-{}", hex(&key)), &value)
                .map_err(failed("set an event aside"))?;
            self.events.remove(key).map_err(failed("set an event aside"))?;
        }
        if let Some(number) = number(key) {
            live.events.remove(&QueueId::new(number));
        }
        Ok(())
    }

    fn put_aside(
        &self,
        name: &'static str,
        key: &[u8],
        value: &[u8],
        because: DecodeError,
    ) -> Result<SetAside, StoreError> {
        let what = format!("{name}-{}", hex(key));
        let kept_at = self.corrupt.keep(&what, value).map_err(failed("set a value aside"))?;
        tracing::error!(value = %what, %because, kept_at = %kept_at.display(), "set aside");
        Ok(SetAside { what, because, kept_at: Some(kept_at) })
    }
}

impl Store for FjallStore {
    fn commit(&self, records: &[Record], durability: Durability) -> Result<(), StoreError> {
        let mut live = self.live();
        let mut batch = self.db.batch().durability(Some(match durability {
            Durability::Synced => PersistMode::SyncData,
            Durability::Lazy => PersistMode::Buffer,
        }));
        for record in records {
            self.add(&mut batch, &mut live, record)?;
        }
        if !batch.is_empty() {
            if let Some(opening) = live.opening {
                batch.insert(&self.meta, "openings", opening.to_be_bytes());
            }
            batch.commit().map_err(failed("commit"))?;
            live.opening = None;
            return self.sort(&mut live);
        }
        match durability {
            Durability::Synced => self.db.persist(PersistMode::SyncData).map_err(failed("sync")),
            Durability::Lazy => Ok(()),
        }
    }

    fn recover(&self, visit: &mut dyn FnMut(Event)) -> Result<Vec<SetAside>, StoreError> {
        let mut aside = Vec::new();
        self.scan("entry", &self.entries, visit, &mut aside)?;
        self.scan("event", &self.events, visit, &mut aside)?;
        self.scan("quota", &self.quota, visit, &mut aside)?;
        self.scan("audit", &self.audit, visit, &mut aside)?;
        if !aside.is_empty() {
            self.db.persist(PersistMode::SyncData).map_err(failed("sync"))?;
        }
        Ok(aside)
    }

    fn body(&self, id: QueueId) -> Result<Option<Body>, StoreError> {
        let Some(value) = self.bodies.get(key(id)).map_err(failed("read a body"))? else {
            return Ok(None);
        };
        match Body::from_stored(ByteView::from(value.clone())) {
            Ok(body) => Ok(Some(body)),
            Err(because) => {
                let aside = self.put_aside("body", &key(id), &value, because)?;
                Err(StoreError::Value { what: aside.what, because: aside.because })
            }
        }
    }

    fn entry(&self, id: QueueId) -> Result<Option<Entry>, StoreError> {
        let Some(value) = self.entries.get(key(id)).map_err(failed("read an entry"))? else {
            return Ok(None);
        };
        match decode(&value).map_err(wrong(|| format!("entry {id}")))? {
            Event::Accepted(entry) => Ok(Some(*entry)),
            _ => Ok(None),
        }
    }

    fn forget_quota(&self, before: Timestamp) -> Result<(), StoreError> {
        // In pieces, so that memory stays small and commits get in between.
        let mut items = self.quota.range(..pair(before.as_millis(), 0)).peekable();
        while items.peek().is_some() {
            let mut batch = self.db.batch().durability(Some(PersistMode::Buffer));
            for item in items.by_ref().take(10_000) {
                batch.remove(&self.quota, item.key().map_err(failed("scan quotas"))?);
            }
            batch.commit().map_err(failed("forget quotas"))?;
        }
        Ok(())
    }

    fn quota(
        &self,
        since: Timestamp,
        visit: &mut dyn FnMut(QuotaCommit) -> bool,
    ) -> Result<(), StoreError> {
        for item in self.quota.range(pair(since.as_millis(), 0)..) {
            let value = item.value().map_err(failed("scan quotas"))?;
            // A damaged one is set aside when the spool is opened next.
            if let Ok(Event::QuotaCommitted(commit)) = decode(&value)
                && !visit(commit)
            {
                break;
            }
        }
        Ok(())
    }

    fn audit(&self, after: Option<u64>, most: usize) -> Result<Vec<(u64, Event)>, StoreError> {
        let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.to_be_bytes()));
        let mut page = Vec::new();
        for item in self.audit.range((from, Bound::Unbounded)) {
            if page.len() >= most {
                break;
            }
            let (key, value) = item.into_inner().map_err(failed("scan the audit log"))?;
            // A damaged line is set aside when the spool is opened next.
            if let (Some(place), Ok(event)) = (number(&key), decode(&value)) {
                page.push((place, event));
            }
        }
        Ok(page)
    }
}

impl std::fmt::Debug for FjallStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallStore").field("corrupt", &self.corrupt).finish_non_exhaustive()
    }
}

impl Live {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

fn ended(event: &Event) -> Option<QueueId> {
    match event {
        Event::Done { id, .. } | Event::Removed { id, .. } => Some(*id),
        _ => None,
    }
}

pub(crate) fn failed<E: Display>(doing: &'static str) -> impl Fn(E) -> StoreError {
    move |error| StoreError::Failed { doing, because: error.to_string() }
}

fn wrong(what: impl FnOnce() -> String) -> impl FnOnce(DecodeError) -> StoreError {
    move |because| StoreError::Value { what: what(), because }
}

fn key(id: QueueId) -> [u8; 8] {
    id.number().to_be_bytes()
}

fn pair(first: u64, second: u64) -> [u8; 16] {
    (u128::from(first) << 64 | u128::from(second)).to_be_bytes()
}

fn number(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

fn event_key_parts(key: &[u8]) -> Option<(QueueId, u64)> {
    let (id, number_part) = key.split_at_checked(8)?;
    Some((QueueId::new(number(id)?), number(number_part)?))
}

fn hex(key: &[u8]) -> String {
    key.iter().map(|b| format!("{b:02x}")).collect()
}
