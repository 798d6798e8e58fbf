//! The I/O around Waypost's SMTP state machines, on tokio: listeners, connections, TLS, pools, DNS.
//!
//! **In:** sockets, certificates, names to look up, transactions. **Out:** calls of a handler, one
//! outcome for each recipient, addresses to connect to. **Units, bounds, errors:** see each module.
//! **Source:** RFC 5321, RFC 3207, RFC 8314; A4 to A8, D6, D15.
//!
//! **Not here:** what is accepted, where it goes, what is stored.

pub mod client;
pub mod dns;
pub mod tls;
