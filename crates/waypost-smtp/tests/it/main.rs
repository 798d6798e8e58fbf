//! The crate from outside.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may say what they mean"
)]

mod client_properties;
mod client_talk;
mod hostile;
mod sasl_reference;
mod talk;
