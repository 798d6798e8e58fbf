//! A sender who is not relayed, and why.

use std::fmt;
use std::sync::Arc;

use waypost_types::Reply;

use crate::admission::ObservedRefusal;

/// A sender is not relayed. An outcome, not a fault: the reply goes to the client, the rest to the
/// log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{because}")]
pub struct Refusal {
    /// The reply to MAIL. It names the rule and the cure; never an entry, nor whether a user exists.
    pub reply: Reply,
    /// The reason.
    pub because: RefusalReason,
    /// The organization of the entry that got furthest; `None` when no entry was looked at.
    pub organization: Option<Arc<str>>,
    /// The description of the entry that got furthest.
    pub entry: Option<Arc<str>>,
    /// Whether an entry would go on if the client authenticated; the reply then says so too.
    pub auth_would_help: bool,
    /// What observed entries would have refused (O6).
    pub observed: Vec<ObservedRefusal>,
}

impl Refusal {
    pub(crate) fn without_entry(because: RefusalReason) -> Self {
        let reply = because.reply();
        Self {
            reply,
            because,
            organization: None,
            entry: None,
            auth_would_help: false,
            observed: Vec::new(),
        }
    }

    /// The refusal of a client that tried AUTH before and failed. Where AUTH would have helped, that is
    /// the reason, whichever entry got furthest without it: told of its address, or its sender, the
    /// client's owner would mend what is right.
    #[must_use]
    pub fn after_failed_auth(self) -> Self {
        if !self.auth_would_help {
            return self;
        }
        let because = RefusalReason::AuthenticationFailed;
        Self { reply: because.reply(), because, ..self }
    }
}

/// Why a sender is not relayed, in the order in which an entry checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum RefusalReason {
    /// The listener is an MX, which never relays.
    NotARelayListener,
    /// No relay entry is in force.
    NoRelayEntry,
    /// The entry needs TLS, by itself (D5) or because it needs AUTH (D3).
    TlsRequired,
    /// The entry needs AUTH (D3).
    AuthenticationRequired,
    /// The entry needs AUTH (D3), and the client tried it and failed.
    AuthenticationFailed,
    /// The client proved to be a user of another organization (D3).
    AuthenticatedElsewhere,
    /// The client's address is not an enabled one of the entry (D3).
    AddressNotListed,
    /// The same, where the entry defers such clients.
    AddressDeferred,
    /// The sender is not a registered, active user (D2).
    SenderNotRegistered,
    /// The sender is not in or below a verified domain (D2).
    SenderNotInDomains,
    /// A foreign or empty sender, and neither AUTH nor HELO names the organization (D7).
    Unidentified,
    /// The directory cannot say who the sender is (C8).
    DirectoryUnavailable,
}

impl RefusalReason {
    /// Every reason, in the order in which an entry checks.
    pub const ALL: [RefusalReason; 12] = [
        RefusalReason::NotARelayListener,
        RefusalReason::NoRelayEntry,
        RefusalReason::TlsRequired,
        RefusalReason::AuthenticationRequired,
        RefusalReason::AuthenticationFailed,
        RefusalReason::AuthenticatedElsewhere,
        RefusalReason::AddressNotListed,
        RefusalReason::AddressDeferred,
        RefusalReason::SenderNotRegistered,
        RefusalReason::SenderNotInDomains,
        RefusalReason::Unidentified,
        RefusalReason::DirectoryUnavailable,
    ];

    /// How far an entry got that refuses for this reason.
    pub(crate) fn stage(self) -> u8 {
        match self {
            RefusalReason::NotARelayListener | RefusalReason::NoRelayEntry => 0,
            RefusalReason::TlsRequired => 1,
            RefusalReason::AuthenticationRequired
            | RefusalReason::AuthenticationFailed
            | RefusalReason::AuthenticatedElsewhere => 2,
            RefusalReason::AddressNotListed => 3,
            // A temporary reason must not be hidden by a permanent one of the same stage, nor, where
            // the directory is down, of any.
            RefusalReason::AddressDeferred => 4,
            RefusalReason::SenderNotRegistered | RefusalReason::SenderNotInDomains => 5,
            RefusalReason::Unidentified => 6,
            RefusalReason::DirectoryUnavailable => 7,
        }
    }

