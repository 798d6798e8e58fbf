//! A store in memory for tests, worse than any disk.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use waypost_types::{QueueId, Timestamp};

use crate::{Body, Durability, Entry, Event, Record, SetAside, Store, StoreError};

/// A [`Store`] in memory that keeps only what a disk must keep: [`ModelStore::crash`] undoes every
/// commit since the last sync, and [`ModelStore::fail`] makes commits fail.
///
/// Values are kept encoded, so the codec is in every test that uses it.
#[derive(Debug, Default)]
pub struct ModelStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    synced: Kept,
    now: Kept,
    failures: usize,
    commits: usize,
    syncs: usize,
}

#[derive(Clone, Debug, Default)]
struct Kept {
    messages: BTreeMap<QueueId, Vec<Vec<u8>>>,
    bodies: BTreeMap<QueueId, Body>,
    quota: Vec<(Timestamp, Vec<u8>)>,
    audit: Vec<Vec<u8>>,
}

impl ModelStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next `times` commits fail and leave nothing behind.
    pub fn fail(&self, times: usize) {
        self.lock().failures = times;
    }

    /// A power cut: what was not synced is gone.
    pub fn crash(&self) {
        let mut state = self.lock();
        state.now = state.synced.clone();
    }

    /// How many commits succeeded.
    #[must_use]
    pub fn commits(&self) -> usize {
        self.lock().commits
    }

    /// How many of them were synced.
    #[must_use]
    pub fn syncs(&self) -> usize {
        self.lock().syncs
    }

    /// The ids of the bodies kept.
    #[must_use]
    pub fn bodies(&self) -> Vec<QueueId> {
        self.lock().now.bodies.keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn apply(&mut self, record: &Record) -> Result<(), StoreError> {
        for event in &record.events {
            let value = crate::encode(event)
                .map_err(|because| StoreError::Value { what: "an event".to_owned(), because })?;
            match event {
                Event::QuotaCommitted(commit) => self.quota.push((commit.at, value)),
                Event::AdministratorsTold(told) => self.quota.push((told.at, value)),
                Event::SpamRelayed(spam) => self.quota.push((spam.at, value)),
                Event::SenderTold(told) => self.quota.push((told.at, value)),
                Event::ConfigChanged(_) | Event::QueueChanged(_) => self.audit.push(value),
                Event::Done { id, .. } | Event::Removed { id, .. } => {
                    self.messages.remove(id);
                    self.bodies.remove(id);
                }
                Event::Accepted(entry) => {
                    self.messages.insert(entry.id, vec![value]);
                }
                other => {
                    let events = other.id().and_then(|id| self.messages.get_mut(&id));
                    if let Some(events) = events {
                        events.push(value);
                    }
                }
            }
        }
        for (id, body) in &record.bodies {
            if self.messages.contains_key(id) {
                self.bodies.insert(*id, body.clone());
            }
        }
        Ok(())
    }
}

impl Store for ModelStore {
    fn commit(&self, records: &[Record], durability: Durability) -> Result<(), StoreError> {
        let mut state = self.lock();
        if state.failures > 0 {
            state.failures -= 1;
            return Err(StoreError::Failed { doing: "commit", because: "as told".to_owned() });
        }
        let mut next = state.now.clone();
        for record in records {
            next.apply(record)?;
        }
        state.now = next;
        state.commits += 1;
        if durability == Durability::Synced {
            state.synced = state.now.clone();
            state.syncs += 1;
        }
        Ok(())
    }

    fn recover(&self, visit: &mut dyn FnMut(Event)) -> Result<Vec<SetAside>, StoreError> {
        let state = self.lock();
        let mut aside = Vec::new();
        let kept = &state.now;
        let values = kept.messages.values().flatten();
        for value in values.chain(kept.quota.iter().map(|(_, v)| v)).chain(&kept.audit) {
            match crate::decode(value) {
                Ok(event) => visit(event),
                Err(because) => {
                    aside.push(SetAside { what: "a value".to_owned(), because, kept_at: None });
                }
            }
        }
        Ok(aside)
    }

    fn body(&self, id: QueueId) -> Result<Option<Body>, StoreError> {
        Ok(self.lock().now.bodies.get(&id).cloned())
    }

    fn entry(&self, id: QueueId) -> Result<Option<Entry>, StoreError> {
        let state = self.lock();
        let Some(value) = state.now.messages.get(&id).and_then(|values| values.first()) else {
            return Ok(None);
        };
        match crate::decode(value) {
            Ok(Event::Accepted(entry)) => Ok(Some(*entry)),
            Ok(_) => Ok(None),
            Err(because) => Err(StoreError::Value { what: format!("entry {id}"), because }),
        }
    }

    fn forget_quota(&self, before: Timestamp) -> Result<(), StoreError> {
        self.lock().now.quota.retain(|(at, _)| *at >= before);
        Ok(())
    }
}
