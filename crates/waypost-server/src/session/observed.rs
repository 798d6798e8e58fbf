//! What settings in mode observe would have done: logged, counted, and kept for the explanation (O6).

use waypost_config::policy::Observation;
use waypost_types::{QueueId, ReversePath};

use super::{Seen, SmtpHandler};
use crate::log;

/// Details of one transaction that are kept for its explanation; all are logged and counted.
const KEPT: usize = 64;

/// What was observed in a transaction before its message came.
#[derive(Debug, Default)]
pub(super) struct Before(Vec<Observation>);

impl Before {
    /// Keeps some more, the first of each name before a second one.
    pub(super) fn extend(&mut self, more: Vec<Observation>) {
        for one in more {
            let same = |other: &Observation| other.name == one.name && other.kind == one.kind;
            if self.0.len() < KEPT || !self.0.iter().any(same) {
                self.0.push(one);
            }
        }
    }

    pub(super) fn as_slice(&self) -> &[Observation] {
        &self.0
    }
}

impl SmtpHandler {
    /// Logs and counts.
    pub(super) fn observe(
        &self,
        seen: Seen<'_>,
        sender: &ReversePath,
        id: Option<QueueId>,
        observations: &[Observation],
    ) {
        let (client, proxy) = (seen.session.client_ip, seen.proxy);
        for what in observations {
            self.core.metrics.observed.count(what);
            log::Observed { client, proxy, id, sender, what }.write();
        }
    }
}
