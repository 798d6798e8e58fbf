//! The Redis that nodes share quotas over, and what holds while it does not answer (O5).

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use siphasher::sip128::SipHasher13;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use waypost_config::settings::{SharingFallback, SharingSettings};
use waypost_redis::{History, Identity, Settings, SettingsError, SharedLedger, Standing, TlsFiles};
use waypost_relay::Limits;

/// A ledger in Redis, and what to do without it.
pub(crate) struct Sharing {
    ledger: SharedLedger,
    fallback: SharingFallback,
    counters: SharingCounters,
    watcher: JoinHandle<()>,
}

/// What is counted of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharingCounters {
    pub(crate) up: Gauge,
    pub(crate) lost: Counter,
    pub(crate) unshared: Counter,
}

/// How long the end of the server waits for Redis.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Sharing {
    /// Begins to connect. `key` is the spool's own, from which this node has its name; the paths of
    /// files begin at `base`.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub(crate) fn start(
        settings: &SharingSettings,
        base: &Path,
        key: [u8; 16],
        history: impl History,
        counters: &SharingCounters,
    ) -> Result<Self, SettingsError> {
        let node = SipHasher13::new_with_key(&key).hash(b"node").as_u128().to_be_bytes();
        let files = TlsFiles {
            ca: settings.tls.ca.as_deref().map(|file| base.join(file)),
            identity: settings.tls.identity.as_ref().map(|identity| Identity {
                certificate: base.join(&*identity.certificate),
                key: base.join(&*identity.key),
            }),
        };
        let mut ledger = Settings::with_tls(&settings.address, &settings.prefix, node, &files)?;
        ledger.timeout = settings.timeout;
        ledger.lease = settings.lease;
        let ledger = SharedLedger::start(ledger, history);
        let (standing, fallback) = (ledger.standing(), settings.fallback);
        let watcher = tokio::spawn(watch(standing, fallback, counters.clone()));
        Ok(Self { ledger, fallback, counters: counters.clone(), watcher })
    }

    pub(crate) fn ledger(&self) -> &SharedLedger {
        &self.ledger
    }

    /// Waits a moment for the first connection.
    pub(crate) async fn ready(&self, within: Duration) {
        self.ledger.ready(within).await;
    }

    /// How many nodes share the limits, where each goes on alone; `None`: it does not.
    pub(crate) fn nodes(&self) -> Option<NonZeroU32> {
        match self.fallback {
            SharingFallback::Defer => None,
            SharingFallback::Local { nodes } => Some(nodes),
        }
    }

    /// A recipient was answered without Redis.
    pub(crate) fn did_without(&self) {
        self.counters.unshared.inc();
    }

    /// Waits for what Redis is still to be told, if it is there.
    pub(crate) async fn flush(&self, within: Duration) {
        let is_up = matches!(&*self.ledger.standing().borrow(), Standing::Up { .. });
        let within = if is_up { within.min(LAST_WORDS) } else { Duration::ZERO };
        if !self.ledger.flush(within).await {
            let waiting = self.ledger.waiting();
            tracing::warn!(waiting, "Redis was not told of everything; the next start does");
        }
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// Reasons that are told of one outage.
const REASONS: usize = 8;

/// Says each change once, and each reason of an outage once: in the log and in the metrics.
async fn watch(
    mut standing: watch::Receiver<Standing>,
    fallback: SharingFallback,
    counters: SharingCounters,
) {
    let mut was = None;
    let mut reasons: Vec<Box<str>> = Vec::new();
    loop {
        let now = standing.borrow_and_update().clone();
        let is_up = match &now {
            // Before the first try there is nothing to say.
            Standing::Connecting => None,
            Standing::Up { .. } => Some(true),
            Standing::Down { .. } => Some(false),
        };
        if is_up.is_some() && is_up != was {
            reasons.clear();
        }
        let is_news = match &now {
            // Who starts it again with another password sees a new reason; what comes back is none.
            Standing::Down { because } => {
                let is_new = reasons.len() < REASONS && !reasons.contains(because);
                if is_new {
                    reasons.push(because.clone());
                }
                is_new
            }
            _ => is_up != was,
        };
        if is_news {
            tell(&now, fallback);
        }
        if let Some(up) = is_up {
            counters.up.set(i64::from(up));
            if (was, up) == (Some(true), false) {
                counters.lost.inc();
            }
            was = is_up;
        }
        if standing.changed().await.is_err() {
            return;
        }
    }
}

fn tell(standing: &Standing, fallback: SharingFallback) {
    match (standing, fallback) {
        (Standing::Connecting, _) => {}
        (Standing::Up { evicts }, _) => {
            tracing::info!("quotas are shared over Redis");
            if let Some(policy) = evicts {
                tracing::warn!(
                    %policy,
                    "Redis drops keys when its memory is full, and counts with them; set maxmemory-policy noeviction"
                );
            }
        }
        (Standing::Down { because }, SharingFallback::Defer) => {
            tracing::warn!(%because, "quotas cannot be shared: relayed mail is deferred until Redis answers");
        }
        (Standing::Down { because }, SharingFallback::Local { nodes }) => {
            tracing::warn!(%because, %nodes, "quotas cannot be shared: this node counts alone, up to its part of each limit, until Redis answers");
        }
    }
}

/// The part of one of several nodes: rounded down, but at least one where anything is allowed.
pub(super) fn share(limits: &Limits, nodes: NonZeroU32) -> Limits {
    let part = |limit: u32| (limit / nodes).max(limit.min(1));
    Limits {
        recipients_per_day: part(limits.recipients_per_day),
        recipients_per_10_minutes: part(limits.recipients_per_10_minutes),
        messages_per_user_per_day: part(limits.messages_per_user_per_day),
        unique_recipients_per_user_per_day: part(limits.unique_recipients_per_user_per_day),
        recipients_per_login_per_day: limits.recipients_per_login_per_day.map(part),
        recipients_per_client_per_day: limits.recipients_per_client_per_day.map(part),
        mode: limits.mode,
    }
}

#[cfg(test)]
mod tests {
    use waypost_relay::LimitMode;

    use super::*;

    #[test]
    fn a_node_alone_has_its_part_of_each_limit_o5() {
        for (limit, nodes, want) in
            [(0, 1, 0), (0, 3, 0), (1, 3, 1), (2, 3, 1), (3, 3, 1), (10, 3, 3), (10, 1, 10)]
        {
            let limits = Limits {
                recipients_per_day: limit,
                recipients_per_10_minutes: limit,
                messages_per_user_per_day: limit,
                unique_recipients_per_user_per_day: limit,
                recipients_per_login_per_day: None,
                recipients_per_client_per_day: None,
                mode: LimitMode::Observe,
            };
            let part = share(&limits, NonZeroU32::new(nodes).unwrap());
            let all = [
                part.recipients_per_day,
                part.recipients_per_10_minutes,
                part.messages_per_user_per_day,
                part.unique_recipients_per_user_per_day,
            ];
            assert_eq!((all, part.mode), ([want; 4], LimitMode::Observe), "{limit} {nodes}");
        }
    }
}
