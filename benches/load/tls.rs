//! The certificate of the programs under test, and a client that knows it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use crate::trouble::{Doing, Trouble};
use crate::wire::SERVER;

/// A certificate in a folder.
pub(crate) struct Tls {
    folder: TempDir,
    /// Trusts it, and makes a full handshake each time.
    pub(crate) client: Arc<ClientConfig>,
}

impl Tls {
    /// Makes a certificate.
    pub(crate) fn make(dir: &Path) -> Result<Self, Trouble> {
        let wrong =
            |error: String| Trouble::Certificate(format!("no certificate can be made: {error}"));
        let folder = tempfile::Builder::new().prefix("tls").tempdir_in(dir);
        let folder = folder.doing(|| format!("making a folder in {}", dir.display()))?;
        let made = rcgen::generate_simple_self_signed([SERVER.to_owned()])
            .map_err(|error| wrong(error.to_string()))?;
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).doing(|| format!("writing {}", path.display()))
        };
        write("relay.pem", &made.cert.pem())?;
        write("relay.key", &made.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).map_err(|error| wrong(error.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(error.to_string()))?;
        let mut client = client.with_root_certificates(roots).with_no_client_auth();
        client.resumption = Resumption::disabled();
        Ok(Self { folder, client: Arc::new(client) })
    }

    /// Certificate and key.
    pub(crate) fn files(&self) -> (PathBuf, PathBuf) {
        (self.folder.path().join("relay.pem"), self.folder.path().join("relay.key"))
    }
}
