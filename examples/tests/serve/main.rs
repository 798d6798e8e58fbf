//! `waypost serve` as a whole. What measures memory or needs the machine for itself is a program of its own beside.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may say what they mean"
)]

mod attachments;
mod authenticate;
mod bounces;
mod control;
mod copy;
mod corrupt;
mod delivery;
mod disk_full;
mod filter;
mod gateway;
mod hostile;
mod inbound;
mod limits;
mod log;
mod login;
mod metrics;
mod observe;
mod operations;
mod peers;
mod privileges;
mod proxy;
mod queue;
mod quota_race;
mod record;
mod redis;
mod relay;
mod reload;
mod routing;
mod smart_host;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod tls_check;
