//! The hosts that a delivery may go to, as the policy now in force has them (A12).

use std::path::Path;

use waypost_config::policy::{Login, Organization, Policy};
use waypost_net::dns::Lookup;
use waypost_net::tls::Roots;
use waypost_route::{Attempts, HostState, OnTlsFailure, Route, TlsPolicy};
use waypost_smtp::client::{Credentials, Protocol};
use waypost_types::{
    Delivery, Destination, Failure, FailureScope, Host, HostPort, Outcome, Reply, TlsDemand,
};

/// One host to try, and how.
pub(crate) struct Target {
    pub(crate) at: HostPort,
    pub(crate) lookup: Lookup,
    pub(crate) tls: TlsPolicy,
    /// TLS is demanded by the delivery alone: that it fails says nothing about other mail.
    pub(crate) only_this_demands_tls: bool,
}

impl Target {
    fn new(at: HostPort, lookup: Lookup, own: TlsPolicy, demand: TlsDemand) -> Self {
        let tls = own.with_demand(demand);
        let only_this_demands_tls = tls.requirement != own.requirement;
        Self { at, lookup, tls, only_this_demands_tls }
    }
}

/// The hosts of a destination, in order, and what holds for all of them.
pub(crate) struct Way<'p> {
    pub(crate) targets: Vec<Target>,
    pub(crate) protocol: Protocol,
    pub(crate) roots: Roots,
    /// For AUTH at each of the hosts.
    pub(crate) credentials: Option<Credentials>,
    on_tls_failure: OnTlsFailure,
    /// The route's order, which judges failures; `None` for a gateway and for MX hosts.
    attempts: Option<Attempts<'p>>,
}

impl<'p> Way<'p> {
    /// The way of a delivery. `order` draws the order of a route's hosts; the paths of roots begin at
    /// `base`.
    ///
    /// # Errors
    /// A failure that defers: the configuration no longer has what the delivery names.
    pub(crate) fn of(
        delivery: &Delivery,
        policy: &'p Policy,
        base: &Path,
        order: impl Fn(&'p Route) -> Attempts<'p>,
    ) -> Result<Self, Failure> {
        let gone = |what: String| local(&format!("{what} is no longer configured"));
        let by_route = |owner: &'p Organization, route| {
            let way = Self::by_route(route, order(route), delivery.tls, base);
            Self { credentials: owner.logins.get(route.name()).map(credentials), ..way }
        };
        match &delivery.destination {
            Destination::Gateway(at) => Ok(Self::single(at.clone(), Lookup::Host, delivery.tls)),
            Destination::Route { organization, route } => {
                let owner = policy.organization(organization);
                let found = owner.and_then(|owner| Some((owner, owner.routes.get(route)?)));
                found
                    .map(|(owner, route)| by_route(owner, route))
                    .ok_or_else(|| gone(format!("route \"{route}\"")))
            }
            Destination::Mailbox { organization } => {
                let owner = policy.organization(organization);
                let owner = owner.ok_or_else(|| gone(format!("organization {organization}")))?;
                let name = owner.mailbox_route.as_ref();
                let found = name.and_then(|name| owner.routes.get(name));
                found
                    .map(|route| by_route(owner, route))
                    .ok_or_else(|| gone("the mailbox route".to_owned()))
            }
            _ => {
                let at = HostPort::new(delivery.recipient.host().clone(), policy.server.mx_port);
                let lookup = match at.host {
                    Host::Name(_) => Lookup::DomainMx,
                    Host::Ip(_) => Lookup::Host,
                };
                Ok(Self::single(at, lookup, delivery.tls))
            }
        }
    }

    fn single(at: HostPort, lookup: Lookup, demand: TlsDemand) -> Self {
        Self {
            targets: vec![Target::new(at, lookup, TlsPolicy::OPPORTUNISTIC, demand)],
            protocol: Protocol::Smtp,
            roots: Roots::System,
            credentials: None,
            on_tls_failure: OnTlsFailure::Bounce,
            attempts: None,
        }
    }

    fn by_route(route: &Route, attempts: Attempts<'p>, demand: TlsDemand, base: &Path) -> Self {
        let lookup = if route.mx_lookup() { Lookup::HostMx } else { Lookup::Host };
        let target = |host: &&waypost_route::RouteHost| {
            Target::new(host.at().clone(), lookup, host.tls(), demand)
        };
        Self {
            targets: attempts.order.iter().map(target).collect(),
            protocol: match route.protocol() {
                waypost_route::Protocol::Smtp => Protocol::Smtp,
                waypost_route::Protocol::Lmtp => Protocol::Lmtp,
            },
            roots: Roots::of_route(route, base),
            credentials: None,
            on_tls_failure: route.on_tls_failure(),
            attempts: Some(attempts),
        }
    }

    /// The hosts of the route that are not to be tried now.
    pub(crate) fn skipped(&self) -> impl Iterator<Item = HostState> {
        let skipped = self.attempts.iter().flat_map(|attempts| &attempts.skipped);
        skipped.map(|skipped| skipped.why)
    }

    /// What becomes of a recipient that no host took (A9, A10).
    pub(crate) fn outcome(&self, failures: &[Failure]) -> Outcome {
        if let Some(attempts) = &self.attempts {
            return attempts.outcome(failures, self.on_tls_failure);
        }
        match failures.last() {
            None => Outcome::Deferred(local("no host could be tried now")),
            Some(last) if last.scope == FailureScope::Tls => {
                let reply = Reply::new(550, (5, 7, 5), last.reply.text());
                Outcome::Failed(Failure { reply, ..last.clone() })
            }
            Some(last) => Outcome::Deferred(last.clone()),
        }
    }
}

fn credentials(login: &Login) -> Credentials {
    Credentials { user: login.user.clone(), password: login.password.clone() }
}

/// A failure of our own that defers.
pub(crate) fn local(text: &str) -> Failure {
    Failure { scope: FailureScope::Host, host: None, reply: Reply::new(451, (4, 3, 0), text) }
}
