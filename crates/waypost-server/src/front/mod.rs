//! Front ends for a mail server that receives and delivers by itself: policy delegation and tables for
//! Postfix, a milter for Postfix and Sendmail.
//!
//! **In:** connections of the mail server on TCP or Unix sockets. **Out:** the answers of the policy in force:
//! who may relay, quotas, recipients ([`policy`]); next hops, aliases and recipients as tables
//! ([`tables`]); refusals, header fields and recipients of whole messages ([`milter`]). The decisions are
//! those of sessions of `serve`, made by the same functions.
//!
//! **Bounds:** `connections` of `[server.limits]` hold for all addresses together; a request as
//! `waypost-postfix` bounds it, a message as `[server.limits]` does, and both share the room in memory of messages
//! of `serve`; a connection holds no buffer while it is idle; an hour without a request ends it, and a minute
//! in the middle of one; 20,000 messages under way. **Errors:** a connection whose octets are no requests is closed,
//! which the mail server answers with a 4yz. **Source:** D2 to D13, E2 to E11, C6 to C8; `docs/POSTFIX.md`,
//! `docs/MILTER.md`.

mod address;
mod connection;
mod messages;
mod milter;
mod policy;
mod read;
pub(crate) mod requests;
mod socket;
mod tables;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use waypost_config::postfix::Table;
use waypost_net::server::SharedLimits;

pub use address::{FrontAddress, FrontAddressError};
pub use milter::{MilterRecipients, MilterSettings, RecipientsAtOnce};
pub use socket::SocketRights;

use crate::core::Core;
use crate::inherited::{Handed, InheritedError, Socket as HandedOver};
use crate::server::ServerError;
use policy::PolicyService;
use socket::{Socket, SocketFile};

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
    /// Whose the Unix sockets are that are made here, and who may connect.
    pub socket_rights: SocketRights,
    /// What sockets that are handed over may be for by their names.
    pub by_name: ByName,
}

/// What a socket that is handed over may be for by its name alone; by its address it is for what that
/// address is given for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ByName {
    /// `policy`, `socketmap`, `milter`, and `tcp-table-transport` and the like for a table.
    #[default]
    Any,
    /// `milter` alone.
    Milter,
}

impl ByName {
    fn protocol(self, name: &str) -> Option<Protocol> {
        let named = Protocol::named(name)?;
        (self == Self::Any || named == Protocol::Milter).then_some(named)
    }

    fn names(self) -> &'static str {
        match self {
            Self::Any => "policy, socketmap, milter or tcp-table-transport",
            Self::Milter => "milter",
        }
    }
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

/// What is answered at one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// That of a socket with this name.
    fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "policy" => Some(Protocol::Policy),
            "socketmap" => Some(Protocol::Socketmap),
            "milter" => Some(Protocol::Milter),
            other => {
                let table = other.strip_prefix("tcp-table-")?;
                table.parse().ok().map(Protocol::TcpTable)
            }
        }
    }
}

/// All addresses, bound and not yet served.
#[derive(Debug)]
pub(crate) struct Bound {
    sockets: Vec<(Protocol, Socket)>,
    foreign_senders: ForeignSenders,
    milter_settings: MilterSettings,
}

impl Front {
    /// Takes the sockets that were handed over, and binds all other addresses.
    ///
    /// # Errors
    /// A socket that is of no use, the address that cannot be bound and what the system said, or that there
    /// is nowhere to answer.
    pub(crate) fn bind(&self, inherited: Vec<HandedOver>) -> Result<Bound, ServerError> {
        let mut sockets = Vec::new();
        for HandedOver { name, handed } in inherited {
            let (shown, at) = (handed.to_string(), address_of(&handed));
            let by_address = || {
                let found = self.wanted().find(|(_, wanted)| Some(*wanted) == at.as_ref());
                found.map(|(protocol, _)| protocol)
            };
            let Some(protocol) = self.by_name.protocol(&name).or_else(by_address) else {
                let names = self.by_name.names();
                return Err(InheritedError::NoFront { name, address: shown, names }.into());
            };
            let socket = match handed {
                Handed::Tcp(listener, at) => {
                    let failed = |source| failed(&FrontAddress::Tcp(at), source);
                    Socket::tcp(listener).map_err(failed)?
                }
                Handed::Unix(listener, path) => {
                    Socket::Unix(listener, path.unwrap_or_default(), None)
                }
            };
            sockets.push((protocol, socket));
        }
        for (protocol, address) in self.wanted() {
            let is_it = |(known, socket): &(Protocol, Socket)| {
                *known == protocol && socket.address() == *address
            };
            // Two with port 0 are two.
            if !address.is_any_port() && sockets.iter().any(is_it) {
                continue;
            }
            let socket = Socket::bind(address, self.socket_rights);
            sockets.push((protocol, socket.map_err(|source| failed(address, source))?));
        }
        if sockets.is_empty() {
            return Err(ServerError::Nowhere);
        }
        let milter_settings = self.milter_settings.clone();
        Ok(Bound { sockets, foreign_senders: self.foreign_senders, milter_settings })
    }

    /// What is to be answered where.
    fn wanted(&self) -> impl Iterator<Item = (Protocol, &FrontAddress)> {
        let policy = self.policy.iter().map(|at| (Protocol::Policy, at));
        let socketmap = self.socketmap.iter().map(|at| (Protocol::Socketmap, at));
        let tables = self.tcp_table.iter().map(|(table, at)| (Protocol::TcpTable(*table), at));
        let milter = self.milter.iter().map(|at| (Protocol::Milter, at));
        policy.chain(socketmap).chain(tables).chain(milter)
    }
}

