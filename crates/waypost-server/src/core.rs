//! What all sessions and deliverers share.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Semaphore;
use waypost_config::policy::Policy;
use waypost_config::settings::SharingSettings;
use waypost_net::authentication::Authenticator;
use waypost_net::server::{Clock, LoginRefusal};
use waypost_queue::{AdministratorsTold, Body, Entry, Event, Record, SpamRelayed};
use waypost_redis::SettingsError;
use waypost_relay::Ledger;
use waypost_smtp::server::Credentials;
use waypost_store::CommitError;
use waypost_types::{Mailbox, QueueId};

use crate::administrators::Told;
use crate::filter::Filter;
use crate::health::Health;
use crate::held::Held;
use crate::in_force::{Current, InForce, Replaced};
use crate::metrics::Metrics;
use crate::quotas::{Quotas, Reserved, Sharing};
use crate::record::Recorder;
use crate::senders_told::SendersTold;
use crate::spool::Spool;

/// What all sessions and deliverers share.
pub(crate) struct Core {
    pub(crate) clock: Clock,
    pub(crate) spool: Spool,
    pub(crate) quotas: Quotas,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Health,
    /// What administrators were told.
    pub(crate) told: Told,
    /// What senders were told of refused recipients of mail that another server takes in.
    pub(crate) senders_told: SendersTold,
    /// What waits for room in a limit.
    pub(crate) held: Arc<Held>,
    /// Who writes envelopes down, if that is wanted.
    pub(crate) recorder: Recorder,
    /// Who is asked about messages before they are accepted.
    pub(crate) filter: Filter,
    /// Who finds out what SPF, DKIM and DMARC say; `None`: nobody can.
    pub(crate) authenticator: Option<Arc<dyn Authenticator>>,
    /// The key of the draws (A9).
    pub(crate) draw_key: [u8; 16],
    policy: Current,
    password_checks: Semaphore,
}

/// Passwords checked at once: each takes a core and its memory for tens of milliseconds.
const PASSWORD_CHECKS: usize = 2;

impl Core {
    pub(crate) fn new(policy: Arc<Policy>, spool: Spool, ledger: Ledger, clock: Clock) -> Self {
        let metrics = spool.metrics();
        let filter = Filter::default();
        filter.configure(policy.server.filter.as_ref());
        let held = Arc::<Held>::default();
        Self {
            filter,
            recorder: Recorder::new(metrics.record.clone()),
            metrics,
            clock,
            spool,
            quotas: Quotas::new(ledger, Arc::clone(&held)),
            health: Health::default(),
            told: Told::default(),
            senders_told: SendersTold::default(),
            held,
            authenticator: None,
            draw_key: [0; 16],
            policy: Current::new(policy),
            password_checks: Semaphore::new(PASSWORD_CHECKS),
        }
    }

    /// With somebody who asks the DNS about messages.
    pub(crate) fn with_authenticator(self, authenticator: Option<Arc<dyn Authenticator>>) -> Self {
        Self { authenticator, ..self }
    }

    /// With quotas that other nodes share; waits a moment for Redis. `key` is the spool's own, and the
    /// paths of files begin at `base`.
    ///
    /// # Errors
    /// Settings that cannot be used. A Redis that is not there is none: it may come.
    pub(crate) async fn sharing_quotas(
        self,
        settings: &SharingSettings,
        base: &Path,
        key: [u8; 16],
    ) -> Result<Self, SettingsError> {
        let history = self.spool.quota_history();
        let sharing = Sharing::start(settings, base, key, history, &self.metrics.sharing)?;
        sharing.ready(settings.timeout).await;
        Ok(Self { quotas: self.quotas.sharing(sharing), ..self })
    }

    /// With the key of the spool's draws.
    pub(crate) fn with_draw_key(self, draw_key: [u8; 16]) -> Self {
        Self { draw_key, ..self }
    }

