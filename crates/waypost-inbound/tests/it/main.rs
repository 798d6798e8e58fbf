//! The crate from outside.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may say what they mean"
)]

mod allocation;
mod bounds;
mod document;
mod forged;
mod formats;
mod layouts;
mod model;
mod mutants;
mod sample;
mod source;
mod truth_table;
