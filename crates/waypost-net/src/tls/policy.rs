//! What a route asks of TLS, and the rustls configuration that does it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use waypost_route::{Check, Route, TlsStart};
use waypost_smtp::client::TlsUse;
use waypost_types::TlsDemand;

use super::failure::TlsFailure;
use super::pem::{PemError, roots};
use super::verifier::{Verifier, verify_chain};

/// What a route asks of TLS: three switches that stand alone (A5, A6, A7).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsPolicy {
    /// Whether and how TLS is used (A5).
    pub tls: TlsUse,
    /// The chain ends in a trusted root and is valid today (A6).
    pub require_ca_signed: bool,
    /// The certificate names the host (A7).
    pub verify_hostname: bool,
    /// Which roots are trusted.
    pub roots: Roots,
}

/// Which roots are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Roots {
    /// Those of the system; where it has none, those of Mozilla as built in.
    #[default]
    System,
    /// Those of a PEM file, and no others.
    File(PathBuf),
}

impl Roots {
    /// The roots of a route; the path of its file begins at `base`.
    #[must_use]
    pub fn of_route(route: &Route, base: &Path) -> Self {
        route.roots().map_or(Roots::System, |file| Roots::File(base.join(file)))
    }
}

impl TlsPolicy {
    /// A route's default: all three switches on, system roots.
    #[must_use]
    pub fn strict() -> Self {
        Self {
            tls: TlsUse::Required,
            require_ca_signed: true,
            verify_hostname: true,
            roots: Roots::System,
        }
    }

    /// All switches off: TLS where offered, and no certificate ever stops a delivery.
    #[must_use]
    pub fn opportunistic() -> Self {
        Self {
            tls: TlsUse::Opportunistic,
            require_ca_signed: false,
            verify_hostname: false,
            roots: Roots::System,
        }
    }

    /// What a route asks of one of its hosts, with the roots that it trusts.
    #[must_use]
    pub fn of_route(policy: waypost_route::TlsPolicy, roots: Roots) -> Self {
        Self {
            tls: match (policy.start, policy.requirement) {
                (TlsStart::Implicit, _) => TlsUse::Implicit,
                (TlsStart::Starttls, TlsDemand::Required) => TlsUse::Required,
                (TlsStart::Starttls, TlsDemand::Opportunistic) => TlsUse::Opportunistic,
            },
            require_ca_signed: policy.ca_signed == Check::On,
            verify_hostname: policy.hostname == Check::On,
            roots,
        }
    }

    /// Whether a failed handshake leads to a delivery in clear text, on a new connection: only if
    /// all switches are off.
    #[must_use]
    pub fn falls_back(&self) -> bool {
        self.tls == TlsUse::Opportunistic && !self.require_ca_signed && !self.verify_hostname
    }
}

/// The rustls configurations of clients, each made once.
///
/// The first use of a set of roots reads files for some milliseconds. A changed root file is seen
/// by a new value only: make one at each reload.
#[derive(Debug, Default)]
pub struct TlsClients {
    made: Mutex<HashMap<Option<Roots>, Made>>,
}

/// One configuration, and the roots that its verifier has.
#[derive(Clone, Debug)]
struct Made {
    config: Arc<ClientConfig>,
    roots: Option<Arc<RootCertStore>>,
}

impl TlsClients {
    /// The configuration for a policy: TLS 1.2 and 1.3, no session resumption.
    ///
    /// It checks the chain as the policy asks; the name is for [`verify_name`](super::verify_name)
    /// to check after the handshake, because a host may go by several.
    ///
    /// # Errors
    /// [`PemError`] when the policy's own root file is of no use.
    pub fn config(&self, policy: &TlsPolicy) -> Result<Arc<ClientConfig>, PemError> {
        self.made(policy.require_ca_signed.then_some(&policy.roots)).map(|made| made.config)
    }

    /// Checks a chain (the host's own certificate first) against roots, as of now (A6).
    ///
    /// # Errors
    /// The outer error when the root file is of no use; the inner one when the chain is not trusted.
    pub fn verify_chain(
        &self,
        roots: &Roots,
        chain: &[CertificateDer<'_>],
    ) -> Result<Result<(), TlsFailure>, PemError> {
        let made = self.made(Some(roots))?;
        Ok(match (chain, &made.roots) {
            ([end_entity, intermediates @ ..], Some(roots)) => {
                verify_chain(roots, end_entity, intermediates)
            }
            _ => Err(TlsFailure::Handshake("the host showed no certificate".to_owned())),
        })
    }

    /// Whether both trust the same roots, as far as a policy asks.
    pub(crate) fn agrees(&self, other: &Self, policy: &TlsPolicy) -> bool {
        if !policy.require_ca_signed {
            return true;
        }
        match (self.made(Some(&policy.roots)), other.made(Some(&policy.roots))) {
            (Ok(Made { roots: Some(one), .. }), Ok(Made { roots: Some(two), .. })) => {
                one.roots == two.roots
            }
            _ => false,
        }
    }

    fn made(&self, trusted: Option<&Roots>) -> Result<Made, PemError> {
        let mut all = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let trusted = trusted.cloned();
        if let Some(made) = all.get(&trusted) {
            return Ok(made.clone());
        }
        let roots = match &trusted {
            None => None,
            Some(Roots::System) => Some(Arc::new(system_roots())),
            Some(Roots::File(file)) => Some(Arc::new(roots(file)?)),
        };
        let made = Made { config: Arc::new(client_config(roots.clone())), roots };
        all.insert(trusted, made.clone());
        Ok(made)
    }
}

fn client_config(store: Option<Arc<RootCertStore>>) -> ClientConfig {
    let provider = provider();
    let verifier = Verifier::new(store, &provider);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has suites for TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config
}

/// A configuration that no connection can be made with.
#[cfg(feature = "authenticate")]
pub(crate) fn trusting_nobody() -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has suites for TLS 1.2 and 1.3")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

/// The one provider, by name: nothing process-wide is set.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn system_roots() -> RootCertStore {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a system root certificate was passed over");
    }
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        tracing::warn!("the system has no root certificates; the built-in ones are used");
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    store
}
