//! The checks of a server's certificate, each on its own.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use waypost_types::Host;

use super::failure::TlsFailure;

/// Checks the chain if it has roots, and always that the peer holds the certificate's key.
#[derive(Debug)]
pub(super) struct Verifier {
    roots: Option<Arc<RootCertStore>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(roots: Option<Arc<RootCertStore>>, provider: &CryptoProvider) -> Self {
        Self { roots, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(end_entity)?,
                roots,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Checks a chain by itself, as of now.
pub(super) fn verify_chain(
    roots: &RootCertStore,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<(), TlsFailure> {
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    ParsedCertificate::try_from(end_entity)
        .and_then(|parsed| {
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                roots,
                intermediates,
                UnixTime::now(),
                algorithms.all,
            )
        })
        .map_err(|error| TlsFailure::from_rustls(&error))
}

/// Checks that a certificate names one of `hosts`: a DNS name, or for an address an IP SAN (A7).
///
/// # Errors
/// [`TlsFailure::WrongName`] with the names on the certificate.
pub fn verify_name<'a>(
    certificate: &CertificateDer<'_>,
    hosts: impl IntoIterator<Item = &'a Host>,
) -> Result<(), TlsFailure> {
    let parsed = ParsedCertificate::try_from(certificate)
        .map_err(|error| TlsFailure::from_rustls(&error))?;
    let mut first = None;
    for host in hosts {
        let outcome = match server_name(host) {
            Some(name) => verify_server_name(&parsed, &name),
            None => continue,
        };
        match outcome {
            Ok(()) => return Ok(()),
            Err(error) => first = first.or(Some(TlsFailure::from_rustls(&error))),
        }
    }
    Err(first.unwrap_or_else(|| TlsFailure::WrongName { names: Vec::new() }))
}

/// A host in rustls's terms; addresses are never sent as SNI.
pub(crate) fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Name(name) => ServerName::try_from(name.as_str().to_owned()).ok(),
        Host::Ip(ip) => Some(ServerName::from(*ip)),
    }
}
