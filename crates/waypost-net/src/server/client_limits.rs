//! How many connections a client may have, and make (D15).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use waypost_types::{Domain, Reply, Timestamp};

use super::login_limits::{LoginLimits, LoginRefusal};

/// Limits across the connections of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Open connections of all clients; 10,000 by default.
    pub total: usize,
    /// Open connections of one client; 100 by default.
    pub per_client: u32,
    /// Open connections of one network: an IPv4 /24, an IPv6 /48; 1,000 by default.
    pub per_network: u32,
    /// Connections that a client makes within a minute; messages do not count. 600 by default.
    pub per_client_per_minute: u32,
    /// As above, for connections that say HELO with a generic name (D15); 10 by default.
    pub generic_hello_per_minute: u32,
    /// Failed logins of one client within the next one (D6); 20 by default.
    pub login_failures: u32,
    /// How long a failed login counts; 15 minutes by default.
    pub login_failure_window: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            total: 10_000,
            per_client: 100,
            per_network: 1000,
            per_client_per_minute: 600,
            generic_hello_per_minute: 10,
            login_failures: 20,
            login_failure_window: Duration::from_secs(15 * 60),
        }
    }
}

/// Why a connection is not served; the client can come back later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionRefusal {
    /// All places are taken.
    #[error("the server has {limit} connections open, its limit; try again later (D15)")]
    Total {
        /// The limit.
        limit: usize,
    },
    /// The client has too many connections open.
    #[error(
        "your address has {limit} connections open, the limit; close some or use them again (D15)"
    )]
    PerClient {
        /// The limit.
        limit: u32,
    },
    /// The client's network has too many connections open.
    #[error(
        "your network has {limit} connections open, the limit; close some or use them again (D15)"
    )]
    PerNetwork {
        /// The limit.
        limit: u32,
    },
    /// The client connects too often.
    #[error(
        "your address made {limit} connections within a minute, the limit; send more messages \
         over one connection (D15)"
    )]
    TooOften {
        /// The limit.
        limit: u32,
    },
    /// The client connects too often under a name that anyone could use.
    #[error(
        "your address made {limit} connections within a minute under the name localhost, ours, one \
         without a dot or in localdomain, the limit; give your own full name in EHLO (D15)"
    )]
    GenericHello {
        /// The limit.
        limit: u32,
    },
    /// More clients than can be told apart came within a minute.
    #[error("too many different clients connect; try again in a minute (D15)")]
    TooManyClients,
}

impl ConnectionRefusal {
    /// The reply to the client: `421 4.7.0` and the reason.
    #[must_use]
    pub fn reply(self) -> Reply {
        Reply::new(421, (4, 7, 0), &self.to_string())
    }
}

/// Connections since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionTotals {
    /// Admitted.
    pub accepted: u64,
    /// Refused for [`ConnectionRefusal::Total`].
    pub refused_total: u64,
    /// Refused for [`ConnectionRefusal::PerClient`].
    pub refused_per_client: u64,
    /// Refused for [`ConnectionRefusal::PerNetwork`].
    pub refused_per_network: u64,
    /// Refused for [`ConnectionRefusal::TooOften`].
    pub refused_too_often: u64,
    /// Refused for [`ConnectionRefusal::TooManyClients`].
    pub refused_too_many_clients: u64,
}

/// Counts connections by client, an IPv4 address or the /64 of an IPv6 one, and by network, an IPv4 /24
/// or an IPv6 /48: who has one network has all its addresses. Counts failed logins by client too.
///
/// Times come in; they need not be exact, but must not go back. Memory: one small entry for each
/// client with an open connection or one within the last minute, at most 2^20; one for each network
/// with an open connection; one for each client with a failed login, at most 2^17.
#[derive(Debug)]
pub struct ClientLimits {
    limits: ConnectionLimits,
    open: usize,
    clients: HashMap<IpAddr, Client>,
    /// Open connections by network.
    networks: HashMap<IpAddr, u32>,
    logins: LoginLimits,
    swept: Timestamp,
    totals: ConnectionTotals,
}

#[derive(Debug, Default)]
struct Client {
    open: u32,
    connections: Minute,
    generic_hellos: Minute,
}

/// Counts within the last minute, in slots of ten seconds: for up to ten seconds too long, never too
/// short.
#[derive(Debug, Default)]
struct Minute {
    slots: [u32; SLOTS],
    /// The number of the newest slot since 1970.
    newest: u64,
}

