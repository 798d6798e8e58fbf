//! What is found out when somebody asks for the page.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use waypost_net::server::ConnectionTotals;
use waypost_queue::{Share, Tally};
use waypost_store::Counts;
use waypost_types::{EnhancedCode, Timestamp};

use super::registration::Registration;
use super::{At, Metrics, Process, Reason, number, seconds};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct VersionLabels {
    pub(super) version: Box<str>,
}

/// Shown as found when somebody asks.
#[derive(Debug)]
pub(super) struct Scraped {
    queue_messages: Family<StateLabels, Gauge>,
    queue_octets: Family<StateLabels, Gauge>,
    queue_oldest: Gauge<f64, AtomicU64>,
    connections: Gauge,
    connections_accepted: Counter,
    connections_refused: Family<ReasonLabels, Counter>,
    store_records: Counter,
    store_syncs: Counter,
    store_failures: Counter,
    bodies_read: Counter,
    store_open: Gauge,
    resident: Gauge,
    descriptors: Gauge,
    most_descriptors: Gauge,
    pub(super) config: Family<VersionLabels, Gauge>,
    pub(super) reloaded_at: Gauge<f64, AtomicU64>,
}

/// What others had counted when it was last shown.
#[derive(Debug, Default)]
pub(super) struct Last {
    connections: ConnectionTotals,
    store: Counts,
}

/// What is looked up for a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    pub(crate) now: Timestamp,
    pub(crate) queue: Tally,
    pub(crate) connections: usize,
    pub(crate) totals: ConnectionTotals,
    pub(crate) store: Counts,
    pub(crate) store_open: bool,
    pub(crate) process: Process,
}

impl Scraped {
    pub(super) fn new(r: &mut Registration, started: Timestamp) -> Self {
        let build = r.add(
            "waypost_build_info",
            "version",
            "1, labelled with the version of the program.",
            Family::<VersionLabels, Gauge>::default(),
        );
        build.get_or_create(&VersionLabels { version: env!("CARGO_PKG_VERSION").into() }).set(1);
        let start = r.add(
            "process_start_time_seconds",
            "",
            "When the server was started, in seconds since 1970.",
            Gauge::<f64, AtomicU64>::default(),
        );
        start.set(seconds(started));
        Self {
            queue_messages: r.add(
                "waypost_queue_messages",
                "state",
                "Messages in the queue; each once, as running, else ready, else waiting, else held.",
                Family::default(),
            ),
            queue_octets: r.add(
                "waypost_queue_bytes",
                "state",
                "Octets of the messages in the queue, by the same states.",
                Family::default(),
            ),
            queue_oldest: r.add(
                "waypost_queue_oldest_seconds",
                "",
                "Age of the oldest message in the queue; 0 when there is none.",
                Gauge::default(),
            ),
            connections: r.add(
                "waypost_connections_open",
                "",
                "Connections of clients that are open.",
                Gauge::default(),
            ),
            connections_accepted: r.add(
                "waypost_connections_accepted",
                "",
                "Connections of clients that were let in.",
                Counter::default(),
            ),
            connections_refused: r.add(
                "waypost_connections_refused",
                "reason",
                "Connections of clients that were turned away, by the limit that was reached.",
                Family::default(),
            ),
            store_records: r.add(
                "waypost_store_records",
                "",
                "Records written to the store.",
                Counter::default(),
            ),
            store_syncs: r.add(
                "waypost_store_syncs",
                "",
                "Syncs of the store that succeeded.",
                Counter::default(),
            ),
            store_failures: r.add(
                "waypost_store_failures",
                "",
                "Times that the store failed and was closed to be opened anew.",
                Counter::default(),
            ),
            bodies_read: r.add(
                "waypost_store_bodies_read",
                "",
                "Bodies read from the store; mail that is delivered as it comes asks for none.",
                Counter::default(),
            ),
            store_open: r.add(
                "waypost_store_open",
                "",
                "1 while the store takes records, 0 while it is opened anew.",
                Gauge::default(),
            ),
            resident: r.add(
                "process_resident_memory_bytes",
                "",
                "Memory of the process that is in RAM.",
                Gauge::default(),
            ),
            descriptors: r.add(
                "process_open_fds",
                "",
                "Open file descriptors.",
                Gauge::default(),
            ),
            most_descriptors: r.add(
                "process_max_fds",
                "",
                "File descriptors that may be open.",
                Gauge::default(),
            ),
            config: r.add(
                "waypost_config_info",
                "version",
                "1, labelled with the version of the configuration in force.",
                Family::default(),
            ),
            reloaded_at: r.add(
                "waypost_config_last_success_timestamp_seconds",
                "",
                "When the configuration in force took effect, in seconds since 1970.",
                Gauge::default(),
            ),
        }
    }
}

impl Metrics {
    /// Shows what was found. Of two scrapes at once the older one never counts back.
    pub(super) fn show(&self, found: &Found) {
        let mut guard = self.last();
        let last = &mut *guard;
        let Found { now, queue, connections, totals, store, store_open, process } = found;
        let shown = &self.scraped;
        for (state, Share { messages, octets }) in [
            ("ready", queue.ready),
            ("waiting", queue.waiting),
            ("running", queue.running),
            ("held", queue.held),
        ] {
            shown.queue_messages.get_or_create(&StateLabels { state }).set(signed(messages));
            shown.queue_octets.get_or_create(&StateLabels { state }).set(signed(octets));
        }
        let age = queue.oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
        shown.queue_oldest.set(age.as_secs_f64());
        shown.connections.set(signed(number(*connections)));
        follow(&shown.connections_accepted, &mut last.connections.accepted, totals.accepted);
        for (reason, seen, is) in [
            (Reason::TooManyConnections, &mut last.connections.refused_total, totals.refused_total),
            (
                Reason::TooManyConnectionsOfClient,
                &mut last.connections.refused_per_client,
                totals.refused_per_client,
            ),
            (
                Reason::TooManyConnectionsOfNetwork,
                &mut last.connections.refused_per_network,
                totals.refused_per_network,
            ),
            (
                Reason::TooFrequent,
                &mut last.connections.refused_too_often,
                totals.refused_too_often,
            ),
            (
                Reason::TooManyClients,
                &mut last.connections.refused_too_many_clients,
                totals.refused_too_many_clients,
            ),
        ] {
            let more = is.saturating_sub(*seen);
            *seen = (*seen).max(is);
            shown.connections_refused.get_or_create(&ReasonLabels { reason }).inc_by(more);
            if more > 0 {
                self.refused_by(At::Connect, 421, Some(EnhancedCode(4, 7, 0)), reason, more);
            }
        }
        follow(&shown.store_records, &mut last.store.records, store.records);
        follow(&shown.store_syncs, &mut last.store.syncs, store.syncs);
        follow(&shown.store_failures, &mut last.store.failures, store.failures);
        follow(&shown.bodies_read, &mut last.store.bodies_read, store.bodies_read);
        shown.store_open.set(i64::from(*store_open));
        shown.resident.set(signed(process.resident_bytes));
        shown.descriptors.set(signed(process.open_descriptors));
        shown.most_descriptors.set(signed(process.most_descriptors));
    }
}

/// Brings a counter to what another one counted.
fn follow(counter: &Counter, seen: &mut u64, is: u64) {
    counter.inc_by(is.saturating_sub(*seen));
    *seen = (*seen).max(is);
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
