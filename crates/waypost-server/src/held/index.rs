//! Which messages wait for room in a limit, and when it is worth looking for some.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use waypost_net::server::Clock;
use waypost_queue::{CountsFor, Entry, Owed, Status};
use waypost_types::{QueueId, Timestamp};

use super::Over;

/// Between two looks at an organization.
const PAUSE: Duration = Duration::from_secs(1);
/// Messages of an organization that one look goes through; the next look goes on behind them.
const MOST: usize = 256;

/// The messages of which something is over a limit. An index of the queue: what the queue no longer
/// holds leaves it with the next look. A few tens of octets a message.
///
/// An organization is looked at when the limits said that there is room, when a reservation was given
/// back, when more is held, and when the limits change.
#[derive(Debug, Default)]
pub(crate) struct Held {
    organizations: Mutex<HashMap<Box<str>, Waiting>>,
    /// A look is due earlier than was known.
    sooner: Notify,
}

#[derive(Debug)]
struct Waiting {
    /// How many recipients of each are held.
    messages: BTreeMap<QueueId, u64>,
    recipients: u64,
    /// Where the next look begins.
    after: Option<QueueId>,
    /// When the next look is due; `None`: one is going on, and nothing came in between.
    due: Option<Timestamp>,
    /// The end of the pause after the last look.
    rests_until: Timestamp,
    /// The earliest room that the looks found since the oldest message.
    room_at: Option<Timestamp>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            messages: BTreeMap::new(),
            recipients: 0,
            after: None,
            due: Some(Timestamp::default()),
            rests_until: Timestamp::default(),
            room_at: None,
        }
    }
}

impl Waiting {
    fn may_have_room(&mut self) {
        let soon = self.rests_until;
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }
}

/// What a look at an organization found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Whether it came to the end: the next one begins with the oldest message again.
    pub(super) ends: bool,
    room_at: Option<Timestamp>,
}

impl Look {
    /// Something has room then, at the latest; `None`: never.
    pub(super) fn room_at(&mut self, at: Option<Timestamp>) {
        self.room_at = earlier(self.room_at, at);
    }
}

impl Held {
    /// How many recipients of an organization are held.
    pub(crate) fn recipients(&self, organization: &str) -> u64 {
        self.lock().get(organization).map_or(0, |waiting| waiting.recipients)
    }

    /// Notes how many recipients of a message are held.
    pub(crate) fn set(&self, organization: &str, id: QueueId, recipients: u64) {
        let mut all = self.lock();
        if recipients == 0 && !all.contains_key(organization) {
            return;
        }
        let waiting = all.entry(organization.into()).or_default();
        let before = match recipients {
            0 => waiting.messages.remove(&id),
            _ => waiting.messages.insert(id, recipients),
        };
        waiting.recipients =
            (waiting.recipients + recipients).saturating_sub(before.unwrap_or_default());
        if waiting.messages.is_empty() {
            all.remove(organization);
        } else if before.is_none() {
            // There may be room by now, and what waits may go by without it.
            waiting.may_have_room();
            self.sooner.notify_one();
        }
    }

    /// The organization and the number of recipients of a new message that are held.
    pub(crate) fn of_entry(entry: &Entry) -> Option<(Box<str>, u64)> {
        fn counts(owed: &Owed) -> Option<&CountsFor> {
            owed.hold.as_ref()?.counts_for()
        }
        let organization = entry.deliveries.iter().find_map(counts)?.organization.clone();
        let over = entry.deliveries.iter().filter(|owed| counts(owed).is_some());
        let mut distinct: Vec<_> = over.map(|owed| &owed.delivery.original_recipient).collect();
        distinct.sort_unstable();
        distinct.dedup();
        Some((organization, u64::try_from(distinct.len()).unwrap_or(u64::MAX)))
    }

    /// Notes a message as the queue has it.
    pub(crate) fn note(&self, status: &Status) {
        let over = Over::of(status);
        if let Some(counts) = over.counts {
            self.set(&counts.organization, status.entry.id, over.recipients());
        }
    }

    /// Nothing of a message is held any more; `before` is how the queue had it.
    pub(crate) fn gone(&self, before: &Status) {
        if let Some(counts) = Over::of(before).counts {
            self.set(&counts.organization, before.entry.id, 0);
        }
    }

    /// Something of an organization's limits was given back.
    pub(crate) fn may_have_room(&self, organization: &str) {
        if let Some(waiting) = self.lock().get_mut(organization) {
            waiting.may_have_room();
            self.sooner.notify_one();
        }
    }

    /// The limits changed.
    pub(crate) fn all_may_have_room(&self) {
        self.lock().values_mut().for_each(Waiting::may_have_room);
        self.sooner.notify_one();
    }

    /// The organizations that are to be looked at now; each is to be [`Held::looked`] at then.
    pub(super) fn due(&self, now: Timestamp) -> Vec<Box<str>> {
        let mut all = self.lock();
        let due = all.iter_mut().filter(|(_, waiting)| waiting.due.is_some_and(|due| due <= now));
        due.map(|(organization, waiting)| {
            (waiting.due, waiting.rests_until) = (None, now + PAUSE);
            organization.clone()
        })
        .collect()
    }

