//! TLS by rustls: a server's certificate from PEM files, and a client's three switches (A5-A7).
//!
//! **In:** PEM files, a [`TlsPolicy`], the names of the host that a client connected to. **Out:** a
//! `rustls::ServerConfig`; a `rustls::ClientConfig` whose verifier does what the policy asks for;
//! a [`TlsFailure`] that says which switch failed. **Units:** none. **Bounds:** PEM files are read
//! whole; they are the administrator's. **Errors:** [`PemError`] names the file and the cure.
//! **Source:** RFC 3207, RFC 8314, RFC 9525; A5-A8, A10. The provider is ring, given explicitly, so
//! that no process-wide default is needed or touched.
//!
//! **Not here:** revocation, DANE, MTA-STS, client certificates.

mod certificate;
mod failure;
mod pem;
mod policy;
mod verifier;
mod version;

pub use certificate::CertificateFacts;
pub use failure::{TlsFailure, TlsSwitch};
pub use pem::{PemError, PemErrorKind, server_config};
#[cfg(feature = "test-kit")]
pub(crate) use policy::provider;
#[cfg(feature = "authenticate")]
pub(crate) use policy::trusting_nobody;
pub use policy::{Roots, TlsClients, TlsPolicy};
pub(crate) use verifier::server_name;
pub use verifier::verify_name;
pub use version::TlsVersion;
