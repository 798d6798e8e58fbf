//! What comes of limits beside refusals: mail that is held, and what administrators are told (D10 to D13).

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::registration::Registration;
use super::{LimitLabels, QUOTAS, Reason};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ToldLabels {
    organization: Box<str>,
    kind: Box<str>,
}

/// Counters of what limits lead to.
#[derive(Debug)]
pub(crate) struct QuotaEvents {
    held: Family<LimitLabels, Counter>,
    let_go: Counter,
    told: Family<ToldLabels, Counter>,
}

impl QuotaEvents {
    pub(super) fn new(r: &mut Registration) -> Self {
        let held = r.add(
            "waypost_quota_held",
            "limit",
            "Recipients accepted and held because a relay limit was reached, by limit.",
            Family::<LimitLabels, Counter>::default(),
        );
        for limit in QUOTAS {
            let _ = held.get_or_create(&LimitLabels { limit: limit.as_str() });
        }
        Self {
            held,
            let_go: r.add(
                "waypost_quota_let_go",
                "",
                "Held recipients let go because there was room in the limits again.",
                Counter::default(),
            ),
            told: r.add(
                "waypost_administrators_told",
                "organization, kind",
                "What administrators were told, once in 24 hours of the same: near- and held- with the \
                 limit, or abuse.",
                Family::default(),
            ),
        }
    }

    /// Recipients of a message are held.
    pub(crate) fn held(&self, limit: Reason, recipients: u64) {
        self.held.get_or_create(&LimitLabels { limit: limit.as_str() }).inc_by(recipients);
    }

    /// Held recipients are let go.
    pub(crate) fn let_go(&self, recipients: u64) {
        self.let_go.inc_by(recipients);
    }

    /// Administrators of an organization are told.
    pub(crate) fn told(&self, organization: &str, kind: &str) {
        let labels = ToldLabels { organization: organization.into(), kind: kind.into() };
        self.told.get_or_create(&labels).inc();
    }
}
