//! Which route's hosts are tested when: a value without clock, for [`super::TlsWatch`].

use std::collections::BTreeMap;
use std::hash::Hasher as _;
use std::sync::Arc;
use std::time::Duration;

use siphasher::sip::SipHasher24;
use waypost_config::policy::Policy;
use waypost_net::tls::{Roots, TlsPolicy};
use waypost_route::Route;
use waypost_types::{RouteName, Timestamp};

/// At the start the first tests are spread over so long, at most.
const START: Duration = Duration::from_secs(5 * 60);
/// After a reload those of the routes that changed are spread over so long, at most.
const RELOAD: Duration = Duration::from_secs(10);

/// A route of an organization.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Watched {
    pub(crate) organization: Box<str>,
    pub(crate) route: RouteName,
}

/// When each route is due. Memory: one entry a route.
pub(super) struct Plan {
    /// Spreads the routes: servers and routes do not all begin at the same moment.
    key: [u8; 16],
    interval: Option<Duration>,
    spread: Duration,
    routes: BTreeMap<Watched, Planned>,
}

struct Planned {
    route: Arc<Route>,
    due: Timestamp,
}

impl Plan {
    pub(super) fn new(key: [u8; 16]) -> Self {
        Self { key, interval: None, spread: START, routes: BTreeMap::new() }
    }

    /// A policy is in force. Routes that are new or changed are due soon, the others when they were.
    pub(super) fn replace(&mut self, policy: &Policy, now: Timestamp) {
        let mut old = std::mem::take(&mut self.routes);
        self.interval = policy.server.tls_check;
        let spread = std::mem::replace(&mut self.spread, RELOAD);
        let Some(interval) = self.interval else { return };
        for organization in policy.organizations() {
            for (name, route) in organization.routes.iter().filter(|(_, route)| is_watched(route)) {
                let watched =
                    Watched { organization: organization.name.clone(), route: name.clone() };
                let planned = match old.remove(&watched) {
                    Some(planned) if planned.route == *route => {
                        Planned { due: planned.due.min(now + interval), ..planned }
                    }
                    _ => {
                        let due = now + self.share(&watched, spread.min(interval));
                        Planned { route: Arc::clone(route), due }
                    }
                };
                self.routes.insert(watched, planned);
            }
        }
    }

    /// Takes a route that is due, which is due again after the interval.
    pub(super) fn take(&mut self, now: Timestamp) -> Option<(Watched, Arc<Route>)> {
        let interval = self.interval?;
        let first = self.routes.iter_mut().min_by_key(|(_, planned)| planned.due);
        let (watched, planned) = first.filter(|(_, planned)| planned.due <= now)?;
        planned.due = now + interval;
        Some((watched.clone(), Arc::clone(&planned.route)))
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.routes.values().map(|planned| planned.due).min()
    }

    /// Whether this is still what the policy says of a route.
    pub(super) fn holds(&self, watched: &Watched, route: &Route) -> bool {
        self.routes.get(watched).is_some_and(|planned| *planned.route == *route)
    }

    /// Whether a route is tested, and has this host.
    pub(super) fn has(&self, organization: &str, route: &str, host: &str) -> bool {
        self.routes.iter().any(|(one, planned)| {
            &*one.organization == organization
                && one.route.as_str() == route
                && planned.route.hosts().iter().any(|known| known.at().to_string() == host)
        })
    }

    /// A part of a span, always the same for a route.
    fn share(&self, watched: &Watched, of: Duration) -> Duration {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(watched.organization.as_bytes());
        hasher.write_u8(0xFF);
        hasher.write(watched.route.as_str().as_bytes());
        let thousandths = u32::try_from(hasher.finish() % 1000).unwrap_or_default();
        of.mul_f64(f64::from(thousandths) / 1000.0)
    }
}

