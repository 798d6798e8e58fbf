//! What may run now: one lane a site, served in turn.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use waypost_types::{Delivery, Destination, Host, QueueId, Timestamp};

use crate::backlog::{Backlog, Gauge};
use crate::window::{Verdict, Window};

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

/// A group in its lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) key: Key,
    pub(crate) accepted_at: Timestamp,
    /// When its sender is to be told of the delay.
    pub(crate) tell_at: Option<Timestamp>,
}

/// What the lanes may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Works running, of all sites.
    pub(crate) works: usize,
    /// Works running for one site.
    pub(crate) per_site: usize,
    pub(crate) backlog: Backlog,
    pub(crate) backlog_per_site: Backlog,
}

/// One site may take at most this part of the works that are still free, so that many slow sites
/// together never take them all at once.
const SHARE: usize = 8;

/// Ready groups by site, and the sites that may start one, in the order of their turns.
///
/// Each site has a [`Window`] of works that may run, and at most an eighth of what is free of all. A
/// lane rests while all hosts of its site do; meanwhile only what may wait no longer is handed out.
/// Keys may be stale; the caller looks. Costs: a hash of the site, and O(log n) in resting lanes.
#[derive(Debug)]
pub(crate) struct Lanes {
    bounds: Bounds,
    lanes: HashMap<Arc<Site>, Lane>,
    turns: VecDeque<Arc<Site>>,
    /// When to look at resting lanes.
    alarms: BTreeMap<(Timestamp, u64), Arc<Site>>,
    last_alarm: u64,
    running: usize,
    /// The backlog of lanes that flow.
    level: Backlog,
    gauge: Gauge,
    full_lanes: usize,
    eased: bool,
}

#[derive(Debug)]
struct Lane {
    ready: VecDeque<Ready>,
    /// Those that may wait no longer: handed out though the lane rests.
    urgent: VecDeque<Key>,
    running: usize,
    in_turns: bool,
    window: Window,
    rest: Option<Rest>,
    /// How long a message may wait, as of the last rest.
    lifetime: Duration,
    backlog: Backlog,
    gauge: Gauge,
    /// Somebody waited in vain for room in it: it counts no more until half of it is done.
    stalled: bool,
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Timestamp,
    alarm: (Timestamp, u64),
}

impl Lane {
    fn new(limit: usize) -> Self {
        Self {
            ready: VecDeque::new(),
            urgent: VecDeque::new(),
            running: 0,
            in_turns: false,
            window: Window::new(limit),
            rest: None,
            lifetime: Duration::MAX,
            backlog: Backlog::default(),
            gauge: Gauge::default(),
            stalled: false,
        }
    }

    /// Whether it gets its mail away: then what waits in it is a reason to slow intake down.
    fn flows(&self) -> bool {
        !self.window.is_down() && !self.stalled
    }

    fn level(&self) -> Backlog {
        if self.flows() { self.backlog } else { Backlog::default() }
    }

    /// When something in it must be looked at though it rests.
    fn alarm(&self, ready: &Ready) -> Timestamp {
        let end = ready.accepted_at + self.lifetime;
        ready.tell_at.map_or(end, |at| at.min(end))
    }

    fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.urgent.is_empty() && self.running == 0
    }
}

