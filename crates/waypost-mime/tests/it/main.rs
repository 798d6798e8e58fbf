//! The crate from outside.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests may say what they mean")]

mod remove;
mod trees;