const SLOTS: usize = 7;
const SLOT_MILLIS: u64 = 10_000;
const MOST_CLIENTS: usize = 1 << 20;
const SWEEP: Duration = Duration::from_secs(60);

impl Minute {
    fn count(&mut self, now: Timestamp) -> u32 {
        let slot = now.as_millis() / SLOT_MILLIS;
        let passed = usize::try_from(slot.saturating_sub(self.newest)).unwrap_or(SLOTS).min(SLOTS);
        self.slots.rotate_right(passed);
        self.slots.iter_mut().take(passed).for_each(|count| *count = 0);
        self.newest = self.newest.max(slot);
        self.slots.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Adds one, unless that would be beyond the limit.
    fn add(&mut self, now: Timestamp, limit: u32) -> bool {
        let room = self.count(now) < limit;
        let [newest, ..] = &mut self.slots;
        *newest = newest.saturating_add(u32::from(room));
        room
    }
}

impl ClientLimits {
    /// No connection yet.
    #[must_use]
    pub fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            open: 0,
            clients: HashMap::new(),
            networks: HashMap::new(),
            logins: LoginLimits::new(limits.login_failures, limits.login_failure_window),
            swept: Timestamp::default(),
            totals: ConnectionTotals::default(),
        }
    }

    /// Other limits from now on; what is open stays open.
    pub fn set_limits(&mut self, limits: ConnectionLimits) {
        self.logins.set(limits.login_failures, limits.login_failure_window);
        self.limits = limits;
    }

    /// Open connections of all clients.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// How many connections were admitted and refused so far.
    #[must_use]
    pub fn totals(&self) -> ConnectionTotals {
        self.totals
    }

    /// A client connects; each success is to be followed by one [`ClientLimits::disconnect`].
    ///
    /// # Errors
    /// [`ConnectionRefusal`]; a refused connection counts for nothing.
    pub fn connect(&mut self, now: Timestamp, client: IpAddr) -> Result<(), ConnectionRefusal> {
        let admitted = self.room().and_then(|()| self.add(now, client));
        self.count(&admitted);
        self.open += usize::from(admitted.is_ok());
        admitted
    }

    /// A proxy connects, which will say for whom: its connection takes a place of all, and none of a
    /// client's. Each success is to be followed by one [`ClientLimits::disconnect_proxy`], or by
    /// [`ClientLimits::announce`] and then [`ClientLimits::disconnect`].
    ///
    /// # Errors
    /// [`ConnectionRefusal::Total`] when all places are taken.
    pub fn connect_proxy(&mut self) -> Result<(), ConnectionRefusal> {
        let admitted = self.room();
        self.count(&admitted);
        self.open += usize::from(admitted.is_ok());
        admitted
    }

    /// A proxy says for which client an open connection is, or for which other one than `before`.
    ///
    /// # Errors
    /// [`ConnectionRefusal`], counted as that of any connection, though this one was counted as
    /// admitted; it then counts for no client, and [`ClientLimits::disconnect_proxy`] ends it.
    pub fn announce(
        &mut self,
        now: Timestamp,
        before: Option<IpAddr>,
        client: IpAddr,
    ) -> Result<(), ConnectionRefusal> {
        if let Some(before) = before {
            self.remove(before);
        }
        let admitted = self.add(now, client);
        if admitted.is_err() {
            self.count(&admitted);
        }
        admitted
    }

    fn count(&mut self, admitted: &Result<(), ConnectionRefusal>) {
        let totals = &mut self.totals;
        *match admitted {
            Ok(()) => &mut totals.accepted,
            Err(ConnectionRefusal::Total { .. }) => &mut totals.refused_total,
            Err(ConnectionRefusal::PerClient { .. }) => &mut totals.refused_per_client,
            Err(ConnectionRefusal::PerNetwork { .. }) => &mut totals.refused_per_network,
            Err(ConnectionRefusal::TooOften { .. }) => &mut totals.refused_too_often,
            Err(_) => &mut totals.refused_too_many_clients,
        } += 1;
    }

    fn room(&self) -> Result<(), ConnectionRefusal> {
        let limit = self.limits.total;
        if self.open < limit { Ok(()) } else { Err(ConnectionRefusal::Total { limit }) }
    }

    /// One connection more of a client.
    fn add(&mut self, now: Timestamp, client: IpAddr) -> Result<(), ConnectionRefusal> {
        let ConnectionLimits { per_client, per_network, per_client_per_minute, .. } = self.limits;
        if now.since(self.swept) >= SWEEP {
            self.sweep(now);
        }
        let around = surroundings(client);
        let client = network(client);
        if self.clients.len() >= MOST_CLIENTS && !self.clients.contains_key(&client) {
            return Err(ConnectionRefusal::TooManyClients);
        }
        let client = self.clients.entry(client).or_default();
        if client.open >= per_client {
            return Err(ConnectionRefusal::PerClient { limit: per_client });
        }
        if self.networks.get(&around).is_some_and(|open| *open >= per_network) {
            return Err(ConnectionRefusal::PerNetwork { limit: per_network });
        }
        if !client.connections.add(now, per_client_per_minute) {
            return Err(ConnectionRefusal::TooOften { limit: per_client_per_minute });
        }
        client.open += 1;
        *self.networks.entry(around).or_default() += 1;
        Ok(())
    }

    /// A connection that was admitted has ended.
    pub fn disconnect(&mut self, client: IpAddr) {
        self.disconnect_proxy();
        self.remove(client);
    }

    /// A connection of a proxy that counted for no client has ended.
    pub fn disconnect_proxy(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    fn remove(&mut self, client: IpAddr) {
        if let Some(client) = self.clients.get_mut(&network(client)) {
            client.open = client.open.saturating_sub(1);
        }
        let around = surroundings(client);
        if let Some(open) = self.networks.get_mut(&around) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                self.networks.remove(&around);
            }
        }
    }

    /// A client begins to authenticate: it counts as one that fails, until
    /// [`ClientLimits::login_does_not_count`].
    ///
    /// # Errors
    /// [`LoginRefusal::TooManyFailures`] when it failed too often; nothing is to be checked then.
    pub fn attempt_login(&mut self, now: Timestamp, client: IpAddr) -> Result<(), LoginRefusal> {
        self.logins.attempt(now, client)
    }

    /// An attempt succeeded, or could not be judged.
    pub fn login_does_not_count(&mut self, now: Timestamp, client: IpAddr) {
        self.logins.forgive(now, client);
    }

    /// A connected client said HELO with a generic name ([`is_generic_hello`]).
    ///
    /// # Errors
    /// [`ConnectionRefusal::GenericHello`] when it does so too often.
    pub fn generic_hello(
        &mut self,
        now: Timestamp,
        client: IpAddr,
    ) -> Result<(), ConnectionRefusal> {
        let limit = self.limits.generic_hello_per_minute;
        let Some(client) = self.clients.get_mut(&network(client)) else { return Ok(()) };
        if client.generic_hellos.add(now, limit) {
            Ok(())
        } else {
            Err(ConnectionRefusal::GenericHello { limit })
        }
    }

    /// Forgets clients that have nothing open and did nothing within a minute.
    fn sweep(&mut self, now: Timestamp) {
        self.swept = now;
        self.clients.retain(|_, client| {
            client.open > 0
                || client.connections.count(now) > 0
                || client.generic_hellos.count(now) > 0
        });
    }
}

