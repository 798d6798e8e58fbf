//! Placeholder.

pub mod dns;
