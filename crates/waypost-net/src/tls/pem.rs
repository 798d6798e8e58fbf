//! Certificates and keys from PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};

use super::policy::provider;

/// A PEM file that is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {kind}", file.display())]
pub struct PemError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub kind: PemErrorKind,
}

/// What is wrong with a PEM file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemErrorKind {
    /// It cannot be read.
    #[error("cannot be read: {0}; check the path and the file's owner and mode")]
    Unreadable(String),
    /// It is not PEM.
    #[error("is not PEM: {0}; write it anew, with its BEGIN and END lines")]
    NotPem(String),
    /// It holds no certificate.
    #[error(
        "holds no certificate; it must have a section `BEGIN CERTIFICATE`, the server's own first"
    )]
    NoCertificate,
    /// A certificate in it cannot be used.
    #[error("holds a certificate that cannot be used: {0}; have it issued anew")]
    Certificate(String),
    /// It holds no private key.
    #[error(
        "holds no private key; it must have a section `BEGIN PRIVATE KEY`, not encrypted by a \
         passphrase"
    )]
    NoKey,
    /// The key cannot be used, or is not that of the certificate.
    #[error(
        "holds a key that cannot be used with the certificate: {0}; give the key it was issued for"
    )]
    Key(String),
}

/// The TLS configuration of a listener: TLS 1.2 and 1.3, the chain and the key of two PEM files
/// (which may be the same file).
///
/// Reads files: call it at the start and at a reload, not beside the mail.
///
/// # Errors
/// [`PemError`] names the file and what to do.
pub fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, PemError> {
    let chain = certificates(certificate)?;
    let wrong = |kind| PemError { file: key.to_owned(), kind };
    let found = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => wrong(PemErrorKind::NoKey),
        other => wrong(PemErrorKind::NotPem(other.to_string())),
    })?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(PemErrorKind::Key(error.to_string())))?
        .with_no_client_auth()
        .with_single_cert(chain, found)
        .map_err(|error| match error {
            rustls::Error::InvalidCertificate(error) => PemError {
                file: certificate.to_owned(),
                kind: PemErrorKind::Certificate(error.to_string()),
            },
            error => wrong(PemErrorKind::Key(error.to_string())),
        })?;
    Ok(Arc::new(config))
}

/// The trust anchors of a PEM file.
pub(super) fn roots(file: &Path) -> Result<RootCertStore, PemError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(file)? {
        store.add(certificate).map_err(|error| PemError {
            file: file.to_owned(),
            kind: PemErrorKind::Certificate(error.to_string()),
        })?;
    }
    Ok(store)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let wrong = |kind| PemError { file: file.to_owned(), kind };
    let found = CertificateDer::pem_slice_iter(&read(file)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(PemErrorKind::NotPem(error.to_string())))?;
    if found.is_empty() { Err(wrong(PemErrorKind::NoCertificate)) } else { Ok(found) }
}

fn read(file: &Path) -> Result<Vec<u8>, PemError> {
    std::fs::read(file).map_err(|error| PemError {
        file: file.to_owned(),
        kind: PemErrorKind::Unreadable(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_file_and_the_cure() {
        let folder = tempfile::tempdir().unwrap();
        let ours = rcgen::generate_simple_self_signed(["mx.example".to_owned()]).unwrap();
        let theirs = rcgen::generate_simple_self_signed(["mx.example".to_owned()]).unwrap();
        let files = [
            ("cert.pem", ours.cert.pem()),
            ("key.pem", ours.signing_key.serialize_pem()),
            ("both.pem", ours.cert.pem() + &ours.signing_key.serialize_pem()),
            ("other.pem", theirs.signing_key.serialize_pem()),
            ("empty.pem", String::new()),
            ("cut.pem", ours.cert.pem()[..100].to_owned()),
            ("junk.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into()),
        ];
        for (name, text) in &files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        for (certificate, key, want) in [
            ("cert.pem", "key.pem", None),
            ("both.pem", "both.pem", None),
            ("none.pem", "key.pem", Some("none.pem: cannot be read")),
            ("cert.pem", "none.pem", Some("none.pem: cannot be read")),
            ("empty.pem", "key.pem", Some("empty.pem: holds no certificate")),
            ("key.pem", "key.pem", Some("key.pem: holds no certificate")),
            ("cut.pem", "key.pem", Some("cut.pem: is not PEM")),
            ("junk.pem", "key.pem", Some("junk.pem: holds a certificate that cannot be used")),
            ("cert.pem", "cert.pem", Some("cert.pem: holds no private key")),
            ("cert.pem", "other.pem", Some("other.pem: holds a key that cannot be used")),
        ] {
            let path = |name: &str| folder.path().join(name);
            let got = server_config(&path(certificate), &path(key)).map_err(|e| e.to_string());
            match (&got, want) {
                (Ok(_), None) => {}
                (Err(error), Some(want)) => {
                    assert!(error.contains(want), "{certificate} {key}: {error}");
                    assert!(error.contains("; "), "no cure: {error}");
                }
                _ => panic!("{certificate} {key}: {got:?}"),
            }
        }
    }
}