/// Whether a HELO name says nothing about its user (D15).
///
/// So does a name without a dot, such as `localhost`, one in `localhost` or `localdomain`, which a system
/// has that nobody named, and the server's own. An address literal does say something.
#[must_use]
pub fn is_generic_hello(name: &str, own: &Domain) -> bool {
    name.parse::<Domain>().is_ok_and(|name| {
        let last = name.as_str().rsplit('.').next();
        name.is_unqualified()
            || name == *own
            || last.is_some_and(|last| ["localhost", "localdomain"].contains(&last))
    })
}

/// What counts as one client.
pub(super) fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// What counts as one network.
fn surroundings(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
}

/// [`ClientLimits`] that all listeners of a server share.
#[derive(Clone, Debug)]
pub struct SharedLimits(Arc<Mutex<ClientLimits>>);

/// A place that an admitted connection holds; dropped, it is free again.
#[derive(Debug)]
pub struct Slot {
    limits: SharedLimits,
    /// For whom it counts; `None`: a proxy that has not said.
    client: Option<IpAddr>,
}

impl SharedLimits {
    /// Limits to share.
    #[must_use]
    pub fn new(limits: ClientLimits) -> Self {
        Self(Arc::new(Mutex::new(limits)))
    }

    /// The counts, locked for as long as the guard lives: do not hold it over an await.
    pub fn lock(&self) -> MutexGuard<'_, ClientLimits> {
        // A panic elsewhere leaves counts that are at worst one off: better than no server.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a connection for as long as the slot lives.
    ///
    /// # Errors
    /// As [`ClientLimits::connect`].
    pub fn admit(&self, now: Timestamp, client: IpAddr) -> Result<Slot, ConnectionRefusal> {
        self.lock().connect(now, client)?;
        Ok(Slot { limits: self.clone(), client: Some(client) })
    }

