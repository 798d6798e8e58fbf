//! Who has relayed how much, over all nodes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use waypost_relay::{
    LimitMode, Limits, QuotaCommit, QuotaRefusal, QuotaSubject, QuotaUse, Reservation,
};
use waypost_types::{Mailbox, Timestamp};

use crate::call::{Call, Now, Reserved};
use crate::counter::{self, Counter};
use crate::driver;
use crate::history::History;
use crate::keys::Keys;
use crate::outbox::{Job, Task};
use crate::settings::Settings;
use crate::shared::{Shared, Standing, Unavailable, Up};
use crate::transaction::SharedTransaction;

/// The quotas of all organizations and users, counted in Redis or Valkey for all nodes together.
///
/// It answers as [`waypost_relay::Ledger`] does. One call is awaited for a reservation, of one
/// recipient or of many; commits and releases are told behind the caller's back, in order, and again
/// until Redis has confirmed them. Dropped, it tells nothing more: [`SharedLedger::flush`] comes first.
#[derive(Debug)]
pub struct SharedLedger {
    shared: Arc<Shared>,
    driver: JoinHandle<()>,
}

/// Recipients of one call of the script, which keeps everybody else waiting.
const AT_ONCE: usize = 64;

impl SharedLedger {
    /// Begins to connect, in a task of its own. `history` is what this node accepted in the last day.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(settings: Settings, history: impl History) -> Self {
        let start = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
        let shared = Arc::new(Shared::new(settings, format!("{start:016x}")));
        let driver = tokio::spawn(driver::run(Arc::clone(&shared), Arc::new(history)));
        Self { shared, driver }
    }

    /// Waits until Redis can be asked, or until `within` is over; whether it can.
    pub async fn ready(&self, within: Duration) -> bool {
        let mut standing = self.standing();
        let up = standing.wait_for(|standing| matches!(standing, Standing::Up { .. }));
        matches!(tokio::time::timeout(within, up).await, Ok(Ok(_)))
    }

    /// Whether Redis can be asked, and each change of it.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.shared.standing.subscribe()
    }

    /// How many commits and releases Redis has not confirmed.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.state().outbox.len()
    }

    /// Waits until Redis has confirmed everything, or until `within` is over; whether it has.
    pub async fn flush(&self, within: Duration) -> bool {
        let mut waiting = self.shared.waiting.subscribe();
        let none = waiting.wait_for(|waiting| *waiting == 0);
        matches!(tokio::time::timeout(within, none).await, Ok(Ok(_)))
    }

    /// Begins the transaction of one message, with nothing reserved.
    #[must_use]
    pub fn begin(&self, subject: QuotaSubject) -> SharedTransaction {
        SharedTransaction::new(
            subject.only_limited(),
            self.shared.next_id(),
            Arc::clone(&self.shared),
        )
    }

    /// Reserves a place for each of some recipients, and for the message with the first one that is
    /// taken, in one round trip (for each 64). The answers are those that they would have got one
    /// by one.
    ///
    /// # Errors
    /// [`Unavailable`]; no place is taken then. It comes within the time of [`Settings::timeout`], and
    /// at once while Redis is known to be gone.
    pub async fn reserve(
        &self,
        transaction: &mut SharedTransaction,
        recipients: &[Mailbox],
    ) -> Result<Vec<Result<Reservation, QuotaRefusal>>, Unavailable> {
        let before = transaction.recipients().len();
        let mut verdicts = Vec::with_capacity(recipients.len());
        for some in recipients.chunks(AT_ONCE) {
            match self.reserve_some(transaction, some).await {
                Ok(found) => verdicts.extend(found),
                Err(error) => {
                    for taken in transaction.recipients().get(before..).unwrap_or_default().to_vec()
                    {
                        self.release_recipient(transaction, &taken);
                    }
                    return Err(error);
                }
            }
        }
        Ok(verdicts)
    }

    async fn reserve_some(
        &self,
        transaction: &mut SharedTransaction,
        recipients: &[Mailbox],
    ) -> Result<Vec<Result<Reservation, QuotaRefusal>>, Unavailable> {
        let mode = transaction.subject().limits.mode;
        if mode == LimitMode::Off {
            return Ok(recipients.iter().map(|_| Ok(Reservation::default())).collect());
        }
        let up = self.shared.up()?;
        transaction.asks(self.shared.now());
        let subject = transaction.subject();
        let keys = self.keys(&subject.organization);
        let counters = counter::of_subject(&keys, up.key, subject);
        let digests = driver::digests(up.key, recipients);
        let (id, lease) = (self.shared.id_of(transaction.id()), self.shared.settings.lease);
        let is_enforced = mode == LimitMode::Enforce;
        let call = Call::reserve(&keys, Now::OfRedis, &id, lease, is_enforced, &counters, &digests);
        let answer = self.shared.ask(&up, &call).await?;
        let reserved = Reserved::read(&answer, recipients.len(), &counters)
            .map_err(|error| self.shared.failed(up.generation, &error.to_string()))?;
        for (recipient, verdict) in recipients.iter().zip(&reserved.verdicts) {
            if verdict.is_ok() {
                transaction.take_unreserved(recipient.clone());
            }
        }
        Ok(reserved.verdicts)
    }

    /// Gives back the place of one recipient that is refused after all, while the message goes on;
    /// false when none is taken for it. Not waited for.
    pub fn release_recipient(
        &self,
        transaction: &mut SharedTransaction,
        recipient: &Mailbox,
    ) -> bool {
        match transaction.give_back(recipient) {
            Some(Some(job)) => {
                self.shared.push(job);
                true
            }
            Some(None) => true,
            None => false,
        }
    }

    /// Counts a message that is accepted, and safe in the journal. Not waited for: Redis is told at
    /// once, or when it is back. `None` when nothing was taken.
    pub fn commit(&self, at: Timestamp, mut transaction: SharedTransaction) -> Option<QuotaCommit> {
        let job = transaction.take_commit(at)?;
        let commit = job.commit();
        self.shared.push(job);
        commit
    }

    /// Counts a message that this node accepted without Redis. Not waited for.
    pub fn count(&self, commit: QuotaCommit, limits: Limits) {
        let QuotaCommit { at, organization, user, recipients, login, client } = commit;
        let subject = QuotaSubject { organization, user, limits, login, client };
        let task = Task::Commit { at, recipients: recipients.into_vec() };
        self.shared.push(Job { id: self.shared.next_id(), subject, task });
    }

    /// How far the limits of an organization are used, or those of one of its users by primary
    /// address, over all nodes.
    ///
    /// # Errors
    /// [`Unavailable`] when Redis does not answer within [`Settings::timeout`], or is known to be
    /// gone.
    pub async fn usage(
        &self,
        organization: &str,
        user: Option<&Mailbox>,
        limits: &Limits,
    ) -> Result<Vec<QuotaUse>, Unavailable> {
        let up = self.shared.up()?;
        let keys = self.keys(organization);
        let counters = match user {
            Some(user) => counter::of_user(&keys, up.key, user, limits),
            None => counter::of_organization(&keys, limits),
        };
        self.uses(&up, &keys, &counters).await
    }

    /// How far the limits of a subject's login and client are used over all nodes, where there are such
    /// limits.
    ///
    /// # Errors
    /// [`Unavailable`] when Redis does not answer within [`Settings::timeout`], or is known to be
    /// gone.
    pub async fn usage_of_caller(
        &self,
        subject: &QuotaSubject,
    ) -> Result<Vec<QuotaUse>, Unavailable> {
        let up = self.shared.up()?;
        let keys = self.keys(&subject.organization);
        let counters = counter::of_caller(&keys, up.key, subject);
        self.uses(&up, &keys, &counters).await
    }

    async fn uses(
        &self,
        up: &Up,
        keys: &Keys,
        counters: &[Counter],
    ) -> Result<Vec<QuotaUse>, Unavailable> {
        let lease = self.shared.settings.lease;
        let call = Call::reserve(keys, Now::OfRedis, "", lease, true, counters, &[]);
        let answer = self.shared.ask(up, &call).await?;
        let found = Reserved::read(&answer, 0, counters)
            .map_err(|error| self.shared.failed(up.generation, &error.to_string()))?;
        Ok(found.uses)
    }

    fn keys(&self, organization: &str) -> Keys {
        Keys::new(self.shared.settings.prefix(), organization)
    }
}

impl Drop for SharedLedger {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
