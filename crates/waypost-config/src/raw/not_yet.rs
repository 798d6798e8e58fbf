//! Keys of the format that the running version does not act on yet: refused by name, never ignored.

use toml::de::DeValue;

use super::reader::Key;

/// A key that is refused unless it holds what this version does anyway.
pub(crate) struct NotYet {
    /// The path of the key.
    path: &'static str,
    /// The value that is allowed.
    pub(crate) allowed: Allowed,
    /// The requirement that the key serves.
    pub(crate) rule: &'static str,
}

/// What a key that is not supported yet may hold.
pub(crate) enum Allowed {
    /// Nothing: the key must be absent.
    Absent,
    /// This text.
    Text(&'static str),
    /// This number.
    Number(i64),
    /// An empty list.
    EmptyList,
}

impl Allowed {
    pub(crate) fn holds(&self, value: &DeValue<'_>) -> bool {
        match self {
            Allowed::Absent => false,
            Allowed::Text(text) => value.as_str() == Some(text),
            Allowed::Number(number) => value.as_integer().is_some_and(|found| {
                i64::from_str_radix(found.as_str(), found.radix()).ok() == Some(*number)
            }),
            Allowed::EmptyList => value.as_array().is_some_and(|list| list.is_empty()),
        }
    }

    pub(crate) fn cure(&self, name: &str) -> String {
        let default = match self {
            Allowed::Absent => return "remove it".into(),
            Allowed::Text(text) => format!("\"{text}\""),
            Allowed::Number(number) => number.to_string(),
            Allowed::EmptyList => "[]".into(),
        };
        format!("remove it, or write `{name} = {default}`, which is what this version does")
    }
}

const fn entry_of(path: &'static str, allowed: Allowed, rule: &'static str) -> NotYet {
    NotYet { path, allowed, rule }
}

/// The keys, by path. A key leaves the list when the version acts on it.
pub(crate) const NOT_YET: &[NotYet] = &[
    entry_of("server.filter", Allowed::Absent, "D17"),
    entry_of("organization.administrators", Allowed::EmptyList, "D17"),
    entry_of("organization.abuse_threshold", Allowed::Number(100), "D17"),
    entry_of("organization.over_limit", Allowed::Text("reject"), "D10"),
    entry_of("organization.relay.copy_to", Allowed::Absent, "D16"),
];

/// The entry of a key in a table, if there is one.
pub(crate) fn entry(name: &str, table: &Key<'_>) -> Option<&'static NotYet> {
    NOT_YET.iter().find(|entry| {
        entry.path.strip_suffix(name).is_some_and(|above| {
            above.strip_suffix('.').is_some_and(|above| above == table.to_string())
        })
    })
}

/// Whether a key is one that the running version does not act on, by path.
pub(crate) fn is_not_yet(path: &str) -> bool {
    NOT_YET.iter().any(|entry| entry.path == path)
}
