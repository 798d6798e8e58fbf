//! The commands of the binary, and the small programs beside it.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may say what they mean"
)]

mod check_dns;
mod clients;
mod configuration;
mod explain_dns;
mod explain_look;
mod front_ends;
mod milter_server;
mod mta;
mod policy_server;
mod programs;
mod quota_replay;
mod refusals;
mod source_ip;
#[path = "../support/mod.rs"]
mod support;
mod test_tls;
mod trail;
