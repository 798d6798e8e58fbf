//! A directory that is filled from elsewhere while mail flows, and may lose its source.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use waypost_types::{Account, Directory, Mailbox, Timestamp, Unavailable};

/// A directory for programs whose users and groups come from a remote source: it answers from the last
/// snapshot that it was given, and says that it cannot answer where that would be a guess.
///
/// **In:** snapshots, each a [`Directory`] of its own, such as a
/// [`StaticDirectory`](super::StaticDirectory), and failures of the source, as whoever asks the source
/// sees them. **Out:** the snapshot's answers; before the first one, and when the source has failed for
/// too long, [`Unavailable`], so that mail waits with `451 4.3.0` and nobody counts as unrecognized (C8).
/// **Units:** times are the caller's: nothing here looks at a clock. **Bounds:** an answer costs an
/// atomic load more than the snapshot's own; each call sees one snapshot whole. A policy that asks
/// twice for one message may see two; each of them was true.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use waypost_config::directory::{ReloadableDirectory, StaticDirectory};
/// use waypost_types::{Directory, Timestamp};
///
/// let marie = "marie@solarmora.com".parse()?;
/// let directory = ReloadableDirectory::new(Duration::from_secs(3600));
/// assert!(directory.account(&marie).is_err(), "nothing is known yet");
/// directory.replace(Arc::new(StaticDirectory::default()), Timestamp::from_millis(0));
/// assert!(directory.account(&marie).is_ok());
/// // The source fails; for an hour the last snapshot is good enough.
/// directory.source_failed("LDAP: connection refused", Timestamp::from_millis(60_000));
/// assert!(directory.account(&marie).is_ok());
/// directory.source_failed("LDAP: connection refused", Timestamp::from_millis(3_600_000));
/// assert!(directory.account(&marie).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ReloadableDirectory {
    good_for: Duration,
    state: ArcSwap<State>,
}

enum State {
    /// There is no answer.
    Unavailable {
        because: String,
        /// The last snapshot was complete then.
        since: Option<Timestamp>,
    },
    /// The last snapshot answers.
    Answering { snapshot: Arc<dyn Directory>, at: Timestamp },
}

impl ReloadableDirectory {
    /// A directory that cannot answer yet. A snapshot is good for such a time after its source began to
    /// fail; [`Duration::ZERO`]: not at all.
    #[must_use]
    pub fn new(good_for: Duration) -> Self {
        let because = "no snapshot of it was taken yet".to_owned();
        Self { good_for, state: ArcSwap::from_pointee(State::Unavailable { because, since: None }) }
    }

    /// Puts a snapshot in place of the last one, whole and at once: the source answered at `now`.
    pub fn replace(&self, snapshot: Arc<dyn Directory>, now: Timestamp) {
        self.state.store(Arc::new(State::Answering { snapshot, at: now }));
    }

    /// The source failed at `now`. If the last snapshot is as old as snapshots may be, or older, it is
    /// dropped, and the directory cannot answer until it is given another one. To be called at each
    /// attempt that fails. Returns whether there are still answers.
    pub fn source_failed(&self, because: &str, now: Timestamp) -> bool {
        self.fail(because, |at| now.since(at) >= self.good_for)
    }

    /// There is no answer from now on, however new the last snapshot is: such as when it proved wrong.
    pub fn unavailable(&self, because: &str) {
        self.fail(because, |_| true);
    }

    /// When the snapshot was complete that answers now, or that answered last.
    #[must_use]
    pub fn taken_at(&self) -> Option<Timestamp> {
        match &**self.state.load() {
            State::Answering { at, .. } => Some(*at),
            State::Unavailable { since, .. } => *since,
        }
    }

    /// A snapshot that comes in between is newer than what failed, and stays.
    fn fail(&self, because: &str, too_old: impl Fn(Timestamp) -> bool) -> bool {
        let state = self.state.rcu(|state| match &**state {
            State::Answering { at, .. } if !too_old(*at) => Arc::clone(state),
            State::Answering { at, .. } => {
                Arc::new(State::Unavailable { because: because.to_owned(), since: Some(*at) })
            }
            State::Unavailable { since, .. } => {
                Arc::new(State::Unavailable { because: because.to_owned(), since: *since })
            }
        });
        // What was there before; the same question has the same answer.
        matches!(&*state, State::Answering { at, .. } if !too_old(*at))
    }

    fn ask<T>(
        &self,
        question: impl FnOnce(&dyn Directory) -> Result<T, Unavailable>,
    ) -> Result<T, Unavailable> {
        match &**self.state.load() {
            State::Answering { snapshot, .. } => question(&**snapshot),
            State::Unavailable { because, .. } => Err(Unavailable { because: because.clone() }),
        }
    }
}

impl Directory for ReloadableDirectory {
    fn account(&self, address: &Mailbox) -> Result<Account, Unavailable> {
        self.ask(|snapshot| snapshot.account(address))
    }

    fn is_member(&self, address: &Mailbox, group: &Mailbox) -> Result<bool, Unavailable> {
        self.ask(|snapshot| snapshot.is_member(address, group))
    }

    fn for_each_group(
        &self,
        address: &Mailbox,
        each: &mut dyn FnMut(&Mailbox),
    ) -> Result<(), Unavailable> {
        self.ask(|snapshot| snapshot.for_each_group(address, each))
    }

    fn members(&self, group: &Mailbox) -> Result<Vec<Mailbox>, Unavailable> {
        self.ask(|snapshot| snapshot.members(group))
    }

    /// None while there is no answer.
    fn each_address(&self, see: &mut dyn FnMut(&Mailbox)) {
        if let State::Answering { snapshot, .. } = &**self.state.load() {
            snapshot.each_address(see);
        }
    }
}

impl std::fmt::Debug for ReloadableDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.load();
        let mut shown = f.debug_struct("ReloadableDirectory");
        shown.field("good_for", &self.good_for);
        match &**state {
            State::Answering { at, .. } => shown.field("answers_as_of", at),
            State::Unavailable { because, .. } => shown.field("unavailable", because),
        };
        shown.finish_non_exhaustive()
    }
}
