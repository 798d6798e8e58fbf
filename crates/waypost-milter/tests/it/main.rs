//! The crate from outside.

mod dialogue;
mod frames;
#[path = "../support/mod.rs"]
mod support;
