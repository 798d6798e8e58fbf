//! What tests look at.

use std::collections::BTreeSet;

use super::{Queue, octets};
use crate::message::Phase;
use crate::packed::Kept;
use crate::{Backlog, Site};

impl Queue {
    pub(crate) fn in_memory(&self) -> (u64, usize) {
        (self.octets_in_memory, self.lanes.len())
    }

    pub(crate) fn window(&self, site: &Site) -> usize {
        self.lanes.window(site)
    }

    /// What is kept in two places says the same.
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
