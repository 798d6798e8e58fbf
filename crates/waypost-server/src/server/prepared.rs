//! What needs privileges, done first: sockets bound, certificates and keys read.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use waypost_config::policy::Policy;
use waypost_config::settings::{ListenerSettings, TlsStart};
use waypost_net::server::{Configuration, Listener, Tls, TrustedProxies};
use waypost_net::tls::server_config;
use waypost_smtp::server::{AuthOffer, Settings};
use waypost_types::ListenerRole;

use super::ServerError;
use crate::front::{self, Front};
use crate::inherited::{Handed, Inherited, Place};

/// The name under which errors and inherited sockets mean the page of metrics and health.
const ADMIN: &str = "admin";

/// The listeners of a policy, bound, with their certificates and keys read, or the addresses of a front end:
/// all that a server does for which it may need privileges that it then gives up. Nothing is accepted
/// yet; clients wait.
///
/// Made without a runtime, so that a program can change its user while it has a single thread.
#[derive(Debug)]
pub struct Prepared {
    listeners: Vec<(Box<str>, TcpListener, Arc<Configuration>)>,
    admin: Option<TcpListener>,
    /// Where another mail server is answered, in the place of listeners.
    front: Option<front::Bound>,
}

impl Prepared {
    /// Binds the listeners of a policy, but for those whose socket was inherited, and reads the files
    /// that they name. Relative paths begin at `base`.
    ///
    /// # Errors
    /// [`ServerError::Bind`], [`ServerError::Tls`], and [`ServerError::Inherited`] for a socket that
    /// is of no listener; nothing is bound then.
    pub fn bind(policy: &Policy, base: &Path, inherited: Inherited) -> Result<Self, ServerError> {
        let server = &policy.server;
        let mut places: Vec<Place<'_>> = server
            .listeners
            .iter()
            .map(|listener| Place { name: &listener.name, bind: listener.bind })
            .collect();
        places.extend(server.admin.map(|bind| Place { name: ADMIN, bind }));
        let mut sockets = inherited.by_place(&places)?.into_iter();
        let mut listeners = Vec::with_capacity(server.listeners.len());
        for settings in &server.listeners {
            let configuration = Arc::new(configuration(policy, settings, base)?);
            let socket = sockets.next().flatten();
            let socket = taken_or_bound(socket, &settings.name, settings.bind)?;
            listeners.push((settings.name.clone(), socket, configuration));
        }
        let admin = match server.admin {
            None => None,
            Some(address) => Some(taken_or_bound(sockets.next().flatten(), ADMIN, address)?),
        };
        Ok(Self { listeners, admin, front: None })
    }

    /// Binds the addresses of front ends, but for those whose socket was inherited, and the page of metrics and
    /// health, in the place of listeners.
    ///
    /// # Errors
    /// [`ServerError::Bind`], [`ServerError::Front`], [`ServerError::Nowhere`], and
    /// [`ServerError::Inherited`] for a socket that is of no front end; nothing is bound then.
    pub fn bind_front(
        policy: &Policy,
        front: &Front,
        inherited: Inherited,
    ) -> Result<Self, ServerError> {
        let address = policy.server.admin;
        let (mut admin, mut others) = (None, Vec::new());
        for socket in inherited.into_sockets() {
            match socket.handed {
                Handed::Tcp(listener, at)
                    if address.is_some()
                        && admin.is_none()
                        && (socket.name.eq_ignore_ascii_case(ADMIN) || address == Some(at)) =>
                {
                    admin = Some(listener);
                }
                _ => others.push(socket),
            }
        }
        let front = front.bind(others)?;
        let admin = address.map(|address| taken_or_bound(admin, ADMIN, address)).transpose()?;
        Ok(Self { listeners: Vec::new(), admin, front: Some(front) })
    }

    /// The sockets as the runtime has them.
    pub(super) fn into_runtime(self) -> Result<InRuntime, ServerError> {
        let mut bound = Vec::with_capacity(self.listeners.len());
        for (name, socket, configuration) in self.listeners {
            let address = address_of(&socket, &name)?;
            let failed = |source| ServerError::Bind { name: name.to_string(), address, source };
            let listener = Listener::from_std(socket).map_err(failed)?;
            bound.push(Bound { name, address, listener, configuration });
        }
        let front = self.front;
        let Some(socket) = self.admin else { return Ok((bound, None, front)) };
        let address = address_of(&socket, ADMIN)?;
        let failed = |source| ServerError::Bind { name: ADMIN.to_owned(), address, source };
        socket.set_nonblocking(true).map_err(failed)?;
        let listener = tokio::net::TcpListener::from_std(socket).map_err(failed)?;
        Ok((bound, Some((address, listener)), front))
    }
}

/// A listener that is bound and not yet served.
pub(super) struct Bound {
    pub(super) name: Box<str>,
    pub(super) address: SocketAddr,
    pub(super) listener: Listener,
    pub(super) configuration: Arc<Configuration>,
}

pub(super) type Admin = (SocketAddr, tokio::net::TcpListener);

/// Listeners, the page of metrics, front ends.
type InRuntime = (Vec<Bound>, Option<Admin>, Option<front::Bound>);

fn taken_or_bound(
    inherited: Option<TcpListener>,
    name: &str,
    address: SocketAddr,
) -> Result<TcpListener, ServerError> {
    if let Some(socket) = inherited {
        return Ok(socket);
    }
    let failed = |source| ServerError::Bind { name: name.to_owned(), address, source };
    Listener::bound(address).map_err(failed)
}

fn address_of(socket: &TcpListener, name: &str) -> Result<SocketAddr, ServerError> {
    socket.local_addr().map_err(|source| ServerError::Bind {
        name: name.to_owned(),
        address: SocketAddr::from(([0, 0, 0, 0], 0)),
        source,
    })
}

/// What a listener offers, with its certificate. Reads files.
pub(super) fn configuration(
    policy: &Policy,
    listener: &ListenerSettings,
    base: &Path,
) -> Result<Configuration, ServerError> {
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
    Ok(configuration_with(policy, listener, tls))
}

/// The same with a certificate that is in memory.
pub(super) fn configuration_with(
    policy: &Policy,
    listener: &ListenerSettings,
    tls: Tls,
) -> Configuration {
    let server = &policy.server;
    let mut settings = Settings::new(server.hostname.clone());
    settings.limits.message_size = server.limits.message_size;
    settings.limits.recipients = server.limits.recipients;
    settings.timeouts.command = server.timeouts.command;
    settings.timeouts.data = server.timeouts.data;
    let relays = listener.role != ListenerRole::Mx;
    if relays && !matches!(tls, Tls::Off) {
        settings.auth = AuthOffer::InsideTls;
    }
    let trusted = TrustedProxies {
        proxy_protocol: server.proxy_protocol_from.clone(),
        xclient: server.xclient_from.clone(),
    };
    Configuration::new(settings, tls, listener.role).with_trusted(trusted)
}
