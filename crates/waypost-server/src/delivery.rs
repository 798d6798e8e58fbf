//! From a due work to its outcomes: which hosts, in which order, and what each of them said.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use waypost_config::policy::Policy;
use waypost_net::client::{ConnectSettings, Hop, Pool, PoolLimits};
use waypost_net::dns::{Resolver, resolve_next_hops};
use waypost_net::tls;
use waypost_queue::{Ended, Handover, Work};
use waypost_route::{Check, Draw, Health, Route, TlsPolicy, TlsStart};
use waypost_smtp::client::{Message, Protocol, SharedBytes, Timeouts, TlsUse, Transaction};
use waypost_types::{
    Account, Delivery, Destination, Directory, Failure, FailureScope, Host, HostPort, Outcome,
    Recipient, Reply, TlsDemand,
};

use crate::changes::pieces;
use crate::core::Core;
use crate::maildir::{Letter, Maildir};
use crate::spool::Loaded;
use crate::way::{Target, Way, local};

/// Delivers works: the route's hosts in the order of the draw, each host's addresses, a pooled
/// connection; or the built-in Maildir.
pub(crate) struct Deliverer {
    core: Arc<Core>,
    resolver: Arc<dyn Resolver>,
    pool: ArcSwap<Pool>,
    health: Mutex<Health>,
    maildir: Maildir,
    draw_key: [u8; 16],
    base: PathBuf,
}

/// One recipient's outcome at one host, and who tells the sender of success (RFC 3461 section 5.2).
#[derive(Clone)]
struct Tried {
    outcome: Outcome,
    handover: Handover,
}

impl From<Outcome> for Tried {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, handover: Handover::default() }
    }
}

impl Deliverer {
    pub(crate) fn new(
        core: Arc<Core>,
        resolver: Arc<dyn Resolver>,
        draw_key: [u8; 16],
        base: PathBuf,
    ) -> Self {
        let policy = core.policy();
        let maildir = Maildir::new(core.spool.path().join("maildir"));
        Self {
            pool: ArcSwap::from_pointee(pool(&policy)),
            core,
            resolver,
            health: Mutex::new(Health::default()),
            maildir,
            draw_key,
            base,
        }
    }

    /// A new policy is in force: connections made under the old one are not used again.
    pub(crate) fn policy_replaced(&self) {
        let policy = self.core.policy();
        let old = self.pool.swap(Arc::new(pool(&policy)));
        tokio::spawn(async move { old.close().await });
    }

    /// Closes connections that have been idle for too long.
    pub(crate) fn sweep(&self) {
        self.pool.load().sweep();
    }

    /// Closes all idle connections.
    pub(crate) async fn close(&self) {
        self.pool.load_full().close().await;
    }

    /// Does a work: one outcome a delivery, each logged with the reason of its route (O4).
    pub(crate) async fn deliver(&self, work: &Work) -> Vec<Ended> {
        let policy = self.core.policy();
        let deliveries: Vec<&Delivery> = work.iter().map(|(_, delivery)| delivery).collect();
        let tried = match deliveries.first() {
            None => Vec::new(),
            Some(first) => self.outcomes(&policy, work, first, &deliveries).await,
        };
        let ended =
            work.iter().zip(tried).map(|((place, delivery), Tried { outcome, handover })| {
                self.core.counters.outcome(&outcome);
                log(work, delivery, &outcome);
                Ended { delivery: place, outcome, handover }
            });
        ended.collect()
    }

    async fn outcomes(
        &self,
        policy: &Policy,
        work: &Work,
        first: &Delivery,
        deliveries: &[&Delivery],
    ) -> Vec<Tried> {
        if let Destination::Refused { reply } = &first.destination {
            let failure =
                Failure { scope: FailureScope::Message, host: None, reply: reply.clone() };
            return vec![Tried::from(Outcome::Failed(failure)); deliveries.len()];
        }
        let body = match &work.body {
            Some(body) => Some(Loaded::from(body.clone())),
            None => self.core.spool.body(work.entry.id, work.entry.size).await,
        };
        let Some(body) = body else {
            return all_deferred(deliveries, local("the stored message cannot be read"));
        };
        let pieces = pieces(&work.entry.trace, &body, &first.changes);
        if let Destination::Mailbox { organization } = &first.destination
            && policy.organization(organization).is_some_and(|owner| owner.has_maildir())
        {
            return self.file_locally(policy, work, deliveries, pieces).await;
        }
        let message = match Message::new(pieces) {
            Ok(message) => message,
            Err(error) => return all_deferred(deliveries, local(&error.to_string())),
        };
        let transaction = Transaction {
            sender: first.sender.clone(),
            parameters: work.entry.parameters.clone(),
            recipients: deliveries.iter().map(|delivery| recipient(delivery)).collect(),
            message,
        };
        let order = |route| {
            let draw = Draw::new(self.draw_key, work.entry.id, Route::name(route));
            route.attempts(draw, &self.health(), self.core.clock.now())
        };
        match Way::of(first, policy, &self.base, order) {
            Ok(way) => self.by_smtp(policy, work, &way, transaction).await,
            Err(failure) => all_deferred(deliveries, failure),
        }
    }

