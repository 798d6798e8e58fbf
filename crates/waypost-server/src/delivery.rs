//! From a due work to its outcomes: which hosts, in which order, and what each of them said.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use waypost_config::policy::{Explanation, Mark, Policy};
use waypost_mime::HeaderText;
use waypost_net::client::{ConnectSettings, Hop, Over, Pool, PoolLimits};
use waypost_net::dns::{Resolver, resolve_next_hops};
use waypost_net::tls;
use waypost_queue::{Body, Ended, Handover, Resting, Work};
use waypost_route::{Draw, FIRST_PAUSE, Health, HostState, Route};
use waypost_smtp::client::{Message, Protocol, SharedBytes, Timeouts, Transaction};
use waypost_types::{
    Account, Changes, Delivery, Destination, Directory, Failure, FailureScope, Host, HostPort,
    Outcome, Recipient, Reply, Timestamp,
};

use crate::changes::sent;
use crate::core::Core;
use crate::log::{self, Attempt};
use crate::maildir::{Letter, Maildir};
use crate::metrics::{Outcomes, Side};
use crate::route_changes::RouteChanges;
use crate::spool::Loaded;
use crate::trace;
use crate::way::{Target, Way, local};

/// Delivers works: the route's hosts in the order of the draw, each host's addresses, a pooled
/// connection; or the built-in Maildir.
pub(crate) struct Deliverer {
    core: Arc<Core>,
    resolver: Arc<dyn Resolver>,
    pool: Pool,
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
    over: Over,
}

impl From<Outcome> for Tried {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, handover: Handover::default(), over: Over::default() }
    }
}

/// What a target gave.
enum Found {
    /// One outcome a recipient.
    Tried(Vec<Tried>),
    /// Each of its hosts rests.
    Resting,
    /// A host has no connection to spare, and others wait for one.
    Busy,
}

/// When a host with no connection to spare is asked again.
const BUSY: Duration = Duration::from_secs(1);

/// The earliest moment at which a host that was passed over may be tried.
#[derive(Default)]
struct Rests {
    until: Option<Timestamp>,
}

impl Rests {
    fn note(&mut self, state: HostState, now: Timestamp) {
        let until = match state {
            // Most probes bring their verdict long before they are given up.
            HostState::Probing { until, .. } => Some(until.min(now + FIRST_PAUSE)),
            other => other.until(),
        };
        self.until = self.until.into_iter().chain(until).min();
    }

    /// `None` when none rests: then it is not for that reason that none was tried.
    fn into_resting(self, way: &Way<'_>) -> Option<Resting> {
        let until = self.until?;
        match way.outcome(&[]) {
            Outcome::Deferred(because) => Some(Resting::Down { until, because }),
            Outcome::Failed(_) | Outcome::Delivered { .. } => None,
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
            pool: pool(&policy),
            core,
            resolver,
            health: Mutex::new(Health::default()),
            maildir,
            draw_key,
            base,
        }
    }

    /// A new policy is in force in place of `old`: what has changed is seen anew, connections and
    /// pauses of hosts stay where nothing did.
    pub(crate) fn policy_replaced(&self, old: &Policy) {
        let policy = self.core.policy();
        self.pool.reconfigure(connect_settings(&policy), pool_limits(&policy));
        let changes = RouteChanges::between(old, &policy);
        self.health().forget(|host, cause| changes.concern(host, cause));
        self.core.spool.rouse();
    }

    /// Closes connections that have been idle for too long.
    pub(crate) fn sweep(&self) {
        self.pool.sweep();
    }

    /// Closes all idle connections.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    /// Forgets which hosts have failed: they, or what is asked of them, may have been mended.
    pub(crate) fn forget_failures(&self) {
        *self.health() = Health::default();
        self.core.spool.rouse();
    }

