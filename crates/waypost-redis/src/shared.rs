//! What sessions and the driver of one ledger share.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use redis::{RedisError, Value};
use tokio::sync::{Notify, watch};
use waypost_relay::QuotaCommit;
use waypost_types::Timestamp;

use crate::call::{Call, Script};
use crate::connection::Connection;
use crate::digest::DigestKey;
use crate::history::Told;
use crate::link::Link;
use crate::outbox::{Job, Outbox, Task};
use crate::settings::Settings;

/// Whether Redis can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody knows yet: the first try is under way.
    Connecting,
    /// It can: counts are shared.
    Up {
        /// Redis is set to drop keys when its memory is full, by this policy: counts may vanish. It
        /// should be `noeviction`.
        evicts: Option<Box<str>>,
    },
    /// It cannot.
    Down {
        /// Why, as last seen.
        because: Box<str>,
    },
}

/// Redis cannot be asked now. It is looked for again by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("quotas cannot be shared now: {because}")]
pub struct Unavailable {
    /// Why.
    pub because: Box<str>,
}

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    /// Drawn at each start.
    pub(crate) start: String,
    begun: (Instant, Timestamp),
    state: Mutex<State>,
    pub(crate) wake: Notify,
    pub(crate) standing: watch::Sender<Standing>,
    /// How many jobs wait.
    pub(crate) waiting: watch::Sender<usize>,
    ids: AtomicU64,
}

pub(crate) struct State {
    pub(crate) link: Link,
    up: Option<Up>,
    pub(crate) outbox: Outbox,
    pub(crate) open: HashMap<u64, Open>,
    pub(crate) told: Told,
}

/// A connection that can be asked.
#[derive(Clone)]
pub(crate) struct Up {
    pub(crate) connection: Connection,
    pub(crate) script: Arc<Script>,
    pub(crate) key: DigestKey,
    pub(crate) generation: u64,
}

/// A message under way that Redis may know of.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) organization: Arc<str>,
    pub(crate) renewed: Timestamp,
}

impl Shared {
    pub(crate) fn new(settings: Settings, start: String) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = Timestamp::from_millis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
        let state = State {
            link: Link::new(wall),
            up: None,
            outbox: Outbox::new(settings.waiting),
            open: HashMap::new(),
            told: Told::default(),
        };
        Self {
            settings,
            start,
            begun: (Instant::now(), wall),
            state: Mutex::new(state),
            wake: Notify::new(),
            standing: watch::Sender::new(Standing::Connecting),
            waiting: watch::Sender::new(0),
            ids: AtomicU64::new(1),
        }
    }

    /// The wall clock of the start and what went by since; it never steps back.
    pub(crate) fn now(&self) -> Timestamp {
        self.begun.1 + self.begun.0.elapsed()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// The name of a message in Redis: unique over all nodes and starts.
    pub(crate) fn id_of(&self, id: u64) -> String {
        format!("{}-{id:x}", self.start)
    }

    pub(crate) fn up(&self) -> Result<Up, Unavailable> {
        let up = self.state().up.clone();
        up.ok_or_else(|| match &*self.standing.borrow() {
            Standing::Down { because } => Unavailable { because: because.clone() },
            Standing::Connecting => Unavailable { because: "not connected yet".into() },
            Standing::Up { .. } => Unavailable { because: "just lost".into() },
        })
    }

    /// Asks, for as long as the connection lets an answer take.
    pub(crate) async fn ask(&self, up: &Up, call: &Call) -> Result<Value, Unavailable> {
        let mut connection = up.connection.clone();
        let asked = call.command(&up.script).query_async::<Value>(&mut connection).await;
        asked.map_err(|error| self.failed(up.generation, &told(&error)))
    }

    /// A connection is of no use any more.
    pub(crate) fn failed(&self, generation: u64, because: &str) -> Unavailable {
        let because: Box<str> = because.into();
        let (now, draw) = (self.now(), draw());
        let mut state = self.state();
        let is_current = state.link.generation() == generation;
        state.link.failed(generation, now, draw);
        if is_current {
            state.up = None;
        }
        drop(state);
        if is_current {
            let down = Standing::Down { because: because.clone() };
            self.standing.send_if_modified(|standing| {
                let is_news = *standing != down;
                *standing = down;
                is_news
            });
            self.wake.notify_one();
        }
        Unavailable { because }
    }

    /// From now on sessions ask over this connection.
    pub(crate) fn connected(&self, up: Up, evicts: Option<Box<str>>) -> Up {
        let mut state = self.state();
        let up = Up { generation: state.link.connected(), ..up };
        state.up = Some(up.clone());
        drop(state);
        self.standing.send_replace(Standing::Up { evicts });
        up
    }

    pub(crate) fn opened(&self, id: u64, organization: Arc<str>, now: Timestamp) {
        self.state().open.insert(id, Open { organization, renewed: now });
    }

    pub(crate) fn closed(&self, id: u64) {
        self.state().open.remove(&id);
    }

    /// Hands a job to the driver; nobody waits.
    pub(crate) fn push(&self, job: Job) {
        let mut state = self.state();
        if let Some(commit) = job.commit().filter(|_| !state.told.is_empty())
            && state.told.has(&commit)
        {
            return;
        }
        state.outbox.push(job);
        let waiting = state.outbox.len();
        drop(state);
        self.waiting.send_replace(waiting);
        self.wake.notify_one();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Job {
    /// The commit that it is, as the history has it.
    pub(crate) fn commit(&self) -> Option<QuotaCommit> {
        match &self.task {
            Task::Release { .. } => None,
            Task::Commit { at, recipients } => Some(QuotaCommit {
                at: *at,
                organization: Arc::clone(&self.subject.organization),
                user: self.subject.user.clone(),
                recipients: recipients.iter().cloned().collect(),
                login: self.subject.login.clone(),
                client: self.subject.client,
            }),
        }
    }
}

/// What is wrong with Redis or the connection, without anything secret.
pub(crate) fn told(error: &RedisError) -> String {
    crate::complaint::in_words(error, &[])
}

fn draw() -> u32 {
    // Where the system has no randomness, all nodes come back at once; nothing worse.
    getrandom::u32().unwrap_or(u32::MAX / 2)
}
