//! The whole server: started, reloaded, stopped.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use waypost_auth::Mode;
use waypost_config::policy::{InternalSenders, Organization, Policy};
use waypost_config::settings::{DnsServers, Limits, ListenerSettings, ServerSettings, TlsStart};
use waypost_net::authentication::Authenticator;
use waypost_net::dns::{DnsLimits, Resolver, ResolverError, SystemResolver};
use waypost_net::server::{
    ClientLimits, Clock, Configuration, ConnectionLimits, Listener, SharedLimits, Stopper, Tls,
    TrustedProxies, stop_signal,
};
use waypost_net::tls::{PemError, server_config};
use waypost_queue::{ConfigChange, ConfigOutcome, Entry, Work};
use waypost_relay::{Ledger, QuotaCommit};
use waypost_smtp::server::{AuthOffer, Settings};
use waypost_store::{CommitError, Committer};
use waypost_types::{
    Delivery, Destination, HeaderBlock, ListenerRole, Mailbox, Recipient, ReversePath, Session,
    TlsState,
};

use crate::control::{Desk, ReloadRequests, Socket};
use crate::core::Core;
use crate::delivery::Deliverer;
use crate::metrics::Metrics;
use crate::reload::drop_aside;
use crate::schedule::schedule;
use crate::session::{OnListener, SmtpHandler};
use crate::spool::{Notices, Spool, SpoolError};
use crate::tls_watch::TlsWatch;

/// What a server is started with.
pub struct Options {
    /// The policy in force at first.
    pub policy: Arc<Policy>,
    /// Where relative paths of the configuration begin: the folder of its file.
    pub base: PathBuf,
    /// Who answers DNS; `None`: what the configuration says.
    pub resolver: Option<Arc<dyn Resolver>>,
    /// Who finds out what SPF, DKIM and DMARC say (E2); `None`: with the feature `authenticate`, and
    /// without a `resolver` of one's own, the name servers of the configuration are asked.
    pub authenticator: Option<Arc<dyn Authenticator>>,
}

/// Why a server does not start, or does not take a new policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A listener cannot be bound.
    #[error(
        "listener \"{name}\" cannot listen on {address}: {source}; free that address or configure another"
    )]
    Bind {
        /// The listener, or `admin`.
        name: String,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate or key is of no use.
    #[error("the TLS files of listener \"{name}\" are of no use: {source}")]
    Tls {
        /// The listener.
        name: String,
        /// Which file, and why.
        source: PemError,
    },
    /// The spool cannot be opened.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The key of the draw cannot be read or made.
    #[error("{path} cannot be read or made: {source}")]
    DrawKey {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The command socket cannot be made.
    #[error("the command socket cannot be made in {spool}: {source}; check the folder's rights")]
    Control {
        /// The spool.
        spool: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No resolver can be made.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// A policy asks for SPF and DMARC, and nobody can find out what they say.
    #[error(
        "organization \"{0}\" has an `authenticate` that asks for SPF and DMARC (E2), which this \
         server cannot evaluate; build it with the feature `authenticate`, or set `authenticate = \
         \"off\"` and `internal_senders = \"from-header\"`"
    )]
    Authenticator(Box<str>),
    /// A new policy asks for what only a restart can give.
    #[error("{0} cannot change while the server runs; restart it")]
    NeedsRestart(&'static str),
    /// The change could not be written into the audit log, so it did not take effect.
    #[error("the audit log cannot be written: {0}")]
    Audit(#[from] CommitError),
}

/// A configuration that did not take effect, for the audit log and the metrics (A12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its version; empty if it is too wrong to have one.
    pub version: String,
    /// Who wanted it.
    pub who: String,
    /// What kind of thing is wrong.
    pub because: RefusedBecause,
    /// What is wrong, a line each.
    pub lines: Vec<String>,
}

/// Why a configuration did not take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusedBecause {
    /// A file is missing or cannot be read.
    Unreadable,
    /// A file is not TOML.
    NotToml,
    /// It breaks a rule.
    Errors,
    /// One of its `[[expect]]` tests fails (O7).
    Expect,
    /// It asks for what only a restart, or another build, can give.
    NeedsRestart,
    /// The certificate or key of a listener is of no use.
    TlsFiles,
    /// The audit log cannot be written.
    Audit,
}

