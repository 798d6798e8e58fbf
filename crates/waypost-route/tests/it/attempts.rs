//! The order of attempts: permutation, tiers, shares, skipped hosts (A3, A9).

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use waypost_route::{
    Draw, FIRST_PAUSE, Health, HostSettings, HostState, OnTlsFailure, Route, RouteSettings,
    Skipped, Tier,
};
use waypost_types::{Failure, FailureScope, HostPort, Outcome, QueueId, Reply, Timestamp};

const KEY: [u8; 16] = *b"a key for tests!";

fn route(primary: &[i64], secondary: &[i64]) -> Route {
    let hosts = |tier: &str, loads: &[i64]| -> Vec<HostSettings> {
        let host = |(index, load): (usize, &i64)| HostSettings {
            host: format!("{tier}{index}.example"),
            load: Some(*load),
            ..HostSettings::default()
        };
        loads.iter().enumerate().map(host).collect()
    };
    Route::new(RouteSettings {
        name: "edge".into(),
        primary: Some(hosts("p", primary)),
        secondary: Some(hosts("s", secondary)),
        ..RouteSettings::default()
    })
    .unwrap()
}

fn draw(id: u64, route: &Route) -> Draw {
    Draw::new(KEY, QueueId::new(id), route.name())
}

/// Loads of 1 to 6 hosts, some of them 0, that add up to 100.
fn loads() -> impl Strategy<Value = Vec<i64>> {
    proptest::collection::vec(0_i64..=100, 0..6).prop_map(|mut cuts| {
        cuts.extend([0, 100]);
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| pair[1] - pair[0]).collect()
    })
}

fn secondary_loads() -> impl Strategy<Value = Vec<i64>> {
    prop_oneof![Just(Vec::new()), loads()]
}

proptest! {
    #[test]
    fn a_permutation_with_tiers_and_standby_in_place_a9(
        primary in loads(), secondary in secondary_loads(), id in any::<u64>(),
        down in any::<u64>(),
    ) {
        let route = route(&primary, &secondary);
        let now = Timestamp::from_millis(1_000_000);
        let mut health = Health::default();
        for (index, host) in route.hosts().iter().enumerate() {
            if down >> (index % 64) & 1 == 1 {
                health.failed(host.at(), FailureScope::Host, now);
            }
        }
        let all = route.attempts(draw(id, &route), &Health::default(), now);
        let some = route.attempts(draw(id, &route), &health, now);

        // Every host once; nothing skipped while all are up.
        let mut names: Vec<_> = all.order.iter().map(|h| h.at().to_string()).collect();
        names.sort();
        let mut want: Vec<_> = route.hosts().iter().map(|h| h.at().to_string()).collect();
        want.sort();
        prop_assert_eq!(names, want);
        prop_assert!(all.skipped.is_empty() && all.earliest().is_none());

        // Primaries first; in a tier, standby last.
        let places: Vec<_> = all.order.iter().map(|h| (h.tier(), h.load() == 0)).collect();
        prop_assert!(places.is_sorted(), "{:?}", places);

        // Health decides who is skipped, never the order.
        let up: Vec<_> = all.order.iter().filter(|h| health.state(h.at(), now).may_try()).collect();
        prop_assert_eq!(some.order.iter().collect::<Vec<_>>(), up);
        prop_assert_eq!(some.order.len() + some.skipped.len(), route.hosts().len());
        let earliest = some.order.is_empty().then_some(now + FIRST_PAUSE);
        prop_assert_eq!(some.earliest(), earliest);
        let paused = |s: &Skipped<'_>| matches!(s.why, HostState::Paused { .. });
        prop_assert!(some.skipped.iter().all(paused));

        // The same draw gives the same order, whoever asks.
        let again = Draw::from_value(draw(id, &route).value());
        prop_assert_eq!(route.attempts(again, &health, now), some);
    }

    #[test]
    fn shares_add_up_a9(primary in loads(), secondary in secondary_loads(), down in any::<u16>()) {
        let route = route(&primary, &secondary);
        let down: Vec<HostPort> = chosen(&route, down);
        let sum: f64 = route.distribution(&down).iter().map(|share| share.percent).sum();
        let want = if down.len() == route.hosts().len() { 0.0 } else { 100.0 };
        prop_assert!((sum - want).abs() < 1e-6, "{sum}");
    }
}