    /// Tries host after host until each recipient has an outcome that is not the host's fault.
    async fn by_smtp(
        &self,
        policy: &Policy,
        work: &Work,
        way: &Way<'_>,
        mut transaction: Transaction,
    ) -> Vec<Tried> {
        let count = transaction.recipients.len();
        let mut settled: Vec<Option<Tried>> = vec![None; count];
        let mut failures: Vec<Vec<Failure>> = vec![Vec::new(); count];
        let mut open: Vec<usize> = (0..count).collect();
        for target in &way.targets {
            if open.is_empty() {
                break;
            }
            if !self.health().claim(&target.at, self.core.clock.now()).may_try() {
                continue;
            }
            let tried = self.try_host(policy, work, way, target, transaction.clone()).await;
            self.note_health(&target.at, &tried);
            let mut left = Vec::new();
            let mut recipients = Vec::new();
            for ((place, recipient), tried) in
                open.into_iter().zip(transaction.recipients).zip(tried)
            {
                match host_failure(&tried) {
                    Some(failure) => {
                        failures
                            .get_mut(place)
                            .into_iter()
                            .for_each(|all| all.push(failure.clone()));
                        left.push(place);
                        recipients.push(recipient);
                    }
                    None => settled.get_mut(place).into_iter().for_each(|slot| {
                        *slot = Some(tried.clone());
                    }),
                }
            }
            transaction.recipients = recipients;
            open = left;
        }
        let both = settled.into_iter().zip(failures);
        both.map(|(tried, failures)| tried.unwrap_or_else(|| way.outcome(&failures).into()))
            .collect()
    }

    async fn try_host(
        &self,
        policy: &Policy,
        work: &Work,
        way: &Way<'_>,
        target: &Target,
        transaction: Transaction,
    ) -> Vec<Tried> {
        let count = transaction.recipients.len();
        let own_names = [policy.server.hostname.clone()];
        let draw = match &target.at.host {
            Host::Name(name) => Draw::for_domain(self.draw_key, work.entry.id, name),
            Host::Ip(_) => Draw::from_value(0),
        };
        let resolver = &*self.resolver;
        let found = resolve_next_hops(resolver, &target.at, target.lookup, &own_names, draw).await;
        let hops = match found {
            Ok(found) => found.hops,
            Err(failure) => {
                let permanent =
                    failure.scope == FailureScope::Message && failure.reply.code() >= 500;
                let outcome =
                    if permanent { Outcome::Failed(failure) } else { Outcome::Deferred(failure) };
                return vec![outcome.into(); count];
            }
        };
        let pool = self.pool.load_full();
        let mut last: Vec<Tried> = Vec::new();
        for found in hops {
            let hop = Hop {
                alias: found.tls_names.get(1).cloned(),
                protocol: way.protocol,
                tls: tls_policy(target.tls, &way.roots),
                credentials: None,
                host: found.host,
            };
            let addresses: Vec<_> = found.addresses.iter().map(std::net::SocketAddr::ip).collect();
            let report = pool.deliver_and_report(&hop, &addresses, transaction.clone()).await;
            let handover = match way.protocol {
                Protocol::Lmtp => Handover::Final,
                Protocol::Smtp if report.offered.dsn => Handover::Passed,
                Protocol::Smtp => Handover::Relayed,
            };
            let tried = report.outcomes.into_iter().map(|outcome| Tried { outcome, handover });
            let tried: Vec<Tried> = tried.collect();
            if !tried.iter().all(|tried| host_failure(tried).is_some()) {
                return tried;
            }
            // It is a failure of TLS only if TLS failed at each host (A10).
            if last.is_empty() || scope(&last) == Some(FailureScope::Tls) {
                last = tried;
            }
        }
        last
    }