impl RefusedBecause {
    /// Each of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Unreadable,
        Self::NotToml,
        Self::Errors,
        Self::Expect,
        Self::NeedsRestart,
        Self::TlsFiles,
        Self::Audit,
    ];

    fn of(error: &ServerError) -> Self {
        match error {
            ServerError::Tls { .. } => Self::TlsFiles,
            ServerError::Audit(_) => Self::Audit,
            _ => Self::NeedsRestart,
        }
    }

    /// The word for it in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::NotToml => "not-toml",
            Self::Errors => "errors",
            Self::Expect => "expect",
            Self::NeedsRestart => "needs-restart",
            Self::TlsFiles => "tls-files",
            Self::Audit => "audit",
        }
    }

    /// In words, for the audit log.
    fn words(self) -> &'static str {
        match self {
            Self::Unreadable => "a file cannot be read",
            Self::NotToml => "it is not TOML",
            Self::Errors => "it has errors",
            Self::Expect => "a test of its own fails",
            Self::NeedsRestart => "the running server cannot take it",
            Self::TlsFiles => "a certificate or key is of no use",
            Self::Audit => "the audit log cannot be written",
        }
    }
}

/// A running server. [`Server::stop`] ends it in order; dropped, it ends at once, as after a crash.
pub struct Server {
    core: Arc<Core>,
    spool: PathBuf,
    /// The version that was in force when the spool was last in use.
    before: Option<Box<str>>,
    deliverer: Arc<Deliverer>,
    tls_watch: (Arc<TlsWatch>, JoinHandle<()>),
    base: PathBuf,
    committer: Option<Committer>,
    listeners: Vec<Running>,
    limits: SharedLimits,
    admin: Option<(SocketAddr, JoinHandle<()>)>,
    desk: Arc<Desk>,
    control: Option<Socket>,
    stopper: Stopper,
    dispatcher: JoinHandle<()>,
    dispatcher_stop: watch::Sender<bool>,
}

struct Running {
    name: Box<str>,
    address: SocketAddr,
    configuration: watch::Sender<Arc<Configuration>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Opens the spool, binds the listeners, and begins to accept and to deliver.
    ///
    /// # Errors
    /// [`ServerError`]; nothing runs then.
    pub async fn start(options: Options) -> Result<Self, ServerError> {
        let Options { policy, base, resolver, authenticator } = options;
        let clock = Clock::start();
        let settings = &policy.server;
        let (resolver, authenticator) = match resolver {
            Some(resolver) => (resolver, authenticator),
            None => {
                let resolver = system_resolver(settings)?;
                let authenticator = authenticator.or_else(|| asking(&resolver));
                (Arc::new(resolver) as Arc<dyn Resolver>, authenticator)
            }
        };
        can_authenticate(&policy, authenticator.is_some())?;
        let (bound, admin) = bind(&policy, &base).await?;
        let spool_path = base.join(&*settings.spool);
        let metrics = Arc::new(Metrics::new(clock.now()));
        metrics.policy(&policy, clock.now());
        let (spool, committer, recovered) = Spool::open(&spool_path, clock, metrics)?;
        for damaged in &recovered.set_aside {
            tracing::error!(what = damaged.what, because = %damaged.because, "set aside");
        }
        tracing::info!(messages = recovered.messages, "spool open");
        let key = draw_key(&spool_path)?;
        let mut ledger = Ledger::new(key);
        for commit in &recovered.quota {
            ledger.replay(&replayed(commit));
        }
        let limits = SharedLimits::new(ClientLimits::new(connection_limits(&settings.limits)));
        let core = Core::new(Arc::clone(&policy), spool, ledger, clock);
        let core = Arc::new(core.with_authenticator(authenticator).with_draw_key(key));
        core.recorder.configure(settings, &base);
        let tls_watch = TlsWatch::new(Arc::clone(&core), Arc::clone(&resolver), base.clone(), key);
        let tls_watch = Arc::new(tls_watch);
        let deliverer = Arc::new(Deliverer::new(Arc::clone(&core), resolver, key, base.clone()));
        let desk = Arc::new(Desk::new(Arc::clone(&core), Some(Arc::clone(&deliverer))));
        let control = Socket::open(&spool_path, Arc::clone(&desk))
            .map_err(|source| ServerError::Control { spool: spool_path.clone(), source })?;
        let (stopper, stop) = stop_signal();
        let listeners = bound
            .into_iter()
            .map(|bound| {
                let (sender, receiver) = watch::channel(bound.configuration);
                let (core, shared) = (Arc::clone(&core), limits.clone());
                let on = Arc::new(OnListener::new(&bound.name, &core.metrics));
                let serving = core.health.serving();
                let make =
                    move || SmtpHandler::new(Arc::clone(&core), shared.clone(), Arc::clone(&on));
                let serve = bound.listener.serve(receiver, limits.clone(), make, stop.clone());
                Running {
                    name: bound.name,
                    address: bound.address,
                    configuration: sender,
                    task: tokio::spawn(async move {
                        serve.await;
                        drop(serving);
                    }),
                }
            })
            .collect();
        let admin = admin.map(|(address, listener)| {
            let pages = crate::admin::Admin { core: Arc::clone(&core), limits: limits.clone() };
            (address, tokio::spawn(crate::admin::serve(listener, pages)))
        });
        let (dispatcher_stop, stopped) = watch::channel(false);
        let dispatcher = tokio::spawn(dispatch(Arc::clone(&core), Arc::clone(&deliverer), stopped));
        let testing = tokio::spawn(Arc::clone(&tls_watch).run());
        Ok(Self {
            core,
            spool: spool_path,
            before: recovered.in_force.map(|change| change.version),
            deliverer,
            tls_watch: (tls_watch, testing),
            base,
            committer: Some(committer),
            listeners,
            limits,
            admin,
            desk,
            control: Some(control),
            stopper,
            dispatcher,
            dispatcher_stop,
        })
    }

