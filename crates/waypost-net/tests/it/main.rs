//! The crate from outside; `authentication`, which takes the hook of panics, is beside.

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
