//! The words that all Waypost crates share, as types whose values are right by construction.
//!
//! **For:** programs that speak of mail in Rust and want addresses, replies and headers that are
//! right once they are parsed; all other Waypost crates. **Begin with:** `text.parse::<Mailbox>()`,
//! [`HeaderBlock::of`], [`Reply::new`].
//!
//! **In:** text and bytes from SMTP commands, configuration files and message headers.
//! **Out:** [`Domain`], [`Mailbox`], [`ReversePath`], [`Envelope`], [`Reply`], [`Outcome`],
//! [`Timestamp`], [`RouteName`], [`Destination`], [`Delivery`], [`HeaderBlock`], and the trait
//! [`Directory`], which answers who is who.
//!
//! **Units:** time is [`Timestamp`] (milliseconds since 1970) or [`std::time::Duration`].
//! **Bounds:** every text type has a maximal length, named at the type; [`HeaderBlock`] borrows and
//! allocates nothing. **Errors:** each parser has an error type of its own that names the rule
//! broken. **Source:** RFC 5321 (SMTP), RFC 5322 (message format), RFC 3461 (DSN parameters), RFC
//! 3463 (enhanced codes), RFC 5890 (A-labels).
//!
//! **Not here:** no clock, network, disk or randomness; no decision of any kind.
//!
//! # Features
//!
//! - `idna`: [`Domain`] takes internationalised names (U-labels) and keeps their A-labels.
//! - `serde`: `Serialize` and `Deserialize`; text forms go through the same parsers as `FromStr`.
//!
//! # Example
//!
//! ```
//! use waypost_types::{Domain, Mailbox};
//!
//! let marie: Mailbox = "Marie@Mail.Solarmora.COM".parse()?;
//! assert_eq!(marie.local_part(), "Marie");
//! assert_eq!(marie, "marie@mail.solarmora.com".parse()?); // local parts are compared without case
//!
//! let ours: Domain = "solarmora.com".parse()?;
//! assert!(marie.domain().is_some_and(|domain| domain.is_at_or_below(&ours)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod delivery;
mod destination;
mod directory;
mod domain;
mod envelope;
mod header_block;
mod header_line;
mod host;
mod mailbox;
mod org_unit;
mod outcome;
mod queue_id;
mod reply;
mod reverse_path;
mod route_name;
mod session;
mod shown;
mod timestamp;

pub use delivery::{Changes, Delivery, TlsDemand};
pub use destination::Destination;
pub use directory::{Account, Directory, Unavailable, User};
pub use domain::{Domain, DomainError};
pub use envelope::{Body, Envelope, MailParameters, Notify, Recipient, Ret};
pub use header_block::{Field, Fields, HeaderBlock};
pub use header_line::{HeaderLine, HeaderLineError};
pub use host::{Host, HostError, HostPort};
pub use mailbox::{Mailbox, MailboxError};
pub use org_unit::{OrgUnit, OrgUnitError};
pub use outcome::{Failure, FailureScope, Outcome};
pub use queue_id::{QueueId, QueueIdError};
pub use reply::{EnhancedCode, Reply, ReplyClass};
pub use reverse_path::ReversePath;
pub use route_name::{RouteName, RouteNameError};
pub use session::{ListenerRole, Session, TlsState};
pub use shown::{misleads, shown, shown_json};
pub use timestamp::Timestamp;
