//! What the limits said of a message's recipients: what is held, and what is worth a warning (D10 to D13).

use std::sync::Arc;

use waypost_queue::Hold;
use waypost_relay::{QuotaRefusal, QuotaSubject, QuotaUse};
use waypost_types::{Mailbox, QueueId, Reply};

use super::Open;
use crate::administrators::{Tidings, TidingsKind};
use crate::core::Core;
use crate::held;

/// Of one transaction.
#[derive(Debug, Default)]
pub(super) struct Limited {
    /// Limits of which 80 % are used, each as it was last seen.
    near: Vec<QuotaUse>,
    /// Recipients that wait for room.
    held: Vec<Mailbox>,
    /// The limit that the first of them is over, for all of them.
    over: Option<(QuotaRefusal, Hold)>,
}

impl Limited {
    /// Keeps what a reservation found.
    pub(super) fn near(&mut self, near: Vec<QuotaUse>) {
        for found in near {
            match self.near.iter_mut().find(|known| known.limit == found.limit) {
                Some(known) => *known = found,
                None => self.near.push(found),
            }
        }
    }

    /// Why a delivery is held that goes back to this recipient, if it is.
    pub(super) fn hold_of(&self, recipient: &Mailbox) -> Option<Hold> {
        let (_, hold) = self.over.as_ref()?;
        self.held.contains(recipient).then(|| hold.clone())
    }
}

/// What becomes of a recipient over a limit: held when this returns `Ok`.
///
/// # Errors
/// The reply.
pub(super) fn over_limit(
    core: &Core,
    open: &mut Open,
    subject: &QuotaSubject,
    recipient: &Mailbox,
    refusal: &QuotaRefusal,
) -> Result<(), Reply> {
    let owner = open.policy.organization(&subject.organization);
    let over_limit = owner.map(|owner| owner.over_limit).unwrap_or_default();
    if let Some(reply) = refusal.reply_as(over_limit) {
        return Err(reply);
    }
    // Given again, it stands already; it is delivered once.
    if open.recipients.iter().any(|standing| standing.address == *recipient) {
        return Ok(());
    }
    let held = &mut open.limited.held;
    let waiting = core.held.recipients(&subject.organization);
    let waiting = waiting.saturating_add(u64::try_from(held.len()).unwrap_or(u64::MAX));
    if waiting >= u64::from(subject.limits.recipients_per_day) {
        return Err(refusal.reply());
    }
    held.push(recipient.clone());
    open.limited.over.get_or_insert_with(|| (*refusal, held::hold(refusal, subject)));
    Ok(())
}

/// Tells of a message that was accepted: what of it is held, and which limits are near. In a task of its
/// own, since the client waits.
pub(super) fn accepted(core: &Arc<Core>, limited: Limited, subject: &QuotaSubject, id: QueueId) {
    let Limited { near, held, over } = limited;
    let mut tidings = Vec::new();
    if let Some((refusal, Hold::OverLimit { because, .. })) = over {
        let recipients = held.len();
        let limit = crate::metrics::Reason::from(refusal.limit);
        core.metrics.quotas.held(limit, u64::try_from(recipients).unwrap_or(u64::MAX));
        tracing::info!(%id, recipients, %because, "over a limit: held");
        let user = user_of(subject, refusal.limit);
        tidings.push(Tidings {
            organization: (*subject.organization).into(),
            kind: TidingsKind::OverLimit(refusal.limit),
            text: format!(
                "Mail over the limit of {because} is accepted and held ({id} is the first message).\n\
                 It is let go by itself when there is room; `waypost queue list --state held` shows it, \
                 and `waypost queue release` lets a message go at once.",
            ),
            user,
        });
    }
    for found in near {
        let user = user_of(subject, found.limit);
        tidings.push(Tidings {
            organization: (*subject.organization).into(),
            kind: TidingsKind::NearLimit(found.limit),
            text: warning(&found, user.as_ref(), subject),
            user,
        });
    }
    if tidings.is_empty() {
        return;
    }
    let core = Arc::clone(core);
    tokio::spawn(async move {
        for one in tidings {
            core.tell_administrators(one).await;
        }
    });
}

/// Whom a limit is about.
fn user_of(subject: &QuotaSubject, limit: waypost_relay::QuotaLimit) -> Option<Mailbox> {
    use waypost_relay::QuotaLimit;
    match limit {
        QuotaLimit::MessagesPerUserPerDay | QuotaLimit::UniqueRecipientsPerUserPerDay => {
            subject.user.clone()
        }
        QuotaLimit::RecipientsPerLoginPerDay => subject.login.clone(),
        _ => None,
    }
}

fn warning(found: &QuotaUse, user: Option<&Mailbox>, subject: &QuotaSubject) -> String {
    let QuotaUse { limit, allowed, used, reserved, room_at } = found;
    let whose = match (limit, user, subject.client) {
        (waypost_relay::QuotaLimit::RecipientsPerClientPerDay, _, Some(client)) => {
            format!(" by {client}")
        }
        (_, Some(user), _) => format!(" by {user}"),
        _ => String::new(),
    };
    let taken = u64::from(*used) + u64::from(*reserved);
    let then = match (room_at, subject.limits.mode) {
        (_, waypost_relay::LimitMode::Observe) => {
            "The limits are only observed: nothing is refused.".to_owned()
        }
        (Some(at), _) => format!("Nothing is left of it; there is room again at {at} or before."),
        (None, _) => {
            "What comes beyond it is refused, deferred or held, as `over_limit` says.".into()
        }
    };
    format!(
        "{} % of the limit of {allowed} {limit} are used{whose}: {taken}.\n{then}\n\
         `waypost quota` shows where all limits stand. If this is not what the organization sends \
         otherwise, somebody may have stolen a password.",
        found.percent()
    )
}
