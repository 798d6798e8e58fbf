//! One message in the queue: its groups of deliveries and how far each has come.

use std::collections::HashMap;
use std::sync::Arc;

use waypost_types::{
    Changes, Delivery, Failure, Notify, QueueId, ReversePath, Timestamp, TlsDemand,
};

use crate::lanes::Site;
use crate::packed::Kept;
use crate::{Body, Entry, Hold};

/// How far one delivery has come: what a fold over its events yields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) end: Option<End>,
    pub(crate) attempts: u32,
    /// When it is due; `None` at once.
    pub(crate) due: Option<Timestamp>,
    /// When that was written down.
    pub(crate) due_since: Timestamp,
    pub(crate) hold: Option<Hold>,
    pub(crate) failure: Option<Failure>,
    pub(crate) delay_told: bool,
}

impl Progress {
    /// What a clock wrote that was ahead of `now` is taken as written now: nobody waits for that clock's
    /// time to come.
    pub(crate) fn keep_step(&mut self, now: Timestamp) {
        if self.due_since > now {
            self.due = self.due.map(|due| now + due.since(self.due_since));
            self.due_since = now;
        }
    }
}

/// The one final outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Delivered,
    Failed,
}

#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) id: QueueId,
    pub(crate) accepted_at: Timestamp,
    /// Octets of its body.
    pub(crate) size: u64,
    pub(crate) entry: Kept,
    pub(crate) body: Option<Body>,
    /// One a delivery: its end and its last failure.
    pub(crate) fates: Box<[Fate]>,
    pub(crate) groups: Groups,
    /// An administrator holds the message: works that come back go nowhere.
    pub(crate) held_by: Option<Box<str>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    pub(crate) end: Option<End>,
    pub(crate) failure: Option<Arc<Failure>>,
}

/// Groups by number, in rising order: nearly always one or two, so a vector takes the least memory.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: Vec<(u32, Group)>,
    next: u32,
}

impl Groups {
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Group)> {
        self.groups.iter().map(|(number, group)| (*number, group))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Group)> {
        self.groups.iter_mut().map(|(number, group)| (*number, group))
    }

    /// The numbers of those that are chosen.
    pub(crate) fn numbers(&self, which: impl Fn(&Group) -> bool) -> Vec<u32> {
        self.iter().filter(|(_, group)| which(group)).map(|(number, _)| number).collect()
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Group> {
        self.groups.get(self.place(number)?).map(|(_, group)| group)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Group> {
        let place = self.place(number)?;
        self.groups.get_mut(place).map(|(_, group)| group)
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<Group> {
        let place = self.place(number)?;
        Some(self.groups.remove(place).1)
    }

    /// Puts a group in under a number never used before, so that old keys to it are stale.
    pub(crate) fn insert(&mut self, group: Group) -> u32 {
        let number = self.next;
        self.next += 1;
        // Most messages have one group: no room for more is kept.
        self.groups.reserve_exact(1);
        self.groups.push((number, group));
        number
    }

    fn place(&self, number: u32) -> Option<usize> {
        self.groups.binary_search_by_key(&number, |(number, _)| *number).ok()
    }
}

impl FromIterator<Group> for Groups {
    fn from_iter<I: IntoIterator<Item = Group>>(groups: I) -> Self {
        let groups: Vec<_> = (0..).zip(groups).collect();
        let next = groups.last().map_or(0, |(last, _)| last + 1);
        Self { groups, next }
    }
}

/// Deliveries of a message that one transaction serves, and that are due together.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) site: Arc<Site>,
    pub(crate) deliveries: Box<[u32]>,
    pub(crate) attempts: u32,
    pub(crate) delay_told: bool,
    /// It waits for its first attempt, since it was accepted.
    pub(crate) fresh: bool,
    /// The sender of one of them asked to be told of a delay.
    pub(crate) tell_delay: bool,
    pub(crate) phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Held(Box<Hold>),
    Waiting(Timestamp),
    Ready,
    Running,
}

/// Two deliveries with equal terms go in one transaction.
#[derive(PartialEq, Eq, Hash)]
struct Terms<'a> {
    site: Site,
    sender: &'a ReversePath,
    tls: TlsDemand,
    changes: &'a Changes,
    spam: bool,
    attempts: u32,
    due: Option<Timestamp>,
    hold: Option<&'a Hold>,
    delay_told: bool,
}

