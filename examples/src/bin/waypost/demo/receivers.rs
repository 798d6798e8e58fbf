//! The systems around the gateway: real SMTP servers that keep what they receive.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use waypost_net::server::{
    ClientLimits, Configuration, ConnectionLimits, Handler, Listener, Mail, SharedLimits, Stopper,
    Tls, stop_signal,
};
use waypost_net::tls::server_config;
use waypost_smtp::end_of_data::{Data, unstuff};
use waypost_smtp::server::{ResetCause, Settings};
use waypost_types::{ListenerRole, Recipient, Reply, Session};

use super::input;
use crate::answer::Failure;

/// Who receives mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum System {
    /// Where users' mailboxes are.
    Mailboxes,
    /// The second system of a split delivery.
    Second,
    /// The outbound gateway.
    SmartHost,
    /// The standby of a route with two hosts.
    Standby,
}

/// A system with its names.
pub(super) struct Described {
    pub(super) system: System,
    /// For people.
    pub(super) name: &'static str,
    /// In the configuration and on its certificate.
    pub(super) host: &'static str,
}

/// All systems.
pub(super) const SYSTEMS: [Described; 4] = [
    Described { system: System::Mailboxes, name: "mailbox system", host: "mailboxes.demo.example" },
    Described { system: System::Second, name: "second system", host: "second.demo.example" },
    Described { system: System::SmartHost, name: "smart host", host: "smarthost.demo.example" },
    Described { system: System::Standby, name: "standby host", host: "standby.demo.example" },
];

impl System {
    pub(super) fn name(self) -> &'static str {
        SYSTEMS.iter().find(|one| one.system == self).map_or("?", |one| one.name)
    }
}

/// One message for one recipient, as a system received it.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) system: System,
    pub(super) recipient: String,
    pub(super) message: String,
    pub(super) at: Instant,
}

/// What all systems received.
#[derive(Default)]
struct Post {
    arrivals: Mutex<Vec<Arrival>>,
    changed: Notify,
}

impl Post {
    fn lock(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The systems, running.
pub(super) struct Receivers {
    post: Arc<Post>,
    running: Vec<(System, SocketAddr, JoinHandle<()>)>,
    stopper: Stopper,
    // Kept, so that the servers' settings stay what they are.
    _configurations: Vec<watch::Sender<Arc<Configuration>>>,
}

impl Receivers {
    /// Starts all systems, each with a certificate for its host name signed by `ca.pem` in `folder`;
    /// makes the gateway's certificate too.
    pub(super) async fn start(folder: &Path) -> Result<Self, Failure> {
        make_certificates(folder)?;
        let post = Arc::new(Post::default());
        let (stopper, stop) = stop_signal();
        let limits = SharedLimits::new(ClientLimits::new(ConnectionLimits::default()));
        let (mut running, mut configurations) = (Vec::new(), Vec::new());
        for Described { system, host, .. } in &SYSTEMS {
            let (certificate, key) =
                (folder.join(format!("{host}.pem")), folder.join(format!("{host}.key")));
            let tls = server_config(&certificate, &key)
                .map_err(|error| input("a certificate is of no use", error))?;
            let name = host.parse().map_err(|error| input("a host name is wrong", error))?;
            let settings = Settings::new(name);
            let configuration = Configuration::new(settings, Tls::StartTls(tls), ListenerRole::Mx);
            let (sender, receiver) = watch::channel(Arc::new(configuration));
            let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
                .map_err(|error| input("no port is free", error))?;
            let address = listener.local_addr().map_err(|error| input("no port is free", error))?;
            let (system, post) = (*system, Arc::clone(&post));
            let make = move || Mailroom { system, post: Arc::clone(&post), recipients: vec![] };
            let serve = listener.serve(receiver, limits.clone(), make, stop.clone());
            running.push((system, address, tokio::spawn(serve)));
            configurations.push(sender);
        }
        Ok(Self { post, running, stopper, _configurations: configurations })
    }

    /// The port of a system.
    pub(super) fn port(&self, wanted: System) -> u16 {
        let found = self.running.iter().find(|(system, ..)| *system == wanted);
        found.map_or(0, |(_, address, _)| address.port())
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        self.running.iter().map(|(system, address, _)| (system.name(), *address))
    }

    /// Everything received so far.
    pub(super) fn arrivals(&self) -> Vec<Arrival> {
        self.post.lock().clone()
    }

    /// Waits until so many messages with a mark have come, or the time is up.
    pub(super) async fn wait_for(&self, mark: &str, count: usize, patience: Duration) {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let changed = self.post.changed.notified();
            let here = self.post.lock().iter().filter(|a| a.message.contains(mark)).count();
            if here >= count || tokio::time::timeout_at(deadline, changed).await.is_err() {
                return;
            }
        }
    }

    pub(super) async fn stop(self) {
        self.stopper.stop(Duration::from_secs(1));
        for (_, _, task) in self.running {
            let _ = task.await;
        }
    }
}

/// One connection to a system.
struct Mailroom {
    system: System,
    post: Arc<Post>,
    recipients: Vec<String>,
}

impl Handler for Mailroom {
    async fn mail(&mut self, _session: &Session, _mail: Mail) -> Result<(), Reply> {
        self.recipients.clear();
        Ok(())
    }

    async fn rcpt(&mut self, _session: &Session, recipient: Recipient) -> Result<(), Reply> {
        self.recipients.push(recipient.address.to_string());
        Ok(())
    }

    async fn reset(&mut self, _session: &Session, _cause: ResetCause) {
        self.recipients.clear();
    }

    async fn message(&mut self, _session: &Session, data: Data) -> Reply {
        let message = String::from_utf8_lossy(&unstuff(&data.stuffed)).into_owned();
        let at = Instant::now();
        for recipient in self.recipients.drain(..) {
            let system = self.system;
            self.post.lock().push(Arrival { system, recipient, message: message.clone(), at });
        }
        self.post.changed.notify_waiters();
        Reply::new(250, (2, 0, 0), "Kept")
    }
}

fn make_certificates(folder: &Path) -> Result<(), Failure> {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    let failed = |error: &dyn std::fmt::Display| input("no certificate can be made", error);
    let write = |name: String, text: String| {
        std::fs::write(folder.join(name), text).map_err(|error| failed(&error))
    };
    let key = KeyPair::generate().map_err(|error| failed(&error))?;
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&key).map_err(|error| failed(&error))?;
    write("ca.pem".to_owned(), root.pem())?;
    let issuer = Issuer::new(authority, key);
    let hosts = SYSTEMS.iter().map(|system| system.host).chain(["gateway.demo.example"]);
    for host in hosts {
        let key = KeyPair::generate().map_err(|error| failed(&error))?;
        let named = CertificateParams::new([host.to_owned()]).map_err(|error| failed(&error))?;
        let signed = named.signed_by(&key, &issuer).map_err(|error| failed(&error))?;
        write(format!("{host}.pem"), signed.pem())?;
        write(format!("{host}.key"), key.serialize_pem())?;
    }
    Ok(())
}