/// A route that asks nothing of TLS has nothing that could fail.
fn is_watched(route: &Route) -> bool {
    let asks = |policy| !TlsPolicy::of_route(policy, Roots::System).falls_back();
    route.hosts().iter().any(|host| asks(host.tls()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load;

    fn policy(check: &str, routes: &[(&str, &str)]) -> Arc<Policy> {
        let mut text = format!(
            "[server]\nhostname = \"mx.solarmora.com\"\ntls_check = \"{check}\"\n\
             [[organization]]\nname = \"Solarmora\"\ndomains = [\"solarmora.com\"]\n"
        );
        for (name, more) in routes {
            text += &format!(
                "[[organization.route]]\nname = \"{name}\"\nhost = \"{name}.example\"\n{more}\n"
            );
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("waypost.toml");
        std::fs::write(&path, text).unwrap();
        load(&path).unwrap().policy.unwrap()
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_585_091_507_000) + Duration::from_secs(seconds)
    }

    /// Which routes are taken in which second, as far as `end`.
    fn run(plan: &mut Plan, from: u64, end: u64) -> Vec<(u64, String)> {
        let mut taken = Vec::new();
        for second in from..end {
            while let Some((watched, _)) = plan.take(at(second)) {
                taken.push((second, watched.route.as_str().to_owned()));
            }
        }
        taken
    }

    fn of<'a>(taken: &'a [(u64, String)], name: &str) -> Vec<&'a u64> {
        taken.iter().filter(|(_, route)| route == name).map(|(second, _)| second).collect()
    }

    #[test]
    fn each_route_is_tested_soon_and_then_once_an_interval_a8() {
        let mut plan = Plan::new([7; 16]);
        let names: Vec<String> = (0..50).map(|number| format!("r{number}")).collect();
        let routes: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
        plan.replace(&policy("1h", &routes), at(0));
        let taken = run(&mut plan, 0, 3 * 3600);
        assert_eq!(taken.len(), 150);
        for name in &names {
            let seconds = of(&taken, name);
            assert!(*seconds[0] <= 300, "{name}: {seconds:?}");
            assert_eq!(seconds[1] - seconds[0], 3600);
            assert_eq!(seconds[2] - seconds[1], 3600);
        }
        let mut first: Vec<u64> = taken.iter().take(50).map(|(second, _)| *second).collect();
        first.dedup();
        assert!(first.len() > 30, "they do not begin together: {first:?}");
    }

    #[test]
    fn only_routes_that_ask_something_of_tls_are_tested_a8() {
        let mut plan = Plan::new([7; 16]);
        let off = "require_tls = false";
        let routes = [
            ("off", off),
            ("checked", "require_tls = false\nverify_hostname = true"),
            ("implicit", "require_tls = false\ntls = \"implicit\""),
            ("strict", ""),
        ];
        plan.replace(&policy("1d", &routes), at(0));
        let mut names: Vec<_> = run(&mut plan, 0, 300).into_iter().map(|(_, name)| name).collect();
        names.sort();
        assert_eq!(names, ["checked", "implicit", "strict"]);
        assert!(plan.has("Solarmora", "strict", "strict.example:25"));
        assert!(!plan.has("Solarmora", "strict", "other.example:25"));
        assert!(!plan.has("Solarmora", "off", "off.example:25"));
        plan.replace(&policy("off", &routes), at(300));
        assert_eq!((plan.next(), plan.take(at(1_000_000))), (None, None));
    }

    #[test]
    fn a_reload_tests_what_changed_at_once_and_leaves_the_rest_a8() {
        let mut plan = Plan::new([7; 16]);
        plan.replace(&policy("1d", &[("a", ""), ("b", ""), ("c", "")]), at(0));
        let first = run(&mut plan, 0, 400);
        assert_eq!(first.len(), 3);
        let (_, before) =
            plan.routes.iter().next().map(|(w, p)| (w.clone(), p.route.clone())).unwrap();
        let next = policy("1d", &[("a", ""), ("b", "verify_hostname = false"), ("d", "")]);
        plan.replace(&next, at(400));
        let after = run(&mut plan, 400, 400 + 2 * 86_400);
        assert!(*of(&after, "b")[0] <= 410 && *of(&after, "d")[0] <= 410, "{after:?}");
        assert_eq!(*of(&after, "a")[0], *of(&first, "a")[0] + 86_400);
        assert!(of(&after, "c").is_empty());
        let watched =
            |name: &str| Watched { organization: "Solarmora".into(), route: name.parse().unwrap() };
        assert!(plan.holds(&watched("a"), &before) && !plan.holds(&watched("c"), &before));
        // A shorter interval holds for those that wait, too.
        let late = 400 + 2 * 86_400;
        plan.replace(&policy("1h", &[("a", "")]), at(late));
        assert!(plan.next().unwrap() <= at(late + 3600));
    }
}
