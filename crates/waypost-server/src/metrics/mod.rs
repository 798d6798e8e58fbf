//! What is counted and shown to Prometheus (O4).
//!
//! Counters that the path of a message touches are made once and kept as handles: counting is one
//! relaxed atomic addition. What is dear to find out (the queue by state, memory, descriptors) is
//! looked up when somebody asks. Labels are names from the configuration, words of this program, and
//! a bounded number of hosts: never text that a client or next hop chose.

mod deliveries;
mod filter;
mod histogram;
mod next_hop_tls;
mod observed;
mod process;
mod quotas;
mod reason;
mod registration;
mod scraped;
#[cfg(test)]
mod tests;
mod text;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use waypost_auth::Authentication;
use waypost_config::policy::Policy;
use waypost_inbound::Because;
use waypost_net::tls::TlsVersion;
use waypost_queue::Durability;
use waypost_store::Batch;
use waypost_types::{EnhancedCode, Reply, Timestamp};

pub(crate) use deliveries::Outcomes;
use deliveries::{ByHost, ByRoute};
use filter::FilterMetrics;
use histogram::Histogram;
pub(crate) use next_hop_tls::{Checked, NextHopTls};
pub(crate) use observed::Observed;
pub(crate) use process::Process;
pub(crate) use quotas::QuotaEvents;
pub(crate) use reason::{At, Reason, of_close, of_own};
use registration::Registration;
#[cfg(test)]
use registration::Row;
pub(crate) use scraped::Found;
use scraped::{Last, Scraped, VersionLabels};
pub(crate) use text::Format;

use crate::front::requests::Requests;
use crate::quotas::SharingCounters;
use crate::record::Counters;
use crate::server::RefusedBecause;

