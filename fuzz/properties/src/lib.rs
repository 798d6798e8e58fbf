//! What must hold for any bytes, one function for each fuzz target.
//!
//! **In:** any bytes. **Out:** nothing, or a panic that names the property that does not hold.
//! **Units:** octets. **Bounds:** linear time, but for `smtp_server` and `smtp_client`, which play
//! the same bytes up to four times. **Errors:** none; a broken property is a panic. **Source:** the
//! requirements and RFCs named at each function.
//!
//! The fuzz targets call these with what the fuzzer makes up; `tests/corpus.rs` calls them with the
//! files of `fuzz/corpus`, so that every change is tried on what was found before. Where a property
//! needs choices beside the bytes (how to cut them, what to answer), the first bytes make them.
//!
//! **Not here:** the fuzzer.
//!
//! ```
//! waypost_fuzz_properties::end_of_data(b"\x03\x40a line\r\n.\r\nQUIT\r\n");
//! ```

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "all is a test")]
#![allow(clippy::missing_panics_doc, reason = "the head says it of all of them")]

mod config;
mod dsn;
mod end_of_data;
mod forged_results;
mod header_block;
mod ledger_ops;
mod mailbox;
mod milter_client;
mod milter_server;
mod mime_edit;
mod postfix_requests;
mod proxy_header;
mod received_line;
mod relay_session;
mod smtp_client;
mod smtp_server;
mod spool_record;
mod steer;

pub use config::config;
pub use dsn::dsn;
pub use end_of_data::end_of_data;
pub use forged_results::forged_results;
pub use header_block::header_block;
pub use ledger_ops::ledger_ops;
pub use mailbox::mailbox;
pub use milter_client::milter_client;
pub use milter_server::milter_server;
pub use mime_edit::mime_edit;
pub use postfix_requests::postfix_requests;
pub use proxy_header::proxy_header;
pub use received_line::received_line;
pub use relay_session::relay_session;
pub use smtp_client::smtp_client;
pub use smtp_server::smtp_server;
pub use spool_record::spool_record;

/// A property: any bytes, or a panic.
pub type Property = fn(&[u8]);

/// Every property by the name of its fuzz target and of its directory in `fuzz/corpus`.
pub const ALL: [(&str, Property); 17] = [
    ("config", config),
    ("dsn", dsn),
    ("end_of_data", end_of_data),
    ("forged_results", forged_results),
    ("header_block", header_block),
    ("ledger_ops", ledger_ops),
    ("mailbox", mailbox),
    ("milter_client", milter_client),
    ("milter_server", milter_server),
    ("mime_edit", mime_edit),
    ("postfix_requests", postfix_requests),
    ("proxy_header", proxy_header),
    ("received_line", received_line),
    ("relay_session", relay_session),
    ("smtp_client", smtp_client),
    ("smtp_server", smtp_server),
    ("spool_record", spool_record),
];