    /// Admits the connection of a proxy for as long as the slot lives.
    ///
    /// # Errors
    /// As [`ClientLimits::connect_proxy`].
    pub fn admit_proxy(&self) -> Result<Slot, ConnectionRefusal> {
        self.lock().connect_proxy()?;
        Ok(Slot { limits: self.clone(), client: None })
    }
}

impl Slot {
    /// The connection is that of this client from now on.
    ///
    /// # Errors
    /// As [`ClientLimits::announce`].
    pub fn announce(&mut self, now: Timestamp, client: IpAddr) -> Result<(), ConnectionRefusal> {
        let before = self.client.take();
        self.limits.lock().announce(now, before, client)?;
        self.client = Some(client);
        Ok(())
    }

    /// The connection counts for no client from now on, but still among all.
    pub fn withdraw(&mut self) {
        if let Some(client) = self.client.take() {
            self.limits.lock().remove(client);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut limits = self.limits.lock();
        match self.client {
            Some(client) => limits.disconnect(client),
            None => limits.disconnect_proxy(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000) + Duration::from_secs(seconds)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn open_connections_are_limited_by_client_and_in_all_d15() {
        let limits = ConnectionLimits { total: 3, per_client: 2, ..ConnectionLimits::default() };
        let mut clients = ClientLimits::new(limits);
        for (client, want) in [
            ("2001:db8::1", Ok(())),
            ("2001:db8::2", Ok(())),
            ("2001:db8::3", Err(ConnectionRefusal::PerClient { limit: 2 })),
            ("2001:db8:0:1::3", Ok(())),
            ("192.0.2.1", Err(ConnectionRefusal::Total { limit: 3 })),
        ] {
            assert_eq!(clients.connect(at(0), ip(client)), want, "{client}");
        }
        clients.disconnect(ip("2001:db8::1"));
        assert!(clients.connect(at(0), ip("::ffff:192.0.2.1")).is_ok());
        clients.disconnect(ip("192.0.2.1"));
        assert_eq!(clients.open(), 2);
        let want = ConnectionTotals {
            accepted: 4,
            refused_total: 1,
            refused_per_client: 1,
            ..ConnectionTotals::default()
        };
        assert_eq!(clients.totals(), want);
    }

    #[test]
    fn open_connections_are_limited_by_network_d15() {
        let limits =
            ConnectionLimits { per_client: 2, per_network: 3, ..ConnectionLimits::default() };
        let mut clients = ClientLimits::new(limits);
        let full = ConnectionRefusal::PerNetwork { limit: 3 };
        for (client, want) in [
            ("192.0.2.1", Ok(())),
            ("192.0.2.2", Ok(())),
            ("::ffff:192.0.2.255", Ok(())),
            ("192.0.2.3", Err(full)),
            ("192.0.3.3", Ok(())),
            ("2001:db8:1::1", Ok(())),
            ("2001:db8:1:1::1", Ok(())),
            ("2001:db8:1:ffff::1", Ok(())),
            ("2001:db8:1:2::1", Err(full)),
            ("2001:db8:2::1", Ok(())),
        ] {
            assert_eq!(clients.connect(at(0), ip(client)), want, "{client}");
        }
        assert_eq!(clients.totals().refused_per_network, 2);
        let reply = full.reply().to_string();
        assert!(reply.starts_with("421 4.7.0 your network has 3"), "{reply}");
        clients.disconnect(ip("192.0.2.1"));
        assert_eq!(clients.connect(at(0), ip("192.0.2.3")), Ok(()));
        for gone in ["192.0.2.2", "192.0.2.3", "192.0.2.255", "192.0.3.3"] {
            clients.disconnect(ip(gone));
        }
        assert_eq!(clients.networks.len(), 2, "networks without a connection are forgotten");
    }

    #[test]
    fn connections_a_minute_are_limited_d15() {
        let limits = ConnectionLimits {
            per_client_per_minute: 2,
            generic_hello_per_minute: 1,
            ..ConnectionLimits::default()
        };
        let mut clients = ClientLimits::new(limits);
        let client = ip("192.0.2.1");
        for (second, want) in
            [(0, true), (30, true), (31, false), (59, false), (70, true), (71, false)]
        {
            let got = clients.connect(at(second), client);
            assert_eq!(got.is_ok(), want, "{second}");
            if got.is_ok() {
                clients.disconnect(client);
            }
        }
        assert!(clients.generic_hello(at(71), client).is_ok());
        let refusal = clients.generic_hello(at(72), client).unwrap_err();
        let reply = refusal.reply().to_string();
        assert!(reply.starts_with("421 4.7.0 your address made 1"), "{reply}");
        assert!(reply.contains("localhost") && reply.ends_with("in EHLO (D15)"), "{reply}");
    }

    #[test]
    fn a_proxy_counts_for_the_clients_it_names_d15() {
        let limits = ConnectionLimits { total: 4, per_client: 1, ..ConnectionLimits::default() };
        let shared = SharedLimits::new(ClientLimits::new(limits));
        let refused = Err(ConnectionRefusal::PerClient { limit: 1 });
        let (one, two) = (ip("192.0.2.1"), ip("192.0.2.2"));
        let mut first = shared.admit_proxy().unwrap();
        let mut second = shared.admit_proxy().unwrap();
        let silent = shared.admit_proxy().unwrap();
        assert_eq!(first.announce(at(0), one), Ok(()));
        assert_eq!(first.announce(at(0), one), Ok(()), "itself is no other");
        assert_eq!(second.announce(at(0), one), refused);
        assert_eq!(shared.admit(at(0), one).err(), refused.err(), "with or without a proxy");
        assert_eq!(first.announce(at(0), two), Ok(()));
        assert_eq!(second.announce(at(0), one), Ok(()), "the place was given back");
        let fourth = shared.admit_proxy().unwrap();
        let full = ConnectionRefusal::Total { limit: 4 };
        assert_eq!(shared.admit_proxy().err(), Some(full));
        drop((first, second, silent, fourth));
        assert_eq!(shared.lock().open(), 0);
        assert!(shared.lock().clients.values().all(|client| client.open == 0));
        let want = ConnectionTotals {
            accepted: 4,
            refused_per_client: 2,
            refused_total: 1,
            ..ConnectionTotals::default()
        };
        assert_eq!(shared.lock().totals(), want);
    }

    #[test]
    fn generic_names_d15() {
        let own = "mx.solarmora.com".parse().unwrap();
        for (name, want) in [
            ("localhost", true),
            ("LOCALHOST.", true),
            ("localhost.localdomain", true),
            ("printer.localdomain", true),
            ("a.b.LocalDomain.", true),
            ("app.localhost", true),
            ("localdomain.solarmora.com", false),
            ("xlocaldomain.example", false),
            ("ylmf-pc", true),
            ("MX.Solarmora.com", true),
            ("mail.solarmora.com", false),
            ("[192.0.2.1]", false),
            ("192.0.2.1", false),
        ] {
            assert_eq!(is_generic_hello(name, &own), want, "{name}");
        }
    }

    #[test]
    fn forgotten_when_idle() {
        let mut clients = ClientLimits::new(ConnectionLimits::default());
        for last in 0..200 {
            let client = IpAddr::from([192, 0, 2, last]);
            clients.connect(at(0), client).unwrap();
            clients.disconnect(client);
        }
        clients.connect(at(200), ip("198.51.100.1")).unwrap();
        assert_eq!(clients.clients.len(), 1);
    }

    proptest! {
        /// Against a log of all connections: never above a limit within any true minute.
        #[test]
        fn agrees_with_a_log(steps in prop::collection::vec((0..20u64, 0..3u8, any::<bool>()), 0..80)) {
            let limits = ConnectionLimits {
                total: 4, per_client: 2, per_client_per_minute: 3, ..ConnectionLimits::default()
            };
            let mut clients = ClientLimits::new(limits);
            let (mut second, mut log, mut open) = (0, Vec::new(), Vec::new());
            for (wait, last, leave) in steps {
                second += wait;
                let client = IpAddr::from([192, 0, 2, last]);
                if leave {
                    if let Some(gone) = open.pop() {
                        clients.disconnect(gone);
                    }
                    continue;
                }
                let within = |span: u64| log.iter()
                    .filter(|(then, who)| *who == client && second - *then < span).count();
                let (minute, longest) = (within(60), within(71));
                let mine = open.iter().filter(|who| **who == client).count();
                let got = clients.connect(at(second), client);
                if got.is_ok() {
                    prop_assert!(open.len() < 4 && mine < 2 && minute < 3);
                    log.push((second, client));
                    open.push(client);
                } else {
                    prop_assert!(open.len() >= 4 || mine >= 2 || longest >= 3, "{:?}", got);
                }
            }
            prop_assert_eq!(clients.open(), open.len());
        }
    }
}
