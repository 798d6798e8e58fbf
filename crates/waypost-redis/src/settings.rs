//! How a shared ledger is reached.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
};

use crate::tls::{Tls, TlsFiles};

/// Where Redis or Valkey is, and how long things may take.
#[derive(Clone)]
pub struct Settings {
    place: ConnectionAddr,
    credentials: RedisConnectionInfo,
    tls: Option<Arc<Tls>>,
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
    /// What TLS needs.
    #[error("TLS to Redis cannot be set up: {0}")]
    Tls(String),
}

impl Settings {
    /// For the server at `address` and the node with this name, which is to be the same after a
    /// restart, and another one for each node. Nothing is sent yet. A `rediss://` address trusts what
    /// the system trusts, and the certificate must be for its host.
    ///
    /// # Errors
    /// [`SettingsError`] when the address is none of Redis, or the prefix is not 1 to 64 plain
    /// characters, or when there is to be TLS and the system trusts nobody.
    pub fn new(address: &str, prefix: &str, node: [u8; 16]) -> Result<Self, SettingsError> {
        Self::with_tls(address, prefix, node, &TlsFiles::default())
    }

    /// As [`Settings::new`], for a `rediss://` address with an authority of one's own, or to a server
    /// that asks for a certificate. Reads the files.
    ///
    /// # Errors
    /// As [`Settings::new`], and for a file that is of no use, or that is given without `rediss://`.
    pub fn with_tls(
        address: &str,
        prefix: &str,
        node: [u8; 16],
        files: &TlsFiles,
    ) -> Result<Self, SettingsError> {
        let (info, secure) = parse(address)?;
        let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"._-:".contains(&octet);
        if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(is_plain) {
            return Err(SettingsError::Prefix(prefix.into()));
        }
        let tls = match info.addr() {
            ConnectionAddr::Tcp(host, _) if secure => Some(Arc::new(Tls::new(host, files)?)),
            _ if *files != TlsFiles::default() => {
                let why = "files for it are given, and the address begins with another scheme; write `rediss://`, or remove them";
                return Err(SettingsError::Tls(why.into()));
            }
            _ => None,
        };
        Ok(Self {
            place: info.addr().clone(),
            // The older protocol has all that is asked, with every server.
            credentials: info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2),
            tls,
            prefix: prefix.into(),
            node: format!("{:032x}", u128::from_be_bytes(node)),
            timeout: Duration::from_millis(500),
            lease: Duration::from_secs(60),
            waiting: 65_536,
        })
    }

    pub(crate) fn place(&self) -> &ConnectionAddr {
        &self.place
    }

    pub(crate) fn credentials(&self) -> &RedisConnectionInfo {
        &self.credentials
    }

    pub(crate) fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    /// What no text may show.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let Self { credentials, .. } = self;
        credentials.password().into_iter().chain(credentials.username()).map(Into::into).collect()
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn node(&self) -> &str {
        &self.node
    }
}

/// An address, and whether it asks for TLS.
fn parse(address: &str) -> Result<(ConnectionInfo, bool), SettingsError> {
    // A fragment asks for TLS that trusts anybody; that is not for passwords and quotas.
    if address.contains('#') {
        return Err(SettingsError::Address("it has a fragment".into()));
    }
    let (scheme, rest) = address.split_once("://").unwrap_or_default();
    // TLS is set up here, so the library is shown an address without.
    let (scheme, secure) = match scheme {
        "redis" | "redis+unix" => (scheme, false),
        "rediss" => ("redis", true),
        _ => return Err(SettingsError::Address("its scheme is another one".into())),
    };
    let info = format!("{scheme}://{rest}").into_connection_info().map_err(|error| {
        // Without details, which might quote the address.
        SettingsError::Address(error.category().to_owned())
    })?;
    Ok((info, secure))
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
            assert!(!told.contains("secret") && !told.contains("user:"), "{told}");
        }
    }

    #[test]
    fn files_for_tls_need_an_address_with_tls_o5() {
        let files = TlsFiles { ca: Some("ca.pem".into()), identity: None };
        for address in ["redis://127.0.0.1", "redis+unix:///run/redis.sock"] {
            let error = Settings::with_tls(address, "w", [0; 16], &files).unwrap_err();
            assert!(error.to_string().contains("write `rediss://`"), "{error}");
        }
        let error = Settings::with_tls("rediss://127.0.0.1", "w", [0; 16], &files).unwrap_err();
        assert!(error.to_string().contains("`ca.pem` cannot be read"), "{error}");
    }
}
