//! The script and the ledger against a real server: `scripts/redis` runs them.

mod model;
mod server;
mod sharing;
mod tls;
