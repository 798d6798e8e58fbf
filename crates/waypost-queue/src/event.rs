//! What is written down, so that everything else can be computed again.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use waypost_types::{Mailbox, Outcome, QueueId, ReversePath, RouteName, Timestamp};

use crate::Entry;

/// One event of the journal. Queue, ledger and audit log are folds over these.
///
/// An event names its time; nothing in a fold asks a clock. Every event of a message comes after its
/// `Accepted`, and none after its `Done` or `Removed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// A message is ours: its 250 may be sent once this is synced.
    Accepted(Box<Entry>),
    /// An attempt at one or more deliveries of a message ended.
    Attempted(Attempt),
    /// An administrator holds every unfinished delivery.
    Held {
        /// The message.
        id: QueueId,
        /// When.
        at: Timestamp,
        /// Who asked.
        by: Box<str>,
    },
    /// What is held of the message goes: an administrator asked for it, or there is room for it again.
    Released {
        /// The message.
        id: QueueId,
        /// When; what was held is due from then on.
        at: Timestamp,
        /// Who asked.
        by: Box<str>,
        /// The deliveries that are let go; empty: all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        deliveries: Vec<u32>,
    },
    /// An administrator threw the message away; nobody is told.
    Removed {
        /// The message.
        id: QueueId,
        /// When.
        at: Timestamp,
        /// Who asked.
        by: Box<str>,
    },
    /// Nothing is owed any more: entry, attempts and body may go.
    Done {
        /// The message.
        id: QueueId,
        /// When.
        at: Timestamp,
    },
    /// Recipients were counted (D13).
    QuotaCommitted(QuotaCommit),
    /// The administrators of an organization were told something; kept as long as quotas are.
    AdministratorsTold(AdministratorsTold),
    /// A user relayed spam (D17); kept as long as quotas are.
    SpamRelayed(SpamRelayed),
    /// A sender was told that recipients are refused of a message that another server takes in; kept as
    /// long as quotas are.
    SenderTold(SenderTold),
    /// A configuration took effect, or was refused (A12).
    ConfigChanged(ConfigChange),
    /// An administrator gave the queue a command: a line of the audit log, which outlives the message.
    QueueChanged(QueueChange),
}

impl Event {
    /// The message that the event is about; `None` for quota and the audit log.
    #[must_use]
    pub fn id(&self) -> Option<QueueId> {
        match self {
            Event::Accepted(entry) => Some(entry.id),
            Event::Attempted(attempt) => Some(attempt.id),
            Event::Held { id, .. }
            | Event::Released { id, .. }
            | Event::Removed { id, .. }
            | Event::Done { id, .. } => Some(*id),
            Event::QuotaCommitted(_)
            | Event::AdministratorsTold(_)
            | Event::SpamRelayed(_)
            | Event::SenderTold(_)
            | Event::ConfigChanged(_)
            | Event::QueueChanged(_) => None,
        }
    }
}

/// What became of one delivery in an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its place in [`Entry::deliveries`].
    pub delivery: u32,
    /// What became of it.
    pub outcome: Outcome,
    /// For a delivered one: who tells the sender of it, if he asked.
    #[serde(default)]
    pub handover: Handover,
}

impl Ended {
    /// An outcome, the next hop telling of success.
    #[must_use]
    pub fn new(delivery: u32, outcome: Outcome) -> Self {
        Self { delivery, outcome, handover: Handover::default() }
    }
}

/// Who answers `NOTIFY=SUCCESS` once a delivery was handed over (RFC 3461 section 5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Handover {
    /// The next hop: it was given the DSN parameters.
    #[default]
    Passed,
    /// We: the next hop does not know DSN, so the sender hears that the message was relayed.
    Relayed,
    /// We: this was the final delivery (Maildir, LMTP).
    Final,
}

