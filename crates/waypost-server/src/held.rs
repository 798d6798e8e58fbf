//! Recipients over a limit whose mail is held (`over_limit = "hold"`): let go when there is room (D10, D11).

mod index;

use std::sync::Arc;
use std::time::Duration;

use waypost_queue::{CountsFor, DeliveryState, Event, Hold, QuotaCommit, Record, Status};
use waypost_relay::{LimitMode, QuotaLimit, QuotaRefusal, QuotaSubject};
use waypost_types::{Mailbox, QueueId, Timestamp};

pub(crate) use index::Held;

use crate::core::Core;
use crate::quotas::{NoPlace, Reserved};
use index::Look;

/// When it is looked again where nobody can say whether there is room.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Who lets go, for the journal.
const BY: &str = "room in the limits";

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

/// Looks for room as long as the server runs: when there may be some.
pub(crate) async fn run(core: Arc<Core>) {
    loop {
        let_go(&core).await;
        core.held.look_is_due(&core.clock).await;
    }
}

/// Lets go what there is room for, of each organization the oldest first.
async fn let_go(core: &Core) {
    for organization in core.held.due(core.clock.now()) {
        let (page, mut look) = core.held.page(&organization);
        for id in page {
            if let_message_go(core, &organization, id, &mut look).await == Next::Organization {
                look.ends = true;
                break;
            }
        }
        core.held.looked(&organization, core.clock.now() + core.quotas.unseen_room_within(), look);
    }
}

async fn let_message_go(core: &Core, organization: &str, id: QueueId, look: &mut Look) -> Next {
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
            Err(NoPlace::Unknown { .. }) => {
                look.room_at(Some(now + ASK_AGAIN));
                next = Next::Organization;
                break;
            }
            Err(NoPlace::Beyond(refusal)) => {
                look.room_at(refusal.room_at);
                match refusal.limit {
                    // Another recipient may be one that the user wrote to before.
                    QuotaLimit::UniqueRecipientsPerUserPerDay => {}
                    QuotaLimit::RecipientsPerDay | QuotaLimit::RecipientsPer10Minutes => {
                        next = Next::Organization;
                        break;
                    }
                    _ => break,
                }
            }
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
/// what is to be committed then, as of `now` both.
pub(crate) async fn counted_past_limits(
    core: &Core,
    status: &Status,
    now: Timestamp,
) -> Option<(QuotaCommit, Reserved)> {
    let over = Over::of(status);
    // Observed limits refuse nothing, and count.
    let subject = subject(core, over.counts?, Some(LimitMode::Observe))?;
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