    /// Where each listener really listens; useful with port 0.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.listeners.iter().map(|listener| (&*listener.name, listener.address))
    }

    /// Where health and metrics are served.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|(address, _)| *address)
    }

    /// How many messages are owed.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.core.spool.messages()
    }

    /// The requests for a reload that come over the command socket ([`crate::control`]), for the caller
    /// to carry out; only the first call gets them. While nobody has called, they are refused.
    pub fn reload_requests(&self) -> ReloadRequests {
        self.desk.reload_requests()
    }

    /// The spool.
    #[must_use]
    pub fn spool(&self) -> &Path {
        &self.spool
    }

    /// The version of the policy in force.
    #[must_use]
    pub fn version(&self) -> String {
        self.core.policy().version().to_owned()
    }

    /// The version that was in force when the spool was last in use; `None`: it is a new one.
    #[must_use]
    pub fn version_before_start(&self) -> Option<&str> {
        self.before.as_deref()
    }

    /// Puts another policy in force, whole or not at all (A12). Transactions that are open end under
    /// the old one; no connection is lost. Who changed it, and in which lines what changed, goes into
    /// the audit log; and so does a refusal.
    ///
    /// # Errors
    /// [`ServerError`]; the old policy then stays in force.
    pub async fn reload(
        &self,
        policy: Arc<Policy>,
        who: &str,
        changes: Vec<String>,
    ) -> Result<(), ServerError> {
        let version = policy.version().to_owned();
        match self.replace(policy, who, changes).await {
            Ok(()) => {
                self.core.metrics.reloaded(None);
                Ok(())
            }
            Err(error) => {
                let because = RefusedBecause::of(&error);
                let (who, lines) = (who.to_owned(), vec![error.to_string()]);
                self.refused(Refusal { version, who, because, lines }).await;
                Err(error)
            }
        }
    }

    /// Tells of a configuration that was refused before there was a policy to put in force: in the
    /// metrics and the audit log.
    pub async fn refused(&self, refusal: Refusal) {
        let Refusal { version, who, because, lines } = refusal;
        self.core.metrics.reloaded(Some(because));
        let stays = self.version();
        let named = if version.is_empty() { String::new() } else { format!(" version {version}") };
        let what = format!("refused{named}: {}; version {stays} stays", because.words());
        let change = ConfigChange {
            outcome: ConfigOutcome::Refused,
            ..self.change(version, &who, what, Some(stays), lines)
        };
        if let Err(error) = self.core.spool.record_change(change).await {
            tracing::error!(%error, "the refusal is not in the audit log");
        }
    }

    /// Opens the record of envelopes anew, if there is one: somebody else may have put the file aside.
    pub fn reopen_record(&self) {
        self.core.recorder.reopen();
    }

    /// Tells that the files say what is in force; if a user asked, the audit log names him.
    pub(crate) async fn unchanged(&self, who: Option<&str>) {
        self.core.metrics.unchanged();
        let Some(who) = who else { return };
        let version = self.version();
        let what = format!("nothing changed, version {version} stays");
        let change = self.change(version.clone(), who, what, Some(version), Vec::new());
        if let Err(error) = self.core.spool.record_change(change).await {
            tracing::error!(%error, "the reload is not in the audit log");
        }
    }

    /// Writes into the audit log that the configuration was changed before this start.
    pub(crate) async fn changed_before_start(&self, who: &str, lines: Vec<String>) {
        let version = self.version();
        let from = self.before.clone().map(String::from);
        let what = match &from {
            None => format!("first start, version {version}"),
            Some(from) if *from == version => format!("version {version}, started again"),
            Some(from) => format!("from version {from} to {version}, before this start"),
        };
        let change = self.change(version, who, what, from, lines);
        if let Err(error) = self.core.spool.record_change(change).await {
            tracing::error!(%error, "the change before this start is not in the audit log");
        }
    }

    fn change(
        &self,
        version: String,
        who: &str,
        what: String,
        from: Option<String>,
        lines: Vec<String>,
    ) -> ConfigChange {
        ConfigChange {
            at: self.core.clock.now(),
            version: version.into(),
            who: who.into(),
            what: what.into(),
            from: from.map(String::into_boxed_str),
            outcome: ConfigOutcome::InForce,
            lines: lines.into_iter().map(String::into_boxed_str).collect(),
        }
    }

    async fn replace(
        &self,
        policy: Arc<Policy>,
        who: &str,
        lines: Vec<String>,
    ) -> Result<(), ServerError> {
        let old = self.core.policy();
        let (was, is) = (&old.server, &policy.server);
        if was.spool != is.spool {
            return Err(ServerError::NeedsRestart("the spool"));
        }
        if was.admin != is.admin {
            return Err(ServerError::NeedsRestart("the admin address"));
        }
        if was.dns != is.dns {
            return Err(ServerError::NeedsRestart("the list of name servers"));
        }
        can_authenticate(&policy, self.core.authenticator.is_some())?;
        let sockets = |settings: &ServerSettings| -> Vec<_> {
            settings.listeners.iter().map(|one| (one.name.clone(), one.bind)).collect()
        };
        if sockets(was) != sockets(is) {
            return Err(ServerError::NeedsRestart("a listener's name or address"));
        }
        let mut configurations = Vec::with_capacity(is.listeners.len());
        for listener in &is.listeners {
            configurations.push(Arc::new(configuration(&policy, listener, &self.base)?));
        }
        let (from, to) = (old.version().to_owned(), policy.version().to_owned());
        let what = match lines.is_empty() {
            true => format!("from version {from} to {to}: only comments, blanks or order of keys"),
            false => format!("from version {from} to {to}"),
        };
        let change = self.change(to, who, what, Some(from), lines);
        self.core.spool.record_change(change).await?;
        self.limits.lock().set_limits(connection_limits(&is.limits));
        self.core.metrics.policy(&policy, self.core.clock.now());
        self.core.recorder.configure(is, &self.base);
        drop(old);
        let old = self.core.replace_policy(policy);
        self.deliverer.policy_replaced(&old);
        // Not by the session that happens to be the last one under it.
        drop_aside(old);
        self.tls_watch.0.policy_replaced();
        for (running, configuration) in self.listeners.iter().zip(configurations) {
            running.configuration.send_replace(configuration);
        }
        Ok(())
    }

    /// Ends in order: no new connections, transactions and deliveries in progress may finish for as
    /// long as `grace`, the spool is synced and closed. What is owed stays in the spool.
    pub async fn stop(mut self, grace: Duration) {
        self.core.health.stop();
        self.tls_watch.1.abort();
        self.stopper.stop(grace);
        for running in &mut self.listeners {
            let _ = (&mut running.task).await;
        }
        self.dispatcher_stop.send_replace(true);
        if tokio::time::timeout(grace, &mut self.dispatcher).await.is_err() {
            self.dispatcher.abort();
        }
        self.deliverer.close().await;
        let core = Arc::clone(&self.core);
        let _ = tokio::task::spawn_blocking(move || core.recorder.close()).await;
        if let Some((_, task)) = self.admin.take() {
            task.abort();
        }
        // While the spool is locked: a successor makes its own socket.
        if let Some(control) = self.control.take() {
            control.close();
        }
        if let Some(committer) = self.committer.take() {
            let ended = tokio::task::spawn_blocking(move || committer.shutdown()).await;
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the spool did not close cleanly"),
                Err(error) => tracing::error!(%error, "the spool did not close cleanly"),
            }
        }
    }
}

