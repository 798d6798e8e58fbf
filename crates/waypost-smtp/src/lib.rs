//! SMTP and LMTP as state machines without I/O: octets and time in, octets and events out.
//!
//! **In:** octets of a peer in chunks of any size, moments, answers of the application. **Out:**
//! octets for the peer, events, deadlines. **Units:** octets,
//! [`Timestamp`](waypost_types::Timestamp). **Bounds:** named at each module; memory is bounded for
//! any octets. **Errors:** what a peer does wrong is a reply or an outcome; only
//! [`end_of_data`] and [`mod@line`] have error types. **Source:** RFC 5321 and the extensions named at
//! each module; D6, D14, D15.
//!
//! **Not done here:** sockets, TLS, DNS, clocks (`waypost-net` has them).
//!
//! ```
//! use waypost_smtp::end_of_data::{stuff, unstuff};
//!
//! assert_eq!(stuff(b".a\r\n").as_ref(), b"..a\r\n");
//! assert_eq!(unstuff(b"..a\r\n").as_ref(), b".a\r\n");
//! ```

pub mod client;
pub mod end_of_data;
pub mod line;
pub mod server;
