//! The names of the keys in Redis.

use std::fmt::Write;

/// The keys of an organization. Its name stands in braces, so that in a cluster they are all in one
/// slot; octets other than letters, digits, `.`, `_` and `-` stand as `%` and two digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    stem: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str, organization: &str) -> Self {
        let mut stem = format!("{prefix}:{{");
        for octet in organization.bytes() {
            match octet {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => {
                    stem.push(char::from(octet));
                }
                _ => {
                    let _ = write!(stem, "%{octet:02X}");
                }
            }
        }
        stem.push_str("}:");
        Self { stem }
    }

    /// A key that there is once.
    pub(crate) fn one(&self, what: &str) -> String {
        format!("{}{what}", self.stem)
    }

    /// A key that there is for each of many.
    pub(crate) fn named(&self, what: &str, name: &str) -> String {
        format!("{}{what}:{name}", self.stem)
    }

    pub(crate) fn leases(&self) -> String {
        self.one("leases")
    }

    /// What the ids of messages under way are appended to.
    pub(crate) fn messages(&self) -> String {
        self.named("message", "")
    }

    pub(crate) fn mark(&self, node: &str) -> String {
        self.named("node", node)
    }

    pub(crate) fn told(&self, node: &str) -> String {
        self.named("told", node)
    }
}

/// Where the key of the digests is kept.
pub(crate) fn digest_key(prefix: &str) -> String {
    format!("{prefix}:key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_organization_has_one_slot_whatever_its_name() {
        for (name, want) in [
            ("Solarmora", "waypost:{Solarmora}:day"),
            ("a b\n{c}", "waypost:{a%20b%0A%7Bc%7D}:day"),
            ("Müller", "waypost:{M%C3%BCller}:day"),
            ("", "waypost:{}:day"),
        ] {
            assert_eq!(Keys::new("waypost", name).one("day"), want);
        }
        let keys = Keys::new("p", "S");
        assert_eq!(keys.messages(), "p:{S}:message:");
        assert_eq!(keys.mark("n"), "p:{S}:node:n");
        assert_eq!(keys.told("n"), "p:{S}:told:n");
        assert_eq!(digest_key("p"), "p:key");
    }
}
