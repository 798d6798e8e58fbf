//! The store on disk of the mail queue, and the one thread that writes it.
//!
//! **For:** users of `waypost-queue` who want it on a disk. **Begin with:** [`FjallStore::open`],
//! [`Store::recover`](waypost_queue::Store::recover), [`Committer::start`].
//!
//! **In:** records of events and bodies ([`waypost_queue::Record`]). **Out:** an answer for each one,
//! once it is on disk; after a restart, the events to fold ([`waypost_queue::Recovery`]).
//!
//! **Units:** sizes are octets. **Bounds:** what waits for the disk is bounded by
//! [`CommitterOptions::waiting`]; the store keeps 16 octets of memory for each unfinished message that
//! was tried, 4 MiB of cache and up to 20 MiB of a keyspace not yet sorted. **Errors:**
//! [`waypost_queue::StoreError`], [`CommitError`]. **Source:** requirements O1, D13, A12; `docs/SPOOL.md` has the
//! states, the format and what a crash leaves at each point.
//!
//! **Not here:** what is owed and when (`waypost-queue`); any decision.
//!
//! # Example
//!
//! ```
//! use waypost_queue::{ConfigChange, ConfigOutcome, Event, Limits, Recovery, Store, Timestamp};
//! use waypost_store::{Committer, CommitterOptions, FjallStore};
//!
//! # let folder = tempfile::tempdir()?;
//! # let spool = folder.path().to_owned();
//! let store = FjallStore::open(&spool)?;
//! let mut recovery = Recovery::new();
//! let set_aside = store.recover(&mut |event| recovery.event(event))?;
//! assert!(set_aside.is_empty());
//! let recovered = recovery.finish(Limits::default(), Timestamp::from_millis(0));
//! assert!(recovered.queue.is_empty());
//!
//! let committer = Committer::start(store, move || FjallStore::open(&spool), CommitterOptions::default())?;
//! let handle = committer.handle();
//! let change = ConfigChange {
//!     at: Timestamp::from_millis(0),
//!     version: "1".into(),
//!     who: "root".into(),
//!     what: "first start".into(),
//!     from: None,
//!     outcome: ConfigOutcome::InForce,
//!     lines: Vec::new(),
//! };
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async move {
//! handle.commit(vec![Event::ConfigChanged(change)].into()).await // on disk when it returns
//! # })?;
//! committer.shutdown()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod committer;
mod fjall_store;
mod journal;
mod lock;
mod set_aside;
mod space;

pub use committer::{Batch, CommitError, Committer, CommitterOptions, Counts, Handle};
pub use fjall_store::FjallStore;
pub use space::free_octets;
