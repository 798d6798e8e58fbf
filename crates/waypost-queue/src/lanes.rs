//! What may run now: one lane a site, served in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;
use waypost_types::{Delivery, Destination, Host, QueueId};

/// Where a work goes: the unit of fairness and of concurrency.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Site {
    /// The next hop.
    pub destination: Destination,
    /// For [`Destination::Mx`] the host part of the recipients, else `None`.
    pub host: Option<Host>,
}

impl Site {
    /// The site of a delivery.
    #[must_use]
    pub fn of(delivery: &Delivery) -> Self {
        let host = match delivery.destination {
            Destination::Mx => Some(delivery.recipient.host().clone()),
            _ => None,
        };
        Self { destination: delivery.destination.clone(), host }
    }
}

/// A group of a message.
pub(crate) type Key = (QueueId, u32);

/// How a work ended, as far as its site is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// The site answered.
    Answered,
    /// Every failure was the host's.
    Down,
    /// Nothing was learned.
    Unknown,
}

/// Ready groups by site, and the sites that may start one, in the order of their turns.
///
/// A site has at most `limit` works running, and only one after it was found down, until it answers:
/// one slow or dead site never takes all workers. Keys may be stale; the caller looks.
#[derive(Debug)]
pub(crate) struct Lanes {
    limit: usize,
    lanes: HashMap<Arc<Site>, Lane>,
    turns: VecDeque<Arc<Site>>,
}

#[derive(Debug, Default)]
struct Lane {
    ready: VecDeque<Key>,
    running: usize,
    in_turns: bool,
    down: bool,
}

impl Lanes {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), lanes: HashMap::new(), turns: VecDeque::new() }
    }

    /// The one shared value for a site.
    pub(crate) fn shared(&self, site: Arc<Site>) -> Arc<Site> {
        match self.lanes.get_key_value(&site) {
            Some((shared, _)) => Arc::clone(shared),
            None => site,
        }
    }

    pub(crate) fn push(&mut self, site: &Arc<Site>, key: Key) {
        self.lanes.entry(Arc::clone(site)).or_default().ready.push_back(key);
        self.offer(site);
    }

    /// The next group whose turn it is and that `is_live`; counted as running.
    pub(crate) fn pop(&mut self, mut is_live: impl FnMut(Key) -> bool) -> Option<Key> {
        while let Some(site) = self.turns.pop_front() {
            let Some(lane) = self.lanes.get_mut(&site) else { continue };
            lane.in_turns = false;
            let key = std::iter::from_fn(|| lane.ready.pop_front()).find(|key| is_live(*key));
            if key.is_some() {
                lane.running += 1;
            }
            self.offer(&site);
            if key.is_some() {
                return key;
            }
        }
        None
    }

    /// A work of the site ended.
    pub(crate) fn ended(&mut self, site: &Arc<Site>, health: Health) {
        if let Some(lane) = self.lanes.get_mut(site) {
            lane.running = lane.running.saturating_sub(1);
            match health {
                Health::Answered => lane.down = false,
                Health::Down => lane.down = true,
                Health::Unknown => {}
            }
        }
        self.offer(site);
    }

    /// Gives the site a turn if it may start a work; forgets it when nothing is left of it.
    fn offer(&mut self, site: &Arc<Site>) {
        let Some(lane) = self.lanes.get_mut(site) else { return };
        let limit = if lane.down { 1 } else { self.limit };
        if lane.ready.is_empty() {
            if lane.running == 0 {
                self.lanes.remove(site);
            }
        } else if lane.running < limit && !lane.in_turns {
            lane.in_turns = true;
            self.turns.push_back(Arc::clone(site));
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lanes.len()
    }
}
