//! Mail routing one can embed: this facade re-exports the Waypost crates and adds nothing.
//!
//! **In and out:** see each module. **Features:** one for each crate; `config`, `inbound`, `queue`,
//! `relay`, `route`, `rules` and `smtp` are on by default and do no I/O; `store`, `net` and `server`
//! do. A crate can as well be added alone under its own name.

#[cfg(feature = "config")]
pub use waypost_config as config;
#[cfg(feature = "inbound")]
pub use waypost_inbound as inbound;
#[cfg(feature = "net")]
pub use waypost_net as net;
#[cfg(feature = "queue")]
pub use waypost_queue as queue;
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
