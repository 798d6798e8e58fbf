//! What bounds the connections of clients, and why one is refused (D15).

use std::time::Duration;

use waypost_types::Reply;

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