fn chosen(route: &Route, bits: u16) -> Vec<HostPort> {
    let hosts = route.hosts().iter().enumerate();
    hosts.filter(|(i, _)| bits >> (i % 16) & 1 == 1).map(|(_, h)| h.at().clone()).collect()
}

/// The largest distance, in points, of a simulated share from the expected one.
fn largest_error(route: &Route, count: u32, down: &[HostPort]) -> f64 {
    let spread = route.spread(KEY, u64::from(count), down);
    let counted: u64 = spread.counts.iter().map(|(_, count)| count).sum();
    assert_eq!(counted + spread.none, u64::from(count));
    let shares = route.distribution(down);
    assert!(spread.none == 0 || shares.iter().all(|share| share.percent == 0.0));
    spread
        .counts
        .iter()
        .zip(shares)
        .map(|((_, got), share)| {
            let got = 100.0 * f64::from(u32::try_from(*got).unwrap()) / f64::from(count);
            (got - share.percent).abs()
        })
        .fold(0.0, f64::max)
}

#[test]
fn shares_over_100_000_messages_a9() {
    let p = |n: usize| {
        HostPort::new(format!("p{n}.example").parse::<waypost_types::Domain>().unwrap(), 25)
    };
    let (p0, p1, p2) = (p(0), p(1), p(2));
    let table: &[(&[i64], &[i64], &[HostPort])] = &[
        (&[100], &[], &[]),
        (&[60, 40], &[100], &[]),
        (&[60, 40], &[100], std::slice::from_ref(&p0)),
        (&[50, 30, 20], &[70, 30], &[]),
        (&[50, 30, 20], &[70, 30], std::slice::from_ref(&p0)),
        (&[50, 30, 20], &[70, 30], std::slice::from_ref(&p1)),
        (&[50, 30, 20], &[70, 30], &[p0.clone(), p2.clone()]),
        (&[50, 30, 20], &[70, 30], &[p0.clone(), p1.clone(), p2.clone()]),
        (&[99, 1, 0], &[], &[]),
        (&[100, 0, 0], &[], std::slice::from_ref(&p0)),
        (&[50, 50], &[], &[p0.clone(), p1.clone()]),
    ];
    for (primary, secondary, down) in table {
        let route = route(primary, secondary);
        let error = largest_error(&route, 100_000, down);
        assert!(error < 0.5, "{primary:?} {secondary:?} {down:?}: {error}");
    }
}

