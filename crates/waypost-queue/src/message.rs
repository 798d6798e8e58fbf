//! One message in the queue: its groups of deliveries and how far each has come.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use waypost_types::{Changes, Failure, ReversePath, Timestamp, TlsDemand};

use crate::lanes::Site;
use crate::{Body, Entry, Hold};

/// How far one delivery has come: what a fold over its events yields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) end: Option<End>,
    pub(crate) attempts: u32,
    /// When it is due; `None` at once.
    pub(crate) due: Option<Timestamp>,
    pub(crate) hold: Option<Hold>,
    pub(crate) failure: Option<Failure>,
    pub(crate) delay_told: bool,
}

/// The one final outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Delivered,
    Failed,
}

#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) entry: Arc<Entry>,
    pub(crate) body: Option<Body>,
    /// One a delivery: its end and its last failure.
    pub(crate) fates: Vec<Fate>,
    pub(crate) groups: BTreeMap<u32, Group>,
    pub(crate) next_group: u32,
    /// An administrator holds the message: works that come back go nowhere.
    pub(crate) held_by: Option<Box<str>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    pub(crate) end: Option<End>,
    pub(crate) failure: Option<Failure>,
}

/// Deliveries of a message that one transaction serves, and that are due together.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) site: Arc<Site>,
    pub(crate) deliveries: Vec<u32>,
    pub(crate) attempts: u32,
    pub(crate) delay_told: bool,
    pub(crate) phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Held(Hold),
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
    ) -> Self {
        let mut groups: Vec<Group> = Vec::new();
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
            match group.filter(|group| group.deliveries.len() < largest.max(1)) {
                Some(group) => group.deliveries.push(delivery),
                None => {
                    let phase = match (&progress.hold, progress.due) {
                        (Some(hold), _) => Phase::Held(hold.clone()),
                        (None, Some(due)) if due > now => Phase::Waiting(due),
                        (None, _) => Phase::Ready,
                    };
                    groups.push(Group {
                        site: Arc::new(terms.site.clone()),
                        deliveries: vec![delivery],
                        attempts: progress.attempts,
                        delay_told: progress.delay_told,
                        phase,
                    });
                    by_terms.insert(terms, groups.len() - 1);
                }
            }
        }
        // What ended while the message was held says nothing: it may have been released since.
        let mut unfinished = progress.iter().filter(|progress| progress.end.is_none());
        let held_by = unfinished.find_map(|progress| match &progress.hold {
            Some(Hold::Operator { by }) => Some(by.clone()),
            _ => None,
        });
        drop(by_terms);
        let groups: BTreeMap<u32, Group> = (0..).zip(groups).collect();
        let next_group = groups.keys().next_back().map_or(0, |last| last + 1);
        let fates = progress.into_iter().map(|p| Fate { end: p.end, failure: p.failure }).collect();
        Self { entry: Arc::new(entry), body, fates, groups, next_group, held_by }
    }

    /// Puts a group in under a number never used before, so that old keys to it are stale.
    pub(crate) fn insert(&mut self, group: Group) -> u32 {
        let number = self.next_group;
        self.next_group += 1;
        self.groups.insert(number, group);
        number
    }

    /// Whether a worker has, or may soon ask for, the body.
    pub(crate) fn wants_body(&self) -> bool {
        self.groups.values().any(|group| matches!(group.phase, Phase::Ready | Phase::Running))
    }
}
