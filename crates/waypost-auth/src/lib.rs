//! What SPF, DKIM and DMARC found out about a message, and what follows from it.
//!
//! **For:** servers and filters that have results of SPF, DKIM and DMARC, must act on them, and
//! tell them in the header. **Begin with:** [`Authentication::verdict`], then [`Stamp::lines`].
//!
//! **In:** the results, found out elsewhere, as an [`Authentication`]; who handed the message over, and
//! what an organization wants done ([`Mode`]). **Out:** a [`Verdict`] with its because; the lines
//! `Authentication-Results` and `Received-SPF` ([`Stamp`]); a message without lines that forge ours
//! ([`without_forged`]).
//!
//! **Units:** none. **Bounds:** [`MAX_AUTHORS`] domains in `From:` and [`MAX_SIGNATURES`] signatures;
//! time and memory are linear in the header. **Errors:** none: every result has a verdict.
//! **Source:** requirement E2; RFC 7208 (SPF), RFC 7372 (codes), RFC 8601 (`Authentication-Results`),
//! RFC 9989 (DMARC).
//!
//! **Not here:** finding the results out, which takes DNS and keys (`waypost-net`).
//!
//! # Features
//!
//! - `serde`: `Serialize` and `Deserialize` for results and verdicts.
//!
//! # Example
//!
//! ```
//! use waypost_auth::{
//!     Authentication, Client, Dmarc, DmarcResult, Identity, Mode, Spf, SpfResult,
//! };
//!
//! let found = Authentication {
//!     checked: Some("192.0.2.1".parse()?),
//!     spf: Spf::new(SpfResult::Fail, Identity::MailFrom, Some("friend.example")),
//!     dkim: Vec::new(),
//!     dmarc: Dmarc::new(DmarcResult::None, None),
//! };
//! let direct = found.verdict(Mode::Enforce, Client::Direct);
//! assert!(direct.refusal().is_some_and(|refusal| refusal.reply.code() == 550));
//! let by_gateway = found.verdict(Mode::Enforce, Client::Gateway);
//! assert!(by_gateway.refusal().is_none(), "{}", by_gateway.because);
//! # Ok::<(), std::net::AddrParseError>(())
//! ```

mod forged;
mod question;
mod result;
mod stamp;
mod verdict;

pub use forged::without_forged;
pub use question::Question;
pub use result::{
    Aligned, Authentication, Dkim, DkimResult, Dmarc, DmarcPolicy, DmarcResult, Identity,
    MAX_AUTHORS, MAX_SIGNATURES, Spf, SpfResult,
};
pub use stamp::{Stamp, folded};
pub use verdict::{Action, Client, Mode, Refusal, RefusedFor, Verdict};
