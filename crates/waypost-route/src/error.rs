//! What is wrong with a route as written, and what deserves a warning.

use std::fmt;

use waypost_types::{HostError, OrgUnitError, RouteNameError};

use crate::Tier;

/// One mistake in a route: where, which value, which rule, which cure.
///
/// Shown as `primary: the loads of the primary hosts add up to 90, …`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {kind}")]
pub struct RouteError {
    field: Box<str>,
    kind: RouteErrorKind,
}

impl RouteError {
    pub(crate) fn new(field: impl Into<Box<str>>, kind: impl Into<RouteErrorKind>) -> Self {
        Self { field: field.into(), kind: kind.into() }
    }

    /// The path of the setting inside the route's table: `port`, `primary[1].load` (counted from 0).
    ///
    /// A setting that is missing is named where it should stand.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> &RouteErrorKind {
        &self.kind
    }
}

/// What is wrong with a setting of a route. Each text names the value, the rule and the cure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteErrorKind {
    /// The name breaks A1.
    #[error(transparent)]
    Name(#[from] RouteNameError),
    /// The organizational unit is no path (A11).
    #[error("`{text}` is no organizational unit (A11): {source}")]
    OrgUnit {
        /// The text as written.
        text: String,
        /// The rule that it breaks.
        source: OrgUnitError,
    },
    /// The host is neither a name nor an address (A2).
    #[error("{0} (A2); write a host name such as `mail.example.com` or an IP address")]
    Host(#[from] HostError),
    /// Neither `host` nor `primary`.
    #[error(
        "the route names no host; write `host = \"mail.example.com\"` (A2), or a list `primary` (A3)"
    )]
    NoHost,
    /// Both a single host and lists of hosts.
    #[error(
        "`host` stands beside a list of hosts; keep `host` for one host (A2), or put it into \
         `primary` with its load (A3)"
    )]
    HostAndList,
    /// `port` beside a list.
    #[error("`port` stands beside `primary`; write the port into each entry of the list (A3)")]
    PortBesideList,
    /// `primary` is an empty list.
    #[error(
        "the list of primary hosts is empty; a route has at least one, with loads adding up to 100 (A3)"
    )]
    NoPrimary,
    /// `secondary` without `primary`.
    #[error(
        "`secondary` stands without `primary`; secondary hosts only take over from primary ones (A3)"
    )]
    SecondaryAlone,
    /// Port 465 on a single host.
    #[error(
        "port 465 is not allowed for a single host (A2); use 587 with STARTTLS, or a list with one \
         entry: `primary = [{{ host = \"…\", port = 465, load = 100 }}]`"
    )]
    SingleHost465,
    /// A port outside A2.
    #[error("port {0} is not allowed; write 25, 587 or a port from 1024 to 65535 (A2)")]
    SingleHostPort(i64),
    /// A port outside A2 and 465.
    #[error("port {0} is not allowed; write 25, 465, 587 or a port from 1024 to 65535 (A2, A3)")]
    ListPort(i64),
    /// No TCP port at all.
    #[error("port {0} does not exist; with LMTP any port from 1 to 65535 may be used (A2)")]
    LmtpPort(i64),
    /// A port of the outbound gateway outside A2.
    #[error(
        "port {0} is not allowed for the outbound gateway; write 25, 587 or a port from 1024 to \
         65535 (A2, B1); for 465 use a routing rule and a route with a list of hosts (B2)"
    )]
    GatewayPort(u16),
    /// A load that is missing.
    #[error(
        "the host has no load; write `load = 100` for a lone host, `load = 0` for standby (A3)"
    )]
    NoLoad,
    /// A load outside 0 to 100.
    #[error("load {0} is not allowed; write a whole percentage from 0 to 100 (A3)")]
    Load(i64),
    /// The loads of a tier do not add up to 100.
    #[error("the loads of the {tier} hosts add up to {sum}; make them add up to exactly 100 (A3)")]
    LoadSum {
        /// The tier.
        tier: Tier,
        /// What they add up to.
        sum: u64,
    },
    /// MX lookup on an address.
    #[error(
        "MX lookup is on, but `{0}` is an IP address and has no MX records (A4); write a name, or \
         `mx_lookup = false`"
    )]
    MxLookupOnIp(std::net::IpAddr),
    /// A setting that is there but says nothing.
    #[error(
        "`{0}` is empty or holds a control character; write {1}, or leave the setting out ({2})"
    )]
    Blank(String, &'static str, &'static str),
    /// A retry schedule that contradicts itself.
    #[error("{0} (O2)")]
    Retry(&'static str),
}

