//! The crate from outside. What starts other processes is a program of its own: they hold the locks of all spools
//! for a moment.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests may say what they mean")]

mod committer;
#[path = "../common/mod.rs"]
mod common;
mod fjall_store;
