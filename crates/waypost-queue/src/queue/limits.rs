//! What bounds a queue.

use std::time::Duration;

use crate::Backlog;
use crate::lanes::Ready;
use crate::message::{Group, Message};

/// What bounds a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages; intake stops there ([`Queue::room`](crate::Queue::room)). A message takes about 1 KiB of memory and
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
    /// to slow down ([`Queue::is_full_for`](crate::Queue::is_full_for)); 4,000 works and 32 MiB by default.
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

impl Limits {
    /// What the lane of a ready group is told of it.
    pub(super) fn ready(
        &self,
        message: &Message,
        group: &Group,
        number: u32,
    ) -> (Ready, Option<u64>) {
        let accepted_at = message.accepted_at;
        let tell = group.tell_delay && !group.delay_told;
        let tell_at = self.delay_notice.filter(|_| tell).map(|after| accepted_at + after);
        let ready = Ready { key: (message.id, number), accepted_at, tell_at };
        (ready, group.fresh.then_some(message.size))
    }
}
