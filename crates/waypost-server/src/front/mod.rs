//! Front ends for a mail server that receives and delivers by itself: policy delegation and tables for
//! Postfix, a milter for Postfix and Sendmail.
//!
//! **In:** connections of the mail server on TCP or Unix sockets. **Out:** the answers of the policy in force:
//! who may relay, quotas, recipients ([`policy`]); next hops, aliases and recipients as tables
//! ([`tables`]); refusals, header fields and recipients of whole messages ([`milter`]). The decisions are
//! those of sessions of `serve`, made by the same functions.
//!
//! **Bounds:** 1,000 connections an address; a request as `waypost-postfix` bounds it, a message as
//! `[server.limits]` does; an hour without a request ends a connection; 20,000 messages under way. **Errors:**
//! a connection whose octets are no requests is closed, which the mail server answers with a 4yz. **Source:** D2 to D13,
//! E2 to E11, C6 to C8; `docs/POSTFIX.md`, `docs/MILTER.md`.

mod address;
mod connection;
mod messages;
mod milter;
mod policy;
pub(crate) mod requests;
mod tables;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use waypost_config::postfix::Table;

pub use address::{FrontAddress, FrontAddressError};
pub use milter::{MilterRecipients, MilterSettings, RecipientsAtOnce};

use crate::core::Core;
use policy::PolicyService;

/// Where a mail server asks, and what.
#[derive(Clone, Debug, Default)]
pub struct Front {
    /// Where policy delegation is answered.
    pub policy: Vec<FrontAddress>,
    /// Where socketmap is answered, all tables by name.
    pub socketmap: Vec<FrontAddress>,
    /// Where tcp tables are answered, one table each.
    pub tcp_table: Vec<(Table, FrontAddress)>,
    /// What becomes of a foreign sender, whom `serve` would rewrite (D8).
    pub foreign_senders: ForeignSenders,
    /// Where a milter listens.
    pub milter: Vec<FrontAddress>,
    /// How it does its work.
    pub milter_settings: MilterSettings,
}

/// What becomes of a sender outside the organization's domains whom a relay entry with
/// `allowed_senders = "any"` admits: a policy service cannot rewrite him (D8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForeignSenders {
    /// Refused with `550 5.7.1`.
    #[default]
    Refused,
    /// Taken; the message goes on under his own address.
    Kept,
}

/// Connections of one address at a time. Each process of Postfix has one or two.
const CONNECTIONS: usize = 1000;

/// What is answered at one address.
#[derive(Clone, Copy)]
enum Protocol {
    Policy,
    Socketmap,
    TcpTable(Table),
    Milter,
}

impl Protocol {
    fn as_str(self) -> &'static str {
        match self {
            Protocol::Policy => "policy",
            Protocol::Socketmap => "socketmap",
            Protocol::TcpTable(_) => "tcp-table",
            Protocol::Milter => "milter",
        }
    }
}

/// All addresses, bound and not yet served.
pub(crate) struct Bound {
    sockets: Vec<(Protocol, Socket)>,
    foreign_senders: ForeignSenders,
    milter_settings: MilterSettings,
}

enum Socket {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, PathBuf),
}

impl Front {
    /// Binds all addresses.
    ///
    /// # Errors
    /// The address that cannot be bound, and what the system said.
    pub(crate) async fn bind(&self) -> Result<Bound, (FrontAddress, io::Error)> {
        let policy = self.policy.iter().map(|at| (Protocol::Policy, at));
        let socketmap = self.socketmap.iter().map(|at| (Protocol::Socketmap, at));
        let tables = self.tcp_table.iter().map(|(table, at)| (Protocol::TcpTable(*table), at));
        let milter = self.milter.iter().map(|at| (Protocol::Milter, at));
        let mut sockets = Vec::new();
        for (protocol, address) in policy.chain(socketmap).chain(tables).chain(milter) {
            let socket = match address {
                FrontAddress::Tcp(at) => tcp(*at).await,
                FrontAddress::Unix(path) => unix(path).map(|one| Socket::Unix(one, path.clone())),
            };
            sockets.push((protocol, socket.map_err(|error| (address.clone(), error))?));
        }
        let milter_settings = self.milter_settings.clone();
        Ok(Bound { sockets, foreign_senders: self.foreign_senders, milter_settings })
    }
}

async fn tcp(at: SocketAddr) -> io::Result<Socket> {
    let listener = TcpListener::bind(at).await?;
    let at = listener.local_addr()?;
    if !at.ip().is_loopback() {
        tracing::warn!(
            address = %at,
            "whoever reaches this address learns who exists here and can use up quotas; bind to loopback \
             or a Unix socket, or let nobody but Postfix reach it"
        );
    }
    Ok(Socket::Tcp(listener, at))
}

