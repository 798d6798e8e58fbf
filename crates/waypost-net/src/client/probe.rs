//! A look at a host's TLS, without sending mail (A8).

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use waypost_smtp::client::TlsUse;

use super::connect::{ConnectError, connect};
use super::connection::TlsFacts;
use super::hop::{ConnectSettings, Hop};
use crate::tls::{TlsClients, TlsFailure, TlsPolicy, verify_name};

/// What a test of TLS found at one address.
#[derive(Debug)]
pub struct Probe {
    /// The session; `None` when none came about.
    pub session: Option<TlsFacts>,
    /// Each switch of the hop's that fails, with its remedies; empty: mail would go.
    pub failures: Vec<TlsFailure>,
    /// What else went wrong: no address, no connection, no SMTP, no root file.
    pub error: Option<ConnectError>,
}

/// Connects, does EHLO, STARTTLS (or implicit TLS) and the handshake, looks, and says QUIT.
///
/// All switches of the hop are judged, not only the first that fails; no credentials are sent. TLS is
/// tried even where the hop's policy has it off.
pub async fn probe(ip: IpAddr, hop: &Hop, settings: &ConnectSettings, tls: &TlsClients) -> Probe {
    let required = hop.tls.tls == TlsUse::Required || hop.tls.tls == TlsUse::Implicit;
    let implicit = hop.tls.tls == TlsUse::Implicit;
    let lenient = TlsPolicy {
        tls: if implicit { TlsUse::Implicit } else { TlsUse::Required },
        ..TlsPolicy::opportunistic()
    };
    let hop_without = Hop { tls: lenient, credentials: None, ..hop.clone() };
    let mut found = Probe { session: None, failures: Vec::new(), error: None };
    match connect(ip, &hop_without, settings, tls).await {
        Err(ConnectError::Tls(failure)) if failure.switch().is_none() => {
            found.error = Some(ConnectError::Tls(failure));
        }
        Err(ConnectError::Tls(failure)) => {
            if required {
                found.failures.push(failure);
            }
        }
        Err(error) => found.error = Some(error),
        Ok(connection) => {
            found.session = connection.tls().cloned();
            connection.quit().await;
            found.judge(hop, tls);
        }
    }
    found
}

impl Probe {
    /// Checks chain and name, each if the hop asks for it.
    fn judge(&mut self, hop: &Hop, tls: &TlsClients) {
        let Some(session) = &self.session else { return };
        let chain: Vec<CertificateDer<'_>> =
            session.chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        if hop.tls.require_ca_signed {
            match tls.verify_chain(&hop.tls.roots, &chain) {
                Ok(verdict) => self.failures.extend(verdict.err()),
                Err(error) => self.error = Some(error.into()),
            }
        }
        if let (true, Some(certificate)) = (hop.tls.verify_hostname, chain.first()) {
            let hosts = std::iter::once(&hop.host.host).chain(&hop.alias);
            self.failures.extend(verify_name(certificate, hosts).err());
        }
    }
}
