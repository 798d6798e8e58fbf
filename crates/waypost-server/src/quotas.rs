//! The quotas of relayed mail, as sessions ask for them: reserve, commit, release (D10 to D13).

use std::sync::{Mutex, MutexGuard, PoisonError};

use waypost_queue::QuotaCommit;
use waypost_relay::{
    Ledger, Limits, QuotaRefusal, QuotaSubject, QuotaUse, Reservation, Transaction,
};
use waypost_types::{Mailbox, Timestamp};

/// Who has relayed how much.
pub(crate) struct Quotas {
    local: Mutex<Ledger>,
}

/// The reservations of one message; dropped, they are given back.
pub(crate) struct Reserved {
    local: Transaction,
}

impl Quotas {
    pub(crate) fn new(ledger: Ledger) -> Self {
        Self { local: Mutex::new(ledger) }
    }

    /// Begins the transaction of one message, with nothing reserved.
    pub(crate) fn begin(&self, subject: QuotaSubject) -> Reserved {
        Reserved { local: self.local().begin(subject) }
    }

    /// Reserves a place for a recipient.
    ///
    /// # Errors
    /// The limit that it is beyond.
    pub(crate) async fn reserve(
        &self,
        now: Timestamp,
        reserved: &mut Reserved,
        recipient: &Mailbox,
    ) -> Result<Reservation, QuotaRefusal> {
        self.local().reserve(now, &mut reserved.local, recipient)
    }

    /// Gives back the place of a recipient that is refused after all.
    pub(crate) async fn release_recipient(
        &self,
        now: Timestamp,
        reserved: &mut Reserved,
        recipient: &Mailbox,
    ) {
        self.local().release_recipient(now, &mut reserved.local, recipient);
    }

    /// Counts a message that is safe on disk.
    pub(crate) async fn commit(&self, at: Timestamp, reserved: Reserved) {
        let _ = self.local().commit(at, reserved.local);
    }

    /// How far the limits of an organization are used, or those of one of its users.
    pub(crate) async fn usage(
        &self,
        now: Timestamp,
        organization: &str,
        user: Option<&Mailbox>,
        limits: &Limits,
    ) -> Vec<QuotaUse> {
        self.local().usage(now, organization, user, limits).to_vec()
    }

    /// Frees some memory of what has left the windows.
    pub(crate) fn prune_some(&self, now: Timestamp) {
        self.local().prune_some(now);
    }

    fn local(&self) -> MutexGuard<'_, Ledger> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserved {
    /// Who the recipients count for.
    pub(crate) fn subject(&self) -> &QuotaSubject {
        self.local.subject()
    }

    /// What the journal keeps of a message that is accepted at `at`; `None` when nothing was reserved.
    pub(crate) fn counted(&self, at: Timestamp) -> Option<QuotaCommit> {
        let (subject, recipients) = (self.local.subject(), self.local.recipients());
        (!recipients.is_empty()).then(|| QuotaCommit {
            at,
            organization: (*subject.organization).into(),
            user: subject.user.clone(),
            recipients: recipients.to_vec(),
        })
    }
}
