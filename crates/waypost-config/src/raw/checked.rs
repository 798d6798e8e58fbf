//! Leaves with a form of their own: ranges, patterns, password hashes, and words or addresses.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use regex::RegexBuilder;
use toml::de::DeValue;
use waypost_relay::{PasswordHash, PasswordHashError};
use waypost_types::Mailbox;

use super::keys::Form;
use super::leaf::{Fault, Leaf, quoted, short, text};

/// An address or range of addresses, as written; host bits may be set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Range(Box<str>);

impl Range {
    /// The address or range as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The range as written; an address is a range of one.
    pub(crate) fn net(&self) -> Option<IpNet> {
        self.0.parse().ok().or_else(|| self.0.parse::<IpAddr>().ok().map(IpNet::from))
    }
}

impl Leaf for Range {
    const EXPECTED: &'static str = "an IP address or a range";
    const EXAMPLE: &'static str = "\"203.0.113.0/28\"";

    fn form() -> Form {
        Form::Matching("^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$")
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        let text = text(value)?;
        if text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok() {
            return Ok(Range(text.into()));
        }
        Err(Fault::Value {
            message: format!("`{}` is no IP address and no range", short(text)),
            cure: Some("write \"192.0.2.1\", \"203.0.113.0/28\" or \"2001:db8::/64\"".into()),
        })
    }

    fn to_toml(&self) -> String {
        quoted(&self.0)
    }
}

/// The longest pattern, in octets, that is only parsed if it repeats nothing a given number of times: a class
/// of all letters takes some 10 KiB compiled, and no text this long names more than 40 of them.
const HARMLESS: usize = 120;

/// A regular expression that compiles within the size limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// The expression as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Leaf for Pattern {
    const EXPECTED: &'static str = "a regular expression";
    const EXAMPLE: &'static str = "'@example\\.com$'";

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        let text = text(value)?;
        // Compiling is what takes time where there are thousands; and only what is long, or repeats a
        // given number of times, can become too large.
        if !text.contains('{') && text.len() <= HARMLESS && regex_syntax::parse(text).is_ok() {
            return Ok(Self(text.into()));
        }
        let built = RegexBuilder::new(text).size_limit(1 << 20).dfa_size_limit(1 << 20).build();
        match built {
            Ok(_) => Ok(Self(text.into())),
            Err(regex::Error::CompiledTooBig(limit)) => Err(Fault::Value {
                message: format!("the expression compiles to more than {limit} octets"),
                cure: Some("use smaller repetitions, or several entries".into()),
            }),
            Err(error) => {
                // The last line says what is wrong; those above draw where.
                let error = error.to_string();
                let last = error.lines().last().unwrap_or("").trim_start_matches("error: ");
                Err(Fault::Value {
                    message: format!("`{}` is no regular expression: {last}", short(text)),
                    cure: Some(
                        "correct it; in single quotes a backslash needs no second one".into(),
                    ),
                })
            }
        }
    }

    fn to_toml(&self) -> String {
        quoted(&self.0)
    }
}

impl Leaf for PasswordHash {
    const EXPECTED: &'static str = "a password hash";
    const EXAMPLE: &'static str = "\"$argon2id$v=19$…\"";
    const SECRET: bool = true;

    fn form() -> Form {
        Form::Matching(r"^\$")
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        text(value)?.parse().map_err(|error| match error {
            PasswordHashError::Shape => Fault::Value {
                message: "this is no password hash".into(),
                cure: Some(
                    "never write a password in clear text; `waypost hash-password` makes a hash"
                        .into(),
                ),
            },
            // A hash, but not one that can be checked; the error shows nothing of it and has the cure.
            error => Fault::Value { message: error.to_string(), cure: None },
        })
    }

    fn to_toml(&self) -> String {
        quoted("…")
    }

    fn secret(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// `dns`: which servers answer DNS questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsServers {
    /// Those that the system uses.
    System,
    /// These.
    Servers(Vec<SocketAddr>),
}

impl Leaf for DnsServers {
    const EXPECTED: &'static str = "\"system\" or a list of server addresses";
    const EXAMPLE: &'static str = "[\"192.0.2.53\"]";

    fn form() -> Form {
        const SERVER: Form = Form::Matching(r"^[0-9A-Fa-f.:]+$|^\[[^\]]+\]:[0-9]+$");
        Form::Either(vec![Form::Words(vec!["system"]), Form::List(&SERVER)])
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        let wrong = |text: &str| Fault::Value {
            message: format!("`{}` names no DNS server", short(text)),
            cure: Some("write \"system\", or addresses such as [\"192.0.2.53\"]".into()),
        };
        let Some(list) = value.as_array() else {
            let text = text(value)?;
            return if text == "system" { Ok(DnsServers::System) } else { Err(wrong(text)) };
        };
        let mut servers = Vec::new();
        for node in list.iter() {
            let text = text(node.get_ref())?;
            let ip = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
            servers.push(ip.or_else(|_| text.parse()).map_err(|_| wrong(text))?);
        }
        if servers.is_empty() {
            return Err(wrong("[]"));
        }
        Ok(DnsServers::Servers(servers))
    }

    fn to_toml(&self) -> String {
        match self {
            DnsServers::System => quoted("system"),
            DnsServers::Servers(list) => {
                let list: Vec<_> = list.iter().map(|server| quoted(&server.to_string())).collect();
                format!("[{}]", list.join(", "))
            }
        }
    }
}

/// `tls_check`: how often the TLS of the routes' hosts is tested (A8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsCheck {
    /// Never.
    Off,
    /// Once in such a span.
    Every(Duration),
}

impl Leaf for TlsCheck {
    const EXPECTED: &'static str = "a span of time or \"off\"";
    const EXAMPLE: &'static str = "\"1d\"";

    fn form() -> Form {
        Form::Either(vec![Form::Words(vec!["off"]), Duration::form()])
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        if value.as_str() == Some("off") {
            return Ok(TlsCheck::Off);
        }
        let cure = || Some("write a span such as \"1d\", or \"off\"".to_owned());
        match Duration::from_value(value) {
            Ok(span) if !span.is_zero() => Ok(TlsCheck::Every(span)),
            Ok(_) => {
                let message = "a test every no time at all never rests".to_owned();
                Err(Fault::Value { message, cure: cure() })
            }
            Err(Fault::Value { message, .. }) => Err(Fault::Value { message, cure: cure() }),
            Err(fault) => Err(fault),
        }
    }

    fn to_toml(&self) -> String {
        match self {
            TlsCheck::Off => quoted("off"),
            TlsCheck::Every(span) => span.to_toml(),
        }
    }
}

/// `copy_to` of a relay entry (D16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyTo {
    /// The mailbox of the sender.
    SenderMailbox,
    /// An archive.
    Address(Mailbox),
}

impl Leaf for CopyTo {
    const EXPECTED: &'static str = "\"sender-mailbox\" or an address";
    const EXAMPLE: &'static str = "\"sender-mailbox\"";

    fn form() -> Form {
        Form::Either(vec![Form::Words(vec!["sender-mailbox"]), Mailbox::form()])
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        match text(value)? {
            "sender-mailbox" => Ok(CopyTo::SenderMailbox),
            text => text.parse().map(CopyTo::Address).map_err(Fault::value),
        }
    }

    fn to_toml(&self) -> String {
        match self {
            CopyTo::SenderMailbox => quoted("sender-mailbox"),
            CopyTo::Address(mailbox) => quoted(&mailbox.to_string()),
        }
    }
}