/// A host's own health, as an attempt sees it: up, down, down together, probed, and up again. Each
/// share is that of the loads of who is left, over 100,000 messages.
#[test]
fn shares_through_an_outage_and_after_it_a9() {
    let route = route(&[50, 30, 20, 0], &[70, 30]);
    let host = |name: &str| -> HostPort { format!("{name}.example:25").parse().unwrap() };
    let (start, seconds) = (Timestamp::from_millis(0), |s: u64| Timestamp::from_millis(1000 * s));
    let mut health = Health::default();
    let check = |health: &Health, at: Timestamp, want: [f64; 6], when: &str| {
        let mut counts = [0_u32; 6];
        for id in 0..100_000 {
            let attempts = route.attempts(draw(id, &route), health, at);
            let first = attempts.order.first().copied().unwrap();
            let place = route.hosts().iter().position(|host| std::ptr::eq(host, first)).unwrap();
            counts[place] += 1;
        }
        for (got, want) in counts.iter().zip(want) {
            let got = f64::from(*got) / 1000.0;
            assert!((got - want).abs() < 0.5, "{when}: {counts:?}, not {want}");
        }
    };
    check(&health, start, [50.0, 30.0, 20.0, 0.0, 0.0, 0.0], "all up");
    health.failed(&host("p1"), FailureScope::Host, start);
    check(&health, start, [500.0 / 7.0, 0.0, 200.0 / 7.0, 0.0, 0.0, 0.0], "one down");
    health.failed(&host("p0"), FailureScope::Tls, start);
    check(&health, start, [0.0, 0.0, 100.0, 0.0, 0.0, 0.0], "two down");
    health.failed(&host("p2"), FailureScope::Host, start);
    check(&health, start, [0.0, 0.0, 0.0, 100.0, 0.0, 0.0], "the standby alone");
    health.failed(&host("p3"), FailureScope::Host, start);
    check(&health, start, [0.0, 0.0, 0.0, 0.0, 70.0, 30.0], "all primaries down");
    health.failed(&host("s0"), FailureScope::Host, seconds(1));
    check(&health, seconds(1), [0.0, 0.0, 0.0, 0.0, 0.0, 100.0], "a secondary down too");
    // The pauses are over; another attempt has the probe of p0.
    assert!(health.claim(&host("p0"), seconds(16)).may_try());
    check(&health, seconds(16), [0.0, 60.0, 40.0, 0.0, 0.0, 0.0], "one is probed");
    for name in ["p0", "p1", "p2", "p3", "s0"] {
        health.succeeded(&host(name));
    }
    check(&health, seconds(17), [50.0, 30.0, 20.0, 0.0, 0.0, 0.0], "recovered");
    assert!(health.is_untroubled());
}

/// The orders of before must stay: mail in the queue and old explanations hold on to them.
#[test]
fn orders_stay_the_same_a9() {
    let route = route(&[50, 30, 20, 0, 0], &[70, 30]);
    let now = Timestamp::from_millis(0);
    for (id, want) in ORDERS {
        let order = route.attempts(draw(*id, &route), &Health::default(), now).order;
        let order: Vec<&str> =
            order.iter().map(|h| &h.at().host.name().unwrap().as_str()[..2]).collect();
        assert_eq!(order.join(" "), *want, "{id}");
    }
}

const ORDERS: &[(u64, &str)] = &[
    (1, "p2 p0 p1 p4 p3 s0 s1"),
    (2, "p0 p2 p1 p4 p3 s0 s1"),
    (3, "p0 p1 p2 p4 p3 s1 s0"),
    (4, "p0 p1 p2 p3 p4 s0 s1"),
];

/// As the table above, for loads that nobody chose. Cases and key are the same in every run.
#[test]
fn shares_of_any_loads_a9() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    let cases = (loads(), secondary_loads(), any::<u16>());
    TestRunner::new_with_rng(config, rng)
        .run(&cases, |(primary, secondary, down)| {
            let route = route(&primary, &secondary);
            let down = chosen(&route, down & down.rotate_left(3));
            // 20,000 messages: the bound of half a point at 100,000, scaled by the square root.
            let error = largest_error(&route, 20_000, &down);
            prop_assert!(error < 0.5 * 5_f64.sqrt() * 1.2, "{error}");
            Ok(())
        })
        .unwrap();
}

#[test]
fn an_attempt_explains_itself_a9() {
    let route = route(&[100, 0], &[100]);
    let (now, mut health) = (Timestamp::from_millis(0), Health::default());
    let shown = |health: &Health| route.attempts(Draw::from_value(1), health, now).to_string();
    assert_eq!(
        shown(&health),
        "draw 0000000000000001: p0.example:25 (primary, load 100 %), then p1.example:25 (primary, \
         load 0 %), then s0.example:25 (secondary, load 100 %)"
    );
    for host in route.hosts() {
        health.failed(host.at(), FailureScope::Host, now);
    }
    health.succeeded(route.hosts()[1].at());
    assert_eq!(
        shown(&health),
        "draw 0000000000000001: p1.example:25 (primary, load 0 %); not p0.example:25: in pause \
         until 1970-01-01T00:00:15Z after failure 1 in a row; not s0.example:25: in pause until \
         1970-01-01T00:00:15Z after failure 1 in a row"
    );
    health.failed(route.hosts()[1].at(), FailureScope::Host, now);
    assert!(shown(&health).starts_with("draw 0000000000000001: no host now; "));
    assert!(shown(&health).ends_with("; again at 1970-01-01T00:00:15Z"));
}

