//! How often a client may fail to authenticate (D6).

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use waypost_types::{Reply, Timestamp};

use super::network::network;

/// Why a client is not authenticated. The same words for every user, and for names that nobody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoginRefusal {
    /// The password is not that of the user, or there is no such user.
    #[error("User and password do not belong together; correct them and try again (D6)")]
    WrongCredentials,
    /// The password cannot be checked at the moment.
    #[error("The password cannot be checked now; try again later (D6)")]
    Unchecked,
    /// The client has failed too often.
    #[error(
        "your address failed to authenticate {limit} times within {} minutes, the limit; correct \
         the password and try again in {} minutes (D6)",
        minutes(*.window), minutes(*.wait)
    )]
    TooManyFailures {
        /// The limit.
        limit: u32,
        /// Within this time.
        window: Duration,
        /// How long from now the oldest failure counts.
        wait: Duration,
    },
    /// More clients than can be told apart fail to authenticate.
    #[error("too many different clients fail to authenticate; try again later (D6)")]
    TooManyClients,
}

impl LoginRefusal {
    /// The reply to AUTH: `535 5.7.8`, or `454 4.7.0` where it says nothing about the password, so that
    /// a client keeps its mail and tries again (RFC 4954 section 6).
    #[must_use]
    pub fn reply(self) -> Reply {
        match self {
            LoginRefusal::WrongCredentials => Reply::new(535, (5, 7, 8), &self.to_string()),
            _ => Reply::new(454, (4, 7, 0), &self.to_string()),
        }
    }
}

fn minutes(span: Duration) -> u64 {
    span.as_secs().div_ceil(60)
}

/// Counts failed logins by client, as [`ClientLimits`](super::ClientLimits) counts connections: an IPv4
/// address, or the /64 of an IPv6 one.
///
/// An attempt counts as failed from its beginning until it succeeds, so attempts at the same time do
/// not get past the limit together; a success takes back nothing but itself. A failure counts for the
/// window and up to a sixth of it longer. Memory: one small entry for each client that failed within
/// that time, at most 2^17.
#[derive(Debug)]
pub(super) struct LoginLimits {
    limit: u32,
    window: Duration,
    clients: HashMap<IpAddr, Failures>,
    swept: Timestamp,
}

const MOST_CLIENTS: usize = 1 << 17;
const SLOTS: usize = 7;
/// Slots that make up a window; the newest one beside them has only begun.
const WHOLE_SLOTS: u64 = 6;

/// Failures by slot of a sixth of the window, the newest first.
#[derive(Debug, Default)]
struct Failures {
    slots: [u32; SLOTS],
    newest: u64,
}

impl Failures {
    fn count(&mut self, slot: u64) -> u32 {
        let passed = usize::try_from(slot.saturating_sub(self.newest)).unwrap_or(SLOTS).min(SLOTS);
        self.slots.rotate_right(passed);
        self.slots.iter_mut().take(passed).for_each(|count| *count = 0);
        self.newest = self.newest.max(slot);
        self.slots.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The slot with which the oldest failures have left.
    fn free_again(&self) -> u64 {
        let oldest = self.slots.iter().rposition(|count| *count > 0).unwrap_or(0);
        let left = u64::try_from(SLOTS - oldest).unwrap_or_default();
        self.newest.saturating_add(left)
    }
}

impl LoginLimits {
    pub(super) fn new(limit: u32, window: Duration) -> Self {
        Self { limit, window, clients: HashMap::new(), swept: Timestamp::default() }
    }

    /// Other limits from now on. With another window nothing is remembered.
    pub(super) fn set(&mut self, limit: u32, window: Duration) {
        self.limit = limit;
        if window != self.window {
            self.window = window;
            self.clients = HashMap::new();
        }
    }

    /// The length of a slot in milliseconds.
    fn slot(&self) -> u64 {
        u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX).div_ceil(WHOLE_SLOTS).max(1)
    }

    /// A client begins to authenticate; one that succeeds is to be [`LoginLimits::forgive`]n.
    pub(super) fn attempt(&mut self, now: Timestamp, client: IpAddr) -> Result<(), LoginRefusal> {
        let (limit, window, length) = (self.limit, self.window, self.slot());
        let slot = now.as_millis() / length;
        if now.since(self.swept) >= window {
            self.swept = now;
            self.clients.retain(|_, failures| failures.count(slot) > 0);
        }
        let client = network(client);
        if self.clients.len() >= MOST_CLIENTS && !self.clients.contains_key(&client) {
            return Err(LoginRefusal::TooManyClients);
        }
        let failures = self.clients.entry(client).or_default();
        if failures.count(slot) >= limit {
            let free = Timestamp::from_millis(failures.free_again().saturating_mul(length));
            return Err(LoginRefusal::TooManyFailures { limit, window, wait: free.since(now) });
        }
        let [newest, ..] = &mut failures.slots;
        *newest = newest.saturating_add(1);
        Ok(())
    }