    /// Does a work: one outcome a delivery, each logged with the reason of its route (O4).
    ///
    /// # Errors
    /// Nothing was tried, since every host of the way rests or has no connection to spare.
    pub(crate) async fn deliver(&self, work: &Work) -> Result<Vec<Ended>, Resting> {
        let begun = Instant::now();
        let policy = self.core.policy();
        let deliveries: Vec<&Delivery> = work.iter().map(|(_, delivery)| delivery).collect();
        let tried = match deliveries.first() {
            None => Vec::new(),
            Some(first) => self.outcomes(&policy, work, first, &deliveries).await?,
        };
        let (now, took) = (self.core.clock.now(), begun.elapsed());
        let route = self.core.metrics.routes.of(&work.site.destination);
        let ended = work.iter().zip(tried).map(|((place, delivery), tried)| {
            let Tried { outcome, handover, over } = tried;
            self.count(work, &route, &outcome, now);
            Attempt { work, place, delivery, over, took }.write(&outcome);
            Ended { delivery: place, outcome, handover }
        });
        Ok(ended.collect())
    }

    fn count(&self, work: &Work, route: &Outcomes, outcome: &Outcome, now: Timestamp) {
        let metrics = &self.core.metrics;
        route.count(outcome);
        let host = match outcome {
            Outcome::Delivered { host, .. } => {
                metrics.delivered_after(now.since(work.entry.accepted_at));
                host
            }
            Outcome::Deferred(failure) | Outcome::Failed(failure) => &failure.host,
        };
        if let Some(host) = host {
            metrics.hosts.count(host, outcome, now);
        }
    }

    async fn outcomes(
        &self,
        policy: &Policy,
        work: &Work,
        first: &Delivery,
        deliveries: &[&Delivery],
    ) -> Result<Vec<Tried>, Resting> {
        if let Destination::Refused { reply } = &first.destination {
            let failure =
                Failure { scope: FailureScope::Message, host: None, reply: reply.clone() };
            return Ok(vec![Tried::from(Outcome::Failed(failure)); deliveries.len()]);
        }
        let is_local = match &first.destination {
            Destination::Mailbox { organization } => {
                policy.organization(organization).is_some_and(|owner| owner.has_maildir())
            }
            _ => false,
        };
        let order = |route| {
            let draw = Draw::new(self.draw_key, work.entry.id, Route::name(route));
            route.attempts(draw, &self.health(), self.core.clock.now())
        };
        let way = match Way::of(first, policy, &self.base, order) {
            _ if is_local => None,
            Ok(way) => Some(way),
            Err(failure) => return Ok(all_deferred(deliveries, failure)),
        };
        if let Some(way) = way.as_ref().filter(|way| way.targets.is_empty()) {
            // Before the body is read: there may be thousands for a host that rests.
            let mut rests = Rests::default();
            way.skipped().for_each(|state| rests.note(state, self.core.clock.now()));
            if let Some(resting) = rests.into_resting(way) {
                return Err(resting);
            }
        }
        let body = match &work.body {
            Some(body) => Some(Loaded::from(body.clone())),
            None => self.core.spool.body(work.entry.id, work.entry.size).await,
        };
        let Some(body) = body else {
            return Ok(all_deferred(deliveries, local("the stored message cannot be read")));
        };
        let Some(pieces) = self.pieces(work, &body, &first.changes).await else {
            return Ok(all_deferred(deliveries, local("the message cannot be edited now")));
        };
        let Some(way) = way else {
            return Ok(self.file_locally(policy, work, deliveries, pieces).await);
        };
        let message = match Message::new(pieces) {
            Ok(message) => message,
            Err(error) => return Ok(all_deferred(deliveries, local(&error.to_string()))),
        };
        let transaction = Transaction {
            sender: first.sender.clone(),
            parameters: work.entry.parameters.clone(),
            recipients: deliveries.iter().map(|delivery| recipient(delivery)).collect(),
            message,
        };
        self.by_smtp(policy, work, &way, transaction).await
    }

    /// The message as the deliveries of a work send it; what is removed from it is logged. Looking for
    /// attachments takes time by the size of the message, so it is done off the async workers; `None`
    /// where that ended abnormally.
    async fn pieces(
        &self,
        work: &Work,
        body: &Body,
        changes: &Changes,
    ) -> Option<Vec<SharedBytes>> {
        let entry = &work.entry;
        let text = if entry.parameters.smtputf8 { HeaderText::Utf8 } else { HeaderText::Ascii };
        let trace = marked(work);
        if !changes.remove_attachments {
            return Some(sent(&trace, body, changes, text, &[]).pieces);
        }
        let rules = self.rules(work).await;
        let (id, trace) = (entry.id, trace.into_owned());
        let (body, changes) = (body.clone(), changes.clone());
        let edited = tokio::task::spawn_blocking(move || {
            let rules: Vec<&str> = rules.iter().map(|rule| &**rule).collect();
            let sent = sent(&trace, &body, &changes, text, &rules);
            log::removed(id, &sent, &rules);
            sent.pieces
        });
        edited.await.ok()
    }