#[test]
fn the_first_host_can_be_told_from_the_draw_by_hand_a9() {
    let route = route(&[60, 40], &[]);
    let now = Timestamp::from_millis(0);
    // The draw, as a part of 2^64, falls into the loads in their order.
    for (value, want) in [
        (0, "p0.example:25"),
        (u64::MAX / 100 * 59, "p0.example:25"),
        (u64::MAX / 100 * 61, "p1.example:25"),
        (u64::MAX, "p1.example:25"),
    ] {
        let attempts = route.attempts(Draw::from_value(value), &Health::default(), now);
        assert_eq!(attempts.order[0].at().to_string(), want, "{value:x}");
        assert_eq!(attempts.order[0].tier(), Tier::Primary);
    }
}

#[test]
fn outcome_of_an_attempt_a9_a10() {
    use FailureScope::{Host, Message, Tls};
    let route = route(&[50, 50], &[]);
    let now = Timestamp::from_millis(0);
    // what the second host is in pause for; failures in this attempt; bounce, or defer; outcome
    let table: &[(Option<FailureScope>, &[(FailureScope, u16)], bool, &str)] = &[
        (None, &[(Tls, 454), (Tls, 454)], true, "failed Tls 550 5.7.5"),
        (None, &[(Tls, 454), (Tls, 454)], false, "deferred Tls 454 4.7.5"),
        (None, &[(Tls, 550), (Tls, 554)], true, "failed Tls 554 5.7.5"),
        (None, &[(Tls, 454), (Host, 421)], true, "deferred Host 421 4.7.5"),
        (None, &[(Host, 554), (Tls, 454)], true, "deferred Host 554 5.7.5"),
        (None, &[(Host, 421), (Message, 550)], true, "failed Message 550 5.7.5"),
        (None, &[(Message, 450)], true, "deferred Message 450 4.7.5"),
        (Some(Tls), &[(Tls, 454)], true, "failed Tls 550 5.7.5"),
        (Some(Tls), &[(Tls, 454)], false, "deferred Tls 454 4.7.5"),
        (Some(Host), &[(Tls, 454)], true, "deferred Tls 454 4.7.5"),
        (Some(Tls), &[], true, "deferred Host 451 4.4.1"),
    ];
    for (paused, failures, bounce, want) in table {
        let mut health = Health::default();
        if let Some(cause) = paused {
            health.failed(route.hosts()[1].at(), *cause, now);
        }
        let attempts = route.attempts(Draw::from_value(1), &health, now);
        let failures: Vec<Failure> = failures
            .iter()
            .map(|(scope, code)| {
                let class = u8::try_from(code / 100).unwrap();
                let reply = Reply::new(*code, (class, 7, 5), "no");
                Failure { scope: *scope, host: None, reply }
            })
            .collect();
        let on = if *bounce { OnTlsFailure::Bounce } else { OnTlsFailure::Defer };
        let got = match attempts.outcome(&failures, on) {
            Outcome::Failed(f) => format!("failed {:?} {}", f.scope, f.reply),
            Outcome::Deferred(f) => format!("deferred {:?} {}", f.scope, f.reply),
            Outcome::Delivered { .. } => "delivered".to_owned(),
        };
        assert!(got.starts_with(want), "{paused:?} {failures:?}: {got} is not {want}");
    }
}
