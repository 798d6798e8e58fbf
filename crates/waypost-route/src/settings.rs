//! A route as it is written down, before anything is checked.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::TlsStart;

/// A text that is none of the words allowed in its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not known here; write {allowed}")]
pub struct UnknownWord {
    text: Box<str>,
    allowed: &'static str,
}

impl UnknownWord {
    pub(crate) fn new(text: &str, allowed: &'static str) -> Self {
        Self { text: text.chars().take(64).collect::<String>().into(), allowed }
    }
}

/// The protocol spoken to a route's hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Protocol {
    /// SMTP (RFC 5321).
    #[default]
    Smtp,
    /// LMTP (RFC 2033): one reply for each recipient after the final dot; any port (A2).
    Lmtp,
}

impl FromStr for Protocol {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "smtp" => Ok(Protocol::Smtp),
            "lmtp" => Ok(Protocol::Lmtp),
            _ => Err(UnknownWord::new(text, "`smtp` or `lmtp`")),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Smtp => "smtp",
            Protocol::Lmtp => "lmtp",
        })
    }
}

/// What becomes of a message when TLS failed on every host of both tiers (A10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum OnTlsFailure {
    /// It bounces.
    #[default]
    Bounce,
    /// It waits on the retry schedule.
    Defer,
}

impl FromStr for OnTlsFailure {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "bounce" => Ok(OnTlsFailure::Bounce),
            "defer" => Ok(OnTlsFailure::Defer),
            _ => Err(UnknownWord::new(text, "`bounce` or `defer`")),
        }
    }
}

impl fmt::Display for OnTlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnTlsFailure::Bounce => "bounce",
            OnTlsFailure::Defer => "defer",
        })
    }
}

/// One route as written: plain values, nothing checked. [`Route::new`](crate::Route::new) checks
/// them all. What is `None` was not said and gets its default.
///
/// Fill in what is said and take the rest from `Default`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct RouteSettings {
    /// The name (A1).
    pub name: String,
    /// The organizational unit, `/` by default (A11).
    pub org_unit: Option<String>,
    /// A single-host route's host: a name or an IP address (A2).
    pub host: Option<String>,
    /// A single-host route's port; 25 by default (A2).
    pub port: Option<i64>,
    /// Resolve the host's name to its MX hosts; off by default (A4).
    pub mx_lookup: Option<bool>,
    /// A multi-host route's primary hosts (A3).
    pub primary: Option<Vec<HostSettings>>,
    /// A multi-host route's secondary hosts (A3); none by default.
    pub secondary: Option<Vec<HostSettings>>,
    /// TLS or no delivery; on by default (A5).
    pub require_tls: Option<bool>,
    /// The chain ends in a trusted root; by default as `require_tls` (A6, A7).
    pub require_ca_signed: Option<bool>,
    /// The certificate names the host; by default as `require_tls` (A7).
    pub verify_hostname: Option<bool>,
    /// Path of a PEM file of trusted roots, as written; the system's roots by default (A6).
    pub roots: Option<String>,
    /// The protocol; SMTP by default (A2).
    pub protocol: Option<Protocol>,
    /// When TLS begins, for hosts that do not say so themselves; STARTTLS by default (A3).
    pub tls: Option<TlsStart>,
    /// What becomes of a message when TLS fails everywhere; it bounces by default (A10).
    pub on_tls_failure: Option<OnTlsFailure>,
    /// Credentials for AUTH at the next hop.
    pub auth: Option<AuthSettings>,
    /// A retry schedule of the route's own (O2); the server's by default.
    pub retry: Option<RetrySettings>,
}

/// One host of a multi-host route as written (A3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct HostSettings {
    /// A name or an IP address.
    pub host: String,
    /// The port; 25 by default.
    pub port: Option<i64>,
    /// The load in percent, 0 to 100; must be said.
    pub load: Option<i64>,
    /// When TLS begins; by default as the route says, and at once on port 465.
    pub tls: Option<TlsStart>,
}

/// Credentials for AUTH at the next hop, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct AuthSettings {
    /// The user's name at the next hop.
    pub user: String,
    /// Path of the file that holds the password, as written.
    pub password_file: String,
}

/// A retry schedule as written (O2): back-off by `first` and `longest`, or `delays`, the last of
/// which repeats; both end after `lifetime`. What is `None` is taken from the server's schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct RetrySettings {
    /// The first delay.
    pub first: Option<Duration>,
    /// The longest delay.
    pub longest: Option<Duration>,
    /// The time from acceptance after which a message bounces.
    pub lifetime: Option<Duration>,
    /// The delays, one by one.
    pub delays: Option<Vec<Duration>>,
}
