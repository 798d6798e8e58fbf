//! The fold from what the store kept to what the program holds.

use std::collections::{BTreeMap, HashSet};

use waypost_types::{Outcome, QueueId, Timestamp};

use crate::message::{End, Progress};
use crate::{
    AdministratorsTold, Attempt, ConfigChange, ConfigOutcome, Entry, Event, Hold, Limits, Queue,
    QuotaCommit, SenderTold, SpamRelayed,
};

/// Folds the events that [`crate::Store::recover`] shows.
///
/// Works that were running when the process ended are due at once, with the attempt counts of the
/// last one written down. Seeing all events of a message twice changes nothing; events of unknown
/// messages are ignored. Memory: what the queue will hold, the quota commits, and
/// what was told and relayed as spam in the last day.
#[derive(Debug, Default)]
pub struct Recovery {
    messages: BTreeMap<QueueId, (Entry, Vec<Progress>)>,
    gone: HashSet<QueueId>,
    quota: Vec<QuotaCommit>,
    told: Vec<AdministratorsTold>,
    spam: Vec<SpamRelayed>,
    senders_told: Vec<SenderTold>,
    in_force: Option<ConfigChange>,
}

/// What a recovery yields.
#[derive(Debug)]
pub struct Recovered {
    /// The queue as it was, with all that is due by now ready.
    pub queue: Queue,
    /// The quota commits, for the ledger.
    pub quota: Vec<QuotaCommit>,
    /// What administrators were told.
    pub told: Vec<AdministratorsTold>,
    /// The spam that users relayed, oldest first.
    pub spam: Vec<SpamRelayed>,
    /// What senders were told of refused recipients, oldest first.
    pub senders_told: Vec<SenderTold>,
    /// The messages of which something is over a limit, oldest first.
    pub over_limit: Vec<QueueId>,
    /// The last configuration that took effect (A12).
    pub in_force: Option<ConfigChange>,
    /// What is still to be written down: the end of messages that owe nothing.
    pub events: Vec<Event>,
}

impl Recovery {
    /// Nothing seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next event.
    pub fn event(&mut self, event: Event) {
        match event {
            Event::Accepted(mut entry) => {
                if self.gone.contains(&entry.id) || self.messages.contains_key(&entry.id) {
                    return;
                }
                entry.decision = Box::default();
                entry.deliveries.shrink_to_fit();
                let fresh = |owed: &crate::Owed| Progress {
                    hold: owed.hold.clone(),
                    ..Progress::default()
                };
                let progress = entry.deliveries.iter().map(fresh).collect();
                self.messages.insert(entry.id, (*entry, progress));
            }
            Event::Attempted(attempt) => self.attempted(attempt),
            Event::Held { id, by, .. } => {
                for progress in self.unfinished(id) {
                    match &mut progress.hold {
                        Some(hold) => hold.keep(&by),
                        none => *none = Some(Hold::Operator { by: by.clone() }),
                    }
                }
            }
            Event::Released { id, at, deliveries, .. } => {
                let Some((_, all)) = self.messages.get_mut(&id) else { return };
                let of_it = |place: u32| deliveries.is_empty() || deliveries.contains(&place);
                let all = (0..).zip(all).filter(|(place, _)| of_it(*place));
                for (_, progress) in all.filter(|(_, progress)| progress.end.is_none()) {
                    if progress.hold.take().is_some() {
                        (progress.due, progress.due_since) = (Some(at), at);
                    }
                }
            }
            Event::Removed { id, .. } | Event::Done { id, .. } => {
                self.messages.remove(&id);
                self.gone.insert(id);
            }
            Event::QuotaCommitted(commit) => self.quota.push(commit),
            Event::AdministratorsTold(told) => self.told.push(told),
            Event::SpamRelayed(spam) => self.spam.push(spam),
            Event::SenderTold(told) => self.senders_told.push(told),
            Event::ConfigChanged(change) if change.outcome == ConfigOutcome::InForce => {
                self.in_force = Some(change);
            }
            // Said for the audit log alone: `Held`, `Released` and `Removed` are what changes the queue.
            Event::ConfigChanged(_) | Event::QueueChanged(_) => {}
        }
    }

    /// The queue and the other folds, as of `now`. What bears a later time was written by a clock that was ahead, and
    /// is taken as written now: no message, no window of a quota waits for that clock's time to come.
    #[must_use]
    pub fn finish(mut self, limits: Limits, now: Timestamp) -> Recovered {
        self.quota.iter_mut().for_each(|commit| commit.at = commit.at.min(now));
        self.told.iter_mut().for_each(|told| told.at = told.at.min(now));
        self.spam.iter_mut().for_each(|spam| spam.at = spam.at.min(now));
        self.senders_told.iter_mut().for_each(|told| told.at = told.at.min(now));
        let mut queue = Queue::new(limits);
        let (mut events, mut over_limit) = (Vec::new(), Vec::new());
        for (mut entry, mut progress) in std::mem::take(&mut self.messages).into_values() {
            entry.accepted_at = entry.accepted_at.min(now);
            progress.iter_mut().for_each(|progress| progress.keep_step(now));
            let mut open = progress.iter().filter(|progress| progress.end.is_none());
            let is_over = |hold: &Hold| hold.counts_for().is_some();
            if open.any(|progress| progress.hold.as_ref().is_some_and(is_over)) {
                over_limit.push(entry.id);
            }
            // Ids are the map's keys, so none is known twice.
            events.extend(queue.insert(entry, None, progress, now, false).ok().flatten());
        }
        let Self { quota, told, spam, senders_told, in_force, .. } = self;
        Recovered { queue, quota, told, spam, senders_told, over_limit, in_force, events }
    }

    fn attempted(&mut self, attempt: Attempt) {
        let Attempt { id, at, number, results, next, delay_told } = attempt;
        let Some((_, all)) = self.messages.get_mut(&id) else { return };
        for ended in results {
            let progress = usize::try_from(ended.delivery).ok().and_then(|at| all.get_mut(at));
            let Some(progress) = progress.filter(|progress| progress.end.is_none()) else {
                continue;
            };
            progress.attempts = number;
            (progress.due, progress.due_since) = (next, at);
            progress.delay_told |= delay_told;
            match ended.outcome {
                Outcome::Delivered { .. } => progress.end = Some(End::Delivered),
                Outcome::Failed(failure) => {
                    progress.end = Some(End::Failed);
                    progress.failure = Some(failure);
                }
                Outcome::Deferred(failure) => {
                    progress.failure = Some(failure);
                    if next.is_none() {
                        progress.end = Some(End::Failed);
                    }
                }
            }
        }
    }

    fn unfinished(&mut self, id: QueueId) -> impl Iterator<Item = &mut Progress> {
        let all = self.messages.get_mut(&id).map(|(_, all)| all.as_mut_slice()).unwrap_or_default();
        all.iter_mut().filter(|progress| progress.end.is_none())
    }
}