/// One attempt at the deliveries of one [`crate::Work`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The message.
    pub id: QueueId,
    /// When the attempt ended.
    pub at: Timestamp,
    /// Which attempt at these deliveries it was, from 1.
    pub number: u32,
    /// One outcome a delivery.
    pub results: Vec<Ended>,
    /// When the deferred ones are due again; `None`: their time is up, they have failed.
    pub next: Option<Timestamp>,
    /// The sender was told of the delay with this attempt (RFC 3461 section 4.1, `NOTIFY=DELAY`).
    #[serde(default)]
    pub delay_told: bool,
}

/// Recipients that count against quotas from a moment on (D10-D13).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaCommit {
    /// When they were counted.
    pub at: Timestamp,
    /// The organization that they count for.
    pub organization: Box<str>,
    /// The registered user that they count for, by primary address; `None`: the organization alone.
    pub user: Option<Mailbox>,
    /// The recipients of one message.
    pub recipients: Vec<Mailbox>,
    /// The login that they count for, where what a login relays is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Mailbox>,
    /// The client's address that they count for, where what a client relays is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
}

/// What the administrators of an organization were told by mail (D13, D17), so that they are not told
/// the same again soon.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AdministratorsTold {
    /// When.
    pub at: Timestamp,
    /// Of which organization.
    pub organization: Box<str>,
    /// What kind of thing; a word of the server's.
    pub kind: Box<str>,
    /// The user that it is about; `None`: the organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Mailbox>,
    /// The client that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
}

/// A sender was told of refused recipients of a message that another server takes in or refuses as it
/// likes, so that the same message, sent again, tells nobody twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderTold {
    /// When.
    pub at: Timestamp,
    /// A digest of sender, message and recipient for each of them; the server's.
    pub about: Vec<u64>,
}

/// A user relayed a message that the filter takes for spam or malware (D17), whatever became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpamRelayed {
    /// When.
    pub at: Timestamp,
    /// For which organization.
    pub organization: Box<str>,
    /// Who, by primary address.
    pub user: Mailbox,
}

/// A change of the configuration, for the audit log (A12).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChange {
    /// When it took effect, or was refused.
    pub at: Timestamp,
    /// The version that took effect, or was refused; empty where it has none because it cannot be read.
    pub version: Box<str>,
    /// Who changed it.
    pub who: Box<str>,
    /// What happened, in one line.
    pub what: Box<str>,
    /// The version in force before, which stays in force if this one was refused; `None` at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Box<str>>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "ConfigOutcome::is_in_force")]
    pub outcome: ConfigOutcome,
    /// What changed from what to what, a line each; or what was wrong with one that was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<Box<str>>,
}

/// What came of a change of the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ConfigOutcome {
    /// It took effect.
    #[default]
    InForce,
    /// It was refused, and the one before it stayed.
    Refused,
}

impl ConfigOutcome {
    // By reference, as serde asks.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_in_force(&self) -> bool {
        *self == Self::InForce
    }
}

/// A command that an administrator gave the queue, for the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueChange {
    /// When.
    pub at: Timestamp,
    /// Who asked.
    pub who: Box<str>,
    /// For what.
    pub command: QueueCommand,
}

/// A command that changes the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum QueueCommand {
    /// The message was held.
    Hold {
        /// The message.
        id: QueueId,
    },
    /// What was held of the message was let go.
    Release {
        /// The message.
        id: QueueId,
    },
    /// The message was thrown away.
    Remove {
        /// The message.
        id: QueueId,
        /// Its sender, since nothing else is left of it.
        sender: ReversePath,
        /// How many deliveries it still owed.
        owed: u32,
    },
    /// What waited was made due at once.
    Retry {
        /// Of what.
        scope: RetryScope,
        /// Of how many messages something waited.
        messages: u64,
    },
}

/// Which deliveries are tried again at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetryScope {
    /// Those of one message.
    Message(QueueId),
    /// Those over the routes of this name.
    Route(RouteName),
    /// All.
    All,
}
