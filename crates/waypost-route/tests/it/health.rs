//! Health against a naive model that replays every event, and its bounds (A9).

use std::time::Duration;

use proptest::prelude::*;
use waypost_route::{Health, HostState, LONGEST_PAUSE, PROBE_LEASE};
use waypost_types::{FailureScope, HostPort, Timestamp};

fn host(number: u32) -> HostPort {
    format!("h{number}.example:25").parse().unwrap()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

#[test]
fn pauses_double_from_15_s_to_15_min_a9() {
    let (mut health, host) = (Health::default(), host(0));
    let (mut now, cause) = (at(1000), FailureScope::Host);
    for (failures, seconds) in
        [(1, 15), (2, 30), (3, 60), (4, 120), (5, 240), (6, 480), (7, 900), (8, 900), (9, 900)]
    {
        let until = now + Duration::from_secs(seconds);
        assert_eq!(
            health.failed(&host, FailureScope::Host, now),
            HostState::Paused { until, failures, cause }
        );
        // Other attempts, begun before the pause, fail too: once is enough.
        assert_eq!(
            health.failed(&host, FailureScope::Host, now),
            HostState::Paused { until, failures, cause }
        );
        now = until;
        assert_eq!(health.state(&host, now), HostState::ProbeDue { failures });
    }
    health.succeeded(&host);
    assert_eq!(health.state(&host, now), HostState::Up);
    assert!(matches!(
        health.failed(&host, FailureScope::Host, now),
        HostState::Paused { failures: 1, .. }
    ));
}

#[test]
fn one_probe_at_a_time_a9() {
    let (mut health, host) = (Health::default(), host(0));
    assert_eq!(health.claim(&host, at(0)), HostState::Up);
    health.failed(&host, FailureScope::Host, at(0));
    assert!(!health.claim(&host, at(14)).may_try());
    assert!(health.claim(&host, at(15)).may_try());
    let cause = FailureScope::Host;
    let waiting = HostState::Probing { until: at(15) + PROBE_LEASE, failures: 1, cause };
    assert_eq!(health.claim(&host, at(16)), waiting);
    health.released(&host);
    assert!(health.claim(&host, at(17)).may_try(), "the probe is free again");
    assert!(!health.claim(&host, at(18)).may_try());
    assert!(health.claim(&host, at(17) + PROBE_LEASE).may_try(), "a lost probe does not block");
    health.succeeded(&host);
    assert_eq!(health.claim(&host, at(20)), HostState::Up);
    assert_eq!(health.troubled(at(20)).count(), 0);
}

#[test]
fn memory_is_bounded_and_the_latest_pauses_stay_a9() {
    for capacity in [1, 2, 7, 8, 100] {
        let mut health = Health::with_capacity(capacity);
        for number in 0..1000 {
            let now = at(u64::from(number) / 4);
            health.failed(&host(number), FailureScope::Host, now);
            assert!(health.troubled(now).count() <= capacity);
            assert!(!health.state(&host(number), now).may_try());
        }
    }
    let mut health = Health::with_capacity(0);
    health.failed(&host(1), FailureScope::Host, at(0));
    assert_eq!(health.troubled(at(0)).count(), 1);
    assert_eq!(health.troubled(at(7200)).count(), 0, "forgotten");
}

#[test]
fn what_is_forgotten_is_up_and_the_rest_stays_a9() {
    let mut health = Health::default();
    for (number, cause) in [(0, FailureScope::Host), (1, FailureScope::Tls), (2, FailureScope::Tls)]
    {
        health.failed(&host(number), cause, at(0));
    }
    health.forget(|found, cause| *found == host(1) && cause == FailureScope::Tls);
    assert_eq!(health.state(&host(1), at(1)), HostState::Up);
    assert!(!health.state(&host(0), at(1)).may_try() && !health.state(&host(2), at(1)).may_try());
    health.forget(|_, cause| cause == FailureScope::Tls);
    assert_eq!(health.troubled(at(1)).count(), 1);
    assert!(!health.is_untroubled());
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Wait(u64),
    Claim(u32),
    Succeeded(u32),
    Failed(u32, FailureScope),
    Released(u32),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let host = 0..3_u32;
    let scope =
        prop_oneof![Just(FailureScope::Host), Just(FailureScope::Tls), Just(FailureScope::Message)];
    let op = prop_oneof![
        prop_oneof![0..40_u64, 0..1000_u64, 0..8000_u64].prop_map(Op::Wait),
        host.clone().prop_map(Op::Claim),
        host.clone().prop_map(Op::Succeeded),
        (host.clone(), scope).prop_map(|(host, scope)| Op::Failed(host, scope)),
        host.prop_map(Op::Released),
    ];
    proptest::collection::vec(op, 0..60)
}

/// The state of one host, found by replaying its whole history second by second in thought: no
/// state is kept between two questions.
fn naive(history: &[(u64, Op)], which: u32, now: u64) -> HostState {
    let (mut failures, mut until, mut probe) = (0_u32, 0_u64, None::<u64>);
    let mut cause = FailureScope::Host;
    for moment in history.iter().map(|(t, _)| *t).chain([now]).enumerate() {
        let (index, time) = moment;
        let lease = PROBE_LEASE.as_secs();
        let quiet_since = probe.map_or(until, |began| began + lease).max(until);
        if failures > 0 && time >= quiet_since + 3600 {
            (failures, probe) = (0, None);
        }
        let Some((_, op)) = history.get(index) else { break };
        let probing = probe.is_some_and(|began| time < began + lease);
        match *op {
            Op::Claim(h) if h == which && failures > 0 && time >= until && !probing => {
                probe = Some(time);
            }
            Op::Succeeded(h) if h == which => (failures, until, probe) = (0, 0, None),
            Op::Failed(h, FailureScope::Message) if h == which => probe = None,
            Op::Failed(h, scope) if h == which && (failures == 0 || time >= until) => {
                failures += 1;
                let mut pause = 15;
                for _ in 1..failures {
                    pause = (pause * 2).min(LONGEST_PAUSE.as_secs());
                }
                (until, probe, cause) = (time + pause, None, scope);
            }
            Op::Released(h) if h == which => probe = None,
            _ => {}
        }
    }
    let lease = PROBE_LEASE.as_secs();
    match probe {
        _ if failures == 0 => HostState::Up,
        _ if now < until => HostState::Paused { until: at(until), failures, cause },
        Some(began) if now < began + lease => {
            HostState::Probing { until: at(began + lease), failures, cause }
        }
        _ => HostState::ProbeDue { failures },
    }
}

proptest! {
    #[test]
    fn agrees_with_a_naive_model_a9(ops in ops()) {
        let (mut health, mut history, mut now) = (Health::default(), Vec::new(), 0);
        for op in ops {
            if let Op::Wait(seconds) = op {
                now += seconds;
            }
            if let Op::Claim(h) = op {
                prop_assert_eq!(health.claim(&host(h), at(now)), naive(&history, h, now));
            }
            history.push((now, op));
            match op {
                Op::Wait(_) | Op::Claim(_) => {}
                Op::Succeeded(h) => health.succeeded(&host(h)),
                Op::Failed(h, scope) => {
                    let state = health.failed(&host(h), scope, at(now));
                    prop_assert_eq!(state, naive(&history, h, now));
                }
                Op::Released(h) => health.released(&host(h)),
            }
            for h in 0..3 {
                prop_assert_eq!(health.state(&host(h), at(now)), naive(&history, h, now), "{:?}", history);
            }
        }
    }
}
