//! Mail routing one can embed: this facade re-exports the Waypost crates and adds nothing.
//!
//! **For:** programs that use several of them under one version. **Begin with:** the module of the task,
//! such as [`inbound`](https://docs.rs/waypost-inbound) or [`server`](https://docs.rs/waypost-server).
//!
//! **In**, **out**, **units**, **bounds**, **errors** and **source** are said at the head of each
//! module, in this order. **Not here:** any code; a crate can as well be added alone under its own
//! name, as the examples of the README do.
//!
//! # Features
//!
//! One for each crate. `auth`, `config`, `inbound`, `milter`, `mime`, `postfix`, `queue`, `relay`,
//! `route`, `rules` and `smtp` are on by default and do no I/O; `store`, `net`, `redis` and `server`
//! do. [`types`] is always there. `test-kit` adds the scripted peer and filter of `waypost-net`.
//!
//! # Example
//!
//! ```
//! use waypost::types::{Mailbox, Reply};
//!
//! let marie: Mailbox = "marie@solarmora.com".parse()?;
//! let reply = Reply::new(550, (5, 1, 1), &format!("{marie} is not here"));
//! assert_eq!(reply.to_string(), "550 5.1.1 marie@solarmora.com is not here");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "auth")]
pub use waypost_auth as auth;
#[cfg(feature = "config")]
pub use waypost_config as config;
#[cfg(feature = "inbound")]
pub use waypost_inbound as inbound;
#[cfg(feature = "milter")]
pub use waypost_milter as milter;
#[cfg(feature = "mime")]
pub use waypost_mime as mime;
#[cfg(feature = "net")]
pub use waypost_net as net;
#[cfg(feature = "postfix")]
pub use waypost_postfix as postfix;
#[cfg(feature = "queue")]
pub use waypost_queue as queue;
#[cfg(feature = "redis")]
pub use waypost_redis as redis;
#[cfg(feature = "relay")]
pub use waypost_relay as relay;
#[cfg(feature = "route")]
pub use waypost_route as route;
#[cfg(feature = "rules")]
pub use waypost_rules as rules;
#[cfg(feature = "server")]
pub use waypost_server as server;
#[cfg(feature = "smtp")]
pub use waypost_smtp as smtp;
#[cfg(feature = "store")]
pub use waypost_store as store;
pub use waypost_types as types;

/// The examples of the README, so that they are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

#[cfg(doctest)]
mod pages;
