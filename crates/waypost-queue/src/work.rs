//! One transaction to be done, and what it asks for afterwards.

use std::sync::Arc;

use waypost_types::{Delivery, Failure, Timestamp};

use crate::lanes::Site;
use crate::{Body, Entry, Event, Notice};

/// One transaction to be done now: one message, one site, one sender, the same changes.
///
/// Give it back with [`crate::Queue::finished`], [`crate::Queue::postponed`] or
/// [`crate::Queue::abandoned`]: until then its deliveries are running and one place of its site is
/// taken.
#[derive(Debug)]
#[must_use = "give it back with `finished`, `postponed` or `abandoned`"]
pub struct Work {
    /// The message, without its decision text.
    pub entry: Arc<Entry>,
    /// Its bytes, if they are still in memory; else read them from the store.
    pub body: Option<Body>,
    /// Where it goes.
    pub site: Arc<Site>,
    /// The places in [`Entry::deliveries`] of what is to be delivered.
    pub deliveries: Vec<u32>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    pub(crate) group: u32,
}

impl Work {
    /// The deliveries to be made, each with its place; sender, site, TLS and changes are the same in all.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Delivery)> {
        self.deliveries.iter().filter_map(|place| {
            let owed = self.entry.deliveries.get(usize::try_from(*place).ok()?)?;
            Some((*place, &owed.delivery))
        })
    }
}

/// Why a work was not tried: its site is to be left alone for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resting {
    /// Every host of the site rests after failures of its own.
    Down {
        /// When the first of them may be tried again.
        until: Timestamp,
        /// What the sender is told if the message's time is up and it was never tried.
        because: Failure,
    },
    /// The hosts are well, and have as many connections as they may.
    Busy {
        /// When to look again.
        until: Timestamp,
    },
}

/// What is to be written down, and said, after a work.
#[derive(Debug, Default)]
#[must_use = "commit the events, and the notice in the same record"]
pub struct Finished {
    /// Commit these in one record. Lazily is enough: if a crash undoes it, the attempt is made again.
    pub events: Vec<Event>,
    /// Compose this and commit it in the same record, then accept it.
    pub notice: Option<Notice>,
}
