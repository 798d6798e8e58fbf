//! TLS to Redis: what is trusted, what is shown, and what a failure means.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

use crate::settings::SettingsError;

/// PEM files for a `rediss://` address. They are read at the start and at each connection, so that a
/// renewed one needs no restart; they are the administrator's, and read whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that may have signed the server's certificate, instead of the system's.
    pub ca: Option<PathBuf>,
    /// The certificate that is shown to a server that asks for one.
    pub identity: Option<Identity>,
}

/// A client's certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The chain, the client's own certificate first.
    pub certificate: PathBuf,
    /// The private key, without a passphrase.
    pub key: PathBuf,
}

/// How connections are secured. The chain and the host's name are always verified.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    host: ServerName<'static>,
    trust: Trust,
    identity: Option<Identity>,
}

#[derive(Clone, Debug)]
enum Trust {
    /// The system's roots, read once.
    System(Arc<RootCertStore>),
    File(PathBuf),
}

impl Tls {
    /// For a server of this name or IP address. Reads all files once, so that those of no use are told of
    /// at the start.
    pub(crate) fn new(host: &str, files: &TlsFiles) -> Result<Self, SettingsError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            SettingsError::Address("its host is neither a name nor an IP address".into())
        })?;
        let trust = match &files.ca {
            Some(file) => Trust::File(file.clone()),
            None => Trust::System(Arc::new(system_roots()?)),
        };
        let tls = Self { host: name, trust, identity: files.identity.clone() };
        tls.config()?;
        Ok(tls)
    }

    /// The name that the certificate must be for.
    pub(crate) fn host(&self) -> ServerName<'static> {
        self.host.clone()
    }

    /// Reads the files; it may block for some milliseconds.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, SettingsError> {
        let roots = match &self.trust {
            Trust::System(roots) => Arc::clone(roots),
            Trust::File(file) => Arc::new(roots_of(file)?),
        };
        // Named, so that it does not matter what else of the program brought with it.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| SettingsError::Tls(error.to_string()))?
            .with_root_certificates(roots);
        let Some(Identity { certificate, key }) = &self.identity else {
            return Ok(Arc::new(builder.with_no_client_auth()));
        };
        let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| match error {
            pem::Error::NoItemsFound => {
                wrong(key, "holds no private key; write a section BEGIN PRIVATE KEY into it, without passphrase")
            }
            other => wrong(key, &format!("is not PEM: {other}; write it anew, with its BEGIN and END lines")),
        })?;
        let config = builder.with_client_auth_cert(certificates(certificate)?, private);
        config.map(Arc::new).map_err(|error| {
            let why = format!("holds a key that is of no use with the certificate in `{}`: {error}; give the key that it was issued for", certificate.display());
            wrong(key, &why)
        })
    }

    /// What a failed handshake means, and what to do.
    pub(crate) fn in_words(&self, error: &io::Error) -> String {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(wrong)) => self.certificate_in_words(wrong),
            Some(error) => in_words(error),
            None => format!(
                "the connection was lost in the TLS handshake: {error}; does this port speak TLS, or is it `redis://`?"
            ),
        }
    }

    fn certificate_in_words(&self, wrong: &CertificateError) -> String {
        match wrong {
            // Another authority of the same name signed it.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                let trusted = match &self.trust {
                    Trust::System(_) => "those of the system".to_owned(),
                    Trust::File(file) => format!("those in `{}`", file.display()),
                };
                format!(
                    "its certificate is not signed by an authority that is trusted here ({trusted}); name the file with its authority's certificate in `redis_ca`"
                )
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                let names = match wrong {
                    CertificateError::NotValidForNameContext { presented, .. }
                        if !presented.is_empty() =>
                    {
                        presented.iter().take(5).cloned().collect::<Vec<_>>().join(", ")
                    }
                    _ => "other names".to_owned(),
                };
                let host = self.host.to_str();
                format!(
                    "its certificate is for {names}, and not for `{host}`; write a name that it is for into `redis`, or give it a certificate for this one"
                )
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired; renew it".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet; see the clocks of both machines".to_owned()
            }
            other => format!("its certificate cannot be verified: {other}; give it another one"),
        }
    }
}

