//! What Redis is still to be told, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use waypost_relay::QuotaSubject;
use waypost_types::{Mailbox, Timestamp};

/// Something that Redis is told without anybody waiting for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// The message's number on this node.
    pub(crate) id: u64,
    pub(crate) subject: QuotaSubject,
    pub(crate) task: Task,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// A message is accepted.
    Commit { at: Timestamp, recipients: Vec<Mailbox> },
    /// Places are given back: one of each recipient, or all if none is named.
    Release { recipients: Vec<Mailbox> },
}

/// A bounded queue of jobs. They are sent in its order, several at a time, and leave it when Redis has
/// answered; after a failure the same ones are sent again.
#[derive(Debug)]
pub(crate) struct Outbox {
    jobs: VecDeque<Sending>,
    most: usize,
    /// The number of the last commit that was sent.
    sent: u64,
    overflowed: bool,
}

/// A job, and the number of its commit once it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    pub(crate) job: Arc<Job>,
    pub(crate) number: u64,
}

impl Outbox {
    pub(crate) fn new(most: usize) -> Self {
        Self { jobs: VecDeque::new(), most, sent: 0, overflowed: false }
    }

    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Takes a job. One too many empties the queue: releases are made up for by leases that run out,
    /// commits by the node's history.
    pub(crate) fn push(&mut self, job: Job) {
        if self.jobs.len() >= self.most {
            self.jobs.clear();
            self.overflowed = true;
        }
        // While the queue is known to miss something, the history has all of it.
        if !self.overflowed {
            self.jobs.push_back(Sending { job: Arc::new(job), number: 0 });
        }
    }

    /// The next jobs, commits with their numbers; they stay until [`Outbox::done`].
    pub(crate) fn next(&mut self, most: usize) -> Vec<Sending> {
        let sent = &mut self.sent;
        self.jobs
            .iter_mut()
            .take(most)
            .map(|sending| {
                if sending.number == 0 && matches!(sending.job.task, Task::Commit { .. }) {
                    *sent += 1;
                    sending.number = *sent;
                }
                sending.clone()
            })
            .collect()
    }

    /// The first `count` jobs are done.
    pub(crate) fn done(&mut self, count: usize) {
        self.jobs.drain(..count.min(self.jobs.len()));
    }

    /// Drops the jobs that `keep` says false of.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Job) -> bool) {
        self.jobs.retain(|sending| keep(&sending.job));
    }

    /// The number of a commit that is sent without having been here.
    pub(crate) fn number(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// Whether jobs were lost since the last [`Outbox::begin_history`].
    pub(crate) fn has_overflowed(&self) -> bool {
        self.overflowed
    }

    /// The history is sent first: what is here gets new numbers after it. Returns when the oldest
    /// commit was made that is still here.
    pub(crate) fn begin_history(&mut self) -> Option<Timestamp> {
        self.overflowed = false;
        for sending in &mut self.jobs {
            sending.number = 0;
        }
        let commits = self.jobs.iter().filter_map(|sending| match &sending.job.task {
            Task::Commit { at, .. } => Some(*at),
            Task::Release { .. } => None,
        });
        commits.min()
    }
}

#[cfg(test)]
mod tests {
    use waypost_relay::{LimitOverrides, Limits, Payment};

    use super::*;

    fn job(id: u64, commit: bool) -> Job {
        let limits = Limits::new(1, Payment::Settled, &LimitOverrides::default(), None);
        let subject = QuotaSubject::new("S".into(), None, limits);
        let (at, recipients) = (Timestamp::from_millis(id), Vec::new());
        let task = match commit {
            true => Task::Commit { at, recipients },
            false => Task::Release { recipients },
        };
        Job { id, subject, task }
    }

    fn shown(sendings: &[Sending]) -> Vec<(u64, u64)> {
        sendings.iter().map(|sending| (sending.job.id, sending.number)).collect()
    }

    #[test]
    fn jobs_keep_their_order_and_numbers_until_they_are_done_d13() {
        let mut outbox = Outbox::new(10);
        for (id, commit) in [(1, true), (2, false), (3, true), (4, true)] {
            outbox.push(job(id, commit));
        }
        let first = shown(&outbox.next(3));
        assert_eq!(first, [(1, 1), (2, 0), (3, 2)]);
        assert_eq!(shown(&outbox.next(3)), first, "sent again with the same numbers");
        outbox.done(2);
        assert_eq!(shown(&outbox.next(3)), [(3, 2), (4, 3)]);
        assert_eq!(outbox.begin_history(), Some(Timestamp::from_millis(3)));
        assert_eq!(outbox.number(), 4);
        assert_eq!(shown(&outbox.next(3)), [(3, 5), (4, 6)], "after the history");
        outbox.done(99);
        assert_eq!((outbox.len(), outbox.begin_history()), (0, None));
    }

    #[test]
    fn memory_is_bounded_and_what_is_lost_is_known_o5() {
        let mut outbox = Outbox::new(3);
        for id in 0..3 {
            outbox.push(job(id, true));
        }
        assert!(!outbox.has_overflowed());
        for id in 3..100 {
            outbox.push(job(id, true));
            assert!(outbox.has_overflowed() && outbox.len() == 0);
        }
        assert_eq!(outbox.begin_history(), None);
        outbox.push(job(100, true));
        assert_eq!((outbox.len(), outbox.has_overflowed()), (1, false));
    }
}
