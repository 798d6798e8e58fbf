//! Places that connections hold, of limits that all listeners share.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use waypost_types::Timestamp;

use super::client_limits::ClientLimits;
use super::connection_limits::ConnectionRefusal;

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
    use std::time::Duration;

    use super::*;
    use crate::server::{ConnectionLimits, ConnectionTotals};

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000) + Duration::from_secs(seconds)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
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
        assert_eq!(shared.lock().open_by_clients(), 0);
        let want = ConnectionTotals {
            accepted: 4,
            refused_per_client: 2,
            refused_total: 1,
            ..ConnectionTotals::default()
        };
        assert_eq!(shared.lock().totals(), want);
    }
}
