//! What quotas count for, and what they answer.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;
use waypost_types::{Mailbox, Reply, Timestamp};

use crate::limits::{Limits, OverLimit};
use crate::window::Scale;

/// Who the recipients of a transaction count for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaSubject {
    /// The organization.
    pub organization: Arc<str>,
    /// The registered user behind the sender given in MAIL, by primary address; `None` when there is
    /// none: then only the organization's limits hold (D10).
    pub user: Option<Mailbox>,
    /// The limits that hold.
    pub limits: Limits,
    /// The user that AUTH proved, where what a login relays is limited; `None`: it is not counted.
    pub login: Option<Mailbox>,
    /// The client's address, of IPv6 the first 64 bits, where what a client relays is limited; `None`:
    /// it is not counted.
    pub client: Option<IpAddr>,
}

impl QuotaSubject {
    /// What an organization and, with `user`, one of its users send, whoever the client is.
    #[must_use]
    pub fn new(organization: Arc<str>, user: Option<Mailbox>, limits: Limits) -> Self {
        Self { organization, user, limits, login: None, client: None }
    }
}

/// The recipients of one accepted message: what the journal keeps of quotas. Folded back by
/// [`Ledger::replay`](crate::Ledger::replay).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct QuotaCommit {
    /// When they were counted.
    pub at: Timestamp,
    /// The organization that they count for.
    pub organization: Arc<str>,
    /// The registered user that they count for, by primary address; `None`: the organization alone.
    pub user: Option<Mailbox>,
    /// The recipients of one message, each as often as it was given.
    pub recipients: SmallVec<[Mailbox; 1]>,
    /// The login that they count for, as [`QuotaSubject::login`].
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub login: Option<Mailbox>,
    /// The client that they count for, as [`QuotaSubject::client`].
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub client: Option<IpAddr>,
}

/// A limit on what is relayed, in the order in which they answer (D13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum QuotaLimit {
    /// Messages of a user in 24 hours (D10).
    MessagesPerUserPerDay,
    /// Different recipients of a user in 24 hours (D10).
    UniqueRecipientsPerUserPerDay,
    /// Recipients of an organization in 24 hours (D11).
    RecipientsPerDay,
    /// Recipients of an organization in 10 minutes (D11).
    // Kebab case alone would say `per10-minutes`, and did.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "recipients-per-10-minutes", alias = "recipients-per10-minutes")
    )]
    RecipientsPer10Minutes,
    /// Recipients of a login in 24 hours, where the organization limits them.
    RecipientsPerLoginPerDay,
    /// Recipients of a client's address in 24 hours, where the organization limits them.
    RecipientsPerClientPerDay,
}

impl fmt::Display for QuotaLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            QuotaLimit::MessagesPerUserPerDay => "messages of this sender in 24 hours",
            QuotaLimit::UniqueRecipientsPerUserPerDay => {
                "different recipients of this sender in 24 hours"
            }
            QuotaLimit::RecipientsPerDay => "recipients of this organization in 24 hours",
            QuotaLimit::RecipientsPer10Minutes => "recipients of this organization in 10 minutes",
            QuotaLimit::RecipientsPerLoginPerDay => "recipients of this login in 24 hours",
            QuotaLimit::RecipientsPerClientPerDay => "recipients of this client in 24 hours",
        })
    }
}

/// A recipient was counted, or would have been refused where limits are only observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Reservation {
    /// The refusal that limits in force would have given (O6).
    pub would_refuse: Option<QuotaRefusal>,
    /// The limits that are used up to at least 80 % with this recipient ([`QuotaUse::is_near`]), in
    /// their order. They are worth a warning once the message is accepted.
    pub near: Vec<QuotaUse>,
}

/// A recipient is beyond a limit. An outcome, not a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is the limit of {limit}, {used} are used and {reserved} under way", self.allowed)]
pub struct QuotaRefusal {
    /// The limit; the first in order when several are hit.
    pub limit: QuotaLimit,
    /// What it allows.
    pub allowed: u32,
    /// What accepted messages use of it.
    pub used: u32,
    /// What messages under way hold of it.
    pub reserved: u32,
    /// When one more place is free, at the latest; `None`: never, the limit is 0.
    pub room_at: Option<Timestamp>,
}

