//! Relay quotas shared by several nodes over Redis or Valkey (D10 to D13, O5).
//!
//! **For:** nodes that relay for the same organizations under one quota. **Begin with:**
//! [`SharedLedger::start`], then [`SharedLedger::reserve`] at RCPT and [`SharedLedger::commit`]
//! with the 250.
//!
//! **In:** who relays to whom ([`waypost_relay::QuotaSubject`], mailboxes), and a [`Settings`].
//! **Out:** reservations or refusals, the same that [`waypost_relay::Ledger`] gives for one node, but
//! over all nodes that share a Redis and a prefix.
//!
//! **Units:** recipients, messages; time is that of Redis, so the clocks of the nodes do not matter.
//!
//! **Bounds:** one awaited round trip a reservation, of up to 64 recipients; none for commits and
//! releases, of which at most [`Settings::waiting`] are held in memory. The script costs a few
//! commands a counter, and a bounded number more for what has left a window. Each key expires 26 hours
//! after its last use. No call takes longer than [`Settings::timeout`].
//!
//! **Errors:** [`SettingsError`] before anything is sent, [`Unavailable`] while Redis does not answer
//! as it should: refused, too slow, loading, read-only, out of memory. The ledger looks for it again by
//! itself, says so ([`SharedLedger::standing`]), and tells Redis from the [`History`] what it misses.
//!
//! **Source:** D10 to D13 and O5 of the requirements; the protocol and the keys are in docs/REDIS.md.
//!
//! **Not here:** what to do while Redis is gone (the caller's: refuse, or count for itself); Redis
//! Cluster and Sentinel (the keys of an organization are in one slot, but the client is for one server).
//!
//! # Example
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use waypost_redis::{Settings, SharedLedger};
//! use waypost_relay::{LimitOverrides, Limits, Payment, QuotaSubject};
//! use waypost_types::{Mailbox, Timestamp};
//!
//! # async fn relay() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = Settings::new("redis://127.0.0.1:6379", "waypost", [1; 16])?;
//! let ledger = SharedLedger::start(settings, ());
//! ledger.ready(Duration::from_secs(1)).await;
//!
//! let limits = Limits::new(250, Payment::Settled, &LimitOverrides::default(), None);
//! let user = Some("marie@solarmora.com".parse()?);
//! let mut message = ledger.begin(QuotaSubject::new("Solarmora".into(), user, limits));
//! let to: Mailbox = "paul@elsewhere.example".parse()?;
//! match ledger.reserve(&mut message, &[to]).await?.remove(0) {
//!     Ok(_) => println!("250 2.1.5 OK"),
//!     Err(refusal) => println!("{}", refusal.reply()),
//! }
//! ledger.commit(Timestamp::from_millis(1_600_000_000_000), message);
//! ledger.flush(Duration::from_secs(1)).await;
//! # Ok(())
//! # }
//! ```

mod call;
mod counter;
mod digest;
mod driver;
mod history;
mod keys;
mod ledger;
mod link;
mod mark;
mod outbox;
mod settings;
mod shared;
mod transaction;

pub use history::History;
pub use ledger::SharedLedger;
pub use settings::{Settings, SettingsError};
pub use shared::{Standing, Unavailable};
pub use transaction::SharedTransaction;

// For its features alone; see Cargo.toml.
use rustls as _;

#[cfg(test)]
mod tests;
