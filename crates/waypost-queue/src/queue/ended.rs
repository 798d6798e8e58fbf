//! The end of a work: what is written down, what goes back, and what its sender is told.

use std::sync::Arc;
use std::time::Duration;

use waypost_types::{Outcome, Timestamp};

use super::Queue;
use crate::lanes::Ready;
use crate::message::{End, Phase};
use crate::notice::Told;
use crate::results::{complete, verdict};
use crate::sites::shared_failure;
use crate::window::Verdict;
use crate::work::{Finished, Resting, Work};
use crate::{Attempt, Ended, Event, Hold, Schedule};

/// How a work is written down.
struct Concluded {
    /// Attempts that were made: one, or none.
    attempts: u32,
    /// When deferred deliveries are due again; `None`: they have failed.
    next: Option<Timestamp>,
}

impl Queue {
    /// A work ended with these outcomes, one for each of its deliveries.
    ///
    /// Deferred deliveries are due again when `schedule` says, or have failed when it says no more.
    /// A delivery without an outcome counts as deferred; outcomes of others are ignored, and of two the
    /// first counts. After [`Queue::remove`] nothing is left to say.
    pub fn finished(
        &mut self,
        work: Work,
        results: Vec<Ended>,
        schedule: &Schedule,
        now: Timestamp,
    ) -> Finished {
        let results = complete(&work.deliveries, results);
        self.lanes.ended(&work.site, verdict(&results));
        if !self.lanes.flows(&work.site) {
            self.drop_bodies(&work.site);
        }
        let next = schedule.next(work.attempt, work.entry.accepted_at, now);
        self.conclude(work, results, Concluded { attempts: 1, next }, schedule, now)
    }

    /// A work was not tried, since its site is to rest: no attempt is counted, and no other work of
    /// the site starts before the time given (a second from now at the earliest). Then it is the
    /// first to be tried.
    ///
    /// A message's lifetime goes on: when it is over, the delivery has failed, for its last failure
    /// or, if there was none, the one given; work whose time is up is handed out though the site
    /// rests. A delay is told to senders who asked for it.
    pub fn postponed(
        &mut self,
        work: Work,
        resting: Resting,
        schedule: &Schedule,
        now: Timestamp,
    ) -> Finished {
        self.lanes.ended(&work.site, Verdict::Unknown);
        let (until, because) = match resting {
            Resting::Down { until, because } => (until, Some(because)),
            Resting::Busy { until } => (until, None),
        };
        let until = until.max(now + Duration::from_secs(1));
        let down = because.is_some();
        let lifetime = schedule.lifetime();
        let Some(message) = self.messages.get(&work.entry.id) else { return Finished::default() };
        let Some(group) = message.groups.get(work.group) else { return Finished::default() };
        let (ready, _) = self.limits.ready(message, group, work.group);
        let over = now >= work.entry.accepted_at + lifetime;
        let tell = ready.tell_at.is_some_and(|at| now >= at);
        if let Some(because) = because.filter(|_| over || tell) {
            let failure = |place: &u32| {
                let fate = usize::try_from(*place).ok().and_then(|at| message.fates.get(at));
                fate.and_then(|fate| fate.failure.as_deref()).unwrap_or(&because).clone()
            };
            let deferred = |place: &u32| Ended::new(*place, Outcome::Deferred(failure(place)));
            let results = work.deliveries.iter().map(deferred).collect();
            let concluded = Concluded { attempts: 0, next: (!over).then_some(until) };
            self.lanes.rest(&work.site, None, until, lifetime, down);
            return self.conclude(work, results, concluded, schedule, now);
        }
        match self.put_back(&work) {
            Some((ready, fresh)) => {
                self.lanes.rest(&work.site, Some(ready), until, lifetime, down);
                self.lanes.refresh(&work.site, fresh);
            }
            None => self.lanes.rest(&work.site, None, until, lifetime, down),
        }
        if down {
            self.drop_bodies(&work.site);
        }
        Finished::default()
    }

    fn conclude(
        &mut self,
        work: Work,
        results: Vec<Ended>,
        concluded: Concluded,
        schedule: &Schedule,
        now: Timestamp,
    ) -> Finished {
        let Work { entry, group: number, .. } = work;
        let Concluded { attempts, next } = concluded;
        let id = entry.id;
        let Some(message) = self.messages.get_mut(&id) else { return Finished::default() };
        let Some(mut group) = message.groups.remove(number) else { return Finished::default() };

        group.attempts = group.attempts.saturating_add(attempts);
        group.fresh = false;
        let number = group.attempts;
        let mut told = Told::new(Arc::clone(&entry), now);
        let age = now.since(entry.accepted_at);
        let tell_delay =
            !group.delay_told && self.limits.delay_notice.is_some_and(|after| age >= after);
        let mut left = Vec::new();
        for Ended { delivery, outcome, handover } in &results {
            let fate = usize::try_from(*delivery).ok().and_then(|at| message.fates.get_mut(at));
            let Some(fate) = fate else { continue };
            match outcome {
                Outcome::Delivered { host, reply } => {
                    fate.end = Some(End::Delivered);
                    told.delivered(*delivery, *handover, host.as_ref(), reply);
                }
                Outcome::Failed(failure) => {
                    fate.end = Some(End::Failed);
                    fate.failure = Some(Arc::new(failure.clone()));
                    told.failed(*delivery, failure);
                }
                Outcome::Deferred(failure) => {
                    fate.failure = Some(shared_failure(&mut self.sites, &group.site, failure));
                    if next.is_none() {
                        fate.end = Some(End::Failed);
                        told.expired(*delivery, failure);
                    } else {
                        left.push(*delivery);
                        if tell_delay {
                            group.delay_told |=
                                told.delayed(*delivery, failure, schedule.lifetime());
                        }
                    }
                }
            }
        }
        let delay_told = group.delay_told;
        group.deliveries = left.into();
        if let Some(due) = next.filter(|_| !group.deliveries.is_empty()) {
            group.phase = match &message.held_by {
                Some(by) => Phase::Held(Box::new(Hold::Operator { by: by.clone() })),
                None => Phase::Waiting(due),
            };
            let waits = message.held_by.is_none();
            let number = message.groups.insert(group);
            if waits {
                self.timers.insert((due, id, number));
            }
        }
        let mut events =
            vec![Event::Attempted(Attempt { id, at: now, number, results, next, delay_told })];
        if message.groups.is_empty() {
            self.forget(id);
            events.push(Event::Done { id, at: now });
        } else {
            self.settle(id);
        }
        Finished { events, notice: told.into_notice() }
    }

    /// A work was not tried, for a reason that is ours: it is ready again, and no attempt is counted.
    pub fn abandoned(&mut self, work: Work) {
        self.lanes.ended(&work.site, Verdict::Unknown);
        if let Some((ready, fresh)) = self.put_back(&work) {
            self.lanes.push(&work.site, ready, fresh);
        }
    }

    /// Makes the group of a work ready again, or held if the message is; a new number makes old keys
    /// stale.
    fn put_back(&mut self, work: &Work) -> Option<(Ready, Option<u64>)> {
        let id = work.entry.id;
        let message = self.messages.get_mut(&id)?;
        let mut group = message.groups.remove(work.group)?;
        let held_by = message.held_by.clone();
        let hold = |by| Phase::Held(Box::new(Hold::Operator { by }));
        group.phase = held_by.map_or(Phase::Ready, hold);
        let number = message.groups.insert(group);
        let group = message.groups.get(number)?;
        let ready = group.phase == Phase::Ready;
        let back = ready.then(|| self.limits.ready(message, group, number));
        self.settle(id);
        back
    }
}
