//! Where quotas are shared (O5).

use std::fmt;

use toml::de::DeValue;

use super::keys::Form;
use super::leaf::{Fault, Leaf, quoted, text};

/// `redis`: the address of a server. It may hold a password, so it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisAddress(Box<str>);

impl RedisAddress {
    /// The address as written, with its password.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisAddress(..)")
    }
}

impl Leaf for RedisAddress {
    const EXPECTED: &'static str = "the address of a Redis or Valkey server";
    const EXAMPLE: &'static str = "\"redis://127.0.0.1:6379\"";
    const SECRET: bool = true;

    fn form() -> Form {
        Form::Matching(r"^(rediss?://|redis\+unix:///)[^#]+$")
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        let text = text(value)?;
        match is_address(text) {
            true => Ok(Self(text.into())),
            false => Err(Fault::Value {
                message: "this is no address of a Redis server".into(),
                cure: Some(
                    "write `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, `rediss://…` for TLS, \
                     or `redis+unix:///PATH`"
                        .into(),
                ),
            }),
        }
    }

    fn to_toml(&self) -> String {
        quoted("…")
    }

    fn secret(&self) -> Option<String> {
        Some(self.0.to_string())
    }
}

fn is_address(text: &str) -> bool {
    if text.contains(|c: char| c == '#' || c.is_whitespace() || c.is_control()) {
        return false;
    }
    if let Some(path) = text.strip_prefix("redis+unix://") {
        return path.len() > 1 && path.starts_with('/');
    }
    let Some(rest) = text.strip_prefix("redis://").or_else(|| text.strip_prefix("rediss://"))
    else {
        return false;
    };
    let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
    let host = place.rsplit_once('@').map_or(place, |(_, host)| host);
    // The colons of an IPv6 address stand in brackets.
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (host, None),
    };
    !host.is_empty()
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
        && (database.is_empty() || database.parse::<u16>().is_ok())
}

/// `redis_prefix`: what the names of all keys begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisPrefix(Box<str>);

impl RedisPrefix {
    pub(super) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The prefix.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Leaf for RedisPrefix {
    const EXPECTED: &'static str = "a prefix of keys";
    const EXAMPLE: &'static str = "\"waypost\"";

    fn form() -> Form {
        Form::Matching("^[A-Za-z0-9._:-]{1,64}$")
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        let text = text(value)?;
        let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"._:-".contains(&octet);
        match (1..=64).contains(&text.len()) && text.bytes().all(is_plain) {
            true => Ok(Self::new(text)),
            false => Err(Fault::Value {
                message: "this is no prefix of keys".into(),
                cure: Some("use 1 to 64 letters, digits, `.`, `_`, `-` and `:`".into()),
            }),
        }
    }

    fn to_toml(&self) -> String {
        quoted(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_o5() {
        for (text, want) in [
            ("redis://127.0.0.1", true),
            ("redis://127.0.0.1:6379/2", true),
            ("redis://redis.solarmora.com", true),
            ("redis://[2001:db8::1]", true),
            ("redis://[2001:db8::1]:6380", true),
            ("redis://user:p@ss@redis.solarmora.com:6379", true),
            ("rediss://:secret@redis.solarmora.com", true),
            ("redis+unix:///run/redis/redis.sock", true),
            ("redis+unix:///run/redis.sock?db=1&pass=secret", true),
            ("redis+unix://", false),
            ("redis+unix://run/redis.sock", false),
            ("redis://", false),
            ("redis://:6379", false),
            ("redis://host:0", false),
            ("redis://host:secret", false),
            ("redis://host/two", false),
            ("redis://ho st", false),
            ("rediss://host/#insecure", false),
            ("valkey://host", false),
            ("127.0.0.1:6379", false),
            ("", false),
        ] {
            assert_eq!(is_address(text), want, "{text}");
        }
    }
}
