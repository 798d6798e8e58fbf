//! Connections that are kept open between messages.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use waypost_smtp::client::{Extensions, Report, Transaction};
use waypost_types::{FailureScope, Outcome};

use super::connect::{ConnectError, connect};
use super::connection::Connection;
use super::hop::{ConnectSettings, Hop};
use crate::tls::{TlsClients, TlsVersion};

/// What a pool allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Connections to one hop at a time, busy and idle; at least 1, 20 by default.
    pub connections_per_hop: usize,
    /// Messages over one connection, then QUIT; 100 by default.
    pub messages_per_connection: u32,
    /// How long a connection may wait for its next message; 30 seconds by default.
    pub idle: Duration,
}

impl Default for PoolLimits {
    /// 20 connections a hop, 100 messages a connection, 30 seconds.
    fn default() -> Self {
        Self {
            connections_per_hop: 20,
            messages_per_connection: 100,
            idle: Duration::from_secs(30),
        }
    }
}

impl PoolLimits {
    /// The slots of a hop's connections, and the places of those who have or want one.
    fn slots(&self) -> (Arc<Semaphore>, Arc<Semaphore>) {
        let count = self.connections_per_hop.clamp(1, Semaphore::MAX_PERMITS / 2);
        (Arc::new(Semaphore::new(count)), Arc::new(Semaphore::new(count * 2)))
    }
}

/// Connections to next hops, kept open between messages.
///
/// A connection is used again only for the same [`Hop`] (host, port, TLS policy, credentials) at an
/// address that the caller still gives. Share it by `Arc`; when the configuration changes, tell it by
/// [`Pool::reconfigure`]. Call [`Pool::sweep`] now and then, every few seconds, to close what has been
/// idle too long.
pub struct Pool {
    terms: Mutex<Arc<Terms>>,
    hops: Mutex<HashMap<Hop, Kept>>,
}

/// What connections are made under.
struct Terms {
    settings: ConnectSettings,
    limits: PoolLimits,
    tls: TlsClients,
}

/// The connection that a transaction went over, or was meant to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Over {
    /// The address tried last; `None`: there was none.
    pub ip: Option<IpAddr>,
    /// The version of TLS; `None`: clear text, or no connection.
    pub tls: Option<TlsVersion>,
    /// It was made for this transaction.
    pub is_new: bool,
    /// Handshakes that failed, one an address.
    pub handshakes_failed: u32,
}

struct Kept {
    slots: Arc<Semaphore>,
    /// Whoever has a slot or waits for one.
    places: Arc<Semaphore>,
    /// The one used last is at the end, and is used first.
    idle: Vec<Idle>,
}

struct Idle {
    connection: Connection,
    ip: IpAddr,
    since: Instant,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(settings: ConnectSettings, limits: PoolLimits) -> Self {
        let terms = Terms { settings, limits, tls: TlsClients::default() };
        Self { terms: Mutex::new(Arc::new(terms)), hops: Mutex::default() }
    }

    /// The configuration has changed, or the files of roots may have: what is made from now on is made
    /// under it.
    ///
    /// Connections stay open where that changes nothing for them: those of a hop that is no longer
    /// asked for end when they have been idle too long. They are closed, after the message that is on
    /// its way, when `settings` are others than before, or when their hop's chain is checked and the
    /// roots are others. A changed number of connections to a hop holds for new ones; those that are
    /// busy when it changes are closed after their message.
    ///
    /// Reads root files and the system's roots where a hop's chain is checked.
    pub fn reconfigure(&self, settings: ConnectSettings, limits: PoolLimits) {
        let new = Arc::new(Terms { settings, limits, tls: TlsClients::default() });
        let old = std::mem::replace(&mut *self.lock_terms(), Arc::clone(&new));
        let mut gone = Vec::new();
        self.hops().retain(|hop, kept| {
            let stays = old.settings == new.settings && old.tls.agrees(&new.tls, &hop.tls);
            if !stays {
                gone.append(&mut kept.idle);
            } else if old.limits.connections_per_hop != new.limits.connections_per_hop {
                (kept.slots, kept.places) = new.limits.slots();
            }
            stays
        });
        gone.into_iter().for_each(|idle| goodbye(idle.connection));
    }