/// Binds in place of a socket that nobody answers on any more. Who may connect is said by the rights of
/// the folder.
fn unix(path: &Path) -> io::Result<UnixListener> {
    let is_socket =
        std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket {
        let refused = std::os::unix::net::UnixStream::connect(path).err();
        if refused.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            std::fs::remove_file(path)?;
        }
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// All addresses, served. Dropped, it ends at once.
pub(crate) struct Running {
    addresses: Vec<(&'static str, String)>,
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    sockets: Vec<PathBuf>,
}

impl Bound {
    /// Begins to answer.
    pub(crate) fn serve(self, core: &Arc<Core>) -> Running {
        let (stop, stopped) = watch::channel(false);
        let service = Arc::new(PolicyService::new(Arc::clone(core), self.foreign_senders));
        let milter = Arc::new(self.milter_settings);
        let mut running =
            Running { addresses: Vec::new(), tasks: Vec::new(), stop, sockets: Vec::new() };
        running.tasks.push(tokio::spawn(sweep(Arc::clone(&service), stopped.clone())));
        for (protocol, socket) in self.sockets {
            let address = match &socket {
                Socket::Tcp(_, at) => at.to_string(),
                Socket::Unix(_, path) => {
                    running.sockets.push(path.clone());
                    format!("unix:{}", path.display())
                }
            };
            running.addresses.push((protocol.as_str(), address));
            let (core, service) = (Arc::clone(core), Arc::clone(&service));
            let shared = Shared { core, service, milter: Arc::clone(&milter) };
            let task = accept(socket, protocol, shared, stopped.clone());
            running.tasks.push(tokio::spawn(task));
        }
        running
    }
}

impl Running {
    /// What is answered where.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.addresses.iter().map(|(protocol, at)| (*protocol, &**at))
    }

    /// Ends in order: requests that came are answered.
    pub(crate) async fn stop(mut self, grace: Duration) {
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut self.tasks);
        let ended = async {
            for task in tasks {
                let _ = task.await;
            }
        };
        let _ = tokio::time::timeout(grace, ended).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.tasks.iter().for_each(JoinHandle::abort);
        for path in &self.sockets {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Ends messages of which nothing is heard any more.
async fn sweep(service: Arc<PolicyService>, mut stop: watch::Receiver<bool>) {
    let mut often = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = often.tick() => service.sweep(),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What all connections share.
#[derive(Clone)]
struct Shared {
    core: Arc<Core>,
    service: Arc<PolicyService>,
    milter: Arc<MilterSettings>,
}

async fn accept(
    socket: Socket,
    protocol: Protocol,
    shared: Shared,
    mut stop: watch::Receiver<bool>,
) {
    let core = Arc::clone(&shared.core);
    let serving = core.health.serving();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut clients = JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        let accepted = async {
            match &socket {
                Socket::Tcp(listener, _) => {
                    let (stream, _) = listener.accept().await?;
                    // Answers are small, and waited for.
                    let _ = stream.set_nodelay(true);
                    Ok::<_, io::Error>(Box::new(stream) as Box<dyn Stream>)
                }
                Socket::Unix(listener, _) => Ok(Box::new(listener.accept().await?.0) as _),
            }
        };
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = accepted => accepted,
        };
        match (accepted, Arc::clone(&places).try_acquire_owned()) {
            (Ok(stream), Ok(place)) => {
                let (Shared { core, service, milter }, stop) = (shared.clone(), stop.clone());
                clients.spawn(async move {
                    let served = match protocol {
                        Protocol::Milter => {
                            let served = milter::serve(stream, core, milter, stop).await;
                            if let Err(error) = served {
                                tracing::warn!(protocol = protocol.as_str(), %error, "a connection is closed");
                            }
                            drop(place);
                            return;
                        }
                        Protocol::Policy => {
                            connection::serve(stream, service.connection(), stop).await
                        }
                        Protocol::Socketmap => {
                            connection::serve(stream, tables::Socketmap::new(core), stop).await
                        }
                        Protocol::TcpTable(table) => {
                            connection::serve(stream, tables::TcpTable::new(core, table), stop).await
                        }
                    };
                    if let Err(error) = served {
                        tracing::warn!(protocol = protocol.as_str(), %error, "a connection is closed");
                    }
                    drop(place);
                });
            }
            (Ok(_), Err(_)) => {
                tracing::warn!(
                    protocol = protocol.as_str(),
                    "{CONNECTIONS} connections are open; another one is closed"
                );
            }
            (Err(error), _) => {
                tracing::warn!(%error, "accept failed; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(serving);
    while clients.join_next().await.is_some() {}
}
