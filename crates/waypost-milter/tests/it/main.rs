//! The crate from outside.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may say what they mean"
)]

mod dialogue;
mod frames;
#[path = "../support/mod.rs"]
mod support;
