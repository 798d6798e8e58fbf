//! What mail was, recorded, and what would become of it under another configuration.
//!
//! **In:** one line of JSON for each message ([`Recorded`]), which `serve` writes where `[server]
//! record` says so, and two policies. **Out:** for each message the [`Fate`] that a policy has for it
//! ([`Policy::replay`](crate::policy::Policy::replay)), what changes from the one to the other
//! ([`Comparison`], [`MessageChange`]), and identical changes summed up ([`Groups`]).
//!
//! What is recorded of a header: [`kept_header`]. Local parts may be written as keyed hashes
//! ([`LocalPartKey`]); those that a policy knows are found again ([`KnownAddresses`]).
//!
//! **Bounds:** a recorded header has at most [`MAX_HEADER`] octets, a line [`MAX_LINE`]; a comparison
//! costs two decisions; of groups at most [`MAX_GROUPS`] are kept. **Errors:** [`RecordedError`] for a
//! line, [`ReplayError`] for an envelope that a policy cannot take. **Source:** C9, A12. **Not here:**
//! no file is read or written; quotas, DNS and limits of connections are not replayed
//! ([`Comparison::unseen`] names them where they differ).
//!
//! # Example
//!
//! ```
//! use waypost_config::replay::Recorded;
//!
//! let line = br#"{"id":"1","client_ip":"192.0.2.1","mail_from":"a@b.example",
//!     "rcpt_to":["c@d.example"],"message":"From: a@b.example\r\n\r\n"}"#;
//! let recorded = Recorded::read(line)?;
//! assert_eq!(recorded.rcpt_to, ["c@d.example".into()]);
//! assert!(Recorded::read(b"[]").is_err());
//! # Ok::<(), waypost_config::replay::RecordedError>(())
//! ```

mod change;
mod comparison;
mod fate;
mod groups;
mod header;
mod local_parts;
mod recorded;
mod shown;
mod unseen;
mod ways;

pub use change::{MessageChange, RecipientChange};
pub use comparison::{Compared, Comparison};
pub use fate::{Fate, RecipientFate, ReplayError};
pub use groups::{Group, Groups, MAX_GROUPS, Turn};
pub use header::{Kept, MAX_HEADER, kept_header};
pub use local_parts::{KnownAddresses, LocalPartKey};
pub use recorded::{MAX_LINE, Recorded, RecordedError, RecordedFate, RecordedGoing};
pub use shown::{Shown, ShownDelivery};
