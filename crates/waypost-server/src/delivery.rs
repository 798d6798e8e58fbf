//! From a due work to its outcomes: which hosts, in which order, and what each of them said.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use waypost_config::policy::Policy;
use waypost_config::settings::{Delays, Retry};
use waypost_net::client::{ConnectSettings, Hop, Pool, PoolLimits};
use waypost_net::dns::{Lookup, Resolver, resolve_next_hops};
use waypost_net::tls;
use waypost_queue::{Ended, Handover, Schedule, Work};
use waypost_route::{Attempts, Check, Draw, Health, OnTlsFailure, Route, TlsPolicy, TlsStart};
use waypost_smtp::client::{Message, Protocol, SharedBytes, Timeouts, TlsUse, Transaction};
use waypost_types::{
    Account, Delivery, Destination, Directory, Failure, FailureScope, Host, HostPort, Outcome,
    Recipient, Reply, TlsDemand,
};

use crate::changes::pieces;
use crate::core::Core;
use crate::maildir::{Letter, Maildir};

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

/// One host to try, and how.
struct Target {
    at: HostPort,
    lookup: Lookup,
    tls: TlsPolicy,
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

/// The hosts of a destination, in order, and what holds for all of them.
struct Way<'p> {
    targets: Vec<Target>,
    protocol: Protocol,
    roots: tls::Roots,
    on_tls_failure: OnTlsFailure,
    /// The route's order, which judges failures; `None` for a gateway and for MX hosts.
    attempts: Option<Attempts<'p>>,
}

impl Way<'_> {
    /// What becomes of a recipient that no host took.
    fn outcome(&self, failures: &[Failure]) -> Outcome {
        if let Some(attempts) = &self.attempts {
            return attempts.outcome(failures, self.on_tls_failure);
        }
        match failures.last() {
            None => Outcome::Deferred(local("no host could be tried now")),
            Some(last) if last.scope == FailureScope::Tls => {
                let reply = Reply::new(550, (5, 7, 5), last.reply.text());
                Outcome::Failed(Failure { reply, ..last.clone() })
            }
            Some(last) => Outcome::Deferred(last.clone()),
        }
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
            Some(body) => Some(body.clone()),
            None => self.core.spool.body(work.entry.id).await,
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
        match self.way(policy, work, first) {
            Ok(way) => self.by_smtp(policy, work, &way, transaction).await,
            Err(failure) => all_deferred(deliveries, failure),
        }
    }

    /// The hosts of a destination as the policy now in force has them (A12).
    fn way<'p>(
        &self,
        policy: &'p Policy,
        work: &Work,
        delivery: &Delivery,
    ) -> Result<Way<'p>, Failure> {
        let opportunistic = TlsPolicy::OPPORTUNISTIC.with_demand(delivery.tls);
        let single = |at: HostPort, lookup| Way {
            targets: vec![Target { at, lookup, tls: opportunistic }],
            protocol: Protocol::Smtp,
            roots: tls::Roots::System,
            on_tls_failure: OnTlsFailure::Bounce,
            attempts: None,
        };
        let gone = |what: String| local(&format!("{what} is no longer configured"));
        match &delivery.destination {
            Destination::Gateway(at) => Ok(single(at.clone(), Lookup::Host)),
            Destination::Route { organization, route } => {
                let found = policy.organization(organization).and_then(|o| o.routes.get(route));
                let route = found.ok_or_else(|| gone(format!("route \"{route}\"")))?;
                Ok(self.route_way(route, work, delivery.tls))
            }
            Destination::Mailbox { organization } => {
                let owner = policy.organization(organization);
                let owner = owner.ok_or_else(|| gone(format!("organization {organization}")))?;
                let name = owner.mailbox_route.as_ref();
                let route = name.and_then(|name| owner.routes.get(name));
                let route = route.ok_or_else(|| gone("the mailbox route".to_owned()))?;
                Ok(self.route_way(route, work, delivery.tls))
            }
            _ => {
                let at = HostPort::new(delivery.recipient.host().clone(), policy.server.mx_port);
                let lookup = match at.host {
                    Host::Name(_) => Lookup::DomainMx,
                    Host::Ip(_) => Lookup::Host,
                };
                Ok(single(at, lookup))
            }
        }
    }

    fn route_way<'p>(&self, route: &'p Route, work: &Work, demand: TlsDemand) -> Way<'p> {
        let draw = Draw::new(self.draw_key, work.entry.id, route.name());
        let attempts = route.attempts(draw, &self.health(), self.core.clock.now());
        let lookup = if route.mx_lookup() { Lookup::HostMx } else { Lookup::Host };
        let targets: Vec<Target> = attempts
            .order
            .iter()
            .map(|host| Target {
                at: host.at().clone(),
                lookup,
                tls: host.tls().with_demand(demand),
            })
            .collect();
        Way {
            targets,
            protocol: match route.protocol() {
                waypost_route::Protocol::Smtp => Protocol::Smtp,
                waypost_route::Protocol::Lmtp => Protocol::Lmtp,
            },
            roots: match route.roots() {
                None => tls::Roots::System,
                Some(file) => tls::Roots::File(self.base.join(file)),
            },
            on_tls_failure: route.on_tls_failure(),
            attempts: Some(attempts),
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

/// The schedule of a work: that of its route, or the server's (O2).
pub(crate) fn schedule(policy: &Policy, work: &Work) -> Schedule {
    let route = match &work.site.destination {
        Destination::Route { organization, route } => {
            policy.organization(organization).and_then(|owner| owner.routes.get(route))
        }
        Destination::Mailbox { organization } => policy
            .organization(organization)
            .and_then(|owner| owner.routes.get(owner.mailbox_route.as_ref()?)),
        _ => None,
    };
    let server = &policy.server.retry;
    let Some(own) = route.and_then(|route| route.retry()) else { return to_schedule(server) };
    let (first, longest) = match &server.delays {
        Delays::Doubling { first, longest } => (*first, *longest),
        Delays::Listed(_) => {
            (std::time::Duration::from_secs(5 * 60), std::time::Duration::from_secs(4 * 3600))
        }
    };
    let delays = match &own.delays {
        Some(delays) if !delays.is_empty() => Delays::Listed(delays.clone()),
        _ => Delays::Doubling {
            first: own.first.unwrap_or(first),
            longest: own.longest.unwrap_or(longest),
        },
    };
    to_schedule(&Retry { delays, lifetime: own.lifetime.unwrap_or(server.lifetime) })
}

fn to_schedule(retry: &Retry) -> Schedule {
    let doubling = |first, longest| Schedule::doubling(first, longest, retry.lifetime);
    match &retry.delays {
        Delays::Doubling { first, longest } => doubling(*first, *longest),
        Delays::Listed(delays) => Schedule::list(delays.clone(), retry.lifetime)
            .unwrap_or_else(|_| doubling(retry.lifetime, retry.lifetime)),
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

fn local(text: &str) -> Failure {
    Failure { scope: FailureScope::Host, host: None, reply: Reply::new(451, (4, 3, 0), text) }
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