    /// Messages behind the last look's, oldest first.
    pub(super) fn page(&self, organization: &str) -> (Vec<QueueId>, Look) {
        let mut all = self.lock();
        let mut look = Look { ends: true, room_at: None };
        let Some(waiting) = all.get_mut(organization) else { return (Vec::new(), look) };
        let from = waiting.after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = waiting.messages.range((from, Bound::Unbounded));
        let page: Vec<QueueId> = behind.map(|(id, _)| *id).take(MOST).collect();
        look.ends = page.len() < MOST;
        waiting.after = page.last().copied();
        (page, look)
    }

    /// An organization was looked at; without news the next look is due when there is room, and not
    /// later than `at_last`.
    pub(super) fn looked(&self, organization: &str, at_last: Timestamp, look: Look) {
        let mut all = self.lock();
        let Some(waiting) = all.get_mut(organization) else { return };
        waiting.room_at = earlier(waiting.room_at, look.room_at);
        let mut next = waiting.rests_until;
        if look.ends {
            waiting.after = None;
            let room_at = waiting.room_at.take().unwrap_or(at_last);
            next = next.max(room_at.min(at_last));
        }
        waiting.due = earlier(waiting.due, Some(next));
    }

    fn next_look(&self) -> Option<Timestamp> {
        self.lock().values().filter_map(|waiting| waiting.due).min()
    }

    /// Waits until an organization is to be looked at.
    pub(super) async fn look_is_due(&self, clock: &Clock) {
        loop {
            match self.next_look() {
                Some(at) if at <= clock.now() => return,
                Some(at) => {
                    let sooner = self.sooner.notified();
                    let _ = tokio::time::timeout_at(clock.instant(at), sooner).await;
                }
                None => self.sooner.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Waiting>> {
        self.organizations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1000)
    }

    #[test]
    fn held_recipients_are_summed_by_organization() {
        let (held, one, two) = (Held::default(), QueueId::new(1), QueueId::new(2));
        held.set("S", one, 0);
        held.set("S", one, 3);
        held.set("S", two, 2);
        held.set("T", two, 7);
        assert_eq!(held.recipients("S"), 5);
        held.set("S", one, 1);
        assert_eq!((held.recipients("S"), held.page("S").0), (3, vec![one, two]));
        held.set("S", one, 0);
        held.set("S", two, 0);
        assert_eq!((held.recipients("S"), held.recipients("T")), (0, 7));
        assert_eq!(held.due(at(0)), [Box::from("T")]);
    }

    #[test]
    fn looks_go_through_all_by_pages() {
        let held = Held::default();
        let ids: Vec<QueueId> = (0..600).map(QueueId::new).collect();
        ids.iter().for_each(|id| held.set("S", *id, 1));
        let mut seen = Vec::new();
        for (second, ends) in [(0, false), (1, false), (2, true)] {
            assert_eq!(held.due(at(second)), [Box::from("S")], "{second}");
            assert_eq!(held.due(at(second)), [] as [Box<str>; 0], "once");
            let (page, mut look) = held.page("S");
            assert_eq!(look.ends, ends);
            // The first page's room is the earliest.
            look.room_at(Some(at(20 + second)));
            held.looked("S", at(60), look);
            seen.extend(page);
        }
        assert_eq!(seen, ids);
        assert_eq!(held.next_look(), Some(at(20)), "of all pages");
        let (page, mut look) = held.page("S");
        assert_eq!(page.first(), Some(&ids[0]), "and begin again");
        look.ends = true;
        held.looked("S", at(60), look);
        assert_eq!(held.page("S").0.first(), Some(&ids[0]));
    }

    #[test]
    fn a_look_is_due_when_there_may_be_room_and_not_before_d11() {
        let held = Held::default();
        let look = |second: u64, room_at: Option<u64>| {
            assert_eq!(held.due(at(second)).len(), 1, "{second}");
            let (_, mut look) = held.page("S");
            look.room_at(room_at.map(at));
            held.looked("S", at(second + 60), look);
        };
        assert_eq!(held.next_look(), None);
        held.set("S", QueueId::new(1), 1);
        look(0, Some(40));
        assert_eq!(held.next_look(), Some(at(40)), "the limits said so");
        assert!(held.due(at(39)).is_empty());
        look(40, Some(200));
        assert_eq!(held.next_look(), Some(at(100)), "at the latest");
        look(100, None);
        assert_eq!(held.next_look(), Some(at(160)));
        // A reservation is given back; twice at once is one look.
        held.may_have_room("S");
        look(110, Some(150));
        held.may_have_room("S");
        held.may_have_room("other");
        assert_eq!(held.next_look(), Some(at(111)), "after a pause");
        // What comes while a look goes on is not forgotten.
        assert_eq!(held.due(at(111)).len(), 1);
        held.all_may_have_room();
        let (_, look_on) = held.page("S");
        held.looked("S", at(171), look_on);
        assert_eq!(held.next_look(), Some(at(112)));
        held.set("S", QueueId::new(1), 0);
        assert_eq!(held.next_look(), None);
    }
}
