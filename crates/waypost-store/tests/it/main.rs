//! The crate from outside.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests may say what they mean")]

mod committer;
#[path = "../common/mod.rs"]
mod common;
mod disk_full;
mod fjall_store;
mod kill;