    /// Delivers to a hop at the first of its addresses that takes connections: one outcome for each
    /// recipient, in their order.
    ///
    /// Waits while the hop has as many connections as it may, for as long as that lasts. A kept connection that turns out to
    /// be closed before MAIL is answered is replaced by a fresh one, once; nothing is ever sent
    /// twice after the peer may have taken it (A9).
    pub async fn deliver(
        &self,
        hop: &Hop,
        addresses: &[IpAddr],
        transaction: Transaction,
    ) -> Vec<Outcome> {
        self.deliver_and_report(hop, addresses, transaction).await.outcomes
    }

    /// As [`Pool::deliver`], and says also what the peer offers, which decides who answers for
    /// notices of success.
    pub async fn deliver_and_report(
        &self,
        hop: &Hop,
        addresses: &[IpAddr],
        transaction: Transaction,
    ) -> Report {
        self.deliver_over(hop, addresses, transaction).await.0
    }

    /// As [`Pool::deliver_and_report`], and says over which connection.
    pub async fn deliver_over(
        &self,
        hop: &Hop,
        addresses: &[IpAddr],
        transaction: Transaction,
    ) -> (Report, Over) {
        let (slots, _) = self.slots(hop);
        self.over_a_slot(slots, hop, addresses, transaction).await
    }

    /// As [`Pool::deliver_over`], but `None` at once when as many already wait for a connection to the
    /// hop as it may have connections: then waiting would only keep the caller's hands from other hops.
    pub async fn deliver_unless_busy(
        &self,
        hop: &Hop,
        addresses: &[IpAddr],
        transaction: Transaction,
    ) -> Option<(Report, Over)> {
        let (slots, places) = self.slots(hop);
        let _place = places.try_acquire().ok()?;
        Some(self.over_a_slot(slots, hop, addresses, transaction).await)
    }

    async fn over_a_slot(
        &self,
        slots: Arc<Semaphore>,
        hop: &Hop,
        addresses: &[IpAddr],
        transaction: Transaction,
    ) -> (Report, Over) {
        let _slot = slots.acquire().await; // Never closed; an error would mean no limit.
        let mut over = Over::default();
        if let Some((connection, ip)) = self.take_idle(hop, addresses) {
            over.ip = Some(ip);
            over.tls = connection.tls().map(|tls| TlsVersion::named(&tls.version));
            let kept = self.over_kept(&slots, hop, connection, ip, transaction.clone());
            if let Some(report) = kept.await {
                return (report, over);
            }
        }
        let mut failures = Vec::new();
        let terms = self.terms();
        for ip in addresses {
            over.ip = Some(*ip);
            match connect(*ip, hop, &terms.settings, &terms.tls).await {
                Ok(mut connection) => {
                    over.is_new = true;
                    over.handshakes_failed += connection.handshakes_failed();
                    over.tls = connection.tls().map(|tls| TlsVersion::named(&tls.version));
                    let report = connection.send_and_report(transaction).await;
                    self.give_back(&slots, hop, connection, *ip);
                    return (report, over);
                }
                Err(error) => {
                    tracing::debug!(host = %hop.host, %ip, %error, "no connection");
                    over.handshakes_failed += u32::from(error.tls().is_some());
                    failures.push(error);
                }
            }
        }
        over.tls = None;
        let failure = worst(failures).to_failure(&hop.host);
        let outcomes = vec![Outcome::Deferred(failure); transaction.recipients.len()];
        (Report { outcomes, mail_answered: false, offered: Extensions::default() }, over)
    }

    /// `None` if the connection was closed on us before MAIL was answered.
    async fn over_kept(
        &self,
        slots: &Arc<Semaphore>,
        hop: &Hop,
        mut connection: Connection,
        ip: IpAddr,
        transaction: Transaction,
    ) -> Option<Report> {
        let report = connection.send_and_report(transaction).await;
        let still_good = connection.is_usable();
        self.give_back(slots, hop, connection, ip);
        (report.mail_answered || still_good).then_some(report)
    }

