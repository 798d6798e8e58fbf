//! The queue: a value that the caller owns and feeds with the time.

mod pages;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use waypost_types::{Failure, FailureScope, Outcome, QueueId, Reply, Timestamp};

use crate::lanes::{Health, Lanes};
use crate::message::{End, Group, Message, Phase, Progress};
use crate::notice::Told;
use crate::work::{Finished, Work};
use crate::{Attempt, Body, Ended, Entry, Event, Hold, Schedule, Status};

/// What bounds a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages; intake stops there ([`Queue::room`]). A message takes about 1 KiB of memory and 0.5 KiB
    /// for each delivery.
    pub messages: usize,
    /// Octets of all bodies, which is what the spool holds; intake stops there.
    pub octets: u64,
    /// Octets of bodies that are kept in memory for their first attempt.
    pub octets_in_memory: u64,
    /// Works that may run for one site at a time, at least 1.
    pub per_site: usize,
    /// Deliveries in one work, at least 1; 100 is what every server must take (RFC 5321 section
    /// 4.5.3.1.8).
    pub deliveries_per_work: usize,
    /// The age from which a deferred delivery is told to a sender who asked for it (`NOTIFY=DELAY`);
    /// `None`: never.
    pub delay_notice: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            messages: 1_000_000,
            octets: 64 << 30,
            octets_in_memory: 64 << 20,
            per_site: 20,
            deliveries_per_work: 100,
            delay_notice: Some(Duration::from_secs(4 * 3600)),
        }
    }
}

/// Why the queue cannot do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// There is no such message, or no more.
    #[error("message {0} is not in the queue: it was delivered, returned or removed")]
    Unknown(QueueId),
    /// There is such a message already.
    #[error("message {0} is in the queue already; an id is given once")]
    Known(QueueId),
    /// No delivery of the message is held.
    #[error("nothing of message {0} is held")]
    NotHeld(QueueId),
    /// As many messages as [`Limits::messages`].
    #[error("the queue holds {0} messages, its limit; intake waits until some are delivered")]
    TooManyMessages(usize),
    /// As many octets as [`Limits::octets`].
    #[error("the queue holds {0} octets, its limit; intake waits until some are delivered")]
    TooManyOctets(u64),
}

