//! What MAIL and RCPT said: sender, recipients and their parameters.

use crate::{Mailbox, ReversePath};

/// The body type announced in MAIL (RFC 6152, RFC 3030).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Body {
    /// `BODY=7BIT`, or nothing said.
    #[default]
    SevenBit,
    /// `BODY=8BITMIME`.
    EightBitMime,
}

/// How much of the message a failure notice returns (RFC 3461 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Ret {
    /// The whole message.
    Full,
    /// Its header only.
    Headers,
}

/// The parameters of MAIL that travel with the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MailParameters {
    /// `BODY=`.
    pub body: Body,
    /// `SMTPUTF8` was given (RFC 6531).
    pub smtputf8: bool,
    /// `RET=`.
    pub ret: Option<Ret>,
    /// `ENVID=`, as given (xtext; at most 100 octets, RFC 3461 section 4.4).
    pub envid: Option<Box<str>>,
}

/// Which notices the sender wants for a recipient (RFC 3461 section 4.1).
///
/// The default, nothing said, asks for failure notices and leaves delay notices to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Notify {
    /// No `NOTIFY` parameter.
    #[default]
    Unsaid,
    /// `NOTIFY=NEVER`.
    Never,
    /// `NOTIFY=` with at least one of the three.
    On {
        /// Tell of final delivery.
        success: bool,
        /// Tell of failure.
        failure: bool,
        /// Tell of delay.
        delay: bool,
    },
}

impl Notify {
    /// Whether a failure is to be reported.
    #[must_use]
    pub fn on_failure(self) -> bool {
        matches!(self, Notify::Unsaid | Notify::On { failure: true, .. })
    }
}

/// One recipient as RCPT gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Recipient {
    /// The address.
    pub address: Mailbox,
    /// `NOTIFY=`.
    pub notify: Notify,
    /// `ORCPT=`, as given (`rfc822;` and xtext; at most 500 octets, RFC 3461 section 4.2).
    pub orcpt: Option<Box<str>>,
}

impl From<Mailbox> for Recipient {
    fn from(address: Mailbox) -> Self {
        Self { address, notify: Notify::Unsaid, orcpt: None }
    }
}

/// One transaction's envelope: from MAIL to the last RCPT.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Envelope {
    /// The sender as MAIL gave it.
    pub sender: ReversePath,
    /// The parameters of MAIL.
    pub parameters: MailParameters,
    /// The recipients that were accepted, in the order of RCPT; the server bounds their number.
    pub recipients: Vec<Recipient>,
}

impl Envelope {
    /// What MAIL said, without recipients: each RCPT that is accepted adds one.
    #[must_use]
    pub fn new(sender: ReversePath, parameters: MailParameters) -> Self {
        Self { sender, parameters, recipients: Vec::new() }
    }
}
