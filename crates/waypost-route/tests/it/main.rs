//! The crate from outside.

#![allow(
    clippy::indexing_slicing,
    clippy::type_complexity,
    clippy::unwrap_used,
    reason = "tests may say what they mean"
)]

mod allocations;
mod attempts;
mod health;
mod mx;
mod route;
