//! A look at the TLS of one address, without sending mail (A8).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::time::timeout;
use waypost_smtp::client::TlsUse;
use waypost_types::{Host, HostPort};

use super::connect::{ConnectError, connect};
use super::connection::TlsFacts;
use super::hop::{ConnectSettings, Hop};
use crate::tls::{CertificateFacts, TlsClients, TlsFailure, TlsPolicy, TlsSwitch, verify_name};

/// What a test of TLS found at one address of a host (A8).
#[derive(Debug)]
pub struct TlsReport {
    /// The host as it was named; with MX lookup the MX host.
    pub host: HostPort,
    /// Where it was looked at.
    pub address: SocketAddr,
    /// The session; `None` when none came about.
    pub session: Option<TlsFacts>,
    /// The certificates that the host showed, its own first; those that can be read.
    pub chain: Vec<CertificateFacts>,
    /// One for each switch, in the order of [`TlsSwitch::ALL`], whether it is on or not.
    pub findings: [Finding; 3],
    /// What kept the test from its end: no connection, no SMTP, no root file, no time.
    pub error: Option<ProbeError>,
    /// Names on the certificate that lead to this address too, so that the route can take one of
    /// them; filled in by [`RouteProbe`](super::RouteProbe), which can ask the DNS.
    pub names_of_this_address: Vec<String>,
    policy: TlsPolicy,
}

/// What the test says of one switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The switch.
    pub switch: TlsSwitch,
    /// Whether the route has it on.
    pub is_on: bool,
    /// What it would say, on or off.
    pub result: Checked,
}

/// Whether a host fulfils what a switch demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It does.
    Passes,
    /// It does not.
    Fails(TlsFailure),
    /// The test did not come so far.
    Unknown,
}

/// What kept a test from its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// There was no session.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// It took too long altogether.
    #[error("the test was given up after {} s; is the host slow, or the port the wrong one?", .0.as_secs())]
    TimedOut(Duration),
}

/// What mail that goes to the address now would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Passage {
    /// It goes, inside TLS.
    Encrypted,
    /// It goes, in clear text, as the route allows.
    Clear,
    /// It does not go.
    Stopped,
}

/// Connects, does EHLO, STARTTLS (or implicit TLS) and the handshake, looks, and says QUIT.
///
/// All three switches are judged, those that are off too; no credentials are sent. TLS is tried even
/// where the hop's policy has it off. It ends within `limit`, and a few seconds for QUIT.
pub async fn probe(
    ip: IpAddr,
    hop: &Hop,
    settings: &ConnectSettings,
    tls: &TlsClients,
    limit: Duration,
) -> TlsReport {
    let mut report = TlsReport::new(ip, hop);
    let lenient = TlsPolicy {
        tls: match hop.tls.tls {
            TlsUse::Implicit => TlsUse::Implicit,
            TlsUse::Off | TlsUse::Opportunistic | TlsUse::Required => TlsUse::Required,
        },
        ..TlsPolicy::opportunistic()
    };
    let hop_without = Hop { tls: lenient, credentials: None, ..hop.clone() };
    match timeout(limit, connect(ip, &hop_without, settings, tls)).await {
        Err(_) => report.error = Some(ProbeError::TimedOut(limit)),
        Ok(Err(ConnectError::Tls(failure))) => {
            report.set(TlsSwitch::RequireTls, Checked::Fails(failure));
        }
        Ok(Err(error)) => report.error = Some(error.into()),
        Ok(Ok(connection)) => {
            report.session = connection.tls().cloned();
            connection.quit().await;
            report.judge(hop, tls);
        }
    }
    report
}

impl TlsReport {
    fn new(ip: IpAddr, hop: &Hop) -> Self {
        let policy = hop.tls.clone();
        let is_on = |switch| match switch {
            TlsSwitch::RequireTls => matches!(policy.tls, TlsUse::Required | TlsUse::Implicit),
            TlsSwitch::RequireCaSigned => policy.require_ca_signed,
            TlsSwitch::VerifyHostname => policy.verify_hostname,
        };
        Self {
            host: hop.host.clone(),
            address: SocketAddr::new(ip, hop.host.port),
            session: None,
            chain: Vec::new(),
            findings: TlsSwitch::ALL.map(|switch| Finding {
                switch,
                is_on: is_on(switch),
                result: Checked::Unknown,
            }),
            error: None,
            names_of_this_address: Vec::new(),
            policy,
        }
    }

