//! Certificates as servers have them, and as they should not.

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::tls::provider;

/// A certificate authority of a test's own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A server's certificate and key, ready for a [`Script`](super::Script).
#[derive(Clone, Debug)]
pub struct Identity {
    config: Arc<ServerConfig>,
    certificate_pem: String,
    key_pem: String,
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flaw {
    /// It ran out in 2002.
    Expired,
    /// It begins in 2996.
    NotYetValid,
    /// It is made out to `wrong.invalid`.
    WrongName,
    /// No authority signed it.
    SelfSigned,
    /// An authority signed it that nobody knows.
    UnknownAuthority,
}

impl Flaw {
    /// Each of them, for tables.
    pub const ALL: [Self; 5] = [
        Self::Expired,
        Self::NotYetValid,
        Self::WrongName,
        Self::SelfSigned,
        Self::UnknownAuthority,
    ];
}

impl Authority {
    /// A new authority; no other has its key.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new() -> io::Result<Self> {
        let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, "A test's authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let pem = params.self_signed(&key).map_err(io::Error::other)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Its own certificate in PEM: what a client's root file holds (A6).
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A good certificate for a host: a DNS name (`*.example.com` too) or an IP address.
    ///
    /// # Errors
    /// When the name cannot stand in a certificate.
    pub fn identity(&self, name: &str) -> io::Result<Identity> {
        Identity::new(params(name)?, Some(self))
    }

    /// A certificate for a host that is good but for one thing.
    ///
    /// # Errors
    /// As [`Authority::identity`].
    pub fn flawed(&self, flaw: Flaw, name: &str) -> io::Result<Identity> {
        let mut own = params(name)?;
        match flaw {
            Flaw::Expired => {
                own.not_before = date_time_ymd(2001, 1, 1);
                own.not_after = date_time_ymd(2002, 1, 1);
            }
            Flaw::NotYetValid => {
                own.not_before = date_time_ymd(2996, 1, 1);
                own.not_after = date_time_ymd(2997, 1, 1);
            }
            Flaw::WrongName => own = params("wrong.invalid")?,
            Flaw::SelfSigned => return Identity::new(own, None),
            Flaw::UnknownAuthority => return Identity::new(own, Some(&Authority::new()?)),
        }
        Identity::new(own, Some(self))
    }
}

impl Identity {
    fn new(params: CertificateParams, by: Option<&Authority>) -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = match by {
            Some(authority) => params.signed_by(&key, &authority.issuer),
            None => params.self_signed(&key),
        };
        let certificate = certificate.map_err(io::Error::other)?;
        let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], secret)
            .map_err(io::Error::other)?;
        Ok(Self {
            config: Arc::new(config),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// With a configuration of one's own, such as one for TLS 1.2 alone; it has no PEM form.
    #[must_use]
    pub fn of(config: Arc<ServerConfig>) -> Self {
        Self { config, certificate_pem: String::new(), key_pem: String::new() }
    }

    /// The certificate in PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key in PEM.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

fn params(name: &str) -> io::Result<CertificateParams> {
    CertificateParams::new(vec![name.to_owned()]).map_err(io::Error::other)
}