impl Message {
    /// Groups what is unfinished; groups that are due `now` or before are ready.
    pub(crate) fn new(
        entry: Entry,
        body: Option<Body>,
        progress: Vec<Progress>,
        now: Timestamp,
        largest: usize,
        fresh: bool,
    ) -> Self {
        let mut groups: Vec<(Group, Vec<u32>)> = Vec::new();
        let mut by_terms: HashMap<Terms<'_>, usize> = HashMap::new();
        for ((delivery, owed), progress) in (0..).zip(&entry.deliveries).zip(&progress) {
            if progress.end.is_some() {
                continue;
            }
            let wanted = &owed.delivery;
            let terms = Terms {
                site: Site::of(wanted),
                sender: &wanted.sender,
                tls: wanted.tls,
                changes: &wanted.changes,
                spam: wanted.spam,
                attempts: progress.attempts,
                due: progress.due,
                hold: progress.hold.as_ref(),
                delay_told: progress.delay_told,
            };
            let group = by_terms.get(&terms).and_then(|place| groups.get_mut(*place));
            match group.filter(|(_, places)| places.len() < largest.max(1)) {
                Some((group, places)) => {
                    group.tell_delay |= asks_for_delay(wanted);
                    places.push(delivery);
                }
                None => {
                    let phase = match (&progress.hold, progress.due) {
                        (Some(hold), _) => Phase::Held(Box::new(hold.clone())),
                        (None, Some(due)) if due > now => Phase::Waiting(due),
                        (None, _) => Phase::Ready,
                    };
                    let group = Group {
                        site: Arc::new(terms.site.clone()),
                        deliveries: Box::default(),
                        attempts: progress.attempts,
                        delay_told: progress.delay_told,
                        fresh,
                        tell_delay: asks_for_delay(wanted),
                        phase,
                    };
                    groups.push((group, vec![delivery]));
                    by_terms.insert(terms, groups.len() - 1);
                }
            }
        }
        // What ended while the message was held says nothing: it may have been released since.
        let mut unfinished = progress.iter().filter(|progress| progress.end.is_none());
        let held_by = unfinished.find_map(|progress| match &progress.hold {
            Some(Hold::Operator { by } | Hold::OverLimit { kept_by: Some(by), .. }) => {
                Some(by.clone())
            }
            _ => None,
        });
        drop(by_terms);
        let fate = |p: Progress| Fate { end: p.end, failure: p.failure.map(Arc::new) };
        let fates = progress.into_iter().map(fate).collect();
        let whole =
            |(group, places): (Group, Vec<u32>)| Group { deliveries: places.into(), ..group };
        let groups = groups.into_iter().map(whole).collect();
        Self {
            id: entry.id,
            accepted_at: entry.accepted_at,
            size: entry.size,
            entry: Kept::Whole(Arc::new(entry)),
            body,
            fates,
            groups,
            held_by,
        }
    }

    /// Frees what nobody needs until its next attempt: the body, unless a worker has it or may soon
    /// ask for it, and without it the entry as it is used. Octets of a body that is dropped.
    pub(crate) fn settle(&mut self, keep_body: bool) -> u64 {
        let dropped = if keep_body { None } else { self.body.take() };
        let runs = self.groups.iter().any(|(_, group)| group.phase == Phase::Running);
        if self.body.is_none() && !runs {
            self.entry.pack();
        }
        dropped.map_or(0, |body| u64::try_from(body.len()).unwrap_or(u64::MAX))
    }

    /// Whether a worker has, or may soon ask for, the body.
    pub(crate) fn wants_body(&self) -> bool {
        self.groups.iter().any(|(_, group)| matches!(group.phase, Phase::Ready | Phase::Running))
    }
}

fn asks_for_delay(delivery: &Delivery) -> bool {
    matches!(delivery.notify, Notify::On { delay: true, .. })
}
