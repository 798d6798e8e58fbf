//! How many connections a client may have, and make (D15).

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use waypost_types::Timestamp;

use super::connection_limits::{ConnectionLimits, ConnectionRefusal};
use super::login_limits::{LoginLimits, LoginRefusal};
use super::minute::Minute;
use super::network::{around, network};

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

const MOST_CLIENTS: usize = 1 << 20;
const SWEEP: Duration = Duration::from_secs(60);

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
        let surroundings = around(client);
        let client = network(client);
        if self.clients.len() >= MOST_CLIENTS && !self.clients.contains_key(&client) {
            return Err(ConnectionRefusal::TooManyClients);
        }
        let client = self.clients.entry(client).or_default();
        if client.open >= per_client {
            return Err(ConnectionRefusal::PerClient { limit: per_client });
        }
        if self.networks.get(&surroundings).is_some_and(|open| *open >= per_network) {
            return Err(ConnectionRefusal::PerNetwork { limit: per_network });
        }
        if !client.connections.add(now, per_client_per_minute) {
            return Err(ConnectionRefusal::TooOften { limit: per_client_per_minute });
        }
        client.open += 1;
        *self.networks.entry(surroundings).or_default() += 1;
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

    /// One connection less of a client, which stays one of all.
    pub(super) fn remove(&mut self, client: IpAddr) {
        if let Some(client) = self.clients.get_mut(&network(client)) {
            client.open = client.open.saturating_sub(1);
        }
        let surroundings = around(client);
        if let Some(open) = self.networks.get_mut(&surroundings) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                self.networks.remove(&surroundings);
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

    /// A connected client said HELO with a generic name ([`is_generic_hello`](super::is_generic_hello)).
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

    #[cfg(test)]
    pub(super) fn open_by_clients(&self) -> u32 {
        self.clients.values().map(|client| client.open).sum()
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