    /// Closes what has been idle for too long, with QUIT, and forgets hops without connections.
    pub fn sweep(&self) {
        let (now, limit) = (Instant::now(), self.terms().limits.idle);
        let mut gone = Vec::new();
        self.hops().retain(|_, kept| {
            let (old, young) = std::mem::take(&mut kept.idle)
                .into_iter()
                .partition(|idle| now.duration_since(idle.since) >= limit);
            kept.idle = young;
            let old: Vec<Idle> = old;
            gone.extend(old);
            !kept.idle.is_empty() || Arc::strong_count(&kept.slots) > 1
        });
        gone.into_iter().for_each(|idle| goodbye(idle.connection));
    }

    /// Closes all idle connections with QUIT, and waits for that: for the end of the program.
    pub async fn close(&self) {
        let all: Vec<Idle> = self.hops().drain().flat_map(|(_, kept)| kept.idle).collect();
        let tasks: Vec<_> =
            all.into_iter().map(|idle| tokio::spawn(idle.connection.quit())).collect();
        for task in tasks {
            let _ = task.await;
        }
    }

    /// How many connections are idle.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.hops().values().map(|kept| kept.idle.len()).sum()
    }

    /// The slots of a hop's connections, and the places of those who have or want one.
    fn slots(&self, hop: &Hop) -> (Arc<Semaphore>, Arc<Semaphore>) {
        let limits = self.terms().limits;
        let mut hops = self.hops();
        if let Some(kept) = hops.get(hop) {
            return (kept.slots.clone(), kept.places.clone());
        }
        let (slots, places) = limits.slots();
        let kept = Kept { slots: slots.clone(), places: places.clone(), idle: Vec::new() };
        hops.insert(hop.clone(), kept);
        (slots, places)
    }

    fn take_idle(&self, hop: &Hop, addresses: &[IpAddr]) -> Option<(Connection, IpAddr)> {
        let (now, limit) = (Instant::now(), self.terms().limits.idle);
        let (mut found, mut gone) = (None, Vec::new());
        if let Some(kept) = self.hops().get_mut(hop) {
            while let Some(mut idle) = kept.idle.pop() {
                let fresh = now.duration_since(idle.since) < limit;
                if fresh && addresses.contains(&idle.ip) && idle.connection.is_usable() {
                    found = Some((idle.connection, idle.ip));
                    break;
                }
                gone.push(idle.connection);
            }
        }
        gone.into_iter().for_each(goodbye);
        found
    }

    /// `slots` are those that the connection was taken under: others mean that it is not wanted back.
    fn give_back(&self, slots: &Arc<Semaphore>, hop: &Hop, mut connection: Connection, ip: IpAddr) {
        if !connection.is_usable() {
            return;
        }
        if connection.messages() >= self.terms().limits.messages_per_connection {
            return goodbye(connection);
        }
        match self.hops().get_mut(hop).filter(|kept| Arc::ptr_eq(&kept.slots, slots)) {
            Some(kept) => kept.idle.push(Idle { connection, ip, since: Instant::now() }),
            None => goodbye(connection), // The pool was closed or told of a change meanwhile.
        }
    }

    fn terms(&self) -> Arc<Terms> {
        Arc::clone(&self.lock_terms())
    }

    fn lock_terms(&self) -> MutexGuard<'_, Arc<Terms>> {
        self.terms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hops(&self) -> MutexGuard<'_, HashMap<Hop, Kept>> {
        self.hops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// QUIT, beside the path of the mail.
fn goodbye(connection: Connection) {
    tokio::spawn(connection.quit());
}

/// The failure to report for several addresses: one of TLS only if TLS failed at each (A10).
fn worst(mut failures: Vec<ConnectError>) -> ConnectError {
    let host = |error: &ConnectError| {
        error.tls().is_none_or(|failure| failure.scope() == FailureScope::Host)
    };
    let at = failures.iter().position(host).unwrap_or_default();
    if at < failures.len() { failures.swap_remove(at) } else { ConnectError::NoAddress }
}
