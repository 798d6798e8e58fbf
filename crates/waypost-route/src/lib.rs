//! Mail routes: which hosts, how much to each, in which order, and what TLS must show.
//!
//! **For:** whoever hands mail, or any other work, on to several hosts by shares, with failover.
//! **Begin with:** [`Route::new`] once, [`Route::attempts`] for each message, [`Health`] for what
//! came of it.
//!
//! **In:** [`RouteSettings`] as an administrator writes them; a [`Draw`] for a message; MX records
//! that a resolver found; the outcome of connections. **Out:** a [`Route`] or all its
//! [`RouteError`]s at once, with [`RouteWarning`]s; [`Attempts`], the hosts to try in order and the
//! ones to skip with the reason; [`MxOrder`]; the expected and the simulated share of each host.
//!
//! **Units:** loads and shares in percent, time as [`Timestamp`](waypost_types::Timestamp).
//! **Bounds:** an order costs O(n²) for a route's n hosts; [`Health`] remembers a bounded number of
//! failing hosts. **Errors:** [`RouteError`] for settings, [`MxError`] for MX records that lead
//! nowhere. **Source:** requirements A1-A11, B1; RFC 5321 section 5.1 (MX), RFC 7505 (null MX), RFC 2033
//! (LMTP), RFC 8314 (implicit TLS).
//!
//! **Not here:** no clock, randomness, network or file: roots and passwords are paths, names are
//! resolved and connections made elsewhere. That a route's name is unique is its owner's matter.
//!
//! # Features
//!
//! - `serde`: `Serialize` for what is printed, `Deserialize` for settings and small values.
//!
//! # Example
//!
//! ```
//! use waypost_route::{Draw, Health, HostSettings, Route, RouteSettings};
//! use waypost_types::{FailureScope, QueueId, Timestamp};
//!
//! let host = |name: &str, load| HostSettings {
//!     host: name.to_owned(),
//!     load: Some(load),
//!     ..HostSettings::default()
//! };
//! let mut settings = RouteSettings {
//!     name: "edge".to_owned(),
//!     primary: Some(vec![host("a.example", 60), host("b.example", 30)]),
//!     secondary: Some(vec![host("dr.example", 100)]),
//!     ..RouteSettings::default()
//! };
//! let errors = Route::new(settings.clone()).unwrap_err();
//! assert_eq!(
//!     errors[0].to_string(),
//!     "primary: the loads of the primary hosts add up to 90; make them add up to exactly 100 (A3)"
//! );
//! settings.primary = Some(vec![host("a.example", 60), host("b.example", 40)]);
//! let route = Route::new(settings).map_err(|errors| format!("{errors:?}"))?;
//!
//! let (mut health, now) = (Health::default(), Timestamp::from_millis(0));
//! let draw = Draw::new([0; 16], QueueId::new(1), route.name());
//! let first = route.attempts(draw, &health, now).order[0];
//! health.failed(first.at(), FailureScope::Host, now);
//! let next = route.attempts(draw, &health, now);
//! assert_ne!(next.order[0], first);
//! assert_eq!(next.skipped[0].host, first);
//! assert_eq!(next.order.last().map(|host| host.at().to_string()).as_deref(), Some("dr.example:25"));
//! # Ok::<(), String>(())
//! ```

mod attempts;
mod draw;
mod error;
mod gateway;
mod health;
mod mx;
mod route;
mod settings;
mod tls;

pub use attempts::{Attempts, Share, Skipped, Spread};
pub use draw::{Draw, DrawError};
pub use error::{RouteError, RouteErrorKind, RouteWarning, RouteWarningKind};
pub use gateway::outbound_gateway;
pub use health::{FIRST_PAUSE, HEALTH_CAPACITY, Health, HostState, LONGEST_PAUSE, PROBE_LEASE};
pub use mx::{Exchange, MxError, MxOrder, MxRecord, mx_order};
pub use route::{Route, RouteHost, Tier};
pub use settings::{
    AuthSettings, HostSettings, OnTlsFailure, Protocol, RetrySettings, RouteSettings, UnknownWord,
};
pub use tls::{Check, TlsPolicy, TlsStart};
