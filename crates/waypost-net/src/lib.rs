//! The network side of Waypost: SMTP over tokio, TLS, DNS, connection pools, client limits.
//!
//! **In:** sockets, certificates, a [handler](server::Handler)'s answers, transactions to deliver.
//! **Out:** a [`server`] that calls the handler, a [`client`] pool that gives each recipient an
//! outcome, [`dns`] that turns names into next hops, [`tls`] with a route's three switches,
//! [`authentication`] that asks the DNS who may send (SPF, DKIM, DMARC), [`spf`] that tells whom a
//! record covers, [`milter`] that asks a filter what it thinks of a message.
//!
//! **Units:** octets, [`Timestamp`](waypost_types::Timestamp), [`Duration`](std::time::Duration).
//! **Bounds:** named at each module: connections, records of an answer and time are bounded, whatever
//! a peer does. **Errors:** one type a module, which names what was tried; once a conversation runs,
//! failures are replies and outcomes. **Source:** RFC 5321, RFC 3207 (STARTTLS), RFC 8314 (implicit
//! TLS), RFC 7208 (SPF), RFC 7505 (null MX), RFC 9525 (names in certificates); A4 to A10, B4, D6, D15,
//! D17.
//!
//! **Not here:** the protocol itself (`waypost-smtp`), what to accept, where to route.
//!
//! # Features
//!
//! - `test-kit`: a scripted peer and a scripted filter that fail as they are told, and certificates good
//!   and bad, for tests.
//!
//! # Example
//!
//! ```
//! use waypost_net::server::{ClientLimits, ConnectionLimits};
//! use waypost_types::Timestamp;
//!
//! let limits = ConnectionLimits { per_client: 1, ..ConnectionLimits::default() };
//! let mut clients = ClientLimits::new(limits);
//! let now = Timestamp::from_millis(0);
//! assert!(clients.connect(now, "192.0.2.1".parse()?).is_ok());
//! assert!(clients.connect(now, "192.0.2.1".parse()?).is_err());
//! # Ok::<(), std::net::AddrParseError>(())
//! ```

pub mod authentication;
pub mod client;
mod concurrent;
pub mod dns;
pub mod milter;
pub mod server;
pub mod spf;
#[cfg(feature = "test-kit")]
pub mod test_kit;
pub mod tls;