impl Drop for Server {
    /// What still runs is cut off; the spool is the same as after a crash, but closed.
    fn drop(&mut self) {
        for running in &self.listeners {
            running.task.abort();
        }
        self.dispatcher.abort();
        self.tls_watch.1.abort();
        if let Some((_, task)) = &self.admin {
            task.abort();
        }
    }
}

/// A listener that is bound and not yet served.
struct Bound {
    name: Box<str>,
    address: SocketAddr,
    listener: Listener,
    configuration: Arc<Configuration>,
}

type Admin = (SocketAddr, tokio::net::TcpListener);

async fn bind(policy: &Policy, base: &Path) -> Result<(Vec<Bound>, Option<Admin>), ServerError> {
    let mut bound = Vec::new();
    for settings in &policy.server.listeners {
        let failed = |source| ServerError::Bind {
            name: settings.name.to_string(),
            address: settings.bind,
            source,
        };
        let configuration = Arc::new(configuration(policy, settings, base)?);
        let listener = Listener::bind(settings.bind).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        bound.push(Bound { name: settings.name.clone(), address, listener, configuration });
    }
    let admin = match policy.server.admin {
        None => None,
        Some(address) => {
            let failed = |source| ServerError::Bind { name: "admin".to_owned(), address, source };
            let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
            Some((listener.local_addr().map_err(failed)?, listener))
        }
    };
    Ok((bound, admin))
}

