//! A configuration from outside; `reference` and `scenarios`, which are called by name, are beside.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may say what they mean"
)]

mod any_text;
mod authentication;
mod catalogue;
mod conservation;
mod directories;
mod explanation;
mod explanation_text;
mod filter;
mod format;
mod goldens;
mod injection;
mod lints;
mod observed;
mod replay;
mod rules_told;
#[path = "../support/mod.rs"]
mod support;
