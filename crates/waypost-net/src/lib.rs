//! The network side of Waypost: SMTP over tokio, TLS, DNS, connection pools, client limits.
//!
//! **In:** sockets, certificates, a handler's answers. **Out:** conversations driven to their end.
//! **Units:** octets, [`Timestamp`](waypost_types::Timestamp), [`Duration`](std::time::Duration).
//! **Bounds and errors:** named at each module. **Source:** RFC 5321, 3207, 8314; D6, D15.
//!
//! **Not done here:** the protocol itself (`waypost-smtp`), what to accept, where to route.
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

pub mod client;
pub mod dns;
pub mod server;
pub mod tls;
