//! What is answered.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use waypost_config::policy::{ExplainedHosts, ExplainedTls};
use waypost_queue::{ConfigOutcome, Hold, QueueCommand, Status};
use waypost_relay::{LimitMode, QuotaUse};
use waypost_types::{
    Delivery, Destination, MailParameters, Mailbox, QueueId, ReversePath, RouteName, Timestamp,
};

use super::request::State;

/// One line of an answer, in JSON. Times are milliseconds since 1970, sizes octets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Answer {
    /// A message of a list.
    Message(Box<Message>),
    /// A message with all that is known of it.
    Shown(Box<Shown>),
    /// A command was carried out, and is on disk.
    Changed(Box<Changed>),
    /// A line of the audit log.
    Audited(Box<AuditLine>),
    /// How far a limit is used.
    Quota(Box<QuotaLine>),
    /// The configuration is in force.
    Reloaded {
        /// Its version.
        version: String,
    },
    /// The last line.
    End(End),
}

/// How an answer ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum End {
    /// All was said and done.
    Done {
        /// How many messages, or lines.
        count: u64,
    },
    /// The answer is no, and nothing was changed.
    No {
        /// Why.
        because: String,
    },
    /// The request cannot be answered, and nothing was changed.
    Unusable {
        /// Why, and the cure.
        because: String,
    },
    /// The configuration is not in force; the one before it is.
    NotReloaded {
        /// What is wrong with it, for people.
        text: String,
        /// The same for programs.
        report: serde_json::Value,
    },
}

/// A message of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its id, as the 250 said it.
    pub id: QueueId,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Octets.
    pub size: u64,
    /// The sender as MAIL gave it; empty for the null sender.
    pub sender: ReversePath,
    /// The client.
    pub client: Box<str>,
    /// What it owes or owed.
    pub deliveries: Vec<DeliveryLine>,
}

/// One delivery, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryLine {
    /// To whom, after all changes.
    pub recipient: Mailbox,
    /// Whereto.
    pub via: Via,
    /// The route, where it is one.
    pub route: Option<RouteName>,
    /// Whereto, in words.
    pub next_hop: String,
    /// What it waits for.
    pub state: State,
    /// Attempts that ended.
    pub attempts: u32,
    /// When it is tried again, if it waits.
    pub due: Option<Timestamp>,
    /// Why it is held, if it is.
    pub hold: Option<HoldLine>,
    /// What came of the last attempt, if that did not deliver.
    pub last: Option<String>,
}

/// The kind of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// The organization's mailbox system.
    Mailbox,
    /// A route.
    Route,
    /// The recipient's MX hosts.
    Mx,
    /// The outbound gateway.
    Gateway,
    /// None: the sender is only to be told of a refusal.
    Nowhere,
}

/// Why a delivery is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum HoldLine {
    /// It is in a quarantine.
    Quarantine {
        /// The quarantine's name.
        name: Box<str>,
        /// The rule or verdict.
        because: Box<str>,
    },
    /// It is beyond a limit.
    OverLimit {
        /// Which, and when there is room again.
        because: Box<str>,
        /// An administrator who holds it too; `None`: it is let go when there is room.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept_by: Option<Box<str>>,
    },
    /// An administrator asked for it.
    Operator {
        /// Who.
        by: Box<str>,
    },
    /// For a reason that this version has no word for.
    Other,
}

/// A message with all that is known of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shown {
    /// What a list says.
    #[serde(flatten)]
    pub message: Message,
    /// The parameters of MAIL.
    pub parameters: MailParameters,
    /// The envelope and the changes of each delivery, in the order of `deliveries`.
    pub envelopes: Vec<Delivery>,
    /// The trace lines that are put on top.
    pub trace: Box<str>,
    /// The decision with its explanation, as it was stored; null if it cannot be read.
    pub decision: serde_json::Value,
    /// What holds at the moment of asking.
    #[serde(default)]
    pub now: Option<Now>,
}

/// What the configuration in force and the quotas say at the moment of asking; nothing of it was decided
/// when the message came (A12).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Now {
    /// When.
    pub at: Timestamp,
    /// The version of the configuration.
    pub version: Box<str>,
    /// Of each delivery, in the order of `deliveries`.
    pub ways: Vec<WayNow>,
    /// For a relayed message, how far the limits of its user and organization are used (D10-D13).
    pub quota: Vec<QuotaLine>,
}

