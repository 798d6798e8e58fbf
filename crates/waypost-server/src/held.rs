//! Recipients over a limit whose mail is held (`over_limit = "hold"`): let go when there is room (D10, D11).

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use waypost_queue::{
    CountsFor, DeliveryState, Entry, Event, Hold, Owed, QuotaCommit, Record, Status,
};
use waypost_relay::{LimitMode, QuotaLimit, QuotaRefusal, QuotaSubject};
use waypost_types::{Mailbox, QueueId};

use crate::core::Core;
use crate::quotas::{NoPlace, Reserved};

/// How often room is looked for.
const LOOK: Duration = Duration::from_secs(1);
/// Messages of an organization that one look goes through; the next look goes on behind them.
const MOST: usize = 256;
/// Who lets go, for the journal.
const BY: &str = "room in the limits";

/// The messages of which something is over a limit. An index of the queue: what the queue no longer
/// holds leaves it with the next look. A few tens of octets a message.
#[derive(Debug, Default)]
pub(crate) struct Held {
    organizations: Mutex<HashMap<Box<str>, Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// How many recipients of each are held.
    messages: BTreeMap<QueueId, u64>,
    recipients: u64,
    /// Where the next look begins.
    after: Option<QueueId>,
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

    fn organizations(&self) -> Vec<Box<str>> {
        self.lock().keys().cloned().collect()
    }

    /// Messages behind the last look's, oldest first.
    fn page(&self, organization: &str) -> Vec<QueueId> {
        let mut all = self.lock();
        let Some(waiting) = all.get_mut(organization) else { return Vec::new() };
        let from = waiting.after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = waiting.messages.range((from, Bound::Unbounded));
        let page: Vec<QueueId> = behind.map(|(id, _)| *id).take(MOST).collect();
        waiting.after = page.last().copied().filter(|_| page.len() == MOST);
        page
    }

