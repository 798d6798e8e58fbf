//! Tests the TLS of the routes' hosts beside the mail, and warns before mail stops (A8).

mod plan;

use std::future::pending;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use waypost_net::client::{HostReport, PROBE_TIME, Passage, RouteProbe, TlsReport};
use waypost_net::dns::Resolver;
use waypost_net::tls::{TlsClients, TlsSwitch};
use waypost_route::Route;
use waypost_types::Timestamp;

use crate::core::Core;
use crate::metrics::{Checked, NextHopTls};
use plan::Plan;
pub(crate) use plan::Watched;

/// Routes tested at the same time.
const ROUTES_AT_ONCE: usize = 4;
/// Addresses of one route tested at the same time.
const ADDRESSES_AT_ONCE: usize = 4;
/// With fewer days left a certificate that mail depends on is warned of, at each test.
const WARN_DAYS: i64 = 21;

/// The tests of all routes, as `tls_check` says.
pub(crate) struct TlsWatch {
    core: Arc<Core>,
    resolver: Arc<dyn Resolver>,
    base: PathBuf,
    clients: ArcSwap<TlsClients>,
    plan: Mutex<Plan>,
    changed: Notify,
}

impl TlsWatch {
    pub(crate) fn new(
        core: Arc<Core>,
        resolver: Arc<dyn Resolver>,
        base: PathBuf,
        key: [u8; 16],
    ) -> Self {
        let mut plan = Plan::new(key);
        plan.replace(&core.policy(), core.clock.now());
        Self {
            core,
            resolver,
            base,
            clients: ArcSwap::from_pointee(TlsClients::default()),
            plan: Mutex::new(plan),
            changed: Notify::new(),
        }
    }

    /// A new policy is in force: routes that changed are tested soon, root files are read anew.
    pub(crate) fn policy_replaced(&self) {
        let mut plan = self.plan();
        plan.replace(&self.core.policy(), self.core.clock.now());
        self.clients.store(Arc::new(TlsClients::default()));
        let metrics = &self.core.metrics.next_hop_tls;
        metrics.retain(|organization, route, host| plan.has(organization, route, host));
        drop(plan);
        self.changed.notify_one();
    }

    /// Tests what is due, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut running = JoinSet::new();
        loop {
            while running.len() < ROUTES_AT_ONCE
                && let Some((watched, route)) = self.take()
            {
                running.spawn(Arc::clone(&self).test(watched, route));
            }
            let next = self.plan().next().filter(|_| running.len() < ROUTES_AT_ONCE);
            let due = async {
                match next {
                    Some(at) => sleep_until(self.core.clock.instant(at)).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.changed.notified() => {}
                Some(ended) = running.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a test of TLS ended abnormally");
                    }
                }
            }
        }
    }

    fn take(&self) -> Option<(Watched, Arc<Route>)> {
        let now = self.core.clock.now();
        self.plan().take(now)
    }

    async fn test(self: Arc<Self>, watched: Watched, route: Arc<Route>) {
        let policy = self.core.policy();
        let clients = self.clients.load_full();
        let probe = RouteProbe {
            resolver: &*self.resolver,
            tls: &clients,
            hostname: &policy.server.hostname,
            base: &self.base,
            limit: PROBE_TIME,
            at_once: ADDRESSES_AT_ONCE,
        };
        let report = probe.run(&route).await;
        let plan = self.plan();
        if !plan.holds(&watched, &route) {
            return; // It was changed meanwhile, and is tested anew.
        }
        let now = self.core.clock.now();
        for host in &report.hosts {
            note(&self.core.metrics.next_hop_tls, &watched, host, now);
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts what was found at a host, and warns.
fn note(metrics: &NextHopTls, watched: &Watched, host: &HostReport, now: Timestamp) {
    let Watched { organization, route } = watched;
    let mut failing = 0;
    for report in &host.addresses {
        let checked = match (report.passage(), report.failures().next()) {
            (Passage::Stopped, None) => Checked::Unreachable,
            (Passage::Stopped, Some(_)) => Checked::Failed,
            (Passage::Encrypted | Passage::Clear, _) => Checked::Ok,
        };
        metrics.checked(checked);
        match checked {
            Checked::Ok => warn_of_expiry(watched, host, report, now),
            Checked::Failed => {
                failing += 1;
                let because = report.failures().map(ToString::to_string).collect::<Vec<_>>();
                let because = because.join("; ");
                tracing::warn!(
                    organization, %route, host = %report.host, address = %report.address, because,
                    "the TLS test of a route fails: mail would not go there"
                );
            }
            Checked::Unreachable => {
                let because = report.error.as_ref().map(ToString::to_string).unwrap_or_default();
                tracing::info!(
                    organization, %route, host = %report.host, address = %report.address, because,
                    "the TLS of a route's host cannot be tested"
                );
            }
        }
    }
    if let Some(failure) = &host.failure {
        metrics.checked(Checked::Unreachable);
        tracing::info!(
            organization, %route, host = %host.host, because = %failure.reply,
            "the TLS of a route's host cannot be tested"
        );
    }
    let certificates = host.addresses.iter().filter_map(TlsReport::certificate);
    let expires = certificates.map(|certificate| certificate.not_after).min();
    metrics.host(organization, route.as_str(), &host.host.to_string(), failing, expires);
}

fn warn_of_expiry(watched: &Watched, host: &HostReport, report: &TlsReport, now: Timestamp) {
    let depends = report
        .findings
        .iter()
        .any(|finding| finding.is_on && finding.switch == TlsSwitch::RequireCaSigned);
    let Some(certificate) = report.certificate().filter(|_| depends) else { return };
    let days_left = certificate.days_left(now);
    if days_left < WARN_DAYS {
        tracing::warn!(
            organization = watched.organization, route = %watched.route, host = %host.host,
            address = %report.address, days_left, expires = %certificate.not_after,
            certificate = certificate.subject,
            "a certificate that a route depends on expires soon: have it renewed, or mail will not go"
        );
    }
}
