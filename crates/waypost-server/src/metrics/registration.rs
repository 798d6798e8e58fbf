//! The list of all metrics, beside the registry that shows them.

use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Metric, Registry};

/// Registers metrics, and remembers what it registered.
#[derive(Debug, Default)]
pub(crate) struct Registration {
    pub(crate) registry: Registry,
    pub(crate) list: Vec<Row>,
}

/// One metric, as the reference lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) labels: &'static str,
    pub(crate) help: &'static str,
}

impl Registration {
    /// Registers a metric, whose name stands without the `_total` of counters; `labels` are for the
    /// reference.
    pub(crate) fn add<M>(
        &mut self,
        name: &str,
        labels: &'static str,
        help: &'static str,
        metric: M,
    ) -> M
    where
        M: Metric + TypedMetric + Clone,
    {
        let (kind, ending) = match M::TYPE {
            MetricType::Counter => ("counter", "_total"),
            MetricType::Histogram => ("histogram", ""),
            _ => ("gauge", ""),
        };
        self.list.push(Row { name: format!("{name}{ending}"), kind, labels, help });
        // The registry puts a full stop behind it.
        self.registry.register(name, help.trim_end_matches('.'), metric.clone());
        metric
    }
}
