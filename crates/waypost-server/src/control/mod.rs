//! Commands to a running server, over a Unix socket in its spool.
//!
//! `SPOOL/control.sock` belongs to the server's user alone (mode 0600; root may use it too). A client
//! writes one [`Request`] as a line of JSON and reads [`Answer`]s, a line each, the last of which is an
//! [`Answer::End`]; then the server closes the connection. Where no server runs, [`Offline`] opens the
//! spool and answers the same requests. Everything that changes something is in the audit log, with who
//! asked: the user at the other end of the socket, as the kernel tells it.
//!
//! **Bounds:** a request has at most 4 KiB and ten seconds, 16 clients are served at a time, a client
//! that does not read is dropped after 30 seconds; lists are made in pages, so that neither the queue
//! is locked nor memory used for long ones. **Source:** requirements A12, C6, D13, O1, O2, and the
//! command line's `queue`, `reload`, `audit`, `quota`.

mod answer;
mod client;
mod desk;
mod now;
mod offline;
mod peer;
mod quotas;
mod reload;
mod request;
mod socket;
#[cfg(test)]
mod tests;

pub use answer::{
    Answer, AuditLine, Audited, Change, Changed, Counted, DeliveryLine, End, HoldLine, Message,
    Now, QuotaLine, Shown, Via, WayNow,
};
pub use client::{Answers, AskError, ask};
pub(crate) use desk::Desk;
pub use offline::{Offline, OfflineError};
pub(crate) use peer::named;
pub use reload::{ReloadAnswer, ReloadRequest, ReloadRequests};
pub use request::{Request, State};
pub(crate) use socket::Socket;
pub(crate) use socket::at_short_path;
