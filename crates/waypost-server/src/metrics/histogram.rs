//! A histogram of atomic counters: no lock, no memory that grows.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Counts of observations by size, and their sum. Cheap to clone; all clones are one.
///
/// A reader may see an observation in one of its parts and not yet in another.
#[derive(Clone, Debug)]
pub(crate) struct Histogram(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    /// Units of the observations in one of the unit that is shown.
    scale: f64,
    /// Upper bounds in units of the observations, ascending.
    bounds: &'static [u64],
    /// One a bound, and one for what is beyond all of them.
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

impl Histogram {
    /// Durations, kept in microseconds and shown in seconds.
    pub(crate) fn of_durations(bounds: &'static [u64]) -> Self {
        Self::new(1e6, bounds)
    }

    /// Whole numbers.
    pub(crate) fn of_numbers(bounds: &'static [u64]) -> Self {
        Self::new(1.0, bounds)
    }

    fn new(scale: f64, bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Parts { scale, bounds, counts, sum: AtomicU64::new(0) }))
    }

    /// Counts a duration.
    pub(crate) fn took(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts a number.
    pub(crate) fn observe(&self, value: u64) {
        let place = self.0.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.0.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum.fetch_add(value, Ordering::Relaxed);
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

#[expect(clippy::cast_precision_loss, reason = "what is shown is a float in any case")]
impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let Parts { scale, bounds, counts, sum } = &*self.0;
        let counts: Vec<u64> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let shown = bounds.iter().map(|bound| *bound as f64 / scale).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = shown.zip(counts.iter().copied()).collect();
        let sum = sum.load(Ordering::Relaxed) as f64 / scale;
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}
