//! Why there is no TLS, or not the one asked for.

use std::{fmt, io};

use rustls::{AlertDescription, CertificateError, PeerIncompatible};
use waypost_smtp::client::{Cause, Closed};
use waypost_types::{FailureScope, Reply};

/// The switch of a route that a failure falls under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsSwitch {
    /// `require_tls` (A5).
    RequireTls,
    /// `require_ca_signed` (A6).
    RequireCaSigned,
    /// `verify_hostname` (A7).
    VerifyHostname,
}

/// Why there is no TLS, or not the one asked for; the text names the switch and the remedies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFailure {
    /// STARTTLS is not offered.
    #[error(
        "the host does not offer STARTTLS and require_tls is on (A5): ask its provider for TLS, or \
         switch require_tls off"
    )]
    NoStartTls,
    /// STARTTLS was refused.
    #[error(
        "the host refused STARTTLS with `{0}` and require_tls is on (A5): ask its provider, or \
         switch require_tls off"
    )]
    StartTlsRefused(Reply),
    /// The two sides could not agree, or one broke the rules.
    #[error(
        "the TLS handshake failed: {0} (A5): ask the host's provider, or switch all three options off"
    )]
    Handshake(String),
    /// The connection broke or the time was up during the handshake.
    #[error("the connection was lost in the TLS handshake: {0}")]
    Lost(String),
    /// The chain does not end in a trusted root.
    #[error(
        "the certificate is not signed by a trusted authority and require_ca_signed is on (A6): \
         install a trusted certificate, name its root in `roots`, or switch require_ca_signed off"
    )]
    Untrusted,
    /// The certificate is past its time.
    #[error(
        "the certificate has expired and require_ca_signed is on (A6): renew it, or switch \
         require_ca_signed off"
    )]
    Expired,
    /// The certificate's time has not come.
    #[error(
        "the certificate is not valid yet and require_ca_signed is on (A6): check both clocks, or \
         switch require_ca_signed off"
    )]
    NotYetValid,
    /// The chain is wrong in another way.
    #[error(
        "the certificate cannot be verified ({0}) and require_ca_signed is on (A6): install \
         another one, or switch require_ca_signed off"
    )]
    Certificate(String),
    /// The certificate is for other names.
    #[error(
        "the certificate is for {} and verify_hostname is on (A7): use a name on the certificate \
         as the route's host, install another one, or switch verify_hostname off",
        shown(names)
    )]
    WrongName {
        /// The names on the certificate, at most ten.
        names: Vec<String>,
    },
}

impl TlsSwitch {
    /// All three, in the order in which they can be judged.
    pub const ALL: [TlsSwitch; 3] =
        [TlsSwitch::RequireTls, TlsSwitch::RequireCaSigned, TlsSwitch::VerifyHostname];

    /// The key of a route, such as `require_tls`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TlsSwitch::RequireTls => "require_tls",
            TlsSwitch::RequireCaSigned => "require_ca_signed",
            TlsSwitch::VerifyHostname => "verify_hostname",
        }
    }

    /// The requirement that it is for, such as `A5`.
    #[must_use]
    pub fn requirement(self) -> &'static str {
        match self {
            TlsSwitch::RequireTls => "A5",
            TlsSwitch::RequireCaSigned => "A6",
            TlsSwitch::VerifyHostname => "A7",
        }
    }
}

impl fmt::Display for TlsSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TlsFailure {
    /// The switch that this falls under; `None` when the connection was lost.
    #[must_use]
    pub fn switch(&self) -> Option<TlsSwitch> {
        match self {
            TlsFailure::NoStartTls | TlsFailure::StartTlsRefused(_) | TlsFailure::Handshake(_) => {
                Some(TlsSwitch::RequireTls)
            }
            TlsFailure::Untrusted
            | TlsFailure::Expired
            | TlsFailure::NotYetValid
            | TlsFailure::Certificate(_) => Some(TlsSwitch::RequireCaSigned),
            TlsFailure::WrongName { .. } => Some(TlsSwitch::VerifyHostname),
            TlsFailure::Lost(_) => None,
        }
    }

    /// What is wrong, without switch and cure, such as `the certificate has expired`.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            TlsFailure::NoStartTls => "the host does not offer STARTTLS".to_owned(),
            TlsFailure::StartTlsRefused(reply) => {
                format!("the host refused STARTTLS with `{reply}`")
            }
            TlsFailure::Handshake(why) => format!("the TLS handshake failed: {why}"),
            TlsFailure::Lost(_) => self.to_string(),
            TlsFailure::Untrusted => {
                "the certificate is not signed by a trusted authority".to_owned()
            }
            TlsFailure::Expired => "the certificate has expired".to_owned(),
            TlsFailure::NotYetValid => "the certificate is not valid yet".to_owned(),
            TlsFailure::Certificate(why) => format!("the certificate cannot be verified: {why}"),
            TlsFailure::WrongName { names } => format!("the certificate is for {}", shown(names)),
        }
    }

    /// Whether it counts as a TLS failure (A10), or only as one of the host.
    #[must_use]
    pub fn scope(&self) -> FailureScope {
        match self {
            TlsFailure::Lost(_) => FailureScope::Host,
            _ => FailureScope::Tls,
        }
    }

    /// From the end of an SMTP session, if TLS was what ended it.
    #[must_use]
    pub fn from_closed(closed: &Closed) -> Option<Self> {
        match closed.cause {
            Cause::StartTlsNotOffered => Some(TlsFailure::NoStartTls),
            Cause::StartTlsRefused => {
                Some(TlsFailure::StartTlsRefused(closed.failure.reply.clone()))
            }
            _ => None,
        }
    }

    pub(crate) fn from_io(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => Self::from_rustls(error),
            None => TlsFailure::Lost(error.to_string()),
        }
    }

    pub(super) fn from_rustls(error: &rustls::Error) -> Self {
        let rustls::Error::InvalidCertificate(wrong) = error else {
            return TlsFailure::Handshake(in_words(error));
        };
        match wrong {
            CertificateError::UnknownIssuer => TlsFailure::Untrusted,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                TlsFailure::Expired
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                TlsFailure::NotYetValid
            }
            CertificateError::NotValidForName => TlsFailure::WrongName { names: Vec::new() },
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names = presented.iter().take(10).map(|name| bare(name)).collect();
                TlsFailure::WrongName { names }
            }
            other => TlsFailure::Certificate(other.to_string()),
        }
    }
}

/// The commonest ways for a handshake to fail, as a person would say them.
fn in_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
        | rustls::Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => "the host speaks neither TLS 1.2 nor TLS 1.3".to_owned(),
        rustls::Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            "the host found no cipher suite or key exchange that both sides know".to_owned()
        }
        rustls::Error::InvalidMessage(_) => "what the host sent is not TLS".to_owned(),
        other => other.to_string(),
    }
}

/// `DnsName("a.example")` -> `a.example`, without anything that a terminal or log could trip over.
fn bare(presented: &str) -> String {
    let inside = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    let name = inside.unwrap_or(presented).trim_matches('"');
    name.chars().filter(|c| !c.is_control()).take(255).collect()
}

fn shown(names: &[String]) -> String {
    if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") }
}
