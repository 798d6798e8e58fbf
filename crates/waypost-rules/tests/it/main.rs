//! The crate from outside.

#![allow(clippy::panic, clippy::unwrap_used, reason = "tests may say what they mean")]

mod model;
mod observe;
mod patterns;
mod walk;
