//! The SMTP server over tokio: listeners, connections, TLS, client limits, an orderly stop.
//!
//! **In:** a bound [`Listener`], a [`Configuration`] that can be replaced while it runs, a
//! [`Handler`] for each connection. **Out:** calls of the handler, one after the other. **Units:**
//! [`Duration`](std::time::Duration), [`Timestamp`](waypost_types::Timestamp).
//!
//! **Bounds:** connections as [`ClientLimits`] says; each holds what `waypost_smtp::server` names,
//! a TLS session if it has one, and no buffer while it is idle. A client that does not read its
//! replies is dropped after the command time-out. **Errors:** an error of `accept()` is logged and
//! never ends the listener; an error of one connection ends that one and is told to its handler.
//! **Source:** RFC 5321, RFC 3207, RFC 8314, the PROXY protocol of `HAProxy`, Postfix's XCLIENT; D6, D15.
//!
//! **Proxies:** who is listed in [`TrustedProxies`] says for whom it speaks, by PROXY header or XCLIENT;
//! then that client's address is the one in the session, and its limits hold. The proxy itself is
//! bounded by the total of connections alone.
//!
//! **Not here:** what to accept, loading certificates.
//!
//! # Example
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use tokio::sync::watch;
//! use waypost_net::server::{
//!     ClientLimits, Configuration, ConnectionLimits, Handler, Listener, SharedLimits, Tls,
//!     stop_signal,
//! };
//! use waypost_smtp::end_of_data::Data;
//! use waypost_smtp::server::Settings;
//! use waypost_types::{ListenerRole, Reply, Session};
//!
//! /// Takes every message and forgets it.
//! struct Sink;
//!
//! impl Handler for Sink {
//!     async fn message(&mut self, session: &Session, data: Data) -> Reply {
//!         println!("{} octets from {}", data.size, session.client_ip);
//!         Reply::new(250, (2, 0, 0), "Forgotten")
//!     }
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = Settings::new("sink.example".parse()?);
//! let (_configure, configuration) =
//!     watch::channel(Arc::new(Configuration::new(settings, Tls::Off, ListenerRole::Mx)));
//! let limits = SharedLimits::new(ClientLimits::new(ConnectionLimits::default()));
//! let (stopper, stop) = stop_signal();
//! let listener = Listener::bind("127.0.0.1:2525".parse()?)?;
//! let server = tokio::spawn(listener.serve(configuration, limits, || Sink, stop));
//! stopper.stop(Duration::from_secs(30));
//! server.await?;
//! # Ok(())
//! # }
//! ```

mod client_limits;
mod clock;
mod connection;
mod connection_limits;
mod generic_hello;
mod handler;
mod listener;
mod login_limits;
mod minute;
mod network;
mod proxied;
mod slot;
mod stop;
mod trusted;

pub use client_limits::{ClientLimits, ConnectionTotals};
pub use clock::Clock;
pub use connection_limits::{ConnectionLimits, ConnectionRefusal};
pub use generic_hello::is_generic_hello;
pub use handler::{Handler, Mail, Peer, TlsFacts};
pub use listener::{Configuration, Listener, Tls};
pub use login_limits::LoginRefusal;
pub use slot::{SharedLimits, Slot};
pub use stop::{StopSignal, Stopper, stop_signal};
pub use trusted::TrustedProxies;