    /// The rules that change the deliveries of a work, as its decision names them; it is on the disk
    /// alone. None where it cannot be read: the delivery does not depend on them.
    async fn rules(&self, work: &Work) -> Vec<Box<str>> {
        let entry = self.core.spool.entry(work.entry.id).await.ok().flatten();
        let told = entry.and_then(|entry| Explanation::stored(&entry.decision));
        let Some(explanation) = told else { return Vec::new() };
        let mut rules: Vec<Box<str>> = Vec::new();
        for (place, _) in work.iter() {
            let told = usize::try_from(place).ok().and_then(|at| explanation.deliveries.get(at));
            for rule in told.into_iter().flat_map(|told| &told.because) {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
        rules
    }

    /// Tries host after host until each recipient has an outcome that is not the host's fault.
    async fn by_smtp(
        &self,
        policy: &Policy,
        work: &Work,
        way: &Way<'_>,
        mut transaction: Transaction,
    ) -> Result<Vec<Tried>, Resting> {
        let count = transaction.recipients.len();
        let mut settled: Vec<Option<Tried>> = vec![None; count];
        let mut failures: Vec<Vec<Failure>> = vec![Vec::new(); count];
        let mut last_over = Over::default();
        let mut open: Vec<usize> = (0..count).collect();
        let mut rests = Rests::default();
        way.skipped().for_each(|state| rests.note(state, self.core.clock.now()));
        for target in &way.targets {
            if open.is_empty() {
                break;
            }
            if !self.claim(&target.at, &mut rests) {
                continue;
            }
            let found = self.try_host(policy, work, way, target, &transaction, &mut rests).await;
            let tried = match found {
                Found::Tried(tried) => tried,
                Found::Resting => {
                    self.health().released(&target.at);
                    continue;
                }
                Found::Busy => {
                    self.health().released(&target.at);
                    if open.len() == count {
                        return Err(Resting::Busy { until: self.core.clock.now() + BUSY });
                    }
                    break;
                }
            };
            self.note_health(target, &target.at, &tried);
            last_over = tried.first().map_or(last_over, |tried| tried.over);
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
        let was_tried = open.len() < count || failures.iter().any(|failures| !failures.is_empty());
        if !was_tried && let Some(resting) = rests.into_resting(way) {
            return Err(resting);
        }
        let both = settled.into_iter().zip(failures);
        let failed = |failures: &[Failure]| {
            let outcome = way.outcome(failures);
            // The address is that of the host tried last, so it is told only of that one.
            let host = |outcome: &Outcome| match outcome {
                Outcome::Deferred(failure) | Outcome::Failed(failure) => failure.host.clone(),
                Outcome::Delivered { .. } => None,
            };
            let is_last = failures.last().is_some_and(|last| host(&outcome) == last.host);
            let over = if is_last { last_over } else { Over::default() };
            Tried { outcome, handover: Handover::default(), over }
        };
        Ok(both.map(|(tried, failures)| tried.unwrap_or_else(|| failed(&failures))).collect())
    }

    /// Tries the hosts that a target stands for, each if it does not rest.
    async fn try_host(
        &self,
        policy: &Policy,
        work: &Work,
        way: &Way<'_>,
        target: &Target,
        transaction: &Transaction,
        rests: &mut Rests,
    ) -> Found {
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
                return Found::Tried(vec![outcome.into(); count]);
            }
        };
        let mut last: Vec<Tried> = Vec::new();
        for found in hops {
            // An MX host has a health of its own, shared by all domains that it serves.
            let is_own = found.host != target.at;
            if is_own && !self.claim(&found.host, rests) {
                continue;
            }
            let hop = Hop {
                alias: found.tls_names.get(1).cloned(),
                protocol: way.protocol,
                tls: tls::TlsPolicy::of_route(target.tls, way.roots.clone()),
                credentials: way.credentials.clone(),
                host: found.host,
            };
            let addresses: Vec<_> = found.addresses.iter().map(std::net::SocketAddr::ip).collect();
            let report = self.pool.deliver_unless_busy(&hop, &addresses, transaction.clone()).await;
            let Some((report, over)) = report else {
                if is_own {
                    self.health().released(&hop.host);
                }
                return Found::Busy;
            };
            self.count_handshakes(over);
            let handover = match way.protocol {
                Protocol::Lmtp => Handover::Final,
                Protocol::Smtp if report.offered.dsn => Handover::Passed,
                Protocol::Smtp => Handover::Relayed,
            };
            let tried = |outcome| Tried { outcome, handover, over };
            let tried: Vec<Tried> = report.outcomes.into_iter().map(tried).collect();
            if is_own {
                self.note_health(target, &hop.host, &tried);
            }
            if !tried.iter().all(|tried| host_failure(tried).is_some()) {
                return Found::Tried(tried);
            }
            // It is a failure of TLS only if TLS failed at each host (A10).
            if last.is_empty() || scope(&last) == Some(FailureScope::Tls) {
                last = tried;
            }
        }
        if last.is_empty() { Found::Resting } else { Found::Tried(last) }
    }

    fn count_handshakes(&self, over: Over) {
        if let (true, Some(version)) = (over.is_new, over.tls) {
            self.core.metrics.handshake(Side::Client, Some(version));
        }
        for _ in 0..over.handshakes_failed {
            self.core.metrics.handshake(Side::Client, None);
        }
    }

    /// Whether a host may be tried now; a rest is noted.
    fn claim(&self, host: &HostPort, rests: &mut Rests) -> bool {
        let now = self.core.clock.now();
        let state = self.health().claim(host, now);
        rests.note(state, now);
        state.may_try()
    }

    fn note_health(&self, target: &Target, host: &HostPort, tried: &[Tried]) {
        let now = self.core.clock.now();
        let all_failed = tried.iter().all(|tried| host_failure(tried).is_some());
        let failed = scope(tried).filter(|scope| {
            all_failed && !(target.only_this_demands_tls && *scope == FailureScope::Tls)
        });
        let mut health = self.health();
        match failed {
            Some(scope) => {
                health.failed(host, scope, now);
            }
            None => {
                let was_up = health.state(host, now) == HostState::Up;
                health.succeeded(host);
                drop(health);
                if !was_up {
                    self.core.spool.rouse();
                }
            }
        }
    }

    /// How the hosts are.
    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
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
            outcomes.push(Tried { outcome, handover: Handover::Final, over: Over::default() });
        }
        outcomes
    }
}

