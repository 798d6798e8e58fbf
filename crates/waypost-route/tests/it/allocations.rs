//! The order of attempts costs one allocation: the list that it returns.

use waypost_route::{Draw, Health, HostSettings, Route, RouteSettings};
use waypost_types::{FailureScope, QueueId, Timestamp};

fn route(primary: usize, secondary: usize) -> Route {
    let tier = |name: &str, count: usize| {
        let host = |i: usize| HostSettings {
            host: format!("{name}{i}.example"),
            load: Some(if i == 0 { 100 } else { 0 }),
            ..HostSettings::default()
        };
        Some((0..count).map(host).collect())
    };
    Route::new(RouteSettings {
        name: "edge".into(),
        primary: tier("p", primary),
        secondary: tier("s", secondary),
        ..RouteSettings::default()
    })
    .unwrap()
}

#[test]
fn attempts_allocate_the_returned_lists_alone_a9() {
    let now = Timestamp::from_millis(0);
    for (primary, secondary) in [(1, 0), (1, 1), (10, 10), (100, 100)] {
        let route = route(primary, secondary);
        let mut health = Health::default();
        // Nobody has failed; somebody else has; one of the route's hosts has.
        for (failed, want) in [(None, 1), (Some("other.example:25"), 1), (Some("own"), 2)] {
            if let Some(host) = failed {
                let own = route.hosts()[0].at().clone();
                let host = host.parse().unwrap_or(own);
                health.failed(&host, FailureScope::Host, now);
            }
            let counted = allocation_counter::measure(|| {
                let draw = Draw::new([7; 16], QueueId::new(1), route.name());
                drop(route.attempts(draw, &health, now));
            });
            assert_eq!(counted.count_total, want, "{primary} {secondary} {failed:?}");
        }
    }
}
