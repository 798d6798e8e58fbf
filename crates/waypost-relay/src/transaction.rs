//! The recipients that one message has reserved places for.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use waypost_types::Mailbox;

use crate::quota::{QuotaCommit, QuotaSubject};

/// The reservations of one message, from MAIL to the end of the transaction.
///
/// [`Ledger::begin`](crate::Ledger::begin) makes it, [`Ledger::commit`](crate::Ledger::commit) and
/// [`Ledger::release`](crate::Ledger::release) end it. One that is dropped, because its session
/// broke off, is released the next time the ledger is used; nothing leaks.
#[derive(Debug)]
pub struct Transaction {
    subject: QuotaSubject,
    recipients: Vec<Mailbox>,
    abandoned: Abandoned,
}

/// What was reserved: recipients of one message, each as often as it was given.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) subject: QuotaSubject,
    pub(crate) recipients: Vec<Mailbox>,
}

impl Held {
    pub(crate) fn into_commit(self, at: waypost_types::Timestamp) -> QuotaCommit {
        QuotaCommit {
            at,
            organization: (*self.subject.organization).into(),
            user: self.subject.user,
            recipients: self.recipients,
        }
    }
}

/// Where dropped transactions leave what they hold, until their ledger collects it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Abandoned(Arc<Mutex<Vec<Held>>>);

impl Abandoned {
    fn put(&self, held: Held) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(held);
    }

    pub(crate) fn collect(&self) -> Vec<Held> {
        mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Transaction {
    pub(crate) fn new(subject: QuotaSubject, abandoned: Abandoned) -> Self {
        Self { subject, recipients: Vec::new(), abandoned }
    }

    /// Who the recipients count for.
    #[must_use]
    pub fn subject(&self) -> &QuotaSubject {
        &self.subject
    }

    /// The recipients reserved so far, each as often as it was given. None when limits are off.
    #[must_use]
    pub fn recipients(&self) -> &[Mailbox] {
        &self.recipients
    }

    pub(crate) fn push(&mut self, recipient: &Mailbox) {
        self.recipients.push(recipient.clone());
    }

    /// Takes one reservation of `recipient` out; false when there is none.
    pub(crate) fn take(&mut self, recipient: &Mailbox) -> bool {
        let found = self.recipients.iter().rposition(|held| held == recipient);
        found.map(|index| self.recipients.remove(index)).is_some()
    }

    /// What is held, so that dropping the rest releases nothing.
    pub(crate) fn take_held(&mut self) -> Option<Held> {
        let recipients = mem::take(&mut self.recipients);
        (!recipients.is_empty()).then(|| Held { subject: self.subject.clone(), recipients })
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(held) = self.take_held() {
            self.abandoned.put(held);
        }
    }
}
