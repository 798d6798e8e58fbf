//! What administrators hear of limits: what is held, and what is nearly used up (D13).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use waypost_queue::Hold;
use waypost_relay::{LimitMode, QuotaLimit, QuotaSubject, QuotaUse};
use waypost_types::{Mailbox, QueueId};

use super::findings::Findings;
use crate::administrators::{Tidings, TidingsKind};
use crate::core::Core;
use crate::metrics::Reason;

/// A message was accepted for which a subject's limits found something.
#[derive(Debug)]
pub(crate) struct News {
    pub(super) subject: QuotaSubject,
    pub(super) findings: Findings,
}

/// Whom a limit is about, where that is not the organization.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Whose {
    Organization,
    User(Mailbox),
    Client(IpAddr),
}

impl News {
    /// Tells of a message that is in this queue, under its id, or in another server's. In a task of its
    /// own, since somebody waits for the message's reply. Of the same, administrators hear once in 24
    /// hours.
    pub(crate) fn tell(self, core: &Arc<Core>, id: Option<QueueId>) {
        let Self { subject, findings } = self;
        let Findings { near, held, over } = findings;
        let mut tidings = Vec::new();
        if let (Some((refusal, Hold::OverLimit { because, .. })), Some(id)) = (over, id) {
            let recipients = held.len();
            let limit = Reason::from(refusal.limit);
            core.metrics.quotas.held(limit, u64::try_from(recipients).unwrap_or(u64::MAX));
            tracing::info!(%id, recipients, %because, "over a limit: held");
            let text = format!(
                "Mail over the limit of {because} is accepted and held ({id} is the first message).\n\
                 It is let go by itself when there is room; `waypost queue list --state held` shows it, \
                 and `waypost queue release` lets a message go at once.",
            );
            let kind = TidingsKind::OverLimit(refusal.limit);
            tidings.push(whose(&subject, refusal.limit).tidings(&subject, kind, text));
        }
        for found in near {
            let whose = whose(&subject, found.limit);
            let text = warning(&found, &whose, subject.limits.mode);
            tidings.push(whose.tidings(&subject, TidingsKind::NearLimit(found.limit), text));
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
}

fn whose(subject: &QuotaSubject, limit: QuotaLimit) -> Whose {
    let (user, client) = match limit {
        QuotaLimit::MessagesPerUserPerDay | QuotaLimit::UniqueRecipientsPerUserPerDay => {
            (subject.user.clone(), None)
        }
        QuotaLimit::RecipientsPerLoginPerDay => (subject.login.clone(), None),
        QuotaLimit::RecipientsPerClientPerDay => (None, subject.client),
        _ => (None, None),
    };
    user.map(Whose::User).or(client.map(Whose::Client)).unwrap_or(Whose::Organization)
}

impl Whose {
    fn tidings(self, subject: &QuotaSubject, kind: TidingsKind, text: String) -> Tidings {
        let (user, client) = match self {
            Whose::Organization => (None, None),
            Whose::User(user) => (Some(user), None),
            Whose::Client(client) => (None, Some(client)),
        };
        Tidings { organization: (*subject.organization).into(), kind, user, client, text }
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whose::Organization => Ok(()),
            Whose::User(user) => write!(f, " by {user}"),
            Whose::Client(client) => write!(f, " by {client}"),
        }
    }
}

fn warning(found: &QuotaUse, whose: &Whose, mode: LimitMode) -> String {
    let QuotaUse { limit, allowed, used, reserved, room_at } = found;
    let taken = u64::from(*used) + u64::from(*reserved);
    let then = match (room_at, mode) {
        (_, LimitMode::Observe) => "The limits are only observed: nothing is refused.".to_owned(),
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
