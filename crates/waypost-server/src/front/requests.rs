//! What is counted of the front ends.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Labels {
    front: &'static str,
    answer: &'static str,
}

/// Requests by front end and kind of answer.
pub(crate) type Requests = Family<Labels, Counter>;

/// Counts one.
pub(super) fn count(requests: &Requests, front: &'static str, answer: &'static str) {
    requests.get_or_create(&Labels { front, answer }).inc();
}
