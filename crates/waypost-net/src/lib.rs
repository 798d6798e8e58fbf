//! The I/O around Waypost's SMTP state machines, on tokio: TLS, connections, pools.

pub mod client;
pub mod tls;
