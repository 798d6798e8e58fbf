//! What is written, as data: the shape that all tables of the format share.

use std::borrow::Cow;
use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

/// A value as it is written. Keys that are not written, or written with their default, are absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Tree {
    /// A value, as TOML text.
    #[serde(rename = "v")]
    Value(Box<str>),
    /// A value that nobody is to see: enough of it to tell that it changed.
    #[serde(rename = "s")]
    Secret(u64),
    /// Values in order.
    #[serde(rename = "l")]
    List(Vec<Tree>),
    /// Keys in the order of the format.
    #[serde(rename = "t")]
    Table(Vec<(Cow<'static, str>, Tree)>),
}

impl Default for Tree {
    fn default() -> Self {
        Self::Table(Vec::new())
    }
}

impl Tree {
    /// A value that nobody is to see.
    pub(crate) fn secret(text: &str) -> Self {
        let mut hasher = SipHasher13::new();
        hasher.write(text.as_bytes());
        Self::Secret(hasher.finish())
    }

    pub(super) fn fields(&self) -> &[(Cow<'static, str>, Tree)] {
        match self {
            Self::Table(fields) => fields,
            _ => &[],
        }
    }

    pub(super) fn items(&self) -> &[Tree] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    pub(super) fn field(&self, name: &str) -> Option<&Tree> {
        self.fields().iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The text of a value under a key.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.field(name) {
            Some(Self::Value(text)) => Some(text),
            _ => None,
        }
    }

    /// Takes users and groups out of the organizations: they are looked at by address, wherever they
    /// are written.
    pub(super) fn without_accounts(&mut self) {
        let Self::Table(fields) = self else { return };
        for (key, value) in fields {
            let Self::List(organizations) = value else { continue };
            if key == "organization" {
                for organization in organizations {
                    let Self::Table(fields) = organization else { continue };
                    fields.retain(|(key, _)| !matches!(&**key, "user" | "group"));
                }
            }
        }
    }

    /// As one line of TOML, roughly `most` octets at most.
    pub(super) fn inline(&self, most: usize) -> String {
        let mut out = String::new();
        self.write(&mut out, most);
        out
    }

    fn write(&self, out: &mut String, most: usize) {
        if out.len() > most {
            return;
        }
        match self {
            Self::Value(text) => out.push_str(text),
            Self::Secret(_) => out.push_str("(hidden)"),
            Self::List(items) => {
                out.push('[');
                for (place, item) in items.iter().enumerate().take_while(|(at, _)| *at <= most) {
                    out.push_str(if place > 0 { ", " } else { "" });
                    item.write(out, most);
                }
                out.push(']');
            }
            Self::Table(fields) => {
                out.push_str("{ ");
                for (place, (key, value)) in fields.iter().enumerate() {
                    out.push_str(if place > 0 { ", " } else { "" });
                    out.push_str(key);
                    out.push_str(" = ");
                    value.write(out, most);
                }
                out.push_str(" }");
            }
        }
    }
}

/// A name in quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}
