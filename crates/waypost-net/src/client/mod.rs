//! SMTP and LMTP clients on tokio: connections, a pool that keeps them open, and a test of TLS.
//!
//! **In:** a [`Hop`] (host, port, TLS policy, credentials), its addresses (DNS is the caller's),
//! and transactions. **Out:** one outcome for each recipient; of a [`RouteProbe`], what each address
//! of a route shows in TLS. **Units:** [`std::time::Duration`].
//! **Bounds:** a connection holds a reply, the commands of one transaction and a read buffer of 4
//! KiB; the message is lent, not copied. The pool bounds the connections of each hop and how long
//! and how often one is used; each phase has a time-out. **Errors:** [`ConnectError`] says how far
//! a connection came; behind that, failures are outcomes. **Source:** RFC 5321 sections 4.5.3.2 and
//! 5.1; A5-A10.
//!
//! **Not here:** DNS (but for the probe), the choice and health of hosts, retries on a schedule.
//!
//! # Example
//!
//! ```no_run
//! use waypost_net::client::{ConnectSettings, Hop, Pool, PoolLimits};
//! use waypost_net::tls::TlsPolicy;
//! # async fn example(transaction: waypost_smtp::client::Transaction)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::new(ConnectSettings::new("us.example".parse()?), PoolLimits::default());
//! let hop = Hop::new("mx.example:25".parse()?, TlsPolicy::opportunistic());
//! let addresses = ["192.0.2.1".parse()?];
//! for outcome in pool.deliver(&hop, &addresses, transaction).await {
//!     println!("{outcome:?}");
//! }
//! # Ok(())
//! # }
//! ```

mod connect;
mod connection;
mod hop;
mod pool;
mod probe;
mod route_probe;
mod stream;

pub use connect::{ConnectError, connect};
pub use connection::{Connection, TlsFacts};
pub use hop::{ConnectSettings, Hop};
pub use pool::{Over, Pool, PoolLimits};
pub use probe::{Checked, Finding, Passage, ProbeError, TlsReport, probe};
pub use route_probe::{HostReport, PROBE_TIME, RouteProbe, RouteReport};
