//! Outcomes of deliveries, by route and by host.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use waypost_config::policy::Policy;
use waypost_types::{Destination, HostPort, Outcome, Timestamp};

/// Hosts that have series of their own; the others share one.
pub(crate) const MOST_HOSTS: usize = 100;
/// A host that nothing was sent to for so long gives its series to another.
const IDLE_MILLIS: u64 = 10 * 60 * 1000;
/// How often idle hosts are looked for.
const LOOK_MILLIS: u64 = 1000;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RouteLabels {
    via: &'static str,
    organization: Box<str>,
    route: Box<str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct HostLabels {
    host: Box<str>,
    outcome: &'static str,
}

/// A counter for each outcome.
#[derive(Clone, Debug)]
pub(crate) struct Outcomes {
    delivered: Counter,
    deferred: Counter,
    bounced: Counter,
    expired: Counter,
}

impl Outcomes {
    fn new(mut counter: impl FnMut(&'static str) -> Counter) -> Self {
        Self {
            delivered: counter("delivered"),
            deferred: counter("deferred"),
            bounced: counter("bounced"),
            expired: counter("expired"),
        }
    }

    /// Counts what an attempt led to.
    pub(crate) fn count(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Delivered { .. } => self.delivered.inc(),
            Outcome::Deferred(_) => self.deferred.inc(),
            Outcome::Failed(_) => self.bounced.inc(),
        };
    }

    /// Counts deliveries that were given up after their last attempt was deferred.
    pub(crate) fn count_expired(&self, count: u64) {
        self.expired.inc_by(count);
    }
}

/// Outcomes by route. Routes are few: those of the configuration.
#[derive(Debug)]
pub(crate) struct ByRoute {
    family: Family<RouteLabels, Counter>,
    organizations: RwLock<HashMap<Box<str>, OfOrganization>>,
    gateway: Arc<Outcomes>,
    mx: Arc<Outcomes>,
    refused: Arc<Outcomes>,
}

impl ByRoute {
    pub(crate) fn new(family: Family<RouteLabels, Counter>) -> Self {
        let outcomes = |via| Arc::new(outcomes_of(&family, via, "", ""));
        let (gateway, mx, refused) = (outcomes("gateway"), outcomes("mx"), outcomes("refused"));
        Self { organizations: RwLock::default(), gateway, mx, refused, family }
    }

    /// Makes the series of all routes of a policy, so that they begin with 0.
    pub(crate) fn prepare(&self, policy: &Policy) {
        for organization in policy.organizations() {
            let name = || organization.name.clone();
            self.of(&Destination::Mailbox { organization: name() });
            for route in organization.routes.keys() {
                self.of(&Destination::Route { organization: name(), route: route.clone() });
            }
        }
    }

    /// The counters of a destination.
    pub(crate) fn of(&self, destination: &Destination) -> Arc<Outcomes> {
        let (organization, route) = match destination {
            Destination::Gateway(_) => return Arc::clone(&self.gateway),
            Destination::Refused { .. } => return Arc::clone(&self.refused),
            Destination::Mailbox { organization } => (organization, None),
            Destination::Route { organization, route } => (organization, Some(route.as_str())),
            _ => return Arc::clone(&self.mx),
        };
        let organizations = self.organizations.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = organizations.get(organization).and_then(|one| one.of(route)) {
            return Arc::clone(found);
        }
        drop(organizations);
        let made = Arc::new(match route {
            Some(route) => outcomes_of(&self.family, "route", organization, route),
            None => outcomes_of(&self.family, "mailbox", organization, ""),
        });
        let mut organizations = self.organizations.write().unwrap_or_else(PoisonError::into_inner);
        let found = organizations.entry(organization.clone()).or_default();
        match route {
            Some(route) => Arc::clone(found.routes.entry(route.into()).or_insert(made)),
            None => Arc::clone(found.mailbox.get_or_insert(made)),
        }
    }
}

/// By the names as they are written: comparing them without case, as routes do, is dear.
#[derive(Debug, Default)]
struct OfOrganization {
    mailbox: Option<Arc<Outcomes>>,
    routes: HashMap<Box<str>, Arc<Outcomes>>,
}

impl OfOrganization {
    fn of(&self, route: Option<&str>) -> Option<&Arc<Outcomes>> {
        match route {
            Some(route) => self.routes.get(route),
            None => self.mailbox.as_ref(),
        }
    }
}

fn outcomes_of(
    family: &Family<RouteLabels, Counter>,
    via: &'static str,
    organization: &str,
    route: &str,
) -> Outcomes {
    Outcomes::new(|outcome| {
        family.get_or_create_owned(&RouteLabels {
            via,
            organization: organization.into(),
            route: route.into(),
            outcome,
        })
    })
}

/// Outcomes by host. Hosts come from outside, so only [`MOST_HOSTS`] at a time have their own series:
/// those first used, until they are idle for ten minutes and another one comes.
#[derive(Debug)]
pub(crate) struct ByHost {
    family: Family<HostLabels, Counter>,
    named: RwLock<HashMap<HostPort, Arc<Named>>>,
    other: Outcomes,
    next_look: AtomicU64,
}

#[derive(Debug)]
struct Named {
    outcomes: Outcomes,
    used: AtomicU64,
}

impl ByHost {
    pub(crate) fn new(family: Family<HostLabels, Counter>) -> Self {
        let other = host_outcomes(&family, "other");
        Self { family, named: RwLock::default(), other, next_look: AtomicU64::new(0) }
    }

    /// Counts what an attempt at a host led to.
    pub(crate) fn count(&self, host: &HostPort, outcome: &Outcome, now: Timestamp) {
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = named.get(host) {
            found.used.store(now.as_millis(), Ordering::Relaxed);
            return found.outcomes.count(outcome);
        }
        let is_full = named.len() >= MOST_HOSTS;
        drop(named);
        if is_full && now.as_millis() < self.next_look.load(Ordering::Relaxed) {
            return self.other.count(outcome);
        }
        match self.admit(host, now) {
            Some(admitted) => admitted.outcomes.count(outcome),
            None => self.other.count(outcome),
        }
    }

    /// Gives a host series of its own, if there are any to give.
    fn admit(&self, host: &HostPort, now: Timestamp) -> Option<Arc<Named>> {
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        if named.len() >= MOST_HOSTS && !named.contains_key(host) {
            self.next_look.store(now.as_millis().saturating_add(LOOK_MILLIS), Ordering::Relaxed);
            let idle = |one: &Named| {
                now.as_millis().saturating_sub(one.used.load(Ordering::Relaxed)) >= IDLE_MILLIS
            };
            named.retain(|host, one| {
                let gone = idle(one);
                if gone {
                    self.forget(host);
                }
                !gone
            });
            if named.len() >= MOST_HOSTS {
                return None;
            }
        }
        let made = || {
            let outcomes = host_outcomes(&self.family, &host.to_string());
            Arc::new(Named { outcomes, used: AtomicU64::new(now.as_millis()) })
        };
        Some(Arc::clone(named.entry(host.clone()).or_insert_with(made)))
    }

    fn forget(&self, host: &HostPort) {
        let host: Box<str> = host.to_string().into();
        for outcome in HOST_OUTCOMES {
            self.family.remove(&HostLabels { host: host.clone(), outcome });
        }
    }
}

/// An attempt at a host never expires: that is for the whole delivery.
const HOST_OUTCOMES: [&str; 3] = ["delivered", "deferred", "bounced"];

fn host_outcomes(family: &Family<HostLabels, Counter>, host: &str) -> Outcomes {
    Outcomes::new(|outcome| match HOST_OUTCOMES.contains(&outcome) {
        true => family.get_or_create_owned(&HostLabels { host: host.into(), outcome }),
        false => Counter::default(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use waypost_types::Reply;

    use super::*;

    /// Lines of samples.
    fn series(family: &Family<HostLabels, Counter>) -> usize {
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register("x", "x", family.clone());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).count()
    }

    #[test]
    fn hosts_are_bounded_and_idle_ones_give_their_place_o4() {
        let family = Family::<HostLabels, Counter>::default();
        let hosts = ByHost::new(family.clone());
        let host = |n: usize| -> HostPort { format!("h{n}.example:25").parse().unwrap() };
        let delivered =
            |host| Outcome::Delivered { host: Some(host), reply: Reply::new(250, (2, 0, 0), "ok") };
        let start = Timestamp::from_millis(1_700_000_000_000);
        for n in 0..1000 {
            hosts.count(&host(n), &delivered(host(n)), start);
        }
        let count = |name: &str| {
            let labels = HostLabels { host: name.into(), outcome: "delivered" };
            family.get(&labels).map(|counter| counter.get())
        };
        assert_eq!(series(&family), (MOST_HOSTS + 1) * HOST_OUTCOMES.len());
        assert_eq!((count("h99.example:25"), count("h100.example:25")), (Some(1), None));
        assert_eq!(count("other"), Some(900));
        let later = start + Duration::from_secs(599);
        hosts.count(&host(5), &delivered(host(5)), later);
        hosts.count(&host(500), &delivered(host(500)), later);
        assert_eq!((count("h500.example:25"), count("other")), (None, Some(901)));
        let later = start + Duration::from_secs(601);
        hosts.count(&host(500), &delivered(host(500)), later);
        assert_eq!((count("h500.example:25"), count("other")), (Some(1), Some(901)));
        assert_eq!((count("h5.example:25"), count("h6.example:25")), (Some(2), None));
        assert_eq!(series(&family), (2 + 1) * HOST_OUTCOMES.len());
    }
}
