//! How a shared ledger is reached.

use std::fmt;
use std::time::Duration;

use redis::Client;

/// Where Redis or Valkey is, and how long things may take.
#[derive(Clone)]
pub struct Settings {
    client: Client,
    prefix: String,
    node: String,
    /// How long a call may take before Redis counts as gone; no session waits longer. Default 500 ms.
    pub timeout: Duration,
    /// How long a node's reservations stand that it does not renew. Default one minute; at least a
    /// few times `timeout`. It is renewed after a third of it.
    pub lease: Duration,
    /// How many commits wait in memory while Redis does not answer; what is beyond comes from the
    /// node's [`History`](crate::History) later. Default 65,536.
    pub waiting: usize,
}

/// Settings that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The address; it is not shown, since it may hold a password.
    #[error(
        "the address of Redis is none: {0}; write `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, `rediss://…` for TLS, or `redis+unix:///PATH`"
    )]
    Address(String),
    /// The prefix of the keys.
    #[error(
        "`{0}` is no prefix of keys; use 1 to 64 letters, digits, `.`, `_`, `-` or `:`, and no `{{`"
    )]
    Prefix(String),
}

impl Settings {
    /// For the server at `address` and the node with this name, which is to be the same after a
    /// restart, and another one for each node. Nothing is sent yet.
    ///
    /// # Errors
    /// [`SettingsError`] when the address is none of Redis, or the prefix is not 1 to 64 plain
    /// characters.
    pub fn new(address: &str, prefix: &str, node: [u8; 16]) -> Result<Self, SettingsError> {
        let wrong = |error: redis::RedisError| {
            // Without details, which might quote the address.
            SettingsError::Address(error.category().to_owned())
        };
        // A fragment asks for TLS that trusts anybody; that is not for passwords and quotas.
        if address.contains('#') {
            return Err(SettingsError::Address("it has a fragment".into()));
        }
        let scheme = address.split_once("://").map(|(scheme, _)| scheme);
        if !matches!(scheme, Some("redis" | "rediss" | "redis+unix")) {
            return Err(SettingsError::Address("its scheme is another one".into()));
        }
        let client = Client::open(address).map_err(wrong)?;
        let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"._-:".contains(&octet);
        if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(is_plain) {
            return Err(SettingsError::Prefix(prefix.into()));
        }
        Ok(Self {
            client,
            prefix: prefix.into(),
            node: format!("{:032x}", u128::from_be_bytes(node)),
            timeout: Duration::from_millis(500),
            lease: Duration::from_secs(60),
            waiting: 65_536,
        })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn node(&self) -> &str {
        &self.node
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the address, which may hold a password.
        let Self { prefix, node, timeout, lease, waiting, .. } = self;
        f.debug_struct("Settings")
            .field("prefix", prefix)
            .field("node", node)
            .field("timeout", timeout)
            .field("lease", lease)
            .field("waiting", waiting)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_prefixes_o5() {
        for (address, prefix, good) in [
            ("redis://127.0.0.1", "waypost", true),
            ("redis://127.0.0.1:6379/2", "waypost:a", true),
            ("redis://user:secret@redis.solarmora.com:6379", "w", true),
            ("rediss://:secret@redis.solarmora.com", "w", true),
            ("redis+unix:///run/redis/redis.sock", "w", true),
            ("redis+unix:///run/redis.sock?db=1&pass=secret", "w", true),
            ("rediss://redis.solarmora.com#insecure", "w", false),
            ("http://127.0.0.1", "w", false),
            ("127.0.0.1:6379", "w", false),
            ("redis://", "w", false),
            ("redis://host:secret", "w", false),
            ("redis://127.0.0.1", "", false),
            ("redis://127.0.0.1", "a b", false),
            ("redis://127.0.0.1", "{a}", false),
        ] {
            let got = Settings::new(address, prefix, [0; 16]);
            assert_eq!(got.is_ok(), good, "{address} {prefix} {got:?}");
            let told = got.map_or_else(|error| error.to_string(), |fine| format!("{fine:?}"));
            assert!(!told.contains("secret"), "{told}");
        }
    }
}
