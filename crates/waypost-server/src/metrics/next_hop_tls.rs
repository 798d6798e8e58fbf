//! What the tests of the routes' TLS found (A8).

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use waypost_types::Timestamp;

use super::ResultLabels;
use super::registration::Registration;

const DAY_MILLIS: f64 = 86_400_000.0;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HopLabels {
    organization: Box<str>,
    route: Box<str>,
    host: Box<str>,
}

/// What the test of one address came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// Mail would go.
    Ok,
    /// A demand of the route fails.
    Failed,
    /// It did not come so far.
    Unreachable,
}

/// What the tests found, by route and host as they are written: labels of the configuration alone.
#[derive(Debug)]
pub(crate) struct NextHopTls {
    days: Family<HopLabels, Gauge<f64, AtomicU64>>,
    failing: Family<HopLabels, Gauge>,
    ok: Counter,
    failed: Counter,
    unreachable: Counter,
    hosts: Mutex<HashMap<HopLabels, Option<Timestamp>>>,
}

impl NextHopTls {
    pub(super) fn new(r: &mut Registration) -> Self {
        let checks = r.add(
            "waypost_tls_checks",
            "result",
            "Tests of the TLS of routes' hosts, one an address.",
            Family::<ResultLabels, Counter>::default(),
        );
        let counter = |result| checks.get_or_create_owned(&ResultLabels { result });
        Self {
            ok: counter("ok"),
            failed: counter("failed"),
            unreachable: counter("unreachable"),
            days: r.add(
                "waypost_tls_certificate_days_left",
                "organization, route, host",
                "Days until the certificate of a route's host expires, the first one of its \
                 addresses, as last tested.",
                Family::default(),
            ),
            failing: r.add(
                "waypost_tls_check_failing_addresses",
                "organization, route, host",
                "Addresses of a route's host where the route's TLS options stop mail, as last \
                 tested.",
                Family::default(),
            ),
            hosts: Mutex::default(),
        }
    }

    /// An address was tested.
    pub(crate) fn checked(&self, result: Checked) {
        match result {
            Checked::Ok => self.ok.inc(),
            Checked::Failed => self.failed.inc(),
            Checked::Unreachable => self.unreachable.inc(),
        };
    }

    /// A host was tested. Where no certificate was seen, the one seen last counts.
    pub(crate) fn host(
        &self,
        organization: &str,
        route: &str,
        host: &str,
        failing: i64,
        expires: Option<Timestamp>,
    ) {
        let labels =
            HopLabels { organization: organization.into(), route: route.into(), host: host.into() };
        self.failing.get_or_create(&labels).set(failing);
        let mut hosts = self.hosts();
        let kept = hosts.entry(labels).or_default();
        *kept = expires.or(*kept);
    }

    /// Forgets hosts that are no longer tested.
    pub(crate) fn retain(&self, is_tested: impl Fn(&str, &str, &str) -> bool) {
        self.hosts().retain(|labels, _| {
            let stays = is_tested(&labels.organization, &labels.route, &labels.host);
            if !stays {
                self.failing.remove(labels);
                self.days.remove(labels);
            }
            stays
        });
    }

    /// Days go by between two tests.
    pub(super) fn show(&self, now: Timestamp) {
        for (labels, expires) in self.hosts().iter() {
            let Some(expires) = expires else { continue };
            let left = expires.as_millis() as f64 - now.as_millis() as f64;
            self.days.get_or_create(labels).set(left / DAY_MILLIS);
        }
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<HopLabels, Option<Timestamp>>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn days_are_those_of_the_moment_and_routes_that_are_gone_are_forgotten_a8() {
        let metrics = NextHopTls::new(&mut Registration::default());
        let now = Timestamp::from_millis(1_700_000_000_000);
        let day = Duration::from_secs(86_400);
        let labels = |route: &str| HopLabels {
            organization: "S".into(),
            route: route.into(),
            host: "h:25".into(),
        };
        let days = |route| metrics.days.get(&labels(route)).map(|gauge| gauge.get());
        metrics.host("S", "a", "h:25", 1, Some(now + day * 10));
        metrics.host("S", "b", "h:25", 0, None);
        metrics.show(now);
        assert_eq!((days("a"), days("b")), (Some(10.0), None));
        metrics.show(now + day * 12);
        assert_eq!(days("a"), Some(-2.0));
        // Unreachable: the certificate seen last counts.
        metrics.host("S", "a", "h:25", 0, None);
        metrics.show(now);
        assert_eq!(days("a"), Some(10.0));
        metrics.retain(|_, route, _| route == "b");
        metrics.show(now);
        assert_eq!(days("a"), None);
        assert!(metrics.failing.get(&labels("a")).is_none());
        assert!(metrics.failing.get(&labels("b")).is_some());
    }
}
