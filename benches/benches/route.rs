//! The order of attempts on routes of 2, 20 and 200 hosts (A9).

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use waypost_route::{Draw, Health, HostSettings, Route, RouteSettings};
use waypost_types::{FailureScope, QueueId, Timestamp};

/// Half of the hosts are primary with equal loads (the first takes the rest), half secondary.
fn route(hosts: usize) -> Route {
    let tier = |name: &str| {
        let count = hosts / 2;
        let each = i64::try_from(100 / count).expect("at most 100");
        let first = 100 - each * i64::try_from(count - 1).expect("at most 100");
        let host = |i: usize| HostSettings {
            host: format!("{name}{i}.example"),
            load: Some(if i == 0 { first } else { each }),
            ..HostSettings::default()
        };
        Some((0..count).map(host).collect())
    };
    let settings = RouteSettings {
        name: "edge".to_owned(),
        primary: tier("p"),
        secondary: tier("s"),
        ..RouteSettings::default()
    };
    Route::new(settings).expect("a valid route")
}

fn attempts(criterion: &mut Criterion) {
    let now = Timestamp::from_millis(0);
    let mut group = criterion.benchmark_group("order of attempts");
    for hosts in [2, 20, 200] {
        let route = route(hosts);
        let mut health = Health::default();
        health.failed(route.hosts()[0].at(), FailureScope::Host, now);
        let mut id = 0;
        group.bench_function(BenchmarkId::from_parameter(format!("{hosts} hosts")), |b| {
            b.iter(|| {
                id += 1;
                let draw = Draw::new([7; 16], QueueId::new(id), route.name());
                black_box(route.attempts(draw, &health, now)).order.len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, attempts);
criterion_main!(benches);