/// What is owed to whom, and when.
///
/// The circle is: [`Queue::accept`] after the commit, [`Queue::take`] while a worker is free,
/// [`Queue::finished`] with its outcomes, and [`Queue::take`] again then, after a command, and at
/// [`Queue::next_due`]. Sites are served in turn, so one slow or dead site never delays the others as
/// long as there are more workers than [`Limits::per_site`]. Every delivery gets exactly one final
/// outcome.
#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    messages: BTreeMap<QueueId, Message>,
    timers: BTreeSet<(Timestamp, QueueId, u32)>,
    lanes: Lanes,
    octets: u64,
    octets_in_memory: u64,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            lanes: Lanes::new(limits.per_site),
            limits,
            messages: BTreeMap::new(),
            timers: BTreeSet::new(),
            octets: 0,
            octets_in_memory: 0,
        }
    }

    /// How many messages there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Octets of all bodies.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// Whether another message may be taken in; asked before DATA, answered with `452 4.3.1` if not.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn room(&self) -> Result<(), QueueError> {
        if self.messages.len() >= self.limits.messages {
            Err(QueueError::TooManyMessages(self.messages.len()))
        } else if self.octets >= self.limits.octets {
            Err(QueueError::TooManyOctets(self.octets))
        } else {
            Ok(())
        }
    }

    /// Takes a message that was committed; all that is not held is ready at once.
    ///
    /// The body is kept for the first attempt if it fits into [`Limits::octets_in_memory`]. Never refuses
    /// for lack of room: what was answered with 250 is ours. A message without deliveries is done:
    /// its event is the answer.
    ///
    /// # Errors
    /// [`QueueError::Known`] when the id is in use; nothing is changed then.
    pub fn accept(
        &mut self,
        entry: Entry,
        body: Option<Body>,
        now: Timestamp,
    ) -> Result<Option<Event>, QueueError> {
        let progress = entry
            .deliveries
            .iter()
            .map(|owed| Progress { hold: owed.hold.clone(), ..Progress::default() })
            .collect();
        self.insert(entry, body, progress, now)
    }

    pub(crate) fn insert(
        &mut self,
        mut entry: Entry,
        body: Option<Body>,
        progress: Vec<Progress>,
        now: Timestamp,
    ) -> Result<Option<Event>, QueueError> {
        let id = entry.id;
        if self.messages.contains_key(&id) {
            return Err(QueueError::Known(id));
        }
        entry.decision = Box::default();
        let mut message = Message::new(entry, body, progress, now, self.limits.deliveries_per_work);
        if message.groups.is_empty() {
            return Ok(Some(Event::Done { id, at: now }));
        }
        for (number, group) in &mut message.groups {
            group.site = self.lanes.shared(Arc::clone(&group.site));
            match group.phase {
                Phase::Ready => self.lanes.push(&group.site, (id, *number)),
                Phase::Waiting(due) => {
                    self.timers.insert((due, id, *number));
                }
                Phase::Held(_) | Phase::Running => {}
            }
        }
        let size = message.body.as_ref().map_or(0, octets);
        if self.octets_in_memory + size > self.limits.octets_in_memory || !message.wants_body() {
            message.body = None;
        } else {
            self.octets_in_memory += size;
        }
        self.octets = self.octets.saturating_add(message.entry.size);
        self.messages.insert(id, message);
        Ok(None)
    }

    /// The next work that may start: what is due by `now`, a turn a site. `None`: nothing may start
    /// before [`Queue::next_due`], unless a work ends, a message comes or a command is given.
    pub fn take(&mut self, now: Timestamp) -> Option<Work> {
        while let Some(&(due, id, number)) = self.timers.first() {
            if due > now {
                break;
            }
            self.timers.pop_first();
            if let Some(group) = group_of(&mut self.messages, id, number) {
                group.phase = Phase::Ready;
                self.lanes.push(&group.site, (id, number));
            }
        }
        let messages = &self.messages;
        let (id, number) = self.lanes.pop(|(id, number)| {
            let group = messages.get(&id).and_then(|message| message.groups.get(&number));
            group.is_some_and(|group| group.phase == Phase::Ready)
        })?;
        let message = self.messages.get_mut(&id)?;
        let group = message.groups.get_mut(&number)?;
        group.phase = Phase::Running;
        Some(Work {
            entry: Arc::clone(&message.entry),
            body: message.body.clone(),
            site: Arc::clone(&group.site),
            deliveries: group.deliveries.clone(),
            attempt: group.attempts.saturating_add(1),
            group: number,
        })
    }

    /// When the first waiting delivery is due; `None` when none waits.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.timers.first().map(|(due, ..)| *due)
    }

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
        let Work { entry, site, group: number, .. } = work;
        let results = complete(&work.deliveries, results);
        self.lanes.ended(&site, health(&results));
        let id = entry.id;
        let Some(message) = self.messages.get_mut(&id) else { return Finished::default() };
        let Some(mut group) = message.groups.remove(&number) else { return Finished::default() };

        group.attempts = group.attempts.saturating_add(1);
        let next = schedule.next(group.attempts, entry.accepted_at, now);
        let mut told = Told::new(Arc::clone(&entry), now);
        let age = now.since(entry.accepted_at);
        let tell_delay =
            !group.delay_told && self.limits.delay_notice.is_some_and(|after| age >= after);
        group.deliveries.clear();
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
                    fate.failure = Some(failure.clone());
                    told.failed(*delivery, failure);
                }
                Outcome::Deferred(failure) => {
                    fate.failure = Some(failure.clone());
                    if next.is_none() {
                        fate.end = Some(End::Failed);
                        told.expired(*delivery, failure);
                    } else {
                        group.deliveries.push(*delivery);
                        if tell_delay {
                            group.delay_told |=
                                told.delayed(*delivery, failure, schedule.lifetime());
                        }
                    }
                }
            }
        }
        let delay_told = group.delay_told;
        if let Some(due) = next.filter(|_| !group.deliveries.is_empty()) {
            group.phase = match &message.held_by {
                Some(by) => Phase::Held(Hold::Operator { by: by.clone() }),
                None => Phase::Waiting(due),
            };
            let waits = message.held_by.is_none();
            let number = message.insert(group);
            if waits {
                self.timers.insert((due, id, number));
            }
        }
        let number = work.attempt;
        let mut events =
            vec![Event::Attempted(Attempt { id, at: now, number, results, next, delay_told })];
        if message.groups.is_empty() {
            self.forget(id);
            events.push(Event::Done { id, at: now });
        } else {
            self.drop_idle_body(id);
        }
        Finished { events, notice: told.into_notice() }
    }

    /// A work was not tried, for a reason that is ours: it is ready again, and no attempt is counted.
    pub fn abandoned(&mut self, work: Work) {
        let id = work.entry.id;
        self.lanes.ended(&work.site, Health::Unknown);
        let Some(message) = self.messages.get_mut(&id) else { return };
        let Some(mut group) = message.groups.remove(&work.group) else { return };
        let held_by = message.held_by.clone();
        group.phase = held_by.map_or(Phase::Ready, |by| Phase::Held(Hold::Operator { by }));
        let ready = group.phase == Phase::Ready;
        let number = message.insert(group);
        if ready {
            self.lanes.push(&work.site, (id, number));
        }
    }

    /// Holds every unfinished delivery of a message; those that run are held when they come back
    /// deferred. Commit the event.
    ///
    /// # Errors
    /// [`QueueError::Unknown`].
    pub fn hold(&mut self, id: QueueId, by: &str, now: Timestamp) -> Result<Event, QueueError> {
        let message = self.messages.get_mut(&id).ok_or(QueueError::Unknown(id))?;
        message.held_by = Some(by.into());
        for (number, mut group) in std::mem::take(&mut message.groups) {
            match group.phase {
                Phase::Running | Phase::Held(_) => {
                    message.groups.insert(number, group);
                    continue;
                }
                Phase::Waiting(due) => {
                    self.timers.remove(&(due, id, number));
                }
                Phase::Ready => {}
            }
            group.phase = Phase::Held(Hold::Operator { by: by.into() });
            message.insert(group);
        }
        self.drop_idle_body(id);
        Ok(Event::Held { id, at: now, by: by.into() })
    }

    /// Lets everything that is held of a message go, whoever held it; it is ready at once. Commit the
    /// event.
    ///
    /// # Errors
    /// [`QueueError::Unknown`], [`QueueError::NotHeld`].
    pub fn release(&mut self, id: QueueId, by: &str, now: Timestamp) -> Result<Event, QueueError> {
        let message = self.messages.get_mut(&id).ok_or(QueueError::Unknown(id))?;
        let was_held = message.held_by.take().is_some();
        let readied = self.make_ready(id, |group| matches!(group.phase, Phase::Held(_)));
        if !was_held && readied == 0 {
            return Err(QueueError::NotHeld(id));
        }
        Ok(Event::Released { id, at: now, by: by.into() })
    }

    /// Makes what waits for its time ready at once; says how many groups are ready now. Nothing to
    /// commit.
    ///
    /// # Errors
    /// [`QueueError::Unknown`].
    pub fn retry(&mut self, id: QueueId) -> Result<usize, QueueError> {
        self.retry_if(id, |_| true)
    }

    /// Throws a message away; nobody is told. What runs may still be delivered. Commit the event.
    ///
    /// # Errors
    /// [`QueueError::Unknown`].
    pub fn remove(&mut self, id: QueueId, by: &str, now: Timestamp) -> Result<Event, QueueError> {
        if !self.forget(id) {
            return Err(QueueError::Unknown(id));
        }
        Ok(Event::Removed { id, at: now, by: by.into() })
    }

    /// Every message, oldest id first.
    pub fn list(&self) -> impl Iterator<Item = Status> {
        self.messages.values().map(Status::of)
    }

    /// One message.
    #[must_use]
    pub fn show(&self, id: QueueId) -> Option<Status> {
        self.messages.get(&id).map(Status::of)
    }

    /// The messages behind an id, oldest first.
    pub(crate) fn messages_after(&self, id: Option<QueueId>) -> impl Iterator<Item = &Message> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.messages.range((from, Bound::Unbounded)).map(|(_, message)| message)
    }

    fn make_ready(&mut self, id: QueueId, which: impl Fn(&Group) -> bool) -> usize {
        let Some(message) = self.messages.get_mut(&id) else { return 0 };
        let chosen: Vec<u32> =
            message.groups.iter().filter(|(_, g)| which(g)).map(|(n, _)| *n).collect();
        for number in &chosen {
            let Some(mut group) = message.groups.remove(number) else { continue };
            if let Phase::Waiting(due) = group.phase {
                self.timers.remove(&(due, id, *number));
            }
            group.phase = Phase::Ready;
            let site = Arc::clone(&group.site);
            let number = message.insert(group);
            self.lanes.push(&site, (id, number));
        }
        chosen.len()
    }

    fn drop_idle_body(&mut self, id: QueueId) {
        let message = self.messages.get_mut(&id).filter(|message| !message.wants_body());
        if let Some(body) = message.and_then(|message| message.body.take()) {
            self.octets_in_memory = self.octets_in_memory.saturating_sub(octets(&body));
        }
    }

    /// Drops a message; keys in lanes become stale.
    fn forget(&mut self, id: QueueId) -> bool {
        let Some(message) = self.messages.remove(&id) else { return false };
        for (number, group) in &message.groups {
            if let Phase::Waiting(due) = group.phase {
                self.timers.remove(&(due, id, *number));
            }
        }
        let in_memory = message.body.as_ref().map_or(0, octets);
        self.octets_in_memory = self.octets_in_memory.saturating_sub(in_memory);
        self.octets = self.octets.saturating_sub(message.entry.size);
        true
    }

    #[cfg(test)]
    pub(crate) fn in_memory(&self) -> (u64, usize) {
        (self.octets_in_memory, self.lanes.len())
    }
}

