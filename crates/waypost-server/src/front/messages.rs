//! The messages that Postfix is receiving, told apart by `instance`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use waypost_config::policy::Transaction;
use waypost_types::{Mailbox, Reply, Timestamp};

use crate::in_force::InForce;
use crate::quotas::Reserved;

/// How long nothing may be heard of a message while its connection is open. A client has five minutes
/// for each command; the slowest message that is worth waiting for takes less than an hour.
const QUIET: Duration = Duration::from_secs(3600);
/// The same once the connection is closed: Postfix closes none in the middle of a message, unless a limit
/// of requests that an administrator set is reached.
const CLOSED: Duration = Duration::from_secs(60);
/// Messages at a time.
const MOST: usize = 20_000;

/// A message between its first request and its last.
pub(super) struct Open {
    /// The policy that was in force at its first request (A12).
    pub(super) policy: Arc<InForce>,
    /// What MAIL settled, or the refusal of every recipient.
    pub(super) admitted: Result<Transaction, Reply>,
    /// The recipients that stand.
    pub(super) recipients: Vec<Mailbox>,
    /// Reservations; dropped, they are given back.
    pub(super) quota: Option<Reserved>,
}

/// What is known of a message.
pub(super) enum Message {
    /// It is being received.
    Open(Box<Open>),
    /// It was counted; whoever asks a second time at its end changes nothing.
    Counted,
}

struct Slot {
    message: Message,
    until: Timestamp,
}

/// All messages under way.
#[derive(Default)]
pub(super) struct Messages {
    slots: HashMap<Box<str>, Slot>,
}

impl Messages {
    /// Takes a message out, to be put back.
    pub(super) fn take(&mut self, instance: &str) -> Option<Message> {
        self.slots.remove(instance).map(|slot| slot.message)
    }

    /// Whether another message may begin.
    pub(super) fn has_room(&self) -> bool {
        self.slots.len() < MOST
    }

    /// Puts a message in, or back.
    pub(super) fn put(&mut self, instance: Box<str>, message: Message, now: Timestamp) {
        self.slots.insert(instance, Slot { message, until: now + QUIET });
    }

    /// Another message came over the connection of this one: it is over.
    pub(super) fn end(&mut self, instance: &str) -> Option<Message> {
        self.take(instance)
    }

    /// The connection of a message is closed.
    pub(super) fn closed(&mut self, instance: &str, now: Timestamp) {
        if let Some(slot) = self.slots.get_mut(instance) {
            slot.until = slot.until.min(now + CLOSED);
        }
    }

    /// Ends those of which nothing was heard for too long; what they had reserved is given back.
    pub(super) fn sweep(&mut self, now: Timestamp) -> usize {
        let before = self.slots.len();
        self.slots.retain(|_, slot| slot.until > now);
        before - self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1000)
    }

    #[test]
    fn messages_end_when_nothing_is_heard_of_them_d13() {
        let mut messages = Messages::default();
        messages.put("a".into(), Message::Counted, at(0));
        messages.put("b".into(), Message::Counted, at(0));
        messages.closed("b", at(10));
        messages.closed("unknown", at(10));
        assert_eq!(messages.sweep(at(69)), 0);
        assert_eq!(messages.sweep(at(70)), 1, "b, whose connection was closed");
        assert!(messages.take("b").is_none());
        assert_eq!(messages.sweep(at(3599)), 0);
        assert_eq!(messages.sweep(at(3600)), 1, "a");
        assert!(messages.end("a").is_none());
        for n in 0..MOST {
            assert!(messages.has_room());
            messages.put(n.to_string().into(), Message::Counted, at(0));
        }
        assert!(!messages.has_room());
    }
}
