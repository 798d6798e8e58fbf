//! What all sessions and deliverers share.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use waypost_config::policy::Policy;
use waypost_net::authentication::Authenticator;
use waypost_net::server::Clock;
use waypost_queue::{Body, Entry};
use waypost_relay::Ledger;
use waypost_smtp::server::Credentials;
use waypost_store::CommitError;
use waypost_types::{Mailbox, Reply};

use crate::health::Health;
use crate::metrics::Metrics;
use crate::quotas::{Quotas, Reserved};
use crate::record::Recorder;
use crate::spool::Spool;

/// What all sessions and deliverers share.
pub(crate) struct Core {
    pub(crate) clock: Clock,
    pub(crate) spool: Spool,
    pub(crate) quotas: Quotas,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Health,
    /// Who writes envelopes down, if that is wanted.
    pub(crate) recorder: Recorder,
    /// Who finds out what SPF, DKIM and DMARC say; `None`: nobody can.
    pub(crate) authenticator: Option<Arc<dyn Authenticator>>,
    /// The key of the draws (A9).
    pub(crate) draw_key: [u8; 16],
    policy: ArcSwap<Policy>,
    password_checks: Semaphore,
}

/// Passwords checked at once: each takes a core and its memory for tens of milliseconds.
const PASSWORD_CHECKS: usize = 2;

impl Core {
    pub(crate) fn new(policy: Arc<Policy>, spool: Spool, ledger: Ledger, clock: Clock) -> Self {
        let metrics = spool.metrics();
        Self {
            recorder: Recorder::new(metrics.record.clone()),
            metrics,
            clock,
            spool,
            quotas: Quotas::new(ledger),
            health: Health::default(),
            authenticator: None,
            draw_key: [0; 16],
            policy: ArcSwap::new(policy),
            password_checks: Semaphore::new(PASSWORD_CHECKS),
        }
    }

    /// With somebody who asks the DNS about messages.
    pub(crate) fn with_authenticator(self, authenticator: Option<Arc<dyn Authenticator>>) -> Self {
        Self { authenticator, ..self }
    }

    /// With the key of the spool's draws.
    pub(crate) fn with_draw_key(self, draw_key: [u8; 16]) -> Self {
        Self { draw_key, ..self }
    }

    /// The policy in force.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Puts another policy in force, whole and at once.
    pub(crate) fn replace_policy(&self, policy: Arc<Policy>) -> Arc<Policy> {
        self.policy.swap(policy)
    }

    /// Stores a message and what it counts for, in one record; the ledger follows when it is safe.
    pub(crate) async fn store(
        &self,
        entry: Entry,
        body: Body,
        quota: Option<Reserved>,
    ) -> Result<(), CommitError> {
        let at = self.clock.now();
        let counted = quota.as_ref().and_then(|quota| quota.counted(at));
        self.spool.accept(entry, body, counted.into_iter().collect()).await?;
        if let Some(quota) = quota {
            self.quotas.commit(at, quota).await;
        }
        Ok(())
    }

    /// Counts a message that another server takes in: on disk before this returns, and then in the
    /// ledger.
    pub(crate) async fn count(&self, quota: Reserved) -> Result<(), CommitError> {
        let at = self.clock.now();
        let Some(counted) = quota.counted(at) else { return Ok(()) };
        self.spool.record_quota(counted).await?;
        self.quotas.commit(at, quota).await;
        Ok(())
    }

    /// Checks a user and password (D6). A few at a time, off the async workers, in the same time
    /// whether the user exists or not.
    pub(crate) async fn authenticate(&self, credentials: Credentials) -> Result<Mailbox, Reply> {
        let wrong = || Reply::new(535, (5, 7, 8), "Authentication credentials invalid");
        let later = || Reply::new(454, (4, 7, 0), "The password cannot be checked now; try again");
        let policy = self.policy();
        let user = match credentials.user.parse::<Mailbox>() {
            Ok(name) => policy.active_user(&name).map_err(|_| later())?,
            Err(_) => None,
        };
        let _turn = self.password_checks.acquire().await.map_err(|_| later())?;
        let checked = {
            let user = user.clone();
            tokio::task::spawn_blocking(move || {
                policy.check_password(user.as_ref(), credentials.password.as_bytes())
            })
            .await
        };
        match (checked, user) {
            (Ok(true), Some(user)) => Ok(user),
            (Ok(_), _) => Err(wrong()),
            (Err(_), _) => Err(later()),
        }
    }
}
