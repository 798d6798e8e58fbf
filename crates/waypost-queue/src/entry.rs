//! One accepted message and what it owes.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use waypost_types::{Delivery, MailParameters, Mailbox, QueueId, ReversePath, Timestamp};

/// Why a delivery waits for a person instead of the schedule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Hold {
    /// A rule or the spam verdict put it into a quarantine (C6).
    Quarantine {
        /// The quarantine's name.
        name: Box<str>,
        /// The rule or verdict.
        because: Box<str>,
    },
    /// A limit was exceeded and `over_limit = "hold"`.
    OverLimit {
        /// The limit, and when there is room again.
        because: Box<str>,
        /// Whom the recipient counts for when it is let go; `None`: nobody.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        counts: Option<Box<CountsFor>>,
        /// An administrator who holds the message too: then it is not let go when there is room.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept_by: Option<Box<str>>,
    },
    /// An administrator asked for it.
    Operator {
        /// Who.
        by: Box<str>,
    },
}

/// Whom held recipients count for once they are let go (D10, D11).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CountsFor {
    /// The organization.
    pub organization: Box<str>,
    /// The registered user, by primary address; `None`: the organization alone.
    pub user: Option<Mailbox>,
    /// The login, where what a login relays is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Mailbox>,
    /// The client's address, where what a client relays is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
}

impl Hold {
    /// Whom the delivery counts for when it is let go, if it is over a limit.
    #[must_use]
    pub fn counts_for(&self) -> Option<&CountsFor> {
        match self {
            Hold::OverLimit { counts, .. } => counts.as_deref(),
            _ => None,
        }
    }

    /// Whether only room in a limit is waited for, and no person.
    #[must_use]
    pub fn ends_with_room(&self) -> bool {
        matches!(self, Hold::OverLimit { counts: Some(_), kept_by: None, .. })
    }

    /// Takes note of an administrator who holds what waits for room.
    pub(crate) fn keep(&mut self, by: &str) {
        if let Hold::OverLimit { kept_by, .. } = self {
            *kept_by = Some(by.into());
        }
    }
}

/// One delivery that an accepted message owes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// To whom, from whom, whereto, changed how.
    pub delivery: Delivery,
    /// What keeps it from being tried, if anything; [`crate::Queue::release`] lifts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// The rule that chose where it goes, for the log of each attempt (O4); `None`: no rule did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    /// Our own marks for the trace line, by which a loop is known (O8).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<u64>,
}

impl From<Delivery> for Owed {
    fn from(delivery: Delivery) -> Self {
        Self { delivery, hold: None, rule: None, marks: Vec::new() }
    }
}

/// One accepted message: everything that is stored of it but its bytes, which are a [`crate::Body`].
///
/// A delivery is named by its place in [`Entry::deliveries`], which never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The id that the 250 returned.
    pub id: QueueId,
    /// When it was accepted; the lifetime of the schedule counts from here.
    pub accepted_at: Timestamp,
    /// The sender as MAIL gave it; what next hops see is in each delivery.
    pub sender: ReversePath,
    /// The parameters of MAIL.
    pub parameters: MailParameters,
    /// The client in one line, for logs and lists of the queue.
    pub client: Box<str>,
    /// Header lines that we put on top of the message for every delivery, each ended by CR LF.
    pub trace: Box<str>,
    /// What is owed; the server bounds their number.
    pub deliveries: Vec<Owed>,
    /// The decision with its explanation, as the server prints it (JSON text); opaque here.
    pub decision: Box<str>,
    /// Octets of the body.
    pub size: u64,
    /// Octets of the body up to and with the empty line that ends its header.
    pub header_size: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_written_before_it_counted_is_read() {
        let old = r#"{"OverLimit":{"because":"x"}}"#;
        let hold: Hold = serde_json::from_str(old).unwrap();
        assert_eq!(serde_json::to_string(&hold).unwrap(), old);
        assert!(!hold.ends_with_room() && hold.counts_for().is_none());
        let counts = CountsFor {
            organization: "S".into(),
            user: None,
            login: None,
            client: Some("192.0.2.1".parse().unwrap()),
        };
        let mut hold =
            Hold::OverLimit { because: "x".into(), counts: Some(counts.into()), kept_by: None };
        assert!(hold.ends_with_room());
        hold.keep("root");
        assert!(!hold.ends_with_room() && hold.counts_for().is_some());
        let text = serde_json::to_string(&hold).unwrap();
        assert_eq!(serde_json::from_str::<Hold>(&text).unwrap(), hold);
    }

    #[test]
    fn an_entry_written_before_rules_were_kept_is_read() {
        let mut owed = crate::testing::owed("s@f.example", "a@x.example");
        let without = serde_json::to_string(&owed).unwrap();
        assert!(!without.contains("rule"), "{without}");
        assert_eq!(serde_json::from_str::<Owed>(&without).unwrap(), owed);
        owed.rule = Some("Split delivery".into());
        let with = serde_json::to_string(&owed).unwrap();
        assert!(with.contains(r#""rule":"Split delivery""#), "{with}");
        assert_eq!(serde_json::from_str::<Owed>(&with).unwrap(), owed);
    }
}
