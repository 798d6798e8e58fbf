//! One delivery that is owed: to whom, from whom, whereto, changed how.

use crate::{Destination, HeaderLine, Mailbox, Notify, ReversePath};

/// What a rule or setting demands of TLS on the way to the next hop; a route's own demands add to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum TlsDemand {
    /// TLS where offered.
    #[default]
    Opportunistic,
    /// TLS or no delivery.
    Required,
}

/// How the message differs from what was accepted, for one delivery (C6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Changes {
    /// Lines added on top of the header, in order.
    pub added_headers: Vec<HeaderLine>,
    /// Put before the subject; without control characters.
    pub subject_prefix: Option<Box<str>>,
    /// Attachments are replaced by a notice.
    pub remove_attachments: bool,
}

impl Changes {
    /// Whether the body and the sender's own header lines stay byte for byte as accepted (B3).
    #[must_use]
    pub fn keep_signatures(&self) -> bool {
        self.subject_prefix.is_none() && !self.remove_attachments
    }
}

/// One delivery: what a decision asks for and the queue owes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Delivery {
    /// The recipient to name to the next hop, after all changes.
    pub recipient: Mailbox,
    /// The recipient as RCPT gave it.
    pub original_recipient: Mailbox,
    /// The sender to name to the next hop, after D8.
    pub sender: ReversePath,
    /// The next hop.
    pub destination: Destination,
    /// TLS demanded by a rule or setting, beside the route's own.
    pub tls: TlsDemand,
    /// Changes to the message.
    pub changes: Changes,
    /// No bounce is sent when this delivery fails.
    pub suppress_bounces: bool,
    /// The message goes to the spam folder of the mailbox system (`spam_action = "mark"`).
    pub spam: bool,
    /// The notices that the sender asked for.
    pub notify: Notify,
    /// `ORCPT=` of the recipient, as given.
    pub orcpt: Option<Box<str>>,
}