fn configuration(
    policy: &Policy,
    listener: &ListenerSettings,
    base: &Path,
) -> Result<Configuration, ServerError> {
    let server = &policy.server;
    let mut settings = Settings::new(server.hostname.clone());
    settings.limits.message_size = server.limits.message_size;
    settings.limits.recipients = server.limits.recipients;
    settings.timeouts.command = server.timeouts.command;
    settings.timeouts.data = server.timeouts.data;
    let tls = match &listener.tls {
        None => Tls::Off,
        Some(files) => {
            let (certificate, key) = (base.join(&*files.certificate), base.join(&*files.key));
            let config = server_config(&certificate, &key)
                .map_err(|source| ServerError::Tls { name: listener.name.to_string(), source })?;
            match files.start {
                TlsStart::StartTls => Tls::StartTls(config),
                TlsStart::Implicit => Tls::Implicit(config),
            }
        }
    };
    let relays = listener.role != ListenerRole::Mx;
    if relays && !matches!(tls, Tls::Off) {
        settings.auth = AuthOffer::InsideTls;
    }
    let trusted = TrustedProxies {
        proxy_protocol: server.proxy_protocol_from.clone(),
        xclient: server.xclient_from.clone(),
    };
    Ok(Configuration::new(settings, tls, listener.role).with_trusted(trusted))
}

fn connection_limits(limits: &Limits) -> ConnectionLimits {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    ConnectionLimits {
        total: limits.connections,
        per_client: number(limits.connections_per_client),
        per_client_per_minute: number(limits.connections_per_client_per_minute),
        generic_hello_per_minute: number(limits.generic_helo_connections_per_minute),
    }
}

fn system_resolver(settings: &ServerSettings) -> Result<SystemResolver, ServerError> {
    let limits = DnsLimits::default();
    Ok(match &settings.dns {
        DnsServers::System => SystemResolver::from_system(limits)?,
        DnsServers::List(servers) => SystemResolver::with_servers(servers, limits)?,
    })
}

/// Asks the same name servers about messages.
#[cfg(feature = "authenticate")]
fn asking(resolver: &SystemResolver) -> Option<Arc<dyn Authenticator>> {
    use waypost_net::authentication::{AuthenticationLimits, MailAuthenticator};
    Some(Arc::new(MailAuthenticator::new(resolver, AuthenticationLimits::default())))
}

#[cfg(not(feature = "authenticate"))]
fn asking(_: &SystemResolver) -> Option<Arc<dyn Authenticator>> {
    None
}

/// Refuses a policy that asks for what nobody can find out.
fn can_authenticate(policy: &Policy, can: bool) -> Result<(), ServerError> {
    let mut organizations = policy.organizations().iter();
    let asks = |organization: &&Organization| {
        organization.authenticate != Mode::Off
            || organization.internal_senders == InternalSenders::Authenticated
    };
    match organizations.find(asks) {
        Some(organization) if !can => Err(ServerError::Authenticator(organization.name.clone())),
        _ => Ok(()),
    }
}

