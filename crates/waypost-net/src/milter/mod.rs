//! Asking a filter, such as rspamd, what it thinks of a message (D17).
//!
//! **In:** a [`FilterQuestion`] that borrows the message as it is stored, and a [`MilterAddress`].
//! **Out:** a [`FilterVerdict`] with its because. The filter is told the source found behind gateways as
//! the client's address (E2).
//!
//! **Units:** octets, [`Duration`](std::time::Duration). **Bounds:** [`MilterLimits`]: connections at
//! once, time for a connection and for a message as a whole; what a filter may send is bounded by
//! [`Limits`](waypost_milter::client::Limits). Of a message at most some 192 KiB are copied at a time.
//! **Errors:** [`FilterError`], which names the filter, what it owed, and the cure; a question is asked
//! once more by itself only where a connection used before was closed before its first answer.
//! **Source:** D17, E2; the milter protocol, versions 2 to 6 (`waypost-milter`).
//!
//! **Not here:** the protocol itself, what to do about a verdict or without one, TLS to the filter:
//! it belongs on the same machine or in a network that nobody else reads.
//!
//! ```no_run
//! use waypost_net::milter::{FilterQuestion, MilterClient, MilterLimits};
//! use waypost_types::{Domain, Mailbox, ReversePath};
//!
//! # async fn ask() -> Result<(), Box<dyn std::error::Error>> {
//! let filter = MilterClient::new("milter:127.0.0.1:11332".parse()?, MilterLimits::default());
//! let (own, to): (Domain, Mailbox) = ("mx.example".parse()?, "marie@solarmora.com".parse()?);
//! let stored = b"Subject: x\r\n\r\nhello\r\n";
//! let ip = "192.0.2.1".parse()?;
//! let verdict =
//!     filter.filter(&FilterQuestion::new(&own, ip, &ReversePath::Null, [&to], stored)).await?;
//! println!("{}, because {}", verdict.action, verdict.reason);
//! # Ok(())
//! # }
//! ```

mod address;
mod client;
mod connection;
mod error;

pub use address::{MilterAddress, MilterAddressError};
pub use client::{MilterClient, MilterLimits};
pub use error::FilterError;
pub use waypost_milter::{
    FilterAction, FilterQuestion, FilterVerdict, HeaderEdit, Ignored, TlsFacts,
};