impl Lanes {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let at_least_one = |backlog: Backlog| Backlog {
            works: backlog.works.max(1),
            octets: backlog.octets.max(1),
        };
        let bounds = Bounds {
            works: bounds.works.max(1),
            per_site: bounds.per_site.max(1),
            backlog: at_least_one(bounds.backlog),
            backlog_per_site: at_least_one(bounds.backlog_per_site),
        };
        Self {
            bounds,
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            alarms: BTreeMap::new(),
            last_alarm: 0,
            running: 0,
            level: Backlog::default(),
            gauge: Gauge::default(),
            full_lanes: 0,
            eased: false,
        }
    }

    /// A group is ready; `fresh` are the octets of one that waits for its first attempt.
    pub(crate) fn push(&mut self, site: &Arc<Site>, ready: Ready, fresh: Option<u64>) {
        let limit = self.bounds.per_site;
        self.lanes.entry(Arc::clone(site)).or_insert_with(|| Lane::new(limit));
        self.change(site, |lane| {
            lane.ready.push_back(ready);
            if let Some(octets) = fresh {
                lane.backlog += Backlog { works: 1, octets };
            }
        });
        self.look_earlier(site, &ready);
    }

    /// A group that came back still waits for its first attempt.
    pub(crate) fn refresh(&mut self, site: &Arc<Site>, fresh: Option<u64>) {
        let Some(octets) = fresh else { return };
        self.change(site, |lane| lane.backlog += Backlog { works: 1, octets });
    }

    /// A ready group was taken away: held, removed.
    pub(crate) fn withdraw(&mut self, site: &Arc<Site>, fresh: Option<u64>) {
        let Some(octets) = fresh else { return };
        self.change(site, |lane| lane.backlog -= Backlog { works: 1, octets });
    }

    /// The next group whose turn it is and that is still ready; counted as running. `look` says
    /// whether it is ready, and the octets of one that waits for its first attempt.
    pub(crate) fn pop(&mut self, mut look: impl FnMut(Key) -> Option<Option<u64>>) -> Option<Key> {
        while self.running < self.bounds.works {
            let site = self.turns.pop_front()?;
            let found = self.change(&site, |lane| {
                lane.in_turns = false;
                let mut found = None;
                while found.is_none()
                    && let Some(key) = lane.urgent.pop_front()
                {
                    found = look(key).map(|fresh| (key, fresh));
                }
                let may_start = lane.rest.is_none() && lane.running < lane.window.size();
                while may_start
                    && found.is_none()
                    && let Some(ready) = lane.ready.pop_front()
                {
                    found = look(ready.key).map(|fresh| (ready.key, fresh));
                }
                let (key, fresh) = found?;
                lane.running += 1;
                if let Some(octets) = fresh {
                    lane.backlog -= Backlog { works: 1, octets };
                }
                Some(key)
            });
            if let Some(key) = found.flatten() {
                self.running += 1;
                return Some(key);
            }
        }
        None
    }

    /// A work of the site ended.
    pub(crate) fn ended(&mut self, site: &Arc<Site>, verdict: Verdict) {
        let limit = self.bounds.per_site;
        self.running = self.running.saturating_sub(1);
        if verdict == Verdict::Answered {
            self.wake(site);
        }
        self.change(site, |lane| {
            lane.running = lane.running.saturating_sub(1);
            lane.window.ended(verdict, limit);
        });
    }

    /// The work that came back goes first again, and the lane rests. While it rests because its
    /// hosts are `down`, it exerts no pressure, and one work will be its probe.
    pub(crate) fn rest(
        &mut self,
        site: &Arc<Site>,
        back: Option<Ready>,
        until: Timestamp,
        lifetime: Duration,
        down: bool,
    ) {
        self.wake(site);
        let limit = self.bounds.per_site;
        self.lanes.entry(Arc::clone(site)).or_insert_with(|| Lane::new(limit));
        let earliest = self.change(site, |lane| {
            lane.ready.extend(back);
            lane.ready.rotate_right(usize::from(back.is_some()));
            lane.lifetime = lifetime;
            if down {
                lane.window.shut();
            }
            lane.ready.iter().map(|ready| lane.alarm(ready)).min()
        });
        let earliest = earliest.flatten().unwrap_or(until);
        self.set_alarm(site, until, until.min(earliest));
    }

    /// Looks at the lanes whose rest, or whose most urgent group's patience, is over.
    pub(crate) fn look(&mut self, now: Timestamp) {
        while let Some(entry) = self.alarms.first_entry().filter(|entry| entry.key().0 <= now) {
            let site = entry.remove();
            let rest = self.change(&site, |lane| {
                let rest = lane.rest.take()?;
                let all = std::mem::take(&mut lane.ready);
                for ready in all {
                    if lane.alarm(&ready) <= now {
                        lane.urgent.push_back(ready.key);
                    } else {
                        lane.ready.push_back(ready);
                    }
                }
                let earliest = lane.ready.iter().map(|ready| lane.alarm(ready)).min();
                (rest.until > now).then(|| (rest.until, earliest.unwrap_or(rest.until)))
            });
            if let Some((until, earliest)) = rest.flatten() {
                self.set_alarm(&site, until, until.min(earliest));
            }
        }
    }

    /// When [`Lanes::look`] has something to do.
    pub(crate) fn next_look(&self) -> Option<Timestamp> {
        self.alarms.first_key_value().map(|((at, _), _)| *at)
    }

    /// Ends the rest of the lanes that are chosen.
    pub(crate) fn rouse(&mut self, mut which: impl FnMut(&Site) -> bool) {
        let resting: Vec<_> = self.alarms.values().filter(|site| which(site)).cloned().collect();
        for site in resting {
            self.wake(&site);
            self.offer(&site);
        }
    }

    /// Whether a site gets its mail away, as far as is known.
    pub(crate) fn flows(&self, site: &Site) -> bool {
        self.lanes.get(site).is_none_or(Lane::flows)
    }

    /// The ready groups of a lane.
    pub(crate) fn ready(&self, site: &Site) -> impl Iterator<Item = Key> {
        self.lanes.get(site).into_iter().flat_map(|lane| &lane.ready).map(|ready| ready.key)
    }

    /// What waits for its first attempt in lanes that flow.
    pub(crate) fn backlog(&self) -> Backlog {
        self.level
    }

    /// Whether anybody has reason to wait.
    pub(crate) fn is_full(&self) -> bool {
        self.gauge.is_full || self.full_lanes > 0
    }

    /// Whether mail for this site has.
    pub(crate) fn is_full_for(&self, site: &Site) -> bool {
        self.gauge.is_full || self.lanes.get(site).is_some_and(|lane| lane.gauge.is_full)
    }

    /// Somebody waited in vain: the site's lane counts no more, or, where it was not full itself,
    /// the longest one. Gives that site.
    pub(crate) fn stall(&mut self, site: &Site) -> Option<Arc<Site>> {
        let own = self.lanes.get_key_value(site).filter(|(_, lane)| lane.gauge.is_full);
        let longest = || {
            let full = self.gauge.is_full.then_some(&self.lanes)?;
            let flowing = full.iter().filter(|(_, lane)| lane.flows());
            flowing.max_by_key(|(_, lane)| (lane.backlog.works, lane.backlog.octets))
        };
        let (site, _) = own.or_else(longest)?;
        let site = Arc::clone(site);
        self.change(&site, |lane| lane.stalled = true);
        Some(site)
    }

    /// Whether a wait may be over since this was asked last.
    pub(crate) fn take_eased(&mut self) -> bool {
        std::mem::take(&mut self.eased)
    }

    fn set_alarm(&mut self, site: &Arc<Site>, until: Timestamp, at: Timestamp) {
        if !self.lanes.contains_key(site) {
            return; // Nothing was left of it.
        }
        self.last_alarm += 1;
        let alarm = (at, self.last_alarm);
        self.alarms.insert(alarm, Arc::clone(site));
        self.change(site, |lane| lane.rest = Some(Rest { until, alarm }));
    }

    fn look_earlier(&mut self, site: &Arc<Site>, ready: &Ready) {
        let Some(lane) = self.lanes.get(site) else { return };
        let (Some(rest), alarm) = (lane.rest, lane.alarm(ready)) else { return };
        if alarm < rest.alarm.0 {
            self.alarms.remove(&rest.alarm);
            self.set_alarm(site, rest.until, alarm);
        }
    }

    fn wake(&mut self, site: &Arc<Site>) {
        if let Some(rest) = self.lanes.get_mut(site).and_then(|lane| lane.rest.take()) {
            self.alarms.remove(&rest.alarm);
        }
    }

    /// Changes a lane, keeps the levels right, and gives it a turn if it may start a work; forgets it
    /// when nothing is left of it.
    fn change<T>(&mut self, site: &Arc<Site>, change: impl FnOnce(&mut Lane) -> T) -> Option<T> {
        let lane = self.lanes.get_mut(site)?;
        let (before, was_full) = (lane.level(), lane.gauge.is_full);
        let result = change(lane);
        let limit = self.bounds.backlog_per_site;
        lane.stalled &= !lane.backlog.is_at_most_half_of(limit);
        let level = lane.level();
        self.eased |= lane.gauge.set(level, limit);
        self.full_lanes = self.full_lanes + usize::from(lane.gauge.is_full) - usize::from(was_full);
        self.level -= before;
        self.level += level;
        self.eased |= self.gauge.set(self.level, self.bounds.backlog);
        self.offer(site);
        Some(result)
    }

    fn offer(&mut self, site: &Arc<Site>) {
        let Some(lane) = self.lanes.get_mut(site) else { return };
        if lane.is_idle() {
            if let Some(rest) = lane.rest {
                self.alarms.remove(&rest.alarm);
            }
            self.lanes.remove(site);
            return;
        }
        let free = self.bounds.works.saturating_sub(self.running);
        let window = match (lane.urgent.is_empty(), lane.ready.is_empty() || lane.rest.is_some()) {
            (false, _) => self.bounds.per_site,
            (true, false) => lane.window.size(),
            (true, true) => return,
        };
        if lane.running < window.min((free / SHARE).max(1)) && !lane.in_turns {
            lane.in_turns = true;
            self.turns.push_back(Arc::clone(site));
        }
    }

    /// All keys of a lane, stale ones too.
    #[cfg(test)]
    pub(crate) fn keys(&self, site: &Site) -> impl Iterator<Item = Key> {
        let urgent = self.lanes.get(site).into_iter().flat_map(|lane| &lane.urgent).copied();
        self.ready(site).chain(urgent)
    }

    #[cfg(test)]
    pub(crate) fn audit(&self) {
        let lanes = || self.lanes.values();
        assert_eq!(self.running, lanes().map(|lane| lane.running).sum::<usize>());
        assert_eq!(self.alarms.len(), lanes().filter(|lane| lane.rest.is_some()).count());
        assert_eq!(self.turns.len(), lanes().filter(|lane| lane.in_turns).count());
        assert_eq!(self.full_lanes, lanes().filter(|lane| lane.gauge.is_full).count());
        for (site, lane) in &self.lanes {
            assert!(!lane.is_idle(), "{site:?} is forgotten");
            if let Some(rest) = lane.rest {
                assert_eq!(self.alarms.get(&rest.alarm), Some(site));
                assert!(rest.alarm.0 <= rest.until);
            } else if !lane.ready.is_empty() && lane.running == 0 {
                assert!(lane.in_turns, "{site:?} is never served");
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lanes.len()
    }

    #[cfg(test)]
    pub(crate) fn window(&self, site: &Site) -> usize {
        self.lanes.get(site).map_or(0, |lane| lane.window.size())
    }
}
