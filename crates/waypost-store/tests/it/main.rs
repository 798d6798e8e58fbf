//! The crate from outside.

mod committer;
#[path = "../common/mod.rs"]
mod common;
mod disk_full;
mod fjall_store;
mod kill;
