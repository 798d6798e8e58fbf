//! The recipients that one message has reserved places for.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::{SmallVec, smallvec};
use waypost_types::{Mailbox, Timestamp};

use crate::counts_table::Handle;
use crate::digest::Digest;
use crate::quota::{QuotaCommit, QuotaSubject};

/// Of the recipients of a message; most have one.
pub(crate) type Digests = SmallVec<[Digest; 1]>;

/// The reservations of one message, from MAIL to the end of the transaction.
///
/// [`Ledger::begin`](crate::Ledger::begin) makes it, [`Ledger::commit`](crate::Ledger::commit) and
/// [`Ledger::release`](crate::Ledger::release) end it. One that is dropped, because its session
/// broke off, is released the next time the ledger is used; nothing leaks.
#[derive(Debug)]
pub struct Transaction {
    subject: QuotaSubject,
    organization: Handle,
    user: Option<Digest>,
    recipients: SmallVec<[Mailbox; 1]>,
    /// Of each recipient, where there is a user.
    digests: Digests,
    abandoned: Abandoned,
}

/// What was reserved: recipients of one message, each as often as it was given.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) organization: Handle,
    pub(crate) user: Option<Digest>,
    /// The subject, where its login or client is counted.
    pub(crate) caller: Option<Box<QuotaSubject>>,
    pub(crate) recipients: SmallVec<[Mailbox; 1]>,
    pub(crate) digests: Digests,
}

/// Where dropped transactions leave what they hold, until their ledger collects it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Abandoned(Arc<Left>);

#[derive(Debug, Default)]
struct Left {
    /// There is something; spares most calls the lock.
    any: AtomicBool,
    held: Mutex<Vec<Held>>,
}

impl Abandoned {
    fn put(&self, held: Held) {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner).push(held);
        self.0.any.store(true, Ordering::Release);
    }

    pub(crate) fn collect(&self) -> Vec<Held> {
        if !self.0.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        self.0.any.store(false, Ordering::Relaxed);
        mem::take(&mut self.0.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Transaction {
    pub(crate) fn new(
        subject: QuotaSubject,
        organization: Handle,
        user: Option<Digest>,
        abandoned: Abandoned,
    ) -> Self {
        let (recipients, digests) = (SmallVec::new(), Digests::new());
        Self { subject, organization, user, recipients, digests, abandoned }
    }

    pub(crate) fn organization(&self) -> Handle {
        self.organization
    }

    pub(crate) fn user(&self) -> Option<Digest> {
        self.user
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

    pub(crate) fn push(&mut self, recipient: &Mailbox, digest: Option<Digest>) {
        self.recipients.push(recipient.clone());
        self.digests.extend(digest);
    }

    /// Takes one reservation of `recipient` out.
    pub(crate) fn take(&mut self, recipient: &Mailbox) -> Option<Held> {
        let index = self.recipients.iter().rposition(|held| held == recipient)?;
        Some(Held {
            organization: self.organization,
            user: self.user,
            caller: self.caller(),
            recipients: smallvec![self.recipients.remove(index)],
            digests: self.user.map(|_| self.digests.remove(index)).into_iter().collect(),
        })
    }

    /// The digests of the recipients, where there is a user.
    pub(crate) fn take_digests(&mut self) -> Digests {
        mem::take(&mut self.digests)
    }

    /// What is reserved, as a commit, so that dropping the rest releases nothing; `None` for nothing.
    pub(crate) fn take_commit(&mut self, at: Timestamp) -> Option<QuotaCommit> {
        (!self.recipients.is_empty()).then(|| QuotaCommit {
            at,
            organization: Arc::clone(&self.subject.organization),
            user: self.subject.user.take(),
            recipients: mem::take(&mut self.recipients),
            login: self.subject.login.clone(),
            client: self.subject.client,
        })
    }

    fn caller(&self) -> Option<Box<QuotaSubject>> {
        self.subject.has_caller().then(|| Box::new(self.subject.clone()))
    }

    /// What is held, so that dropping the rest releases nothing.
    fn take_held(&mut self) -> Option<Held> {
        let recipients = mem::take(&mut self.recipients);
        (!recipients.is_empty()).then(|| Held {
            organization: self.organization,
            user: self.user,
            caller: self.caller(),
            recipients,
            digests: mem::take(&mut self.digests),
        })
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(held) = self.take_held() {
            self.abandoned.put(held);
        }
    }
}
