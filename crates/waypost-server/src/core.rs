//! What all sessions and deliverers share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use waypost_config::policy::Policy;
use waypost_relay::Ledger;
use waypost_types::Reply;

use crate::clock::Clock;
use crate::spool::Spool;

/// What all sessions and deliverers share.
pub(crate) struct Core {
    pub(crate) clock: Clock,
    pub(crate) spool: Spool,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) counters: Counters,
    policy: ArcSwap<Policy>,
}

impl Core {
    pub(crate) fn new(policy: Arc<Policy>, spool: Spool, ledger: Ledger, clock: Clock) -> Self {
        Self {
            clock,
            spool,
            ledger: Mutex::new(ledger),
            counters: Counters::default(),
            policy: ArcSwap::new(policy),
        }
    }

    /// The policy in force.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Puts another policy in force, whole and at once.
    pub(crate) fn replace_policy(&self, policy: Arc<Policy>) -> Arc<Policy> {
        self.policy.swap(policy)
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What happened since the start, for metrics.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    accepted: AtomicU64,
    refused_transient: AtomicU64,
    refused_permanent: AtomicU64,
    delivered: AtomicU64,
    deferred: AtomicU64,
    failed: AtomicU64,
}

impl Counters {
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, reply: &Reply) {
        let counter =
            if reply.code() < 500 { &self.refused_transient } else { &self.refused_permanent };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn outcome(&self, outcome: &waypost_types::Outcome) {
        let counter = match outcome {
            waypost_types::Outcome::Delivered { .. } => &self.delivered,
            waypost_types::Outcome::Deferred(_) => &self.deferred,
            waypost_types::Outcome::Failed(_) => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Names and values, for the metrics page.
    pub(crate) fn list(&self) -> [(&'static str, &'static str, u64); 6] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("waypost_messages_accepted_total", "", read(&self.accepted)),
            ("waypost_refusals_total", "class=\"4\"", read(&self.refused_transient)),
            ("waypost_refusals_total", "class=\"5\"", read(&self.refused_permanent)),
            ("waypost_deliveries_total", "outcome=\"delivered\"", read(&self.delivered)),
            ("waypost_deliveries_total", "outcome=\"deferred\"", read(&self.deferred)),
            ("waypost_deliveries_total", "outcome=\"failed\"", read(&self.failed)),
        ]
    }
}