    /// With what a spool kept of before: what administrators were told, the spam that users relayed, what
    /// waits for room.
    pub(crate) fn recover(
        &self,
        told: Vec<AdministratorsTold>,
        spam: &[SpamRelayed],
        over_limit: &[QueueId],
    ) {
        self.filter.recover(spam, &told);
        self.told.recover(told);
        for id in over_limit {
            if let Some(status) = self.spool.change(|queue| queue.show(*id)) {
                self.held.note(&status);
            }
        }
    }

    /// Counts a spam message that a user relayed, also for after a restart; how many they are in 24 hours,
    /// if the administrators are to be told now. A count that cannot be written is in memory.
    pub(crate) async fn count_spam(
        &self,
        organization: &str,
        user: &Mailbox,
        threshold: u64,
    ) -> Option<u64> {
        let at = self.clock.now();
        let told = self.filter.count_spam(at, organization, user, threshold);
        let spam = SpamRelayed { at, organization: organization.into(), user: user.clone() };
        let record = Record::from(vec![Event::SpamRelayed(spam)]);
        if let Err(error) = self.spool.commit_lazily(record).await {
            tracing::error!(%error, "that a user relayed spam is not written down");
        }
        told
    }

    /// The policy in force.
    pub(crate) fn policy(&self) -> Arc<InForce> {
        self.policy.load()
    }

    /// Puts another policy in force, whole and at once.
    pub(crate) fn replace_policy(&self, policy: Arc<Policy>) -> Replaced {
        let replaced = self.policy.replace(policy);
        self.held.all_may_have_room();
        replaced
    }

    /// Stores a message and what it counts for, in one record; the ledger follows when it is safe, and
    /// administrators hear of limits.
    pub(crate) async fn store(
        self: &Arc<Self>,
        entry: Entry,
        body: Body,
        quota: Option<Reserved>,
    ) -> Result<(), CommitError> {
        let at = self.clock.now();
        let counted = quota.as_ref().and_then(|quota| quota.counted(at));
        let (id, over) = (entry.id, Held::of_entry(&entry));
        self.spool.accept(entry, body, counted.into_iter().collect()).await?;
        if let Some((organization, recipients)) = over {
            self.held.set(&organization, id, recipients);
        }
        if let Some(mut quota) = quota {
            let news = quota.take_news();
            self.quotas.commit(at, quota).await;
            news.tell(self, Some(id));
        }
        Ok(())
    }

    /// Counts a message that another server takes in: on disk before this returns, and then in the
    /// ledger; administrators hear of limits.
    pub(crate) async fn count(self: &Arc<Self>, mut quota: Reserved) -> Result<(), CommitError> {
        let at = self.clock.now();
        let Some(counted) = quota.counted(at) else { return Ok(()) };
        self.spool.record_quota(counted).await?;
        let news = quota.take_news();
        self.quotas.commit(at, quota).await;
        news.tell(self, None);
        Ok(())
    }

    /// Checks a user and password (D6). A few at a time, off the async workers, in the same time
    /// whether the user exists or not.
    pub(crate) async fn authenticate(
        &self,
        credentials: Credentials,
    ) -> Result<Mailbox, LoginRefusal> {
        let policy = self.policy();
        let user = match credentials.user.parse::<Mailbox>() {
            Ok(name) => policy.active_user(&name).map_err(|_| LoginRefusal::Unchecked)?,
            Err(_) => None,
        };
        let turn = self.password_checks.acquire().await;
        let _turn = turn.map_err(|_| LoginRefusal::Unchecked)?;
        let checked = {
            let user = user.clone();
            tokio::task::spawn_blocking(move || {
                policy.check_password(user.as_ref(), credentials.password.as_bytes())
            })
            .await
        };
        match (checked, user) {
            (Ok(true), Some(user)) => Ok(user),
            (Ok(_), _) => Err(LoginRefusal::WrongCredentials),
            (Err(_), _) => Err(LoginRefusal::Unchecked),
        }
    }
}