    fn note_health(&self, host: &HostPort, tried: &[Tried]) {
        let now = self.core.clock.now();
        match (tried.iter().all(|tried| host_failure(tried).is_some()), scope(tried)) {
            (true, Some(scope)) => {
                self.health().failed(host, scope, now);
            }
            _ => self.health().succeeded(host),
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn file_locally(
        &self,
        policy: &Policy,
        work: &Work,
        deliveries: &[&Delivery],
        pieces: Vec<SharedBytes>,
    ) -> Vec<Tried> {
        let mut outcomes: Vec<Tried> = Vec::with_capacity(deliveries.len());
        for (place, delivery) in work.iter() {
            let mailbox = match policy.account(&delivery.recipient) {
                Ok(Account::User(user)) => user.address,
                Ok(_) => {
                    let reply = Reply::new(550, (5, 1, 1), "No such user here");
                    let failure = Failure { scope: FailureScope::Message, host: None, reply };
                    outcomes.push(Outcome::Failed(failure).into());
                    continue;
                }
                Err(unavailable) => {
                    outcomes.push(Outcome::Deferred(local(&unavailable.to_string())).into());
                    continue;
                }
            };
            let (maildir, pieces) = (self.maildir.clone(), pieces.clone());
            let (id, sender, spam) = (work.entry.id, delivery.sender.clone(), delivery.spam);
            let written = tokio::task::spawn_blocking(move || {
                let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
                let letter = Letter {
                    id,
                    delivery: place,
                    sender: &sender,
                    mailbox: &mailbox,
                    spam,
                    pieces: &pieces,
                };
                maildir.deliver(&letter)
            })
            .await;
            let outcome = match written {
                Ok(Ok(path)) => Outcome::Delivered {
                    host: None,
                    reply: Reply::new(250, (2, 1, 5), &format!("Filed as {}", path.display())),
                },
                Ok(Err(error)) => {
                    Outcome::Deferred(local(&format!("the Maildir cannot be written: {error}")))
                }
                Err(error) => Outcome::Deferred(local(&format!("filing failed: {error}"))),
            };
            outcomes.push(Tried { outcome, handover: Handover::Final });
        }
        outcomes
    }
}

fn pool(policy: &Policy) -> Pool {
    let timeouts = &policy.server.timeouts;
    let mut settings = ConnectSettings::new(policy.server.hostname.clone().into());
    settings.connect = timeouts.next_hop_connect;
    settings.timeouts = Timeouts {
        command: timeouts.next_hop_command,
        data_start: timeouts.next_hop_command,
        data_block: timeouts.data,
        data_end: timeouts.next_hop_data_end,
    };
    Pool::new(settings, PoolLimits::default())
}

fn tls_policy(policy: TlsPolicy, roots: &tls::Roots) -> tls::TlsPolicy {
    tls::TlsPolicy {
        tls: match (policy.start, policy.requirement) {
            (TlsStart::Implicit, _) => TlsUse::Implicit,
            (TlsStart::Starttls, TlsDemand::Required) => TlsUse::Required,
            (TlsStart::Starttls, TlsDemand::Opportunistic) => TlsUse::Opportunistic,
        },
        require_ca_signed: policy.ca_signed == Check::On,
        verify_hostname: policy.hostname == Check::On,
        roots: roots.clone(),
    }
}

fn recipient(delivery: &Delivery) -> Recipient {
    Recipient {
        address: delivery.recipient.clone(),
        notify: delivery.notify,
        orcpt: delivery.orcpt.clone(),
    }
}

fn all_deferred(deliveries: &[&Delivery], failure: Failure) -> Vec<Tried> {
    vec![Outcome::Deferred(failure).into(); deliveries.len()]
}

/// The failure, if it is the host's and another one may do better.
fn host_failure(tried: &Tried) -> Option<&Failure> {
    match &tried.outcome {
        Outcome::Deferred(failure) => {
            Some(failure).filter(|failure| failure.scope != FailureScope::Message)
        }
        Outcome::Delivered { .. } | Outcome::Failed(_) => None,
    }
}

/// The scope of the first failure.
fn scope(tried: &[Tried]) -> Option<FailureScope> {
    tried.iter().find_map(host_failure).map(|failure| failure.scope)
}

fn log(work: &Work, delivery: &Delivery, outcome: &Outcome) {
    let (id, attempt) = (work.entry.id, work.attempt);
    let (recipient, destination) = (&delivery.recipient, &delivery.destination);
    match outcome {
        Outcome::Delivered { host, reply } => {
            let host = host.as_ref().map(tracing::field::display);
            tracing::info!(%id, %recipient, %destination, host, attempt, %reply, "delivered");
        }
        Outcome::Deferred(failure) => {
            tracing::warn!(%id, %recipient, %destination, attempt, %failure, "deferred");
        }
        Outcome::Failed(failure) => {
            tracing::warn!(%id, %recipient, %destination, attempt, %failure, "failed");
        }
    }
}
