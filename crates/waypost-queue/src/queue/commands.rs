//! What administrators, and limits with room, ask of a queue: hold, let go, try at once, throw away.

use std::collections::HashSet;
use std::sync::Arc;

use waypost_types::{QueueId, Timestamp};

use super::{Queue, QueueError};
use crate::message::{Group, Phase};
use crate::{Event, Hold, Site};

impl Queue {
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

    /// Makes the groups that are chosen ready; how many they are.
    pub(super) fn make_ready(&mut self, id: QueueId, which: impl Fn(&Group) -> bool) -> usize {
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
}