/// Something in a usable route that deserves a second look (lint).
///
/// Shown as `verify_hostname: …`, with the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct RouteWarning {
    field: Box<str>,
    kind: RouteWarningKind,
}

impl RouteWarning {
    pub(crate) fn new(field: impl Into<Box<str>>, kind: RouteWarningKind) -> Self {
        Self { field: field.into(), kind }
    }

    /// The path of the setting inside the route's table, as [`RouteError::field`].
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What deserves a second look.
    #[must_use]
    pub fn kind(&self) -> RouteWarningKind {
        self.kind
    }
}

impl fmt::Display for RouteWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.kind)
    }
}

/// What deserves a second look in a route. Hosts on the loopback interface are left alone by the
/// warnings about TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum RouteWarningKind {
    /// `require_tls` is off.
    TlsNotRequired,
    /// `require_tls` is off and a check of the certificate is said to be on.
    CheckWithoutTls,
    /// TLS is required, the chain is not checked.
    AnyIssuer,
    /// TLS is required, the name is not checked.
    AnyName,
    /// The name is checked and the host is an IP address.
    HostnameOnIp,
    /// `tls = "implicit"` beside `require_tls = false`.
    ImplicitNotRequired,
    /// `tls = "starttls"` on port 465.
    Port465Starttls,
    /// `roots` without a check that would use them.
    RootsUnused,
    /// Credentials beside `require_tls = false`.
    AuthNotRequired,
    /// LMTP on port 25.
    LmtpOn25,
    /// The same host and port twice.
    SameHostTwice,
}

impl RouteWarningKind {
    /// The warning's id, such as `tls-not-required`.
    #[must_use]
    pub fn id(self) -> &'static str {
        self.parts().0
    }

    /// Id, what is odd, and the cure.
    fn parts(self) -> (&'static str, &'static str) {
        match self {
            Self::TlsNotRequired => (
                "tls-not-required",
                "TLS is not required, so mail may go in clear text (A5); set `require_tls = true` \
                 unless the hosts cannot do TLS",
            ),
            Self::CheckWithoutTls => (
                "check-without-tls",
                "the check is on though TLS is not required (A7): it binds only where TLS is \
                 negotiated, and clear text stays possible; set `require_tls = true`, or leave the \
                 check out",
            ),
            Self::AnyIssuer => (
                "any-issuer",
                "a certificate of any issuer is taken (A6), so anyone on the path can read the \
                 mail; set `require_ca_signed = true`, or name the hosts' own roots with `roots`",
            ),
            Self::AnyName => (
                "any-name",
                "a certificate for any name is taken (A7); set `verify_hostname = true` and use the \
                 name that stands on the certificate",
            ),
            Self::HostnameOnIp => (
                "hostname-on-ip",
                "the certificate must name the IP address itself, which few do (A7); use the host's \
                 name, or set `verify_hostname = false`",
            ),
            Self::ImplicitNotRequired => (
                "implicit-not-required",
                "implicit TLS never falls back to clear text, though TLS is not required (A5); set \
                 `require_tls = true`, or `tls = \"starttls\"`",
            ),
            Self::Port465Starttls => (
                "port-465-starttls",
                "port 465 means implicit TLS (A3), so `tls = \"starttls\"` is not followed; leave it \
                 out, or use port 587",
            ),
            Self::RootsUnused => (
                "roots-unused",
                "the root file is not used while `require_ca_signed` is off (A6); switch that on, or \
                 leave `roots` out",
            ),
            Self::AuthNotRequired => (
                "auth-not-required",
                "credentials are sent over TLS only, and TLS is not required (A5): mail waits while \
                 the host does not offer it; set `require_tls = true`",
            ),
            Self::LmtpOn25 => (
                "lmtp-on-25",
                "LMTP must not be spoken on port 25 (RFC 2033 section 5); write the port of the \
                 mailbox system, often 24",
            ),
            Self::SameHostTwice => (
                "same-host-twice",
                "this host and port stand in the route twice (A3), and a pause of one is a pause of \
                 both; keep one entry with the sum of the loads",
            ),
        }
    }
}

impl fmt::Display for RouteWarningKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.parts().1)
    }
}
