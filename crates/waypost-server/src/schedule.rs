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

#[cfg(test)]
mod tests {
    use waypost_types::Timestamp;

    use super::*;
    use crate::load;

    /// The minutes at which a delivery that is always deferred is tried, as far as `longest`; and the
    /// minute in which it has failed.
    fn attempts(schedule: &Schedule, longest: usize) -> (Vec<u64>, Option<u64>) {
        let accepted = Timestamp::from_millis(1_585_091_507_000);
        let (mut now, mut made) = (accepted, vec![0]);
        while let Some(next) = schedule.next(u32::try_from(made.len()).unwrap(), accepted, now) {
            if made.len() == longest {
                return (made, None);
            }
            now = next;
            made.push(now.since(accepted).as_secs() / 60);
        }
        let end = made.last().copied();
        (made, end)
    }

    fn policy(server: &str, route: &str) -> std::sync::Arc<Policy> {
        let text = format!(
            r#"
[server]
hostname = "mx.solarmora.com"
{server}
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
mailbox_route = "boxes"
[[organization.route]]
name = "boxes"
host = "127.0.0.1"
{route}
"#
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("waypost.toml");
        std::fs::write(&path, text).unwrap();
        load(&path).unwrap().policy.unwrap()
    }

    fn site(destination: Destination) -> Site {
        Site { destination, host: None }
    }

    fn route() -> Site {
        let organization = "Solarmora".into();
        site(Destination::Route { organization, route: "boxes".parse().unwrap() })
    }

    #[test]
    fn each_line_of_o2_from_the_configuration_to_the_attempts() {
        let doubling = vec![0, 5, 15, 35, 75, 155, 315, 555, 795];
        let listed = vec![0, 1, 2, 5, 10, 15];
        let list = "delays = [\"1m\", \"1m\", \"3m\", \"5m\"]";
        // The server's, the route's, and the attempts of the route's mail in minutes.
        for (server, route_has, want) in [
            ("", "", &doubling),
            ("retry = { first = \"1m\", longest = \"3m\" }", "", &vec![0, 1, 3, 6, 9]),
            ("retry = { longest = \"2m\" }", "", &vec![0, 2, 4]),
            ("retry = { first = \"6h\" }", "", &vec![0, 360, 720]),
            (&format!("retry = {{ {list} }}"), "", &listed),
            ("", &format!("retry = {{ {list} }}"), &listed),
            (&format!("retry = {{ {list} }}"), "retry = { lifetime = \"1d\" }", &listed),
            (&format!("retry = {{ {list} }}"), "retry = { first = \"2m\" }", &vec![0, 2, 6, 14]),
            ("", "retry = { first = \"1m\" }", &vec![0, 1, 3, 7]),
            ("", "retry = { longest = \"2m\" }", &vec![0, 2, 4]),
            ("", "retry = { first = \"6h\" }", &vec![0, 360, 720]),
            ("retry = { first = \"7m\" }", "retry = { longest = \"8m\" }", &vec![0, 7, 15, 23]),
            ("", "retry = { lifetime = \"1d\" }", &doubling),
        ] {
            let policy = policy(server, route_has);
            let (made, _) = attempts(&schedule(&policy, &route()), want.len());
            assert_eq!(&made, want, "{server} {route_has}");
        }
    }

    #[test]
    fn a_lifetime_ends_with_an_attempt_o2() {
        for (server, route_has, minutes) in [
            ("", "", 5 * 24 * 60),
            ("retry = { lifetime = \"2h\" }", "", 120),
            ("retry = { lifetime = \"2h\" }", "retry = { lifetime = \"1h\" }", 60),
            ("", "retry = { lifetime = \"1h\" }", 60),
        ] {
            let policy = policy(server, route_has);
            let (made, end) = attempts(&schedule(&policy, &route()), usize::MAX);
            assert_eq!(end, Some(minutes), "{server} {route_has}: {made:?}");
        }
    }

    #[test]
    fn a_routes_schedule_holds_for_its_mail_alone() {
        let policy = policy("", "retry = { delays = [\"1m\"] }");
        let mailbox = site(Destination::Mailbox { organization: "Solarmora".into() });
        for (site, want) in [
            (route(), 1),
            (mailbox, 1),
            (site(Destination::Mx), 5),
            (site(Destination::Gateway("gw.example:25".parse().unwrap())), 5),
            (site(Destination::Mailbox { organization: "Gone".into() }), 5),
        ] {
            let (made, _) = attempts(&schedule(&policy, &site), 2);
            assert_eq!(made, [0, want], "{site:?}");
        }
    }
}
