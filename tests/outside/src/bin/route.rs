// From README.md, by scripts/outside --update.
use waypost_route::{Draw, Health, HostSettings, Route, RouteSettings};
use waypost_types::{FailureScope, QueueId, Timestamp};

fn main() {
    let host = |name: &str, load| HostSettings {
        host: name.to_owned(),
        load: Some(load),
        ..HostSettings::default()
    };
    let route = Route::new(RouteSettings {
        name: "edge".to_owned(),
        primary: Some(vec![host("a.example", 60), host("b.example", 40)]),
        secondary: Some(vec![host("dr.example", 100)]),
        ..RouteSettings::default()
    }).expect("loads that add up to 100");

    let (mut health, now) = (Health::default(), Timestamp::from_millis(0));
    let draw = Draw::new([7; 16], QueueId::new(1), route.name()); // key and queue id are yours
    let first = route.attempts(draw, &health, now).order[0];
    health.failed(first.at(), FailureScope::Host, now);
    assert_eq!(route.attempts(draw, &health, now).skipped[0].host, first); // paused, then probed
}