    /// Checks chain and name, whether the hop asks for it or not.
    fn judge(&mut self, hop: &Hop, tls: &TlsClients) {
        let Some(session) = &self.session else { return };
        let shown: Vec<CertificateDer<'_>> =
            session.chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let checked = |verdict: Result<(), TlsFailure>| match verdict {
            Ok(()) => Checked::Passes,
            Err(failure) => Checked::Fails(failure),
        };
        let ca_signed = tls.verify_chain(&hop.tls.roots, &shown).map(checked);
        let hosts = || std::iter::once(&hop.host.host).chain(&hop.alias);
        let hostname = shown.first().map(|own| checked(verify_name(own, hosts())));
        self.chain = session.chain.iter().filter_map(|der| CertificateFacts::read(der)).collect();
        self.set(TlsSwitch::RequireTls, Checked::Passes);
        match ca_signed {
            Ok(verdict) => self.set(TlsSwitch::RequireCaSigned, verdict),
            // Without roots nothing can be said, and where they are asked for no mail goes.
            Err(error) => {
                let needed = hop.tls.require_ca_signed;
                self.error = needed.then(|| ProbeError::Connect(error.into()));
            }
        }
        self.set(TlsSwitch::VerifyHostname, hostname.unwrap_or(Checked::Unknown));
    }

    fn set(&mut self, switch: TlsSwitch, result: Checked) {
        if let Some(finding) = self.findings.iter_mut().find(|one| one.switch == switch) {
            finding.result = result;
        }
    }

    /// What the test says of a switch.
    #[must_use]
    pub fn finding(&self, switch: TlsSwitch) -> &Checked {
        let found = self.findings.iter().find(|one| one.switch == switch);
        found.map_or(&Checked::Unknown, |found| &found.result)
    }

    /// The failures for which mail would not go, by the route's own switches.
    pub fn failures(&self) -> impl Iterator<Item = &TlsFailure> {
        self.findings.iter().filter_map(|finding| match &finding.result {
            Checked::Fails(failure) if self.stops(finding, failure) => Some(failure),
            _ => None,
        })
    }

    fn stops(&self, finding: &Finding, failure: &TlsFailure) -> bool {
        match failure {
            // A handshake that fails leads to clear text only where nothing is asked of TLS (A7).
            TlsFailure::Handshake(_) | TlsFailure::Lost(_) => !self.policy.falls_back(),
            _ => finding.is_on,
        }
    }

    /// What mail would do now.
    #[must_use]
    pub fn passage(&self) -> Passage {
        match (&self.error, self.failures().next(), &self.session) {
            (None, None, Some(_)) => Passage::Encrypted,
            (None, None, None) => Passage::Clear,
            _ => Passage::Stopped,
        }
    }