fn pool(policy: &Policy) -> Pool {
    Pool::new(connect_settings(policy), pool_limits(policy))
}

fn pool_limits(policy: &Policy) -> PoolLimits {
    let limits = &policy.server.limits;
    PoolLimits {
        connections_per_hop: limits.connections_per_host,
        messages_per_connection: limits.messages_per_connection,
        idle: policy.server.timeouts.next_hop_idle,
    }
}

fn connect_settings(policy: &Policy) -> ConnectSettings {
    let timeouts = &policy.server.timeouts;
    let mut settings = ConnectSettings::new(policy.server.hostname.clone().into());
    settings.connect = timeouts.next_hop_connect;
    settings.timeouts = Timeouts {
        greeting: timeouts.next_hop_greeting,
        command: timeouts.next_hop_command,
        mail: timeouts.next_hop_mail,
        rcpt: timeouts.next_hop_rcpt,
        data_start: timeouts.next_hop_data,
        data_block: timeouts.next_hop_data_block,
        data_end: timeouts.next_hop_data_end,
    };
    settings
}

fn recipient(delivery: &Delivery) -> Recipient {
    Recipient {
        address: delivery.recipient.clone(),
        notify: delivery.notify,
        orcpt: delivery.orcpt.clone(),
    }
}

/// The trace lines with the marks of this transaction's deliveries, and of no others: who is in another
/// one is nobody's business there.
fn marked(work: &Work) -> Cow<'_, str> {
    let owed = work.deliveries.iter().filter_map(|place| usize::try_from(*place).ok());
    let owed = owed.filter_map(|place| work.entry.deliveries.get(place));
    let marks = owed.flat_map(|owed| &owed.marks).map(|mark| Mark::from_value(*mark));
    match Mark::comment(marks) {
        Some(comment) => trace::with_comment(&work.entry.trace, &comment).into(),
        None => (&*work.entry.trace).into(),
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
