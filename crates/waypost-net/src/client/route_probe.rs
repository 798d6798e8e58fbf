//! A look at the TLS of every host of a route (A8).

use std::path::Path;
use std::time::Duration;

use tokio::sync::Semaphore;
use waypost_route::{Draw, Protocol, Route, RouteHost, Tier};
use waypost_smtp::client::{self as smtp, Timeouts};
use waypost_types::{Domain, Failure, HostPort};

use super::hop::{ConnectSettings, Hop};
use super::probe::{Passage, TlsReport, askable, probe};
use crate::concurrent::all;
use crate::dns::{LeftOut, Lookup, Resolver, resolve_next_hops};
use crate::tls::{Roots, TlsClients, TlsPolicy};

/// How long the test of one address may take.
pub const PROBE_TIME: Duration = Duration::from_secs(30);

/// What a test of a route's hosts needs; made once for many routes.
///
/// ```no_run
/// use waypost_net::client::{PROBE_TIME, RouteProbe};
/// use waypost_net::dns::{DnsLimits, SystemResolver};
/// use waypost_net::tls::TlsClients;
///
/// # async fn example(route: waypost_route::Route) -> Result<(), Box<dyn std::error::Error>> {
/// let probe = RouteProbe {
///     resolver: &SystemResolver::from_system(DnsLimits::default())?,
///     tls: &TlsClients::default(),
///     hostname: &"us.example".parse()?,
///     base: "/etc/waypost".as_ref(),
///     limit: PROBE_TIME,
///     at_once: 4,
/// };
/// for host in probe.run(&route).await.hosts {
///     for found in host.addresses {
///         println!("{}: {:?}", found.address, found.passage());
///         found.remedies().iter().for_each(|remedy| println!("  {remedy}"));
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct RouteProbe<'a> {
    /// Who answers for names.
    pub resolver: &'a dyn Resolver,
    /// Roots that were read are kept in it.
    pub tls: &'a TlsClients,
    /// Our name for EHLO; also left out among MX hosts.
    pub hostname: &'a Domain,
    /// Where the paths of root files begin.
    pub base: &'a Path,
    /// How long one address may take; [`PROBE_TIME`] is usual.
    pub limit: Duration,
    /// Addresses looked at at the same time; at least 1.
    pub at_once: usize,
}

/// What was found at a route: one report a host, in the order of its settings.
#[derive(Debug)]
pub struct RouteReport {
    /// The hosts as they are written.
    pub hosts: Vec<HostReport>,
}

/// What was found at one host of a route.
#[derive(Debug)]
pub struct HostReport {
    /// The host as it is written.
    pub host: HostPort,
    /// Its tier.
    pub tier: Tier,
    /// One for each address; with MX lookup, of each MX host.
    pub addresses: Vec<TlsReport>,
    /// MX hosts without an address.
    pub left_out: Vec<LeftOut>,
    /// Why there is no address.
    pub failure: Option<Failure>,
}

impl RouteReport {
    /// Whether mail would go, by the route's own switches, at every address of every host.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.hosts.iter().all(HostReport::is_good)
    }
}

impl HostReport {
    /// Whether mail would go at every address.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.failure.is_none()
            && self.addresses.iter().all(|report| report.passage() != Passage::Stopped)
    }
}

impl RouteProbe<'_> {
    /// Looks at every address of every host of a route. No mail is sent, and no credentials.
    ///
    /// Bounds: at most [`MAX_ADDRESSES`](crate::dns::MAX_ADDRESSES) addresses a host, each for at most
    /// [`RouteProbe::limit`].
    pub async fn run(&self, route: &Route) -> RouteReport {
        let slots = Semaphore::new(self.at_once.max(1));
        let hosts = route.hosts().iter().map(|host| self.host(route, host, &slots));
        RouteReport { hosts: all(hosts.map(|host| Box::pin(host) as _).collect()).await }
    }

    async fn host(&self, route: &Route, host: &RouteHost, slots: &Semaphore) -> HostReport {
        let lookup = if route.mx_lookup() { Lookup::HostMx } else { Lookup::Host };
        let mut report = HostReport {
            host: host.at().clone(),
            tier: host.tier(),
            addresses: Vec::new(),
            left_out: Vec::new(),
            failure: None,
        };
        let own = [self.hostname.clone()];
        let draw = Draw::from_value(0);
        let found = resolve_next_hops(self.resolver, host.at(), lookup, &own, draw).await;
        let found = match found {
            Ok(found) => found,
            Err(failure) => return HostReport { failure: Some(failure), ..report },
        };
        let settings = self.settings();
        let hops: Vec<_> = found
            .hops
            .into_iter()
            .map(|found| {
                let hop = Hop {
                    alias: found.tls_names.get(1).cloned(),
                    protocol: match route.protocol() {
                        Protocol::Smtp => smtp::Protocol::Smtp,
                        Protocol::Lmtp => smtp::Protocol::Lmtp,
                    },
                    tls: TlsPolicy::of_route(host.tls(), Roots::of_route(route, self.base)),
                    credentials: None,
                    host: found.host,
                };
                (hop, found.addresses)
            })
            .collect();
        let addresses = hops
            .iter()
            .flat_map(|(hop, addresses)| addresses.iter().map(move |address| (hop, address.ip())));
        let looks = addresses.map(|(hop, ip)| {
            let settings = &settings;
            Box::pin(async move {
                let _slot = slots.acquire().await; // Never closed.
                let mut report = probe(ip, hop, settings, self.tls, self.limit).await;
                for name in askable(&report) {
                    let leads = self.resolver.addresses(&name).await;
                    if leads.is_ok_and(|ips| ips.contains(&ip)) {
                        report.names_of_this_address.push(name.to_string());
                    }
                }
                report
            }) as _
        });
        report.addresses = all(looks.collect()).await;
        report.left_out = found.left_out;
        report
    }

    /// A person waits: each phase gets a third of the whole.
    fn settings(&self) -> ConnectSettings {
        let third = self.limit / 3;
        let mut settings = ConnectSettings::new(self.hostname.clone().into());
        settings.connect = third;
        settings.timeouts = Timeouts { command: third, ..Timeouts::default() };
        settings
    }
}