impl QuotaRefusal {
    /// The reply to RCPT: `550 5.4.5` for a user's limits, `550 5.7.1` for an organization's day,
    /// `450 4.2.1` for its 10 minutes, `550 5.7.1` for a login's and a client's.
    #[must_use]
    pub fn reply(&self) -> Reply {
        match self.limit {
            QuotaLimit::MessagesPerUserPerDay | QuotaLimit::UniqueRecipientsPerUserPerDay => {
                Reply::new(
                    550,
                    (5, 4, 5),
                    &self.text("Daily SMTP relay limit of a user exceeded", "D10"),
                )
            }
            QuotaLimit::RecipientsPerDay => Reply::new(
                550,
                (5, 7, 1),
                &self.text("Daily SMTP relay limit of an organization reached", "D11"),
            ),
            QuotaLimit::RecipientsPer10Minutes => Reply::new(
                450,
                (4, 2, 1),
                &self.text("Peak SMTP relay limit of an organization reached", "D11"),
            ),
            QuotaLimit::RecipientsPerLoginPerDay => {
                let key = "recipients_per_login_per_day";
                Reply::new(
                    550,
                    (5, 7, 1),
                    &self.text("Daily SMTP relay limit of a login reached", key),
                )
            }
            QuotaLimit::RecipientsPerClientPerDay => {
                let key = "recipients_per_client_per_day";
                Reply::new(
                    550,
                    (5, 7, 1),
                    &self.text("Daily SMTP relay limit of a client reached", key),
                )
            }
        }
    }

    /// The reply to RCPT where this is what happens over a limit; `None`: the recipient is accepted and
    /// held. What never has room, for its limit is 0, is refused rather than held.
    #[must_use]
    pub fn reply_as(&self, over_limit: OverLimit) -> Option<Reply> {
        match over_limit {
            OverLimit::Reject => Some(self.reply()),
            OverLimit::Defer => Some(self.deferral()),
            OverLimit::Hold if self.room_at.is_none() => Some(self.reply()),
            OverLimit::Hold => None,
        }
    }

    /// The same as a temporary refusal, for `over_limit = "defer"`: 450 with class 4.
    #[must_use]
    pub fn deferral(&self) -> Reply {
        let reply = self.reply();
        let (subject, detail) = reply.enhanced().map_or((2, 1), |code| (code.1, code.2));
        Reply::new(450, (4, subject, detail), reply.text())
    }

    fn text(&self, what: &str, rule: &str) -> String {
        let Self { limit, allowed, .. } = self;
        match self.room_at {
            Some(at) => {
                format!("{what}: {allowed} {limit}; room again at {at} or before ({rule})")
            }
            None => format!("{what}: {allowed} {limit}; ask the administrator ({rule})"),
        }
    }
}

/// Whether at least 80 % of a limit are taken.
fn is_near(taken: u32, allowed: u32) -> bool {
    allowed > 0 && !is_far(taken, allowed)
}

/// Whether less than 80 % of a limit are taken. Never of a limit of 0, so what is far from a limit has
/// room.
pub(crate) fn is_far(taken: u32, allowed: u32) -> bool {
    u64::from(taken) * 5 < u64::from(allowed) * 4
}

/// How far a limit is used, for `waypost quota`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct QuotaUse {
    /// The limit.
    pub limit: QuotaLimit,
    /// What it allows.
    pub allowed: u32,
    /// What accepted messages use of it.
    pub used: u32,
    /// What messages under way hold of it.
    pub reserved: u32,
    /// When one more place is free, at the latest; `None` when there is room now, or there never is
    /// because the limit is 0.
    pub room_at: Option<Timestamp>,
}

impl QuotaUse {
    /// How much of the limit is used or held, in whole percent, rounded down; of a limit of 0 it is 100.
    /// More than 100 where the limit was lowered, or is only observed.
    #[must_use]
    pub fn percent(&self) -> u64 {
        let taken = u64::from(self.used) + u64::from(self.reserved);
        (taken * 100).checked_div(u64::from(self.allowed)).unwrap_or(100)
    }

    /// Whether at least 80 % are used or held: then a warning is due. Of a limit below 5 that is when
    /// nothing is left. A limit of 0 is set to let nothing through, and never near.
    #[must_use]
    pub fn is_near(&self) -> bool {
        is_near(self.used.saturating_add(self.reserved), self.allowed)
    }

    /// The refusal that one more would get, when there is no room for it.
    pub(crate) fn refusal(&self) -> Option<QuotaRefusal> {
        let QuotaUse { limit, allowed, used, reserved, room_at } = *self;
        (used.saturating_add(reserved) >= allowed).then_some(QuotaRefusal {
            limit,
            allowed,
            used,
            reserved,
            room_at,
        })
    }
}

/// The use of a limit, and when it has room: when enough has left the window, or, should messages
/// under way hold it, a window from now.
pub(crate) fn used(
    limit: QuotaLimit,
    allowed: u32,
    (used, reserved): (u32, u32),
    scale: Scale,
    now: Timestamp,
    room: impl Fn(u32) -> Option<Timestamp>,
) -> QuotaUse {
    let beyond = used.saturating_add(reserved).saturating_add(1).saturating_sub(allowed);
    let room_at = (beyond > 0 && allowed > 0)
        .then(|| room(beyond).unwrap_or_else(|| scale.free_if_counted(now)));
    QuotaUse { limit, allowed, used, reserved, room_at }
}
