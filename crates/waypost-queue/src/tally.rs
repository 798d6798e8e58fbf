//! How much is in the queue, by state.

use waypost_types::{QueueId, Timestamp};

use crate::Queue;
use crate::message::{Message, Phase};

/// Messages, and octets of their bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Messages.
    pub messages: u64,
    /// Octets.
    pub octets: u64,
}

/// What the queue holds, each message once, in the first state of these that one of its deliveries
/// has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// A worker has it.
    pub running: Share,
    /// It waits for its turn.
    pub ready: Share,
    /// It waits for its time.
    pub waiting: Share,
    /// It waits for a person.
    pub held: Share,
    /// When the oldest was accepted.
    pub oldest: Option<Timestamp>,
}

impl Queue {
    /// Counts up to `most` messages behind `after` into a tally; the place to go on from, `None` when
    /// all were counted. In steps, so that whoever counts a large queue can let others at it between
    /// them; what changes meanwhile is counted as it then is, or not.
    pub fn tally(&self, after: Option<QueueId>, most: usize, tally: &mut Tally) -> Option<QueueId> {
        let mut last = None;
        let mut left = most.max(1);
        for (id, message) in self.messages_after(after) {
            if left == 0 {
                return last;
            }
            left -= 1;
            last = Some(id);
            tally.count(message);
        }
        None
    }
}

impl Tally {
    fn count(&mut self, message: &Message) {
        let phases = || message.groups.iter().map(|(_, group)| &group.phase);
        let share = if phases().any(|phase| *phase == Phase::Running) {
            &mut self.running
        } else if phases().any(|phase| *phase == Phase::Ready) {
            &mut self.ready
        } else if phases().any(|phase| matches!(phase, Phase::Waiting(_))) {
            &mut self.waiting
        } else {
            &mut self.held
        };
        share.messages += 1;
        share.octets = share.octets.saturating_add(message.size);
        let accepted_at = message.accepted_at;
        self.oldest = Some(self.oldest.map_or(accepted_at, |oldest| oldest.min(accepted_at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, deferred, entry};
    use crate::{Ended, Hold, Limits, Schedule};

    #[test]
    fn each_message_is_counted_once_in_whatever_steps_o4() {
        let mut queue = Queue::new(Limits::default());
        for id in 1..=6 {
            let mut entry = entry(id, "s@f.example", &["a@x.example", "b@y.example"]);
            entry.accepted_at = at(id);
            entry.size = id;
            if id == 6 {
                for owed in &mut entry.deliveries {
                    owed.hold = Some(Hold::Operator { by: "me".into() });
                }
            }
            queue.accept(entry, None, at(10)).unwrap();
        }
        // Message 1: both deliveries deferred. Message 2: one deferred, one running.
        let mut ended = 0;
        let mut running = Vec::new();
        while let Some(work) = queue.take(at(10)) {
            let ends = match work.entry.size {
                1 => true,
                2 => work.deliveries == [0],
                _ => false,
            };
            if ends {
                let results = work.deliveries.iter().map(|n| Ended::new(*n, deferred("later")));
                let results = results.collect();
                let _ = queue.finished(work, results, &Schedule::default(), at(10));
                ended += 1;
            } else if work.entry.size <= 3 {
                running.push(work);
            } else {
                queue.abandoned(work);
                break;
            }
        }
        assert_eq!(ended, 3);
        let mut whole = Tally::default();
        assert_eq!(queue.tally(None, 100, &mut whole), None);
        let share = |messages, octets| Share { messages, octets };
        assert_eq!(whole.waiting, share(1, 1));
        assert_eq!(whole.held, share(1, 6));
        let (run, ready) = (whole.running, whole.ready);
        assert_eq!(run.messages + ready.messages, 4);
        assert_eq!(run.octets + ready.octets, 2 + 3 + 4 + 5);
        assert!(run.messages >= 1, "{whole:?}");
        assert_eq!(whole.oldest, Some(at(1)));
        for step in 1..=7 {
            let (mut tally, mut after) = (Tally::default(), None);
            loop {
                after = queue.tally(after, step, &mut tally);
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(tally, whole, "{step} at a time");
        }
    }
}
