//! When a delivery is tried again.

use std::time::Duration;

use waypost_config::policy::Policy;
use waypost_config::settings::{Delays, Retry};
use waypost_queue::{Schedule, Site};
use waypost_types::Destination;

/// The schedule of a site: that of its route, or the server's (O2).
///
/// What a route leaves out is the server's. Where only one end of a doubling is the route's own, the
/// other one gives way: `longest = "1m"` alone begins at one minute too.
pub(crate) fn schedule(policy: &Policy, site: &Site) -> Schedule {
    let route = match &site.destination {
        Destination::Route { organization, route } => {
            policy.organization(organization).and_then(|owner| owner.routes.get(route))
        }
        Destination::Mailbox { organization } => policy
            .organization(organization)
            .and_then(|owner| owner.routes.get(owner.mailbox_route.as_ref()?)),
        _ => None,
    };
    let server = &policy.server.retry;
    let Some(own) = route.and_then(|route| route.retry()) else { return to_schedule(server) };
    let delays = match (&own.delays, own.first, own.longest) {
        (Some(delays), ..) if !delays.is_empty() => Delays::Listed(delays.clone()),
        (_, None, None) => server.delays.clone(),
        (_, own_first, own_longest) => {
            let (first, longest) = match &server.delays {
                Delays::Doubling { first, longest } => (*first, *longest),
                Delays::Listed(_) => (Duration::from_secs(5 * 60), Duration::from_secs(4 * 3600)),
            };
            let first = own_first.unwrap_or(first.min(own_longest.unwrap_or(first)));
            Delays::Doubling { first, longest: own_longest.unwrap_or(longest).max(first) }
        }
    };
    to_schedule(&Retry { delays, lifetime: own.lifetime.unwrap_or(server.lifetime) })
}

fn to_schedule(retry: &Retry) -> Schedule {
    let doubling = |first, longest| Schedule::doubling(first, longest, retry.lifetime);
    match &retry.delays {
        Delays::Doubling { first, longest } => doubling(*first, *longest),
        Delays::Listed(delays) => Schedule::list(delays.clone(), retry.lifetime)
            .unwrap_or_else(|_| doubling(retry.lifetime, retry.lifetime)),
    }
}
