//! The crate from outside; `authentication`, which takes the hook of panics, is beside.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may say what they mean"
)]

#[cfg(feature = "test-kit")]
mod client_faults;
mod client_pool;
mod client_tls;
mod dns;
#[cfg(feature = "test-kit")]
mod milter;
mod server;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "test-kit")]
mod test_kit;
mod tls_probe;