/// The file of the key of the draw, in the spool.
const DRAW_KEY: &str = "draw.key";

/// The key of the draw that a spool holds.
pub(crate) fn found_draw_key(spool: &Path) -> Option<[u8; 16]> {
    std::fs::read(spool.join(DRAW_KEY)).ok()?.try_into().ok()
}

/// The key of the draw, kept in the spool so that an explanation can be reproduced (A9).
fn draw_key(spool: &Path) -> Result<[u8; 16], ServerError> {
    let path = spool.join(DRAW_KEY);
    let failed = |source| ServerError::DrawKey { path: path.clone(), source };
    if let Some(key) = found_draw_key(spool) {
        return Ok(key);
    }
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(|error| failed(io::Error::other(error)))?;
    std::fs::write(&path, key).map_err(failed)?;
    Ok(key)
}

pub(crate) fn replayed(commit: &waypost_queue::QuotaCommit) -> QuotaCommit {
    QuotaCommit {
        at: commit.at,
        organization: commit.organization.clone(),
        user: commit.user.clone(),
        recipients: commit.recipients.clone(),
    }
}

/// Hands due works to deliverers, as many at a time as the queue gives, until it is told to stop.
async fn dispatch(core: Arc<Core>, deliverer: Arc<Deliverer>, mut stop: watch::Receiver<bool>) {
    let mut running = JoinSet::new();
    let mut sweep = tokio::time::interval(Duration::from_secs(5));
    let mut forget = tokio::time::interval(Duration::from_secs(3600));
    loop {
        while !*stop.borrow()
            && let Some(work) = core.spool.take()
        {
            running.spawn(deliver(Arc::clone(&core), Arc::clone(&deliverer), work));
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            () = core.spool.ready() => {}
            Some(ended) = running.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a delivery ended abnormally");
                }
            }
            _ = forget.tick() => {
                let core = Arc::clone(&core);
                tokio::spawn(async move { core.spool.forget_quota().await });
            }
            _ = sweep.tick() => {
                deliverer.sweep();
                core.ledger().prune(core.clock.now());
            }
        }
    }
    while running.join_next().await.is_some() {}
}

/// Does one work, and writes down what came of it.
async fn deliver(core: Arc<Core>, deliverer: Arc<Deliverer>, work: Work) {
    let done = deliverer.deliver(&work).await;
    let policy = core.policy();
    let entry = Arc::clone(&work.entry);
    let destination = |to: &Mailbox| notice_destination(&policy, &entry, to);
    let notices = Notices { hostname: &policy.server.hostname, destination: &destination };
    let schedule = schedule(&policy, &work.site);
    match done {
        Ok(results) => core.spool.finished(work, results, &schedule, &notices).await,
        Err(resting) => core.spool.postponed(work, resting, &schedule, &notices).await,
    }
}

/// Where a notice to a sender goes: for one of ours where the policy sends mail for it, so that a
/// split delivery holds for notices too; for others the outbound way of the organization that the
/// message was for, by setting or rule.
fn notice_destination(policy: &Policy, entry: &Entry, to: &Mailbox) -> Option<Destination> {
    if policy.receiving(to).is_none() {
        let owner = entry.deliveries.iter().find_map(|owed| owner(policy, &owed.delivery));
        return Some(owner.map_or(Destination::Mx, |owner| owner.notice_destination(to)));
    }
    let session = Session {
        client_ip: Ipv4Addr::LOCALHOST.into(),
        role: ListenerRole::Mx,
        helo: None,
        auth: None,
        tls: TlsState::Clear,
    };
    let transaction = policy.at_mail(&session, &ReversePath::Null).ok()?;
    let header = format!("From: <MAILER-DAEMON@{}>\r\n\r\n", policy.server.hostname);
    let header = HeaderBlock::of(header.as_bytes());
    let decision = policy.at_data(&transaction, &[Recipient::from(to.clone())], &header);
    decision.deliveries.into_iter().next().map(|decided| decided.delivery.destination)
}

fn owner<'p>(policy: &'p Policy, delivery: &Delivery) -> Option<&'p Organization> {
    match &delivery.destination {
        Destination::Mailbox { organization } | Destination::Route { organization, .. } => {
            policy.organization(organization)
        }
        _ => policy.receiving(&delivery.original_recipient),
    }
}
