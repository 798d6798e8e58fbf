//! What the filter answers, and how long it takes (D17).

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use waypost_config::policy::FilterKind;

use super::histogram::Histogram;
use super::registration::Registration;

/// Seconds of an answer, in microseconds.
const SECONDS: &[u64] = &[
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FindingLabels {
    finding: &'static str,
}

/// Counts the filter's answers.
#[derive(Debug)]
pub(crate) struct FilterMetrics {
    answers: Family<FindingLabels, Counter>,
    seconds: Histogram,
    abuse: Counter,
}

impl FilterMetrics {
    pub(super) fn new(r: &mut Registration) -> Self {
        let answers = r.add(
            "waypost_filter_answers",
            "finding",
            "Answers of the filter by what they amount to; unanswered are those that did not come.",
            Family::<FindingLabels, Counter>::default(),
        );
        for finding in ["clean", "spam", "malware", "refuse", "defer", "unanswered"] {
            let _ = answers.get_or_create(&FindingLabels { finding });
        }
        let seconds = r.add(
            "waypost_filter_seconds",
            "",
            "Time until the filter answered, or was given up.",
            Histogram::of_durations(SECONDS),
        );
        let abuse = r.add(
            "waypost_abuse_told",
            "",
            "Times that administrators were told of a user who relays much spam.",
            Counter::default(),
        );
        Self { answers, seconds, abuse }
    }

    pub(crate) fn found(&self, kind: &FilterKind) {
        self.answers.get_or_create(&FindingLabels { finding: kind.as_str() }).inc();
    }

    pub(crate) fn took(&self, span: Duration) {
        self.seconds.took(span);
    }

    pub(crate) fn abuse(&self) {
        self.abuse.inc();
    }
}