    /// The host's own certificate.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateFacts> {
        self.chain.first()
    }

    /// The names to use instead of the host's when its own is not on the certificate: those that lead
    /// to the same address first. At most ten.
    #[must_use]
    pub fn names_to_use(&self) -> Vec<&str> {
        if !matches!(self.finding(TlsSwitch::VerifyHostname), Checked::Fails(_)) {
            return Vec::new();
        }
        let first: Vec<&str> = self.names_of_this_address.iter().map(String::as_str).collect();
        let others = self.certificate().into_iter().flat_map(CertificateFacts::usable_names);
        let others = others.filter(|name| !first.contains(name));
        first.iter().copied().chain(others).take(10).collect()
    }

    /// What a person can do so that mail goes: one sentence each, the best first. Empty when it goes.
    #[must_use]
    pub fn remedies(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut failures: Vec<&TlsFailure> = self.failures().collect();
        // Another name is the cheapest cure.
        failures.sort_by_key(|failure| !matches!(failure, TlsFailure::WrongName { .. }));
        for failure in &failures {
            let mut of_this = Vec::new();
            self.remedies_of(failure, &mut of_this);
            of_this.retain(|remedy| !found.contains(remedy));
            found.append(&mut of_this);
        }
        if !failures.is_empty() {
            found.push(
                "If the host belongs to a mail relay service, ask its provider about this failure."
                    .to_owned(),
            );
            let on = self.findings.iter().filter(|finding| match &finding.result {
                Checked::Fails(failure) => finding.is_on && self.stops(finding, failure),
                _ => false,
            });
            let mut off: Vec<&str> = on.map(|finding| finding.switch.as_str()).collect();
            if failures.iter().any(|failure| failure.switch() == Some(TlsSwitch::RequireTls)) {
                // Without TLS the other two would stop mail as well, or mean nothing.
                let others = self.findings.iter().filter(|finding| finding.is_on);
                off = others.map(|finding| finding.switch.as_str()).collect();
            }
            if !off.is_empty() {
                found.push(format!(
                    "Or switch off {}; it is better to leave {} on.",
                    off.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" and "),
                    if off.len() == 1 { "it" } else { "them" }
                ));
            }
        }
        found
    }

    fn remedies_of(&self, failure: &TlsFailure, found: &mut Vec<String>) {
        let host = &self.host.host;
        let install = || {
            format!(
                "If the server is yours, install a certificate of a trusted authority that names \
                 `{host}`."
            )
        };
        match failure {
            TlsFailure::WrongName { .. } => {
                match self.names_of_this_address.first() {
                    Some(name) => found.push(format!(
                        "Use `{name}` as the route's host: it is on the certificate and leads to \
                         the same address."
                    )),
                    None => found.extend(self.name_on_certificate()),
                }
                found.push(install());
            }
            TlsFailure::Untrusted => {
                let is_alone = self.chain.len() == 1;
                if is_alone && self.certificate().is_some_and(|own| !own.is_self_issued()) {
                    found.push(
                        "If the authority is a trusted one, let the server send its intermediate \
                         certificates too: it sends only its own."
                            .to_owned(),
                    );
                }
                found.push(install());
                found.push(
                    "If the authority is your own, name its root certificate in the route's \
                     `roots`."
                        .to_owned(),
                );
            }
            TlsFailure::Expired => {
                found.push("Renew the certificate on the server, if it is yours.".to_owned());
            }
            TlsFailure::NotYetValid => {
                found.push("Set the clocks of both machines right.".to_owned());
            }
            TlsFailure::Certificate(_) => found.push(install()),
            TlsFailure::NoStartTls | TlsFailure::StartTlsRefused(_) => {
                found.push("If the server is yours, let it offer STARTTLS.".to_owned());
            }
            TlsFailure::Handshake(_) => found.push(
                "If the server is yours, let it speak TLS 1.2 or 1.3 with a usual certificate; if \
                 it speaks TLS from the first octet on, set `tls = \"implicit\"`, and if it waits \
                 for STARTTLS, set `tls = \"starttls\"`."
                    .to_owned(),
            ),
            TlsFailure::Lost(_) => found.push(
                "Look into the server's log, or try again: the connection broke in the handshake."
                    .to_owned(),
            ),
        }
    }

    /// A name on the certificate that can be tried.
    fn name_on_certificate(&self) -> Option<String> {
        let own = self.certificate()?;
        let is_name = |name: &&str| name.parse::<std::net::IpAddr>().is_err();
        let usable = own.usable_names().find(is_name).or_else(|| own.usable_names().next());
        match (usable, own.names.first()) {
            (Some(name), _) => Some(format!(
                "If the host is known by several names, use the one on its certificate as the \
                 route's host: `{name}`."
            )),
            (None, Some(wild)) => Some(format!(
                "If the host is known by several names, use one that its certificate covers as the \
                 route's host: `{wild}`."
            )),
            (None, None) => None,
        }
    }
}

/// The DNS names on a certificate that a resolver may be asked for: a few, and names at all.
pub(super) fn askable(report: &TlsReport) -> Vec<waypost_types::Domain> {
    let names = report.names_to_use();
    let parsed = names.iter().filter_map(|name| match name.parse::<Host>() {
        Ok(Host::Name(name)) => Some(name),
        _ => None,
    });
    parsed.take(5).collect()
}
