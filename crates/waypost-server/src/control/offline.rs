//! The same requests where no server runs: the spool is opened, under its lock, and closed again.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::Uid;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use waypost_config::policy::Policy;
use waypost_queue::SetAside;
use waypost_relay::Ledger;
use waypost_store::Committer;

use super::answer::{Answer, End};
use super::client::Answers;
use super::desk::Desk;
use super::peer;
use super::request::Request;
use crate::core::Core;
use crate::metrics::Metrics;
use crate::server::{found_draw_key, replayed};
use crate::spool::{Recovered, Spool, SpoolError};
use crate::uptime;

/// A spool that no server has open. Blocking; dropped, it writes what is left and closes the spool.
pub struct Offline {
    desk: Arc<Desk>,
    set_aside: Vec<SetAside>,
    // In this order: what the committer still has to write needs the runtime.
    _committer: Committer,
    runtime: Runtime,
}

/// Why a spool cannot be opened in place of a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// There is none.
    #[error(
        "no server runs, and there is no spool at {path}: {source}; name the configuration that \
         `waypost serve` runs with"
    )]
    NoSpool {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It belongs to somebody else: files made here would keep the server from opening it.
    #[error(
        "no server runs, and the spool {path} belongs to uid {owner}; run this command as that user"
    )]
    NotOurs {
        /// Where.
        path: PathBuf,
        /// Whose.
        owner: u32,
    },
    /// It cannot be opened; if a server has it after all, its socket is gone.
    #[error("no server answers, and {0}")]
    Spool(#[from] SpoolError),
    /// The system gives no threads.
    #[error("the system gives no threads: {0}")]
    Threads(io::Error),
}

impl Offline {
    /// Opens the spool of a policy; relative paths begin at `base`. Reads all that is owed.
    ///
    /// # Errors
    /// [`OfflineError`] when there is no spool, it is not ours or cannot be opened, or the system
    /// gives no threads.
    pub fn open(policy: Arc<Policy>, base: &Path) -> Result<Self, OfflineError> {
        let path = base.join(&*policy.server.spool);
        let found = std::fs::metadata(&path)
            .map_err(|source| OfflineError::NoSpool { path: path.clone(), source })?;
        if found.uid() != Uid::effective().as_raw() {
            return Err(OfflineError::NotOurs { path, owner: found.uid() });
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
        let runtime = runtime.map_err(OfflineError::Threads)?;
        let _inside = runtime.enter();
        let clock = uptime::clock();
        let metrics = Arc::new(Metrics::new(clock.now()));
        let (spool, committer, recovered) = Spool::open(&path, clock, metrics)?;
        let Recovered { quota, told, spam, over_limit, set_aside, .. } = recovered;
        // The key hides addresses in memory; it need not be the server's.
        let mut ledger = Ledger::new([0; 16]);
        for commit in &quota {
            ledger.replay(&replayed(commit));
        }
        let key = found_draw_key(&path).unwrap_or_default();
        let core = Core::new(policy, spool, ledger, clock).with_draw_key(key);
        core.recover(told, &spam, &over_limit);
        let core = Arc::new(core);
        let desk = Arc::new(Desk::new(core, None));
        drop(_inside);
        Ok(Self { desk, set_aside, _committer: committer, runtime })
    }

    /// Damaged values that were moved out of the way when it was opened.
    #[must_use]
    pub fn set_aside(&self) -> &[SetAside] {
        &self.set_aside
    }

    /// Answers a request, in the name of the user who runs this process.
    pub fn ask(&self, request: Request) -> Answers<'_> {
        let (out, mut answers) = mpsc::channel(64);
        let desk = Arc::clone(&self.desk);
        self.runtime.spawn(async move {
            let who = tokio::task::spawn_blocking(peer::ourselves).await;
            let end = match who {
                Ok(who) => desk.answer(request, &who, &out).await,
                Err(error) => End::Unusable { because: error.to_string() },
            };
            // Who asked may have seen enough.
            let _ = out.send(Answer::End(end)).await;
        });
        Answers::new(std::iter::from_fn(move || answers.blocking_recv().map(Ok)))
    }
}