/// What an error of TLS means, in a handshake or after it.
pub(crate) fn in_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidMessage(_) => {
            "what listens there does not speak TLS; write `redis://`, or the port where it does".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it asks for a certificate of this node; name one in `redis_certificate` and `redis_key`".to_owned()
        }
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied),
        ) => format!(
            "it does not accept the certificate of this node ({alert:?}); name one in `redis_certificate` that is signed by an authority it trusts"
        ),
        // Before TLS 1.3 there was no alert of its own for it.
        rustls::Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            "it ended the handshake (HandshakeFailure); if it asks for a certificate of this node, name one in `redis_certificate`, else see the TLS versions and ciphers that it allows".to_owned()
        }
        other => format!("TLS failed: {other}; see its log, and the TLS versions and ciphers that it allows"),
    }
}

fn system_roots() -> Result<RootCertStore, SettingsError> {
    let mut store = RootCertStore::empty();
    // One that is of no use takes nothing from the others.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        return Err(SettingsError::Tls(
            "the system has no authorities that it trusts; install its package of them, or name a file in `redis_ca`".into(),
        ));
    }
    Ok(store)
}

fn roots_of(file: &Path) -> Result<RootCertStore, SettingsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(file)? {
        store.add(certificate).map_err(|error| {
            wrong(
                file,
                &format!("holds a certificate that is of no use: {error}; have it issued anew"),
            )
        })?;
    }
    Ok(store)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let found = CertificateDer::pem_slice_iter(&read(file)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| {
            wrong(
                file,
                &format!("is not PEM: {error}; write it anew, with its BEGIN and END lines"),
            )
        })?;
    if found.is_empty() {
        return Err(wrong(file, "holds no certificate; write a section BEGIN CERTIFICATE into it"));
    }
    Ok(found)
}

fn read(file: &Path) -> Result<Vec<u8>, SettingsError> {
    std::fs::read(file).map_err(|error| {
        wrong(file, &format!("cannot be read: {error}; see its path, owner and mode"))
    })
}

fn wrong(file: &Path, why: &str) -> SettingsError {
    SettingsError::Tls(format!("the file `{}` {why}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_no_use_are_told_of_at_the_start_o5() {
        let folder = tempfile::tempdir().unwrap();
        let ours = rcgen::generate_simple_self_signed(["node.example".to_owned()]).unwrap();
        let theirs = rcgen::generate_simple_self_signed(["node.example".to_owned()]).unwrap();
        for (name, text) in [
            ("cert.pem", ours.cert.pem()),
            ("key.pem", ours.signing_key.serialize_pem()),
            ("other.pem", theirs.signing_key.serialize_pem()),
            ("empty.pem", String::new()),
            ("cut.pem", ours.cert.pem()[..100].to_owned()),
            ("junk.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into()),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        for (ca, identity, want) in [
            (Some("cert.pem"), None, None),
            (Some("cert.pem"), Some(("cert.pem", "key.pem")), None),
            (Some("none.pem"), None, Some("none.pem` cannot be read")),
            (Some("empty.pem"), None, Some("empty.pem` holds no certificate")),
            (Some("key.pem"), None, Some("key.pem` holds no certificate")),
            (Some("cut.pem"), None, Some("cut.pem` is not PEM")),
            (Some("junk.pem"), None, Some("junk.pem` holds a certificate that is of no use")),
            (Some("cert.pem"), Some(("none.pem", "key.pem")), Some("none.pem` cannot be read")),
            (Some("cert.pem"), Some(("cert.pem", "none.pem")), Some("none.pem` cannot be read")),
            (
                Some("cert.pem"),
                Some(("cert.pem", "cert.pem")),
                Some("cert.pem` holds no private key"),
            ),
            (
                Some("cert.pem"),
                Some(("cert.pem", "other.pem")),
                Some("other.pem` holds a key that is of no use"),
            ),
        ] {
            let path = |name: &str| folder.path().join(name);
            let files = TlsFiles {
                ca: ca.map(path),
                identity: identity.map(|(certificate, key)| Identity {
                    certificate: path(certificate),
                    key: path(key),
                }),
            };
            match (Tls::new("redis.example", &files).map_err(|error| error.to_string()), want) {
                (Ok(_), None) => {}
                (Err(error), Some(want)) => {
                    assert!(error.contains(want), "{ca:?} {identity:?}: {error}");
                    assert!(error.contains("; "), "no cure: {error}");
                }
                (got, _) => panic!("{ca:?} {identity:?}: {got:?}"),
            }
        }
    }
}
