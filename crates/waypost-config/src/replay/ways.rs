//! Where the same name leads elsewhere: routes that two policies both have and define differently.

use std::collections::HashSet;

use waypost_route::Route;
use waypost_types::{Destination, RouteName};

use crate::policy::{Organization, Policy};

/// What leads elsewhere in the one policy than in the other, though its name is the same.
#[derive(Debug, Default)]
pub(super) struct Ways {
    routes: HashSet<(Box<str>, RouteName)>,
    mailboxes: HashSet<Box<str>>,
}

impl Ways {
    pub(super) fn between(old: &Policy, new: &Policy) -> Self {
        let mut ways = Self::default();
        for was in old.organizations() {
            let Some(is) = new.organization(&was.name) else { continue };
            for (name, route) in &was.routes {
                if is.routes.get(name).is_some_and(|other| !leads_the_same(route, other)) {
                    ways.routes.insert((was.name.clone(), name.clone()));
                }
            }
            let same = match (mailboxes(was), mailboxes(is)) {
                (Some(one), Some(other)) => leads_the_same(one, other),
                (None, None) => true,
                _ => false,
            };
            if !same {
                ways.mailboxes.insert(was.name.clone());
            }
        }
        ways
    }

    pub(super) fn differ(&self, destination: &Destination) -> bool {
        if self.routes.is_empty() && self.mailboxes.is_empty() {
            return false;
        }
        match destination {
            Destination::Route { organization, route } => {
                self.routes.contains(&(organization.clone(), route.clone()))
            }
            Destination::Mailbox { organization } => self.mailboxes.contains(organization),
            _ => false,
        }
    }
}

fn mailboxes(organization: &Organization) -> Option<&Route> {
    organization.mailbox_route.as_ref().and_then(|name| organization.routes.get(name)).map(|x| &**x)
}

/// Hosts, shares and what is asked of them; the schedule of retries says when, not where.
fn leads_the_same(one: &Route, other: &Route) -> bool {
    one.hosts() == other.hosts()
        && one.mx_lookup() == other.mx_lookup()
        && one.protocol() == other.protocol()
        && one.roots() == other.roots()
        && one.on_tls_failure() == other.on_tls_failure()
        && one.auth() == other.auth()
}

/// The hosts behind a destination, for people: `a.example:25 60%, b.example:25 40%`.
pub(super) fn hosts(policy: &Policy, destination: &Destination) -> Option<String> {
    let route = match destination {
        Destination::Route { organization, route } => {
            policy.organization(organization)?.routes.get(route)?
        }
        Destination::Mailbox { organization } => {
            match mailboxes(policy.organization(organization)?) {
                Some(route) => route,
                None => return Some("the built-in Maildir".to_owned()),
            }
        }
        _ => return None,
    };
    let share = |load: u8| if load == 100 { String::new() } else { format!(" {load}%") };
    let shown: Vec<String> =
        route.hosts().iter().map(|host| format!("{}{}", host.at(), share(host.load()))).collect();
    Some(shown.join(", "))
}
