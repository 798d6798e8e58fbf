//! The network side of Waypost: SMTP over tokio, TLS, DNS, connection pools, client limits.
//!
//! **For:** servers and clients of SMTP on tokio that do not want all of `waypost-server`. **Begin
//! with:** [`server::Listener::serve`] with a [`server::Handler`]; [`client::Pool::deliver`].
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
//! - `authenticate`: `MailAuthenticator`, which evaluates SPF, DKIM and DMARC by the crate `mail-auth`.
//! - `test-kit`: a scripted peer and a scripted filter that fail as they are told, and certificates good
//!   and bad, for tests.
//!
//! # Example
//!
//! A server that takes every message and forgets it.
//!
//! ```no_run
//! use std::{sync::Arc, time::Duration};
//! use waypost_net::server::*;
//! use waypost_smtp::{end_of_data::Data, server::Settings};
//! use waypost_types::{ListenerRole, Reply, Session};
//!
//! struct Sink;
//! impl Handler for Sink {
//!     async fn message(&mut self, session: &Session, data: Data) -> Reply {
//!         println!("{} octets from {}", data.size, session.client_ip);
//!         Reply::new(250, (2, 0, 0), "Forgotten")
//!     }
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = Configuration::new(Settings::new("sink.example".parse()?), Tls::Off, ListenerRole::Mx);
//! let (_configure, configuration) = tokio::sync::watch::channel(Arc::new(settings));
//! let limits = SharedLimits::new(ClientLimits::new(ConnectionLimits::default()));
//! let (stopper, stop) = stop_signal();
//! let listener = Listener::bind("127.0.0.1:2525".parse()?)?;
//! let server = tokio::spawn(listener.serve(configuration, limits, || Sink, stop));
//! // …until it is enough:
//! stopper.stop(Duration::from_secs(30));
//! server.await?;
//! # Ok(())
//! # }
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