fn octets(body: &Body) -> u64 {
    u64::try_from(body.len()).unwrap_or(u64::MAX)
}

fn group_of(
    messages: &mut BTreeMap<QueueId, Message>,
    id: QueueId,
    number: u32,
) -> Option<&mut Group> {
    messages.get_mut(&id)?.groups.get_mut(&number)
}

/// One outcome for each delivery, in their order.
fn complete(deliveries: &[u32], mut results: Vec<Ended>) -> Vec<Ended> {
    let in_order = results.iter().map(|ended| &ended.delivery).eq(deliveries);
    if in_order {
        return results;
    }
    results.reverse();
    let mut by_place: BTreeMap<u32, Ended> =
        results.into_iter().map(|ended| (ended.delivery, ended)).collect();
    let unsaid = || {
        Outcome::Deferred(Failure {
            scope: FailureScope::Message,
            host: None,
            reply: Reply::new(451, (4, 3, 0), "Local error: the attempt ended without an outcome"),
        })
    };
    let ended =
        |place: &u32| by_place.remove(place).unwrap_or_else(|| Ended::new(*place, unsaid()));
    deliveries.iter().map(ended).collect()
}

fn health(results: &[Ended]) -> Health {
    let down = |ended: &Ended| match &ended.outcome {
        Outcome::Delivered { .. } => false,
        Outcome::Deferred(failure) | Outcome::Failed(failure) => {
            failure.scope != FailureScope::Message
        }
    };
    if results.iter().all(down) { Health::Down } else { Health::Answered }
}
