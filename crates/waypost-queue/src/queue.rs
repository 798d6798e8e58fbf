//! The queue: a value that the caller owns and feeds with the time.

mod pages;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use waypost_types::{Outcome, QueueId, Timestamp};

use crate::lanes::{Bounds, Lanes, Ready};
use crate::message::{End, Group, Message, Phase, Progress};
use crate::notice::Told;
#[cfg(test)]
use crate::packed::Kept;
use crate::results::{complete, verdict};
use crate::sites::{Sites, shared, shared_failure};
use crate::window::Verdict;
use crate::work::{Finished, Resting, Work};
use crate::{Attempt, Backlog, Body, Ended, Entry, Event, Hold, Schedule, Site, Status};

/// What bounds a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages; intake stops there ([`Queue::room`]). A message takes about 1 KiB of memory and
    /// 0.3 KiB for each delivery. A million by default.
    pub messages: usize,
    /// Octets of all bodies, which is what the spool holds; intake stops there. 64 GiB by default.
    pub octets: u64,
    /// Octets of bodies that are kept in memory for their first attempt; 64 MiB by default.
    pub octets_in_memory: u64,
    /// Works that may run at a time, at least 1; 512 by default.
    pub works: usize,
    /// Works that may run for one site at a time, at least 1; 20 by default. A site begins with 5
    /// of them, gets more with each success and fewer with each failure of its own; never more than
    /// an eighth of what is free of [`Limits::works`], so that many slow sites leave room for the
    /// others.
    pub per_site: usize,
    /// What may wait for its first attempt, at all sites that get their mail away, before intake is
    /// to slow down ([`Queue::is_full_for`]); 4,000 works and 32 MiB by default.
    pub backlog: Backlog,
    /// The same for one site: mail for it slows down, and no other. 2,000 works and 16 MiB by
    /// default.
    pub backlog_per_site: Backlog,
    /// Deliveries in one work, at least 1; 100 by default, which is what every server must take
    /// (RFC 5321 section 4.5.3.1.8).
    pub deliveries_per_work: usize,
    /// The age from which a deferred delivery is told to a sender who asked for it
    /// (`NOTIFY=DELAY`); `None`: never. 4 hours by default.
    pub delay_notice: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            messages: 1_000_000,
            octets: 64 << 30,
            octets_in_memory: 64 << 20,
            works: 512,
            per_site: 20,
            backlog: Backlog { works: 4_000, octets: 32 << 20 },
            backlog_per_site: Backlog { works: 2_000, octets: 16 << 20 },
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
/// [`Queue::finished`] with its outcomes or [`Queue::postponed`], and [`Queue::take`] again then, after
/// a command, and at [`Queue::next_due`]. Sites are served in turn and none gets all the works, so one
/// slow or dead site never delays the others. Every delivery gets exactly one final outcome.
///
/// Intake is slowed by [`Queue::is_full_for`] and [`Queue::stalled`], and stopped by [`Queue::room`].
#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    messages: BTreeMap<QueueId, Box<Message>>,
    sites: Sites,
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
            lanes: Lanes::new(Bounds {
                works: limits.works,
                per_site: limits.per_site,
                backlog: limits.backlog,
                backlog_per_site: limits.backlog_per_site,
            }),
            limits,
            messages: BTreeMap::new(),
            sites: Sites::new(),
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

    /// What waits for its first attempt, at sites that get their mail away.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        self.lanes.backlog()
    }

    /// Whether [`Queue::is_full_for`] may say yes for any site. O(1).
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.lanes.is_full()
    }

    /// Whether a message for this site is to wait before it is taken in, because more waits for its
    /// first attempt than [`Limits::backlog_per_site`] or, of all sites, [`Limits::backlog`]; it is
    /// over at three quarters of that ([`Queue::take_eased`]).
    ///
    /// Only what [`Queue::accept`] took counts, and only at sites that get their mail away: neither
    /// what waits for a site whose hosts are down, nor what was found in the store at the start.
    #[must_use]
    pub fn is_full_for(&self, site: &Site) -> bool {
        self.lanes.is_full_for(site)
    }

    /// Somebody has waited for room for this site as long as he could: it does not get its mail away
    /// as fast as patience asks. It counts no more, and its bodies are dropped from memory, until half
    /// of [`Limits::backlog_per_site`] is left. Where all sites together are too full, the one with
    /// the longest backlog is taken so. Thus a slow site slows its senders once, not for ever.
    pub fn stalled(&mut self, site: &Site) {
        if let Some(site) = self.lanes.stall(site) {
            self.drop_bodies(&site);
        }
    }

    /// Whether a wait for room may be over since this was asked last.
    pub fn take_eased(&mut self) -> bool {
        self.lanes.take_eased()
    }

    /// Takes a message that was committed; all that is not held is ready at once.
    ///
    /// The body is kept for the first attempt if it fits into [`Limits::octets_in_memory`] and a site
    /// of the message gets its mail away. Never refuses
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
        self.insert(entry, body, progress, now, true)
    }

    pub(crate) fn insert(
        &mut self,
        mut entry: Entry,
        body: Option<Body>,
        progress: Vec<Progress>,
        now: Timestamp,
        fresh: bool,
    ) -> Result<Option<Event>, QueueError> {
        let id = entry.id;
        if self.messages.contains_key(&id) {
            return Err(QueueError::Known(id));
        }
        entry.decision = Box::default();
        let largest = self.limits.deliveries_per_work;
        let mut message = Message::new(entry, body, progress, now, largest, fresh);
        if message.groups.is_empty() {
            return Ok(Some(Event::Done { id, at: now }));
        }
        let mut flows = false;
        for (_, group) in message.groups.iter_mut() {
            group.site = shared(&mut self.sites, &group.site);
            flows |= group.phase == Phase::Ready && self.lanes.flows(&group.site);
        }
        let size = message.body.as_ref().map_or(0, octets);
        if flows && self.octets_in_memory + size <= self.limits.octets_in_memory {
            self.octets_in_memory += size;
        } else {
            message.body = None;
        }
        for (number, group) in message.groups.iter() {
            match group.phase {
                Phase::Ready => {
                    let (ready, fresh) = self.limits.ready(&message, group, number);
                    self.lanes.push(&group.site, ready, fresh);
                }
                Phase::Waiting(due) => {
                    self.timers.insert((due, id, number));
                }
                Phase::Held(_) | Phase::Running => {}
            }
        }
        if message.body.is_none() {
            message.settle(false);
        }
        self.octets = self.octets.saturating_add(message.size);
        self.messages.insert(id, Box::new(message));
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
            let Some(message) = self.messages.get_mut(&id) else { continue };
            if let Some(group) = message.groups.get_mut(number) {
                group.phase = Phase::Ready;
            }
            if let Some(group) = message.groups.get(number) {
                let (ready, fresh) = self.limits.ready(message, group, number);
                self.lanes.push(&group.site, ready, fresh);
            }
        }
        self.lanes.look(now);
        let messages = &self.messages;
        let (id, number) = self.lanes.pop(|(id, number)| {
            let message = messages.get(&id)?;
            let group = message.groups.get(number)?;
            (group.phase == Phase::Ready).then(|| group.fresh.then_some(message.size))
        })?;
        let message = self.messages.get_mut(&id)?;
        let entry = message.entry.unpack()?;
        let group = message.groups.get_mut(number)?;
        group.phase = Phase::Running;
        Some(Work {
            entry,
            body: message.body.clone(),
            site: Arc::clone(&group.site),
            deliveries: group.deliveries.to_vec(),
            attempt: group.attempts.saturating_add(1),
            group: number,
        })
    }

    /// When the first waiting delivery is due, or a site has rested; `None` when none waits.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|(due, ..)| *due);
        timer.into_iter().chain(self.lanes.next_look()).min()
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

    /// Holds every unfinished delivery of a message; those that run are held when they come back
    /// deferred. Commit the event.
    ///
    /// # Errors
    /// [`QueueError::Unknown`] when there is no such message.
    pub fn hold(&mut self, id: QueueId, by: &str, now: Timestamp) -> Result<Event, QueueError> {
        let message = self.messages.get_mut(&id).ok_or(QueueError::Unknown(id))?;
        message.held_by = Some(by.into());
        let size = message.size;
        let idle = |group: &Group| matches!(group.phase, Phase::Waiting(_) | Phase::Ready);
        for number in message.groups.numbers(idle) {
            let Some(mut group) = message.groups.remove(number) else { continue };
            match group.phase {
                Phase::Waiting(due) => {
                    self.timers.remove(&(due, id, number));
                }
                _ => self.lanes.withdraw(&group.site, group.fresh.then_some(size)),
            }
            group.phase = Phase::Held(Box::new(Hold::Operator { by: by.into() }));
            group.fresh = false;
            message.groups.insert(group);
        }
        for (_, group) in message.groups.iter_mut() {
            if let Phase::Held(hold) = &mut group.phase {
                hold.keep(by);
            }
        }
        self.settle(id);
        Ok(Event::Held { id, at: now, by: by.into() })
    }

    /// Lets everything that is held of a message go, whoever held it; it is ready at once. Commit the
    /// event.
    ///
    /// # Errors
    /// [`QueueError::Unknown`] when there is no such message, [`QueueError::NotHeld`] when nothing
    /// of it is held.
    pub fn release(&mut self, id: QueueId, by: &str, now: Timestamp) -> Result<Event, QueueError> {
        let message = self.messages.get_mut(&id).ok_or(QueueError::Unknown(id))?;
        let was_held = message.held_by.take().is_some();
        let readied = self.make_ready(id, |group| matches!(group.phase, Phase::Held(_)));
        if !was_held && readied == 0 {
            return Err(QueueError::NotHeld(id));
        }
        Ok(Event::Released { id, at: now, by: by.into(), deliveries: Vec::new() })
    }

    /// Lets those deliveries of a message go that were over a limit, and no other; they are ready at
    /// once. Commit the event.
    ///
    /// # Errors
    /// [`QueueError::Unknown`]; [`QueueError::NotHeld`] unless each of them waits for room and nothing
    /// else ([`Hold::ends_with_room`]), and nothing is changed then.
    pub fn release_over_limit(
        &mut self,
        id: QueueId,
        deliveries: &[u32],
        by: &str,
        now: Timestamp,
    ) -> Result<Event, QueueError> {
        let message = self.messages.get_mut(&id).ok_or(QueueError::Unknown(id))?;
        let waits =
            |group: &Group| matches!(&group.phase, Phase::Held(hold) if hold.ends_with_room());
        let chosen = |group: &Group| group.deliveries.iter().any(|one| deliveries.contains(one));
        let groups = message.groups.numbers(|group| waits(group) && chosen(group));
        let of_them = |number: &u32| message.groups.get(*number).into_iter();
        let found = groups.iter().flat_map(of_them).flat_map(|group| group.deliveries.iter());
        let found = found.filter(|one| deliveries.contains(one)).count();
        if deliveries.is_empty() || found != deliveries.len() {
            return Err(QueueError::NotHeld(id));
        }
        let mut ready = Vec::new();
        for number in groups {
            let Some(mut group) = message.groups.remove(number) else { continue };
            let (go, stay): (Vec<u32>, Vec<u32>) =
                group.deliveries.iter().partition(|one| deliveries.contains(one));
            if !stay.is_empty() {
                message.groups.insert(Group { deliveries: stay.into(), ..group.clone() });
            }
            group.deliveries = go.into();
            group.phase = Phase::Ready;
            ready.push(message.groups.insert(group));
        }
        for number in ready {
            let Some(group) = message.groups.get(number) else { continue };
            let (ready, fresh) = self.limits.ready(message, group, number);
            self.lanes.push(&group.site, ready, fresh);
        }
        Ok(Event::Released { id, at: now, by: by.into(), deliveries: deliveries.to_vec() })
    }

    /// Makes what waits for its time ready at once, and ends the rest of its sites; says how many
    /// groups are ready now. Nothing to commit.
    ///
    /// # Errors
    /// [`QueueError::Unknown`] when there is no such message.
    pub fn retry(&mut self, id: QueueId) -> Result<usize, QueueError> {
        self.retry_if(id, |_| true)
    }

    /// As [`Queue::retry`], for all that waits for the sites that are chosen, such as those of a
    /// route. O(n) in the messages.
    pub fn retry_sites(&mut self, mut which: impl FnMut(&Site) -> bool) -> usize {
        let chosen: HashSet<Arc<Site>> =
            self.sites.keys().filter(|site| which(site)).cloned().collect();
        let is_chosen = |group: &Group| {
            matches!(group.phase, Phase::Waiting(_)) && chosen.contains(&group.site)
        };
        let waiting = self
            .messages
            .iter()
            .filter(|(_, message)| message.groups.iter().any(|(_, group)| is_chosen(group)));
        let ids: Vec<QueueId> = waiting.map(|(id, _)| *id).collect();
        let readied = ids.into_iter().map(|id| self.make_ready(id, is_chosen)).sum();
        self.lanes.rouse(|site| chosen.contains(site));
        readied
    }

    /// Ends the rest of the sites that are chosen, as when one of their hosts was found well.
    pub fn rouse(&mut self, which: impl FnMut(&Site) -> bool) {
        self.lanes.rouse(which);
    }

    /// Throws a message away; nobody is told. What runs may still be delivered. Commit the event.
    ///
    /// # Errors
    /// [`QueueError::Unknown`] when there is no such message.
    pub fn remove(&mut self, id: QueueId, by: &str, now: Timestamp) -> Result<Event, QueueError> {
        if !self.forget(id) {
            return Err(QueueError::Unknown(id));
        }
        Ok(Event::Removed { id, at: now, by: by.into() })
    }

    /// Every message, oldest id first.
    pub fn list(&self) -> impl Iterator<Item = Status> {
        self.messages.values().filter_map(|message| Status::of(message))
    }

    /// One message.
    #[must_use]
    pub fn show(&self, id: QueueId) -> Option<Status> {
        self.messages.get(&id).and_then(|message| Status::of(message))
    }

    /// The messages behind an id, oldest first.
    pub(crate) fn messages_after(
        &self,
        id: Option<QueueId>,
    ) -> impl Iterator<Item = (QueueId, &Message)> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.messages.range((from, Bound::Unbounded)).map(|(id, message)| (*id, &**message))
    }

    fn make_ready(&mut self, id: QueueId, which: impl Fn(&Group) -> bool) -> usize {
        let Some(message) = self.messages.get_mut(&id) else { return 0 };
        let chosen = message.groups.numbers(which);
        for number in &chosen {
            let Some(mut group) = message.groups.remove(*number) else { continue };
            if let Phase::Waiting(due) = group.phase {
                self.timers.remove(&(due, id, *number));
            }
            group.phase = Phase::Ready;
            let number = message.groups.insert(group);
            if let Some(group) = message.groups.get(number) {
                let (ready, fresh) = self.limits.ready(message, group, number);
                self.lanes.push(&group.site, ready, fresh);
            }
        }
        chosen.len()
    }

    /// Drops the bodies of what waits for a site that does not get its mail away.
    fn drop_bodies(&mut self, site: &Site) {
        if self.octets_in_memory == 0 {
            return;
        }
        let waiting: Vec<QueueId> = self.lanes.ready(site).map(|(id, _)| id).collect();
        for id in waiting {
            let lanes = &self.lanes;
            let message = self.messages.get_mut(&id).filter(|message| {
                !message.groups.iter().any(|(_, group)| match group.phase {
                    Phase::Running => true,
                    Phase::Ready => lanes.flows(&group.site),
                    Phase::Waiting(_) | Phase::Held(_) => false,
                })
            });
            let freed = message.map_or(0, |message| message.settle(false));
            self.octets_in_memory = self.octets_in_memory.saturating_sub(freed);
        }
    }

    fn settle(&mut self, id: QueueId) {
        let Some(message) = self.messages.get_mut(&id) else { return };
        let keep_body = message.wants_body();
        self.octets_in_memory = self.octets_in_memory.saturating_sub(message.settle(keep_body));
    }

    /// Drops a message; keys in lanes become stale.
    fn forget(&mut self, id: QueueId) -> bool {
        let Some(message) = self.messages.remove(&id) else { return false };
        let size = message.size;
        for (number, group) in message.groups.iter() {
            match group.phase {
                Phase::Waiting(due) => {
                    self.timers.remove(&(due, id, number));
                }
                Phase::Ready => self.lanes.withdraw(&group.site, group.fresh.then_some(size)),
                Phase::Running | Phase::Held(_) => {}
            }
        }
        let in_memory = message.body.as_ref().map_or(0, octets);
        self.octets_in_memory = self.octets_in_memory.saturating_sub(in_memory);
        self.octets = self.octets.saturating_sub(message.size);
        true
    }

    #[cfg(test)]
    pub(crate) fn in_memory(&self) -> (u64, usize) {
        (self.octets_in_memory, self.lanes.len())
    }

    #[cfg(test)]
    pub(crate) fn window(&self, site: &Site) -> usize {
        self.lanes.window(site)
    }

    /// What is kept in two places says the same.
    #[cfg(test)]
    pub(crate) fn audit(&self) {
        let mut timers = BTreeSet::new();
        let (mut in_memory, mut size, mut fresh) = (0, 0, Backlog::default());
        for (id, message) in &self.messages {
            in_memory += message.body.as_ref().map_or(0, octets);
            size += message.size;
            assert!(message.body.is_none() || message.wants_body());
            let runs = message.groups.iter().any(|(_, group)| group.phase == Phase::Running);
            let is_whole = matches!(message.entry, Kept::Whole(_));
            assert_eq!(is_whole, runs || message.body.is_some(), "{id} is packed when it can be");
            for (number, group) in message.groups.iter() {
                match group.phase {
                    Phase::Waiting(due) => assert!(timers.insert((due, *id, number))),
                    Phase::Ready => {
                        let count =
                            self.lanes.keys(&group.site).filter(|key| *key == (*id, number));
                        assert_eq!(count.count(), 1, "{id} {number} stands in its lane once");
                        if group.fresh && self.lanes.flows(&group.site) {
                            fresh += Backlog { works: 1, octets: message.size };
                        }
                    }
                    Phase::Running | Phase::Held(_) => {}
                }
            }
        }
        assert_eq!(timers, self.timers);
        assert_eq!((in_memory, size), (self.octets_in_memory, self.octets));
        assert_eq!(fresh, self.lanes.backlog());
        self.lanes.audit();
    }
}

fn octets(body: &Body) -> u64 {
    u64::try_from(body.len()).unwrap_or(u64::MAX)
}

/// How a work is written down.
struct Concluded {
    /// Attempts that were made: one, or none.
    attempts: u32,
    /// When deferred deliveries are due again; `None`: they have failed.
    next: Option<Timestamp>,
}

impl Limits {
    /// What the lane of a ready group is told of it.
    fn ready(&self, message: &Message, group: &Group, number: u32) -> (Ready, Option<u64>) {
        let accepted_at = message.accepted_at;
        let tell = group.tell_delay && !group.delay_told;
        let tell_at = self.delay_notice.filter(|_| tell).map(|after| accepted_at + after);
        let ready = Ready { key: (message.id, number), accepted_at, tell_at };
        (ready, group.fresh.then_some(message.size))
    }
}
