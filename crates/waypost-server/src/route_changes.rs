//! Which hosts a reload says something new about (A9, A12).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use waypost_config::policy::Policy;
use waypost_route::Route;
use waypost_types::{FailureScope, HostPort, RouteName};

/// The hosts whose failures are to be forgotten, since they, or what is asked of them, may have been
/// mended.
pub(crate) struct RouteChanges {
    /// Hosts of routes that were changed, added or removed.
    changed: HashSet<HostPort>,
    /// Hosts of routes that are as before.
    unchanged: HashSet<HostPort>,
    /// One of the changed routes has hosts that only DNS names.
    names_mx: bool,
}

impl RouteChanges {
    pub(crate) fn between(old: &Policy, new: &Policy) -> Self {
        let (was, is) = (routes(old), routes(new));
        let mut found =
            Self { changed: HashSet::new(), unchanged: HashSet::new(), names_mx: false };
        for (key, route) in &was {
            // The file of a password may hold another one.
            found.add(route, is.get(key) == Some(route) && route.auth().is_none());
        }
        for (key, route) in &is {
            if was.get(key) != Some(route) {
                found.add(route, false);
            }
        }
        found
    }

    fn add(&mut self, route: &Route, is_unchanged: bool) {
        let hosts = route.hosts().iter().map(|host| host.at().clone());
        match is_unchanged {
            true => self.unchanged.extend(hosts),
            false => {
                self.changed.extend(hosts);
                self.names_mx |= route.mx_lookup();
            }
        }
    }

    /// Whether a host that failed is to be tried anew. One whose TLS failed always is: root files may
    /// have changed.
    pub(crate) fn concern(&self, host: &HostPort, cause: FailureScope) -> bool {
        cause == FailureScope::Tls
            || self.changed.contains(host)
            || (self.names_mx && !self.unchanged.contains(host))
    }
}

fn routes(policy: &Policy) -> BTreeMap<(&str, &RouteName), &Arc<Route>> {
    let organizations = policy.organizations().iter();
    organizations
        .flat_map(|owner| owner.routes.iter().map(|(name, route)| ((&*owner.name, name), route)))
        .collect()
}

#[cfg(test)]
mod tests {
    use waypost_config::diagnostics::SourceFile;
    use waypost_config::raw;

    use super::*;

    fn policy(routes: &str) -> Policy {
        let text = format!(
            "[server]\nhostname = \"mx.a.example\"\n[[organization]]\nname = \"A\"\n\
             domains = [\"a.example\"]\n{routes}"
        );
        let (config, mut report) =
            raw::read(SourceFile::new("a", text), Vec::new()).map_err(|_| "TOML").unwrap();
        let files = std::collections::HashMap::<String, Vec<u8>>::new();
        let compiled = waypost_config::compile(&config, &files, &mut report);
        compiled.unwrap_or_else(|| panic!("{}", report.render(false))).into_policy("1")
    }

    fn route(name: &str, more: &str) -> String {
        format!("[[organization.route]]\nname = \"{name}\"\n{more}\n")
    }

    #[test]
    fn hosts_of_unchanged_routes_keep_their_pauses_a9() {
        let (one, two) =
            (route("one", "host = \"h1.example\""), route("two", "host = \"h2.example\""));
        let two_changed = route("two", "host = \"h2.example\"\nrequire_tls = false");
        let mx = route("mx", "host = \"h3.example\"\nmx_lookup = true");
        let both = format!("{one}{two}");
        for (old, new, forgotten) in [
            (both.clone(), both.clone(), [false, false, false]),
            (both.clone(), format!("{one}{two_changed}"), [false, true, false]),
            (both.clone(), one.clone(), [false, true, false]),
            (both.clone(), format!("{two}{one}"), [false, false, false]),
            (both.clone(), format!("{both}{mx}"), [false, false, true]),
            (format!("{both}{mx}"), format!("{one}{two_changed}"), [false, true, true]),
        ] {
            let changes = RouteChanges::between(&policy(&old), &policy(&new));
            for (name, want) in ["h1", "h2", "mx.other"].iter().zip(forgotten) {
                let host = format!("{name}.example:25").parse().unwrap();
                assert_eq!(changes.concern(&host, FailureScope::Host), want, "{name}: {new}");
                assert!(changes.concern(&host, FailureScope::Tls), "roots may have changed");
            }
        }
    }
}
