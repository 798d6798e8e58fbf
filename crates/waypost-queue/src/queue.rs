//! The queue: a value that the caller owns and feeds with the time.

#[cfg(test)]
mod audited;
mod commands;
mod ended;
mod error;
mod limits;
mod pages;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use waypost_types::{QueueId, Timestamp};

pub use error::QueueError;
pub use limits::Limits;

use crate::lanes::{Bounds, Lanes};
use crate::message::{Message, Phase, Progress};
use crate::sites::{Sites, shared};
use crate::work::Work;
use crate::{Backlog, Body, Entry, Event, Site, Status};

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
}

fn octets(body: &Body) -> u64 {
    u64::try_from(body.len()).unwrap_or(u64::MAX)
}
