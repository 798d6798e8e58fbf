//! One accepted message and what it owes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use waypost_types::{Delivery, MailParameters, QueueId, ReversePath, Timestamp};

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
    },
    /// An administrator asked for it.
    Operator {
        /// Who.
        by: Box<str>,
    },
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