    /// The next look begins with the oldest message again.
    fn begin_anew(&self, organization: &str) {
        if let Some(waiting) = self.lock().get_mut(organization) {
            waiting.after = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Waiting>> {
        self.organizations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of a message is over a limit.
struct Over<'s> {
    counts: Option<&'s CountsFor>,
    /// Place, recipient as given in RCPT, and whether room is all that it waits for.
    deliveries: Vec<(u32, &'s Mailbox, bool)>,
}

impl<'s> Over<'s> {
    fn of(status: &'s Status) -> Self {
        let mut over = Over { counts: None, deliveries: Vec::new() };
        for ((place, owed), now) in (0..).zip(&status.entry.deliveries).zip(&status.deliveries) {
            let DeliveryState::Held(hold) = &now.state else { continue };
            let Some(counts) = hold.counts_for() else { continue };
            over.counts = Some(counts);
            let recipient = &owed.delivery.original_recipient;
            over.deliveries.push((place, recipient, hold.ends_with_room()));
        }
        over
    }

    /// The recipients, each once.
    fn distinct(&self, which: impl Fn(bool) -> bool) -> Vec<&'s Mailbox> {
        let chosen = self.deliveries.iter().filter(|(.., room)| which(*room));
        let mut distinct: Vec<&Mailbox> = chosen.map(|(_, recipient, _)| *recipient).collect();
        distinct.sort_unstable();
        distinct.dedup();
        distinct
    }

    fn recipients(&self) -> u64 {
        u64::try_from(self.distinct(|_| true).len()).unwrap_or(u64::MAX)
    }
}

/// Why a look at an organization ends.
#[derive(PartialEq, Eq)]
enum Next {
    Message,
    /// The organization itself has no room.
    Organization,
}

/// Looks for room as long as the server runs.
pub(crate) async fn run(core: Arc<Core>) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let_go(&core).await;
    }
}

/// Lets go what there is room for, of each organization the oldest first.
async fn let_go(core: &Core) {
    for organization in core.held.organizations() {
        for id in core.held.page(&organization) {
            if let_message_go(core, &organization, id).await == Next::Organization {
                core.held.begin_anew(&organization);
                break;
            }
        }
    }
}

async fn let_message_go(core: &Core, organization: &str, id: QueueId) -> Next {
    let Some(status) = core.spool.change(|queue| queue.show(id)) else {
        core.held.set(organization, id, 0);
        return Next::Message;
    };
    let over = Over::of(&status);
    core.held.set(organization, id, over.recipients());
    let Some(counts) = over.counts else { return Next::Message };
    let Some(subject) = subject(core, counts, None) else { return Next::Organization };
    let now = core.clock.now();
    let mut reserved = core.quotas.begin(subject);
    let (mut going, mut next) = (Vec::new(), Next::Message);
    for recipient in over.distinct(|ends_with_room| ends_with_room) {
        match core.quotas.reserve(now, &mut reserved, recipient).await {
            Ok(_) => going.push(recipient),
            // Nobody can say now: later.
            Err(NoPlace::Unknown { .. }) => {
                next = Next::Organization;
                break;
            }
            Err(NoPlace::Beyond(refusal)) => match refusal.limit {
                // Another recipient may be one that the user wrote to before.
                QuotaLimit::UniqueRecipientsPerUserPerDay => {}
                QuotaLimit::RecipientsPerDay | QuotaLimit::RecipientsPer10Minutes => {
                    next = Next::Organization;
                    break;
                }
                _ => break,
            },
        }
    }
    if going.is_empty() {
        return next;
    }
    let goes =
        |(place, recipient, _): &(u32, &Mailbox, bool)| going.contains(recipient).then_some(*place);
    let places: Vec<u32> = over.deliveries.iter().filter_map(goes).collect();
    // Should somebody have been faster, what is reserved is given back.
    let released = core.spool.change(|queue| queue.release_over_limit(id, &places, BY, now));
    let Ok(event) = released else { return next };
    let counted = reserved.counted(now).map(Event::QuotaCommitted);
    let record = Record::from([Some(event), counted].into_iter().flatten().collect::<Vec<_>>());
    if core.spool.commit(record.clone()).await.is_err()
        && let Err(error) = core.spool.commit_lazily(record).await
    {
        tracing::error!(%id, %error, "that held mail was let go is not written down");
    }
    core.quotas.commit(now, reserved).await;
    let left = over.recipients().saturating_sub(u64::try_from(going.len()).unwrap_or(u64::MAX));
    core.held.set(organization, id, left);
    core.metrics.quotas.let_go(u64::try_from(going.len()).unwrap_or(u64::MAX));
    tracing::info!(%id, organization, recipients = going.len(), left, "there is room: let go");
    core.spool.wake();
    next
}

/// Counts what an administrator lets go of a message, past the limits: what is to be written down, and
/// what is to be committed then.
pub(crate) async fn counted_past_limits(
    core: &Core,
    status: &Status,
) -> Option<(QuotaCommit, Reserved)> {
    let over = Over::of(status);
    // Observed limits refuse nothing, and count.
    let subject = subject(core, over.counts?, Some(LimitMode::Observe))?;
    let now = core.clock.now();
    let mut reserved = core.quotas.begin(subject);
    for recipient in over.distinct(|_| true) {
        if core.quotas.reserve(now, &mut reserved, recipient).await.is_err() {
            reserved.count_unasked(recipient);
        }
    }
    Some((reserved.counted(now)?, reserved))
}

/// Whom held recipients count for, with the limits of now; `None`: there is no such organization any
/// more.
fn subject(core: &Core, counts: &CountsFor, mode: Option<LimitMode>) -> Option<QuotaSubject> {
    let CountsFor { organization, user, login, client } = counts.clone();
    let mut limits = core.policy().relay().limits(&organization, user.as_ref())?;
    if limits.mode == LimitMode::Enforce {
        limits.mode = mode.unwrap_or(limits.mode);
    }
    Some(QuotaSubject { login, client, ..QuotaSubject::new((*organization).into(), user, limits) })
}

/// Why a delivery is held: the limit, and when there is room again.
pub(crate) fn hold(refusal: &QuotaRefusal, subject: &QuotaSubject) -> Hold {
    let QuotaRefusal { limit, allowed, room_at, .. } = refusal;
    let room = room_at.map(|at| format!("; room again at {at} or before")).unwrap_or_default();
    let counts = CountsFor {
        organization: (*subject.organization).into(),
        user: subject.user.clone(),
        login: subject.login.clone(),
        client: subject.client,
    };
    Hold::OverLimit {
        because: format!("{allowed} {limit}{room}").into(),
        counts: Some(counts.into()),
        kept_by: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_recipients_are_summed_by_organization() {
        let (held, one, two) = (Held::default(), QueueId::new(1), QueueId::new(2));
        held.set("S", one, 0);
        held.set("S", one, 3);
        held.set("S", two, 2);
        held.set("T", two, 7);
        assert_eq!(held.recipients("S"), 5);
        held.set("S", one, 1);
        assert_eq!((held.recipients("S"), held.page("S")), (3, vec![one, two]));
        held.set("S", one, 0);
        held.set("S", two, 0);
        assert_eq!((held.recipients("S"), held.recipients("T")), (0, 7));
        assert_eq!(held.organizations(), [Box::from("T")]);
    }

    #[test]
    fn looks_go_through_all_by_pages() {
        let held = Held::default();
        let ids: Vec<QueueId> = (0..600).map(QueueId::new).collect();
        ids.iter().for_each(|id| held.set("S", *id, 1));
        let seen: Vec<QueueId> = (0..3).flat_map(|_| held.page("S")).collect();
        assert_eq!(seen, ids);
        assert_eq!(held.page("S").first(), Some(&ids[0]), "and begin again");
        held.begin_anew("S");
        assert_eq!(held.page("S").first(), Some(&ids[0]));
    }
}