    /// An attempt of a client succeeded, or could not be judged: it does not count.
    pub(super) fn forgive(&mut self, now: Timestamp, client: IpAddr) {
        let slot = now.as_millis() / self.slot();
        let Some(failures) = self.clients.get_mut(&network(client)) else { return };
        failures.count(slot);
        // The newest there is: it may have begun a slot ago.
        if let Some(count) = failures.slots.iter_mut().find(|count| **count > 0) {
            *count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(600);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_400_000) + Duration::from_secs(seconds)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn failures_are_counted_by_client_d6() {
        let mut logins = LoginLimits::new(2, WINDOW);
        for (second, client, want) in [
            (0, "192.0.2.1", true),
            (1, "::ffff:192.0.2.1", true),
            (2, "192.0.2.1", false),
            (2, "192.0.2.2", true),
            (2, "2001:db8::1", true),
            (2, "2001:db8::2", true),
            (2, "2001:db8::3", false),
            (2, "2001:db8:0:1::3", true),
            (599, "192.0.2.1", false),
            (701, "192.0.2.1", true),
        ] {
            let got = logins.attempt(at(second), ip(client));
            assert_eq!(got.is_ok(), want, "{second} {client}: {got:?}");
        }
        assert!(logins.attempt(at(5000), ip("192.0.2.9")).is_ok());
        assert_eq!(logins.clients.len(), 1, "those who were quiet are forgotten");
    }

    #[test]
    fn a_success_takes_back_nothing_but_itself_d6() {
        let mut logins = LoginLimits::new(3, WINDOW);
        let client = ip("192.0.2.1");
        for _ in 0..2 {
            logins.attempt(at(0), client).unwrap();
        }
        for second in 1..200 {
            logins.attempt(at(second), client).unwrap();
            logins.forgive(at(second), client);
        }
        logins.attempt(at(200), client).unwrap();
        assert!(logins.attempt(at(200), client).is_err(), "two old failures still count");
    }

    #[test]
    fn attempts_at_the_same_time_do_not_pass_together_d6() {
        let mut logins = LoginLimits::new(3, WINDOW);
        let begun = (0..10).filter(|_| logins.attempt(at(0), ip("192.0.2.1")).is_ok()).count();
        assert_eq!(begun, 3);
    }

    #[test]
    fn a_reply_says_when_to_come_back_d6() {
        let mut logins = LoginLimits::new(1, WINDOW);
        logins.attempt(at(0), ip("192.0.2.1")).unwrap();
        let refusal = logins.attempt(at(60), ip("192.0.2.1")).unwrap_err();
        let reply = refusal.reply().to_string();
        assert!(reply.starts_with("454 4.7.0 your address failed"), "{reply}");
        let LoginRefusal::TooManyFailures { wait, .. } = refusal else { panic!("{refusal:?}") };
        assert!(logins.attempt(at(60) + wait, ip("192.0.2.1")).is_ok(), "{wait:?}");
    }

    #[test]
    fn another_limit_holds_at_once_d6() {
        let mut logins = LoginLimits::new(1, WINDOW);
        let client = ip("192.0.2.1");
        logins.attempt(at(0), client).unwrap();
        assert!(logins.attempt(at(1), client).is_err());
        logins.set(2, WINDOW);
        assert!(logins.attempt(at(1), client).is_ok());
        logins.set(2, WINDOW * 2);
        assert!(logins.attempt(at(1), client).is_ok());
        for window in [Duration::ZERO, Duration::MAX] {
            logins.set(1, window);
            let _ = (logins.attempt(at(1), client), logins.forgive(at(1), client));
        }
    }

    proptest! {
        /// Against a log of all attempts: never more failures within any true window than the limit.
        #[test]
        fn agrees_with_a_log_d6(steps in prop::collection::vec((0..200u64, 0..3u8, any::<bool>()), 0..80)) {
            let mut logins = LoginLimits::new(3, WINDOW);
            let (mut second, mut failed) = (0, Vec::new());
            for (wait, last, succeeds) in steps {
                second += wait;
                let client = IpAddr::from([192, 0, 2, last]);
                let within = |span: u64| failed.iter()
                    .filter(|(then, who)| *who == client && second - *then < span).count();
                let (window, longest) = (within(600), within(700));
                match logins.attempt(at(second), client) {
                    Ok(()) if succeeds => {
                        prop_assert!(window < 3);
                        logins.forgive(at(second), client);
                    }
                    Ok(()) => {
                        prop_assert!(window < 3);
                        failed.push((second, client));
                    }
                    Err(_) => prop_assert!(longest >= 3),
                }
            }
        }
    }
}