/// The way that the next attempt of a delivery takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WayNow {
    /// The hosts in the order of the message's draw, behind them those in a pause.
    pub hosts: Option<ExplainedHosts>,
    /// What is asked of TLS.
    pub tls_policy: Option<ExplainedTls>,
}

/// What a command did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Deliveries were held.
    Held,
    /// Deliveries were let go.
    Released,
    /// The message was thrown away.
    Removed,
    /// Deliveries are tried at once.
    Retried,
}

/// A command that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// What was done.
    pub done: Change,
    /// To how many deliveries.
    pub deliveries: u32,
    /// How many were under way, and go on.
    pub running: u32,
    /// The message as it was before.
    pub message: Message,
}

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub who: Box<str>,
    /// What.
    #[serde(flatten)]
    pub what: Audited,
}

/// What was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Audited {
    /// The configuration.
    Configuration {
        /// The version that took effect, or was refused; empty where it has none.
        version: Box<str>,
        /// What happened, in one line.
        change: Box<str>,
        /// The version before; null where that is not known.
        from: Option<Box<str>>,
        /// What came of it.
        outcome: ConfigOutcome,
        /// What changed from what to what; or what was wrong with one that was refused.
        lines: Vec<Box<str>>,
    },
    /// The queue.
    Queue(QueueCommand),
}

/// How far one limit of an organization or user is used (D13).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaLine {
    /// The organization.
    pub organization: Box<str>,
    /// The user, by primary address; `None`: a limit of the organization.
    pub user: Option<Mailbox>,
    /// The login, where the limit is a login's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Mailbox>,
    /// The client's address, of IPv6 the network of 64 bits, where the limit is a client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// Whether limits are in force.
    pub mode: LimitMode,
    /// Whose mail is counted in it.
    #[serde(default)]
    pub counted: Counted,
    /// The limit, what is used of it and held by messages under way, and when there is room again if
    /// there is none now.
    #[serde(flatten)]
    pub quota: QuotaUse,
}

/// Whose mail the counts of a quota are of (O5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Counted {
    /// This node's; there is no other.
    #[default]
    Here,
    /// That of all nodes that share quotas.
    Shared,
    /// This node's, since Redis does not answer; what is allowed is this node's part.
    HereForNow,
}

impl Message {
    pub(crate) fn of(status: &Status) -> Self {
        let entry = &status.entry;
        let deliveries = entry.deliveries.iter().zip(&status.deliveries);
        let deliveries = deliveries.map(|(owed, now)| {
            let destination = &owed.delivery.destination;
            let (via, route) = match destination {
                Destination::Mailbox { .. } => (Via::Mailbox, None),
                Destination::Route { route, .. } => (Via::Route, Some(route.clone())),
                Destination::Gateway(_) => (Via::Gateway, None),
                Destination::Refused { .. } => (Via::Nowhere, None),
                _ => (Via::Mx, None),
            };
            let (due, hold) = match &now.state {
                waypost_queue::DeliveryState::Waiting { due } => (Some(*due), None),
                waypost_queue::DeliveryState::Held(hold) => (None, Some(HoldLine::of(hold))),
                _ => (None, None),
            };
            DeliveryLine {
                recipient: owed.delivery.recipient.clone(),
                via,
                route,
                next_hop: destination.to_string(),
                state: State::of(&now.state),
                attempts: now.attempts,
                due,
                hold,
                last: now.failure.as_ref().map(ToString::to_string),
            }
        });
        Self {
            id: entry.id,
            accepted_at: entry.accepted_at,
            size: entry.size,
            sender: entry.sender.clone(),
            client: entry.client.clone(),
            deliveries: deliveries.collect(),
        }
    }
}

impl HoldLine {
    fn of(hold: &Hold) -> Self {
        match hold.clone() {
            Hold::Quarantine { name, because } => Self::Quarantine { name, because },
            Hold::OverLimit { because, kept_by, .. } => Self::OverLimit { because, kept_by },
            Hold::Operator { by } => Self::Operator { by },
            _ => Self::Other,
        }
    }
}