fn address_of(handed: &Handed) -> Option<FrontAddress> {
    match handed {
        Handed::Tcp(_, at) => Some(FrontAddress::Tcp(*at)),
        Handed::Unix(_, path) => path.clone().map(FrontAddress::Unix),
    }
}

fn failed(address: &FrontAddress, source: io::Error) -> ServerError {
    ServerError::Front { address: address.clone(), source }
}

/// All addresses, served. Dropped, it ends at once.
pub(crate) struct Running {
    addresses: Vec<(&'static str, String)>,
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    /// Gone with this.
    files: Vec<SocketFile>,
}

impl Bound {
    /// Begins to answer, as many connections at a time as the limits allow in all.
    ///
    /// # Errors
    /// A socket that the runtime cannot use.
    pub(crate) fn serve(
        self,
        core: &Arc<Core>,
        limits: &SharedLimits,
    ) -> Result<Running, ServerError> {
        let (stop, stopped) = watch::channel(false);
        let shared = Shared {
            core: Arc::clone(core),
            limits: limits.clone(),
            service: Arc::new(PolicyService::new(Arc::clone(core), self.foreign_senders)),
            milter: Arc::new(self.milter_settings),
        };
        let mut running =
            Running { addresses: Vec::new(), tasks: Vec::new(), stop, files: Vec::new() };
        running.tasks.push(tokio::spawn(sweep(Arc::clone(&shared.service), stopped.clone())));
        for (protocol, socket) in self.sockets {
            let address = socket.address();
            running.addresses.push((protocol.as_str(), address.to_string()));
            let listener = match socket {
                Socket::Tcp(listener, _) => {
                    let made = listener.set_nonblocking(true);
                    made.and_then(|()| TcpListener::from_std(listener)).map(Listening::Tcp)
                }
                Socket::Unix(listener, _, file) => {
                    running.files.extend(file);
                    let made = listener.set_nonblocking(true);
                    made.and_then(|()| UnixListener::from_std(listener)).map(Listening::Unix)
                }
            };
            let listener = listener.map_err(|source| failed(&address, source))?;
            let task = accept(listener, protocol, shared.clone(), stopped.clone());
            running.tasks.push(tokio::spawn(task));
        }
        Ok(running)
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
    limits: SharedLimits,
    service: Arc<PolicyService>,
    milter: Arc<MilterSettings>,
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are small, and waited for.
                let _ = stream.set_nodelay(true);
                Ok(Box::new(stream))
            }
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

async fn accept(
    listener: Listening,
    protocol: Protocol,
    shared: Shared,
    mut stop: watch::Receiver<bool>,
) {
    let serving = shared.core.health.serving();
    let mut clients = JoinSet::new();
    let mut was_full = false;
    loop {
        while clients.try_join_next().is_some() {}
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept failed; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Like a proxy, the mail server takes a place of all, and none of a client's.
        match shared.limits.admit_proxy() {
            Ok(place) => {
                was_full = false;
                let (shared, stop) = (shared.clone(), stop.clone());
                clients.spawn(async move {
                    serve(stream, protocol, shared, stop).await;
                    drop(place);
                });
            }
            Err(refusal) => {
                // Once, until there was a place again.
                if !std::mem::replace(&mut was_full, true) {
                    tracing::warn!(
                        protocol = protocol.as_str(), %refusal,
                        "a connection of the mail server is closed; let it open fewer, or raise \
                         `connections` in [server.limits]"
                    );
                }
            }
        }
    }
    // Who comes from now on is refused at once, or waits for a successor in the service manager's socket.
    drop((listener, serving));
    while clients.join_next().await.is_some() {}
}

/// One connection, to its end.
async fn serve(
    stream: Box<dyn Stream>,
    protocol: Protocol,
    shared: Shared,
    stop: watch::Receiver<bool>,
) {
    let Shared { core, service, milter, .. } = shared;
    let closed = |error: &dyn std::fmt::Display| {
        tracing::warn!(protocol = protocol.as_str(), %error, "a connection is closed");
    };
    let room = Arc::clone(&core);
    let room = room.spool.intake();
    let served = match protocol {
        Protocol::Milter => {
            let served = milter::serve(stream, core, milter, stop).await;
            return served.unwrap_or_else(|error| closed(&error));
        }
        Protocol::Policy => connection::serve(stream, service.connection(), room, stop).await,
        Protocol::Socketmap => {
            connection::serve(stream, tables::Socketmap::new(core), room, stop).await
        }
        Protocol::TcpTable(table) => {
            connection::serve(stream, tables::TcpTable::new(core, table), room, stop).await
        }
    };
    served.unwrap_or_else(|error| closed(&error));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sockets() {
        for (name, any, milter) in [
            ("policy", Some(Protocol::Policy), None),
            ("Socketmap", Some(Protocol::Socketmap), None),
            ("milter", Some(Protocol::Milter), Some(Protocol::Milter)),
            ("tcp-table-transport", Some(Protocol::TcpTable(Table::Transport)), None),
            ("tcp-table-nonsense", None, None),
            ("waypost-milter.socket", None, None),
            ("", None, None),
        ] {
            assert_eq!(ByName::Any.protocol(name), any, "{name}");
            assert_eq!(ByName::Milter.protocol(name), milter, "{name}");
        }
    }
}
