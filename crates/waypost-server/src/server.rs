//! The whole server: started, reloaded, stopped.

mod dispatch;
mod error;
mod prepared;
mod replacement;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use waypost_auth::Mode;
use waypost_config::policy::{InternalSenders, Organization, Policy};
use waypost_config::settings::{DnsServers, Limits, ServerSettings};
use waypost_net::authentication::Authenticator;
use waypost_net::dns::{DnsLimits, Resolver, SystemResolver};
use waypost_net::server::{
    ClientLimits, Configuration, ConnectionLimits, SharedLimits, Stopper, stop_signal,
};
use waypost_relay::{Ledger, QuotaCommit};
use waypost_store::Committer;

pub use error::ServerError;
pub use prepared::Prepared;
pub use replacement::{Refusal, RefusedBecause};

use crate::control::{Desk, ReloadRequests, Socket};
use crate::core::Core;
use crate::delivery::Deliverer;
use crate::front::{self, Front};
use crate::inherited::Inherited;
use crate::metrics::Metrics;
use crate::session::{OnListener, SmtpHandler};
use crate::spool::Spool;
use crate::tls_watch::TlsWatch;
use crate::uptime;
use dispatch::dispatch;
pub(crate) use dispatch::way_to;

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
    /// Where Postfix is answered, in the place of listeners.
    front: Option<front::Running>,
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
    /// [`ServerError`] names what could not be had; nothing runs then.
    pub async fn start(options: Options) -> Result<Self, ServerError> {
        let prepared = Prepared::bind(&options.policy, &options.base, Inherited::none())?;
        Self::start_on(prepared, options).await
    }

    /// Answers a Postfix that receives and delivers, instead of receiving by listeners of its own: spool
    /// (for quotas), reload, metrics and commands are as after [`Server::start`].
    ///
    /// # Errors
    /// [`ServerError`] names what could not be had; nothing runs then.
    pub async fn start_front(options: Options, front: Front) -> Result<Self, ServerError> {
        let prepared = Prepared::bind_front(&options.policy, &front, Inherited::none())?;
        Self::start_on(prepared, options).await
    }

    /// Either of them on sockets that are bound already. What is done here needs no privileges but those
    /// for the spool.
    ///
    /// # Errors
    /// [`ServerError`] names what could not be had; nothing runs then.
    pub async fn start_on(prepared: Prepared, options: Options) -> Result<Self, ServerError> {
        let Options { policy, base, resolver, authenticator } = options;
        let clock = uptime::clock();
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
        let (bound, admin, front) = prepared.into_runtime()?;
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
        let core = match &settings.sharing {
            None => core,
            Some(sharing) => core.sharing_quotas(sharing, &base, key).await?,
        };
        let core = Arc::new(core.with_authenticator(authenticator).with_draw_key(key));
        core.recover(recovered.told, &recovered.spam, &recovered.over_limit);
        core.senders_told.recover(&recovered.senders_told);
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
        let front = front.map(|front| front.serve(&core, &limits)).transpose()?;
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
            front,
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

    /// What is answered to Postfix, and where.
    pub fn front_addresses(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.front.iter().flat_map(front::Running::addresses)
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

    /// Opens the record of envelopes anew, if there is one: somebody else may have put the file aside.
    pub fn reopen_record(&self) {
        self.core.recorder.reopen();
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
        if let Some(front) = self.front.take() {
            front.stop(grace).await;
        }
        self.dispatcher_stop.send_replace(true);
        if tokio::time::timeout(grace, &mut self.dispatcher).await.is_err() {
            self.dispatcher.abort();
        }
        self.deliverer.close().await;
        self.core.quotas.flush(grace).await;
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

fn connection_limits(limits: &Limits) -> ConnectionLimits {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    ConnectionLimits {
        total: limits.connections,
        per_client: number(limits.connections_per_client),
        per_network: number(limits.connections_per_network),
        per_client_per_minute: number(limits.connections_per_client_per_minute),
        generic_hello_per_minute: number(limits.generic_helo_connections_per_minute),
        login_failures: number(limits.auth_failures),
        login_failure_window: limits.auth_failure_window,
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
        organization: (*commit.organization).into(),
        user: commit.user.clone(),
        recipients: commit.recipients.iter().cloned().collect(),
        login: commit.login.clone(),
        client: commit.client,
    }
}
