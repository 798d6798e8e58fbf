//! Waypost as a server: listeners, intake, spool, delivery and reload, joined from the other crates.
//!
//! **For:** daemons that carry a whole mail router inside. **Begin with:** [`load`], then
//! [`Server::start`].
//!
//! **In:** a compiled [`Policy`](waypost_config::policy::Policy), the folder its paths begin in, and
//! a resolver if the configuration's is not wanted. **Out:** mail, taken and delivered; health and
//! metrics over HTTP; logs through `tracing`. **Commands** of administrators: [`control`].
//!
//! **Units:** octets and [`Duration`](std::time::Duration), as in the crates below. **Bounds:** connections, message size and queue as
//! configured; 512 deliveries at a time. **Errors:** [`ServerError`] at start and reload; after that
//! whatever goes wrong with one message is that message's outcome. **Source:** requirements A9, A10,
//! A12, D6, D13, D15, O1 to O4.
//!
//! **Privileges:** [`Prepared`] does all that may need them, before there is a runtime;
//! [`Server::start_on`] goes on without. [`Inherited`] takes sockets from a service manager.
//!
//! **Not here:** what is decided (`waypost-config`), the command line, signals, the change of user.
//!
//! # Features
//!
//! - `authenticate`: SPF, DKIM and DMARC from the DNS (E2); without it, and without an
//!   [`Options::authenticator`], a policy that asks for them is refused.
//!
//! # Example
//!
//! ```no_run
//! use std::path::Path;
//! use std::time::Duration;
//!
//! use waypost_server::{Options, Server, load};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let loaded = load(Path::new("/etc/waypost/waypost.toml"))?;
//! let policy = loaded.policy.ok_or_else(|| loaded.report.render(false))?;
//! let options = Options { policy, base: loaded.base, resolver: None, authenticator: None };
//! let server = Server::start(options).await?;
//! for (name, address) in server.addresses() {
//!     println!("{name} listens on {address}");
//! }
//! // …until it is enough:
//! server.stop(Duration::from_secs(30)).await;
//! # Ok(())
//! # }
//! ```

mod admin;
mod administrators;
mod asking;
mod changes;
pub mod control;
mod core;
mod delivery;
mod disk;
mod files;
mod filter;
mod front;
mod health;
mod held;
mod in_force;
mod inherited;
mod log;
mod maildir;
mod metrics;
mod pattern;
mod queue_ids;
mod quotas;
mod record;
mod reload;
mod room;
mod route_changes;
mod schedule;
mod senders_told;
mod server;
mod session;
mod spool;
mod stamps;
mod tls_watch;
mod trace;
mod uptime;
mod way;

pub use files::{LoadError, Loaded, load};
pub use front::{
    ByName, ForeignSenders, Front, FrontAddress, FrontAddressError, MilterRecipients,
    MilterSettings, RecipientsAtOnce, SocketRights,
};
pub use inherited::{Inherited, InheritedError};
pub use maildir::{Letter, Maildir};
pub use record::record_key_file;
pub use reload::{Asked, Reload, Reloaded};
pub use server::{Options, Prepared, Refusal, RefusedBecause, Server, ServerError};
pub use spool::SpoolError;
pub use stamps::Stamps;