/// Seconds from acceptance to delivery, in microseconds: from at once to five days.
const LATENCY: &[u64] = &[
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    900_000_000,
    3_600_000_000,
    14_400_000_000,
    86_400_000_000,
    432_000_000_000,
];
/// Seconds of a sync, in microseconds.
const SYNC: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000,
];
/// Records of a batch.
const BATCH: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabels {
    listener: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    at: At,
    code: u16,
    enhanced: Enhanced,
    reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Enhanced(Option<EnhancedCode>);

impl EncodeLabelValue for Enhanced {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        use std::fmt::Write as _;
        self.0.map_or(Ok(()), |code| write!(encoder, "{code}"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BecauseLabels {
    because: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeLabels {
    side: &'static str,
    result: &'static str,
    version: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    action: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    cause: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AuthenticationLabels {
    method: &'static str,
    result: &'static str,
}

/// On which side of a connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// A client connected to us.
    Server,
    /// We connected to a next hop.
    Client,
}

impl Side {
    fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// All metrics of a server: a value, so that two servers in one process count apart.
#[derive(Debug)]
pub(crate) struct Metrics {
    registration: Registration,
    accepted: Family<ListenerLabels, Counter>,
    received: Counter,
    sources: Family<BecauseLabels, Counter>,
    refusals: Family<RefusalLabels, Counter>,
    /// What settings in mode observe would have done (O6).
    pub(crate) observed: Observed,
    authentications: Family<AuthenticationLabels, Counter>,
    /// What the filter answers.
    pub(crate) filter: FilterMetrics,
    quota: Family<LimitLabels, Counter>,
    /// What limits lead to beside refusals.
    pub(crate) quotas: QuotaEvents,
    handshakes: Family<HandshakeLabels, Counter>,
    notices: Family<ActionLabels, Counter>,
    /// Messages that had to wait before they were taken in, since a next hop is slow.
    pub(crate) intake_waits: Counter,
    /// Messages held because their bytes were damaged or missing.
    pub(crate) damaged: Counter,
    reloads: Family<ResultLabels, Counter>,
    refused: Family<CauseLabels, Counter>,
    stale: Gauge,
    /// Requests of Postfix.
    pub(crate) front: Requests,
    /// The record of envelopes.
    pub(crate) record: Counters,
    /// Quotas that nodes share.
    pub(crate) sharing: SharingCounters,
    /// Deliveries by route.
    pub(crate) routes: ByRoute,
    /// Deliveries by host.
    pub(crate) hosts: ByHost,
    /// What the tests of the routes' TLS found.
    pub(crate) next_hop_tls: NextHopTls,
    latency: Histogram,
    sync: Histogram,
    batch: Histogram,
    scraped: Scraped,
    last: Mutex<Last>,
}

impl Metrics {
    /// All at 0.
    pub(crate) fn new(started: Timestamp) -> Self {
        let mut r = Registration::default();
        let accepted = r.add(
            "waypost_messages_accepted",
            "listener",
            "Messages answered with 250, by listener.",
            Family::<ListenerLabels, Counter>::default(),
        );
        let received = r.add(
            "waypost_accepted_bytes",
            "",
            "Octets of the messages answered with 250, as stored.",
            Counter::default(),
        );
        let sources = r.add(
            "waypost_sources",
            "because",
            "Messages accepted for organizations with an inbound gateway, by how the source IP was found.",
            Family::<BecauseLabels, Counter>::default(),
        );
        for because in [
            Because::NotFromGateway,
            Because::FirstExternal,
            Because::PreviousHop,
            Because::NothingReadable,
            Because::Internal,
        ] {
            let _ = sources.get_or_create(&BecauseLabels { because: because.as_str() });
        }
        let refusals = r.add(
            "waypost_refusals",
            "at, code, enhanced, reason",
            "Negative replies, by what was refused, reply code, enhanced code and kind of reason.",
            Family::<RefusalLabels, Counter>::default(),
        );
        let observed = Observed::new(&mut r);
        let authentications = r.add(
            "waypost_authentications",
            "method, result",
            "Results of SPF, DKIM and DMARC; of DKIM one for each signature.",
            Family::<AuthenticationLabels, Counter>::default(),
        );
        let filter = FilterMetrics::new(&mut r);
        let quota = r.add(
            "waypost_quota_refusals",
            "limit",
            "Recipients refused because a relay limit was reached, by limit.",
            Family::<LimitLabels, Counter>::default(),
        );
        for limit in QUOTAS {
            let _ = quota.get_or_create(&LimitLabels { limit: limit.as_str() });
        }
        let quotas = QuotaEvents::new(&mut r);
        let deliveries = r.add(
            "waypost_deliveries",
            "via, organization, route, outcome",
            "Outcomes of attempts, one a recipient, by route; expired are given up after the last \
             attempt was deferred.",
            Family::default(),
        );
        let hosts = r.add(
            "waypost_host_deliveries",
            "host, outcome",
            "Outcomes of attempts, one a recipient, by host; at most 100 hosts, the rest as other.",
            Family::default(),
        );
        let latency = r.add(
            "waypost_delivery_latency_seconds",
            "",
            "Time from our 250 to the delivery, one a recipient.",
            Histogram::of_durations(LATENCY),
        );
        let notices = r.add(
            "waypost_notices",
            "action",
            "Delivery status notices put into the queue, by the most urgent thing that they tell.",
            Family::<ActionLabels, Counter>::default(),
        );
        for action in ["failed", "delayed", "relayed", "delivered"] {
            let _ = notices.get_or_create(&ActionLabels { action });
        }
        let intake_waits = r.add(
            "waypost_intake_waits",
            "",
            "Messages whose 250 waited because their next hop takes less than comes in.",
            Counter::default(),
        );
        let damaged = r.add(
            "waypost_messages_damaged",
            "",
            "Messages held because their bytes in the spool were damaged or missing.",
            Counter::default(),
        );
        let handshakes = r.add(
            "waypost_tls_handshakes",
            "side, result, version",
            "TLS handshakes with clients (side server) and next hops (side client).",
            Family::<HandshakeLabels, Counter>::default(),
        );
        for side in [Side::Server, Side::Client] {
            for version in [Some(TlsVersion::V1_2), Some(TlsVersion::V1_3), None] {
                let _ = handshakes.get_or_create(&handshake_labels(side, version));
            }
        }
        let sync = r.add(
            "waypost_store_sync_seconds",
            "",
            "Time to write a batch and sync it to disk.",
            Histogram::of_durations(SYNC),
        );
        let batch = r.add(
            "waypost_store_batch_records",
            "",
            "Records that share one sync.",
            Histogram::of_numbers(BATCH),
        );
        let reloads = r.add(
            "waypost_config_reloads",
            "result",
            "Reloads of the configuration; after a failed one the old configuration stays.",
            Family::<ResultLabels, Counter>::default(),
        );
        for result in ["ok", "failed"] {
            let _ = reloads.get_or_create(&ResultLabels { result });
        }
        let refused = r.add(
            "waypost_config_refused",
            "cause",
            "Configurations that were refused, by what was wrong; the one before stayed.",
            Family::<CauseLabels, Counter>::default(),
        );
        for cause in RefusedBecause::ALL {
            let _ = refused.get_or_create(&CauseLabels { cause: cause.as_str() });
        }
        let stale = r.add(
            "waypost_config_stale",
            "",
            "1 while the files on disk are not what is in force, since they were refused.",
            Gauge::default(),
        );
        let front = r.add(
            "waypost_front_requests",
            "front, answer",
            "Requests of a mail server to `waypost policy-server` and `waypost milter`, by front end and kind of answer.",
            Requests::default(),
        );
        let record = Counters {
            lines: r.add(
                "waypost_record_lines",
                "",
                "Lines written to the record of envelopes.",
                Counter::default(),
            ),
            lost: r.add(
                "waypost_record_lost",
                "",
                "Lines that the record of envelopes lacks, since they could not be written in time.",
                Counter::default(),
            ),
        };
        let sharing = SharingCounters {
            up: r.add(
                "waypost_quota_shared",
                "",
                "1 while quotas are counted in Redis, 0 while they are not: without `redis`, or while it does not answer.",
                Gauge::default(),
            ),
            lost: r.add(
                "waypost_quota_sharing_lost",
                "",
                "How often Redis was lost.",
                Counter::default(),
            ),
            unshared: r.add(
                "waypost_quota_unshared_recipients",
                "",
                "Recipients that were answered without Redis though quotas are shared: deferred, or counted by this node alone.",
                Counter::default(),
            ),
        };
        let next_hop_tls = NextHopTls::new(&mut r);
        let scraped = Scraped::new(&mut r, started);
        Self {
            registration: r,
            accepted,
            received,
            sources,
            refusals,
            observed,
            authentications,
            filter,
            quota,
            quotas,
            handshakes,
            notices,
            intake_waits,
            damaged,
            reloads,
            refused,
            stale,
            front,
            record,
            sharing,
            routes: ByRoute::new(deliveries),
            hosts: ByHost::new(hosts),
            next_hop_tls,
            latency,
            sync,
            batch,
            scraped,
            last: Mutex::default(),
        }
    }

    /// A policy is in force from now on.
    pub(crate) fn policy(&self, policy: &Policy, now: Timestamp) {
        self.routes.prepare(policy);
        self.observed.prepare(policy);
        self.scraped.config.clear();
        let version = VersionLabels { version: policy.version().into() };
        self.scraped.config.get_or_create(&version).set(1);
        self.scraped.reloaded_at.set(seconds(now));
    }

    /// A reload ended: refused, or in force.
    pub(crate) fn reloaded(&self, refused: Option<RefusedBecause>) {
        let result = if refused.is_none() { "ok" } else { "failed" };
        self.reloads.get_or_create(&ResultLabels { result }).inc();
        if let Some(cause) = refused {
            self.refused.get_or_create(&CauseLabels { cause: cause.as_str() }).inc();
        }
        self.stale.set(i64::from(refused.is_some()));
    }

    /// A reload found what is in force already.
    pub(crate) fn unchanged(&self) {
        self.stale.set(0);
    }

    /// The counter of a listener's accepted messages, to be kept.
    pub(crate) fn listener(&self, name: &str) -> Counter {
        self.accepted.get_or_create_owned(&ListenerLabels { listener: name.into() })
    }

    /// Octets of an accepted message.
    pub(crate) fn received(&self, octets: u64) {
        self.received.inc_by(octets);
    }

    /// The source of an accepted message was found in this way.
    pub(crate) fn source(&self, because: Because) {
        self.sources.get_or_create(&BecauseLabels { because: because.as_str() }).inc();
    }

    /// A negative reply was given.
    pub(crate) fn refused(&self, at: At, reply: &Reply, reason: Reason) {
        self.refused_by(at, reply.code(), reply.enhanced(), reason, 1);
        if let Some(limit) = QUOTAS.iter().find(|limit| **limit == reason) {
            self.quota.get_or_create(&LimitLabels { limit: limit.as_str() }).inc();
        }
    }

    /// A negative reply was given, so often.
    pub(crate) fn refused_by(
        &self,
        at: At,
        code: u16,
        enhanced: Option<EnhancedCode>,
        reason: Reason,
        count: u64,
    ) {
        let labels = RefusalLabels { at, code, enhanced: Enhanced(enhanced), reason };
        self.refusals.get_or_create(&labels).inc_by(count);
    }

    /// A message's SPF, DKIM and DMARC were evaluated.
    pub(crate) fn authenticated(&self, found: &Authentication) {
        let count = |method, result| {
            let labels = AuthenticationLabels { method, result };
            self.authentications.get_or_create(&labels).inc();
        };
        count("spf", found.spf.result.as_str());
        for dkim in &found.dkim {
            count("dkim", dkim.result.as_str());
        }
        if found.dkim.is_empty() {
            count("dkim", "none");
        }
        count("dmarc", found.dmarc.result.as_str());
    }

    /// A TLS handshake ended; `None`: it failed.
    pub(crate) fn handshake(&self, side: Side, version: Option<TlsVersion>) {
        self.handshakes.get_or_create(&handshake_labels(side, version)).inc();
    }

    /// A recipient was delivered to, so long after the 250.
    pub(crate) fn delivered_after(&self, latency: Duration) {
        self.latency.took(latency);
    }

    /// A notice was put into the queue.
    pub(crate) fn notice(&self, action: &'static str) {
        self.notices.get_or_create(&ActionLabels { action }).inc();
    }

    /// What observes the committer, on its thread.
    pub(crate) fn observe_batches(&self) -> impl FnMut(&Batch) + Send + 'static {
        let (sync, batch) = (self.sync.clone(), self.batch.clone());
        move |written| {
            if written.durability == Durability::Synced {
                sync.took(written.took);
                if written.records > 0 {
                    batch.observe(number(written.records));
                }
            }
        }
    }

    /// The page.
    ///
    /// # Errors
    /// When a metric cannot be written; none is known to fail.
    pub(crate) fn page(&self, format: Format, found: &Found) -> Result<String, std::fmt::Error> {
        self.show(found);
        self.next_hop_tls.show(found.now);
        format.write(&self.registration.registry)
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The limits whose refusals are counted apart.
const QUOTAS: [Reason; 6] = [
    Reason::QuotaMessagesOfUser,
    Reason::QuotaRecipientsOfUser,
    Reason::QuotaRecipientsPerDay,
    Reason::QuotaRecipientsPer10Minutes,
    Reason::QuotaRecipientsOfLogin,
    Reason::QuotaRecipientsOfClient,
];

fn handshake_labels(side: Side, version: Option<TlsVersion>) -> HandshakeLabels {
    HandshakeLabels {
        side: side.as_str(),
        result: if version.is_some() { "ok" } else { "failed" },
        version: version.map_or("none", TlsVersion::as_str),
    }
}

fn number(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

fn seconds(at: Timestamp) -> f64 {
    Duration::from_millis(at.as_millis()).as_secs_f64()
}