    /// The reply to MAIL.
    #[must_use]
    pub fn reply(self) -> Reply {
        match self {
            RefusalReason::NotARelayListener => Reply::new(
                550,
                (5, 7, 1),
                "This port does not relay; send through the port for relaying or submission (D3)",
            ),
            RefusalReason::NoRelayEntry => Reply::new(
                550,
                (5, 7, 1),
                "Relaying is not set up here; ask the administrator for a relay entry (D3)",
            ),
            RefusalReason::TlsRequired => {
                Reply::new(530, (5, 7, 0), "TLS is required to relay; issue STARTTLS first (D5)")
            }
            RefusalReason::AuthenticationRequired => Reply::new(
                530,
                (5, 7, 0),
                "Authentication required to relay; use AUTH PLAIN or LOGIN (D3)",
            ),
            RefusalReason::AuthenticationFailed => Reply::new(
                530,
                (5, 7, 0),
                "Authentication failed before, and relaying this mail needs it; correct user and password, then use AUTH again (D3)",
            ),
            RefusalReason::AuthenticatedElsewhere => Reply::new(
                550,
                (5, 7, 1),
                "This login may not relay here; authenticate as a user of the organization that relays (D3)",
            ),
            RefusalReason::AddressNotListed => Reply::new(
                550,
                (5, 7, 1),
                "This client's IP address may not relay; ask the administrator to list it (D3)",
            ),
            RefusalReason::AddressDeferred => Reply::new(
                450,
                (4, 7, 1),
                "This client's IP address may not relay yet; ask the administrator to list it, the mail can wait (D3)",
            ),
            RefusalReason::SenderNotRegistered => Reply::new(
                550,
                (5, 7, 1),
                "Only registered users may relay; use the address of one as envelope sender (D2)",
            ),
            RefusalReason::SenderNotInDomains => Reply::new(
                550,
                (5, 7, 1),
                "The envelope sender must be in a domain of the organization that relays (D2)",
            ),
            RefusalReason::Unidentified => Reply::new(
                550,
                (5, 7, 1),
                "To relay for a foreign or empty envelope sender, authenticate or give one of your organization's domains in EHLO (D7)",
            ),
            RefusalReason::DirectoryUnavailable => {
                Reply::new(451, (4, 3, 0), "The directory cannot answer now; try again later (C8)")
            }
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RefusalReason::NotARelayListener => "the listener is an MX and never relays",
            RefusalReason::NoRelayEntry => "no relay entry is in force",
            RefusalReason::TlsRequired => "the session is in clear text and TLS is required (D5)",
            RefusalReason::AuthenticationRequired => "AUTH is required (D3)",
            RefusalReason::AuthenticationFailed => "AUTH is required, and failed before (D3)",
            RefusalReason::AuthenticatedElsewhere => {
                "the client authenticated as a user of another organization (D3)"
            }
            RefusalReason::AddressNotListed => "the client's address is not an enabled one (D3)",
            RefusalReason::AddressDeferred => {
                "the client's address is not an enabled one, and unlisted_address = \"defer\" (D3)"
            }
            RefusalReason::SenderNotRegistered => {
                "the sender is not a registered, active user of the organization (D2)"
            }
            RefusalReason::SenderNotInDomains => {
                "the sender is not in a domain of the organization (D2)"
            }
            RefusalReason::Unidentified => {
                "the sender is foreign or empty, and neither AUTH nor HELO names the organization (D7)"
            }
            RefusalReason::DirectoryUnavailable => "the directory cannot answer (C8)",
        })
    }
}
