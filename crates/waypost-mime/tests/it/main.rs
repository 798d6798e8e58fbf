//! The crate from outside.

mod remove;
mod trees;
