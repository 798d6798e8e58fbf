//! The recipients that one message has reserved places for on the shared ledger.

use std::sync::Arc;

use waypost_relay::QuotaSubject;
use waypost_types::{Mailbox, Timestamp};

use crate::outbox::{Job, Task};
use crate::shared::Shared;

/// The reservations of one message, from MAIL to the end of the transaction.
///
/// [`SharedLedger::begin`](crate::SharedLedger::begin) makes it,
/// [`SharedLedger::commit`](crate::SharedLedger::commit) ends it; one that is dropped gives its places
/// back as soon as Redis can be told, and at the latest when its lease runs out.
#[derive(Debug)]
pub struct SharedTransaction {
    subject: QuotaSubject,
    recipients: Vec<Mailbox>,
    id: u64,
    asked: Asked,
    shared: Arc<Shared>,
}

/// Whether Redis may know of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Never,
    /// It may hold places, and its lease is renewed.
    Asked,
}

impl SharedTransaction {
    pub(crate) fn new(subject: QuotaSubject, id: u64, shared: Arc<Shared>) -> Self {
        Self { subject, recipients: Vec::new(), id, asked: Asked::Never, shared }
    }

    /// Who the recipients count for.
    #[must_use]
    pub fn subject(&self) -> &QuotaSubject {
        &self.subject
    }

    /// The recipients taken so far, each as often as it was given. None when limits are off.
    #[must_use]
    pub fn recipients(&self) -> &[Mailbox] {
        &self.recipients
    }

    /// Takes a recipient for which Redis was not asked, because it did not answer: it is counted with
    /// the commit.
    pub fn take_unreserved(&mut self, recipient: Mailbox) {
        self.recipients.push(recipient);
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Before Redis is asked: whatever becomes of that, the message is to be released.
    pub(crate) fn asks(&mut self, now: Timestamp) {
        if self.asked == Asked::Never {
            self.asked = Asked::Asked;
            self.shared.opened(self.id, Arc::clone(&self.subject.organization), now);
        }
    }

    /// Takes one recipient out; `None` when it is not in. What Redis is to be told, if it may know.
    pub(crate) fn give_back(&mut self, recipient: &Mailbox) -> Option<Option<Job>> {
        let index = self.recipients.iter().rposition(|held| held == recipient)?;
        let recipient = self.recipients.remove(index);
        let task = Task::Release { recipients: vec![recipient] };
        Some((self.asked == Asked::Asked).then(|| self.job(task)))
    }

    /// All of it, so that dropping the rest releases nothing.
    pub(crate) fn take_commit(&mut self, at: Timestamp) -> Option<Job> {
        let recipients = std::mem::take(&mut self.recipients);
        if recipients.is_empty() {
            return None;
        }
        self.close();
        self.asked = Asked::Never;
        Some(self.job(Task::Commit { at, recipients }))
    }

    fn job(&self, task: Task) -> Job {
        Job { id: self.id, subject: self.subject.clone(), task }
    }

    fn close(&self) {
        if self.asked == Asked::Asked {
            self.shared.closed(self.id);
        }
    }
}

impl Drop for SharedTransaction {
    fn drop(&mut self) {
        if self.asked == Asked::Asked {
            self.close();
            let job = self.job(Task::Release { recipients: Vec::new() });
            self.shared.push(job);
        }
    }
}
