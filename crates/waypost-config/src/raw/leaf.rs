//! Single values of the format: what they are, how they are read, how a default is shown.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use toml::de::DeValue;
use waypost_types::{Domain, Host, HostPort, Mailbox, OrgUnit, ReversePath, RouteName};

use super::keys::Form;
use super::reader::{listed, nearest};
use crate::{duration, size::Size};

/// Why a value is not what a key takes.
pub(crate) enum Fault {
    /// It is of another type.
    Type,
    /// It is of the right type and breaks a rule.
    Value {
        /// What is wrong: names the input.
        message: String,
        /// What to do; the key's example if there is nothing better to say.
        cure: Option<String>,
    },
}

impl Fault {
    pub(super) fn value(message: impl std::fmt::Display) -> Self {
        Fault::Value { message: message.to_string(), cure: None }
    }
}

/// A single value.
pub(crate) trait Leaf: Sized {
    /// What is expected, in words: "a port, 1 to 65535".
    const EXPECTED: &'static str;
    /// An example as TOML text.
    const EXAMPLE: &'static str;
    /// The text may be a secret, and is never shown.
    const SECRET: bool = false;

    /// The words to choose from, if it is a choice.
    fn words() -> Vec<&'static str> {
        Vec::new()
    }

    /// What it looks like, for the schema: at least what is read.
    fn form() -> Form {
        Form::Text
    }

    /// Reads it.
    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault>;

    /// As TOML text, for the reference and for differences.
    fn to_toml(&self) -> String;

    /// What tells it from others, where `to_toml` hides it.
    fn secret(&self) -> Option<String> {
        None
    }
}

/// A choice of words.
pub(crate) trait Words: Copy + PartialEq + 'static {
    /// What the choice is, in words: "a protocol".
    const EXPECTED: &'static str;
    /// An example as TOML text.
    const EXAMPLE: &'static str;
    /// Each word and its meaning.
    const WORDS: &'static [(&'static str, Self)];
}

impl<T: Words> Leaf for T {
    const EXPECTED: &'static str = T::EXPECTED;
    const EXAMPLE: &'static str = T::EXAMPLE;

    fn words() -> Vec<&'static str> {
        T::WORDS.iter().map(|(word, _)| *word).collect()
    }

    fn form() -> Form {
        Form::Words(Self::words())
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        let text = text(value)?;
        if let Some((_, meaning)) = T::WORDS.iter().find(|(word, _)| *word == text) {
            return Ok(*meaning);
        }
        let words = Self::words();
        let near = nearest(text, &words).map(|near| format!("did you mean `{near}`? "));
        Err(Fault::Value {
            message: format!("`{}` is not {}", short(text), T::EXPECTED),
            cure: Some(format!("{}write one of {}", near.unwrap_or_default(), listed(&words))),
        })
    }

    fn to_toml(&self) -> String {
        let word = T::WORDS.iter().find(|(_, meaning)| meaning == self);
        format!("\"{}\"", word.map_or("", |(word, _)| word))
    }
}

pub(super) fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, Fault> {
    value.as_str().ok_or(Fault::Type)
}

fn integer(value: &DeValue<'_>) -> Result<i64, Fault> {
    let found = value.as_integer().ok_or(Fault::Type)?;
    i64::from_str_radix(found.as_str(), found.radix())
        .map_err(|_| Fault::value(format_args!("{found} does not fit 64 bits")))
}

fn whole(value: &DeValue<'_>, most: u64) -> Result<u64, Fault> {
    let found = integer(value)?;
    u64::try_from(found).ok().filter(|found| *found <= most).ok_or_else(|| {
        Fault::value(format_args!("{found} is out of range; 0 to {most} is allowed"))
    })
}

/// A text for a message: bounded.
pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(80) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or("")),
    }
}

/// TOML text of a string, for the reference.
pub(super) fn quoted(text: &str) -> String {
    if !text.contains(['\\', '"']) {
        return ["\"", text, "\""].concat();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl Leaf for String {
    const EXPECTED: &'static str = "text";
    const EXAMPLE: &'static str = "\"text\"";

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        text(value).map(str::to_owned)
    }

    fn to_toml(&self) -> String {
        quoted(self)
    }
}

impl Leaf for bool {
    const EXPECTED: &'static str = "`true` or `false`";
    const EXAMPLE: &'static str = "true";

    fn form() -> Form {
        Form::Flag
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        value.as_bool().ok_or(Fault::Type)
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl Leaf for u64 {
    const EXPECTED: &'static str = "a whole number";
    const EXAMPLE: &'static str = "100";

    fn form() -> Form {
        Form::Whole(0, i64::MAX.unsigned_abs())
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        whole(value, i64::MAX.unsigned_abs())
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl Leaf for f64 {
    const EXPECTED: &'static str = "a number";
    const EXAMPLE: &'static str = "0.5";

    fn form() -> Form {
        Form::Number
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        if value.is_integer() {
            // Exact enough: a limit for a score.
            return integer(value)?.to_string().parse().map_err(|_| Fault::Type);
        }
        let float = value.as_float().ok_or(Fault::Type)?;
        let number = float.as_str().parse::<f64>().ok().filter(|number| number.is_finite());
        number.ok_or_else(|| Fault::value(format_args!("{float} is no finite number")))
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl Leaf for u32 {
    const EXPECTED: &'static str = "a whole number";
    const EXAMPLE: &'static str = "100";

    fn form() -> Form {
        Form::Whole(0, u32::MAX.into())
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        u32::try_from(whole(value, u32::MAX.into())?).map_err(|_| Fault::Type)
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

/// A TCP port, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port(pub u16);

impl Leaf for Port {
    const EXPECTED: &'static str = "a port, 1 to 65535";
    const EXAMPLE: &'static str = "25";

    fn form() -> Form {
        Form::Whole(1, 65_535)
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        let found = integer(value)?;
        u16::try_from(found)
            .ok()
            .filter(|port| *port != 0)
            .map(Port)
            .ok_or_else(|| Fault::value(format_args!("{found} is no port; 1 to 65535 is allowed")))
    }

    fn to_toml(&self) -> String {
        self.0.to_string()
    }
}

impl Leaf for Duration {
    const EXPECTED: &'static str = "a span of time";
    const EXAMPLE: &'static str = "\"5m\"";

    fn form() -> Form {
        Form::Matching("^[0-9]+ ?(ms|s|m|h|d)$")
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        let cure = "write one whole number and a unit, such as \"30s\", \"5m\", \"4h\" or \"5d\"";
        if let Some(number) = value.as_integer() {
            return Err(Fault::Value {
                message: format!("{number} has no unit"),
                cure: Some(format!("{cure}: perhaps \"{number}s\"")),
            });
        }
        let text = text(value)?;
        duration::parse(text).ok_or_else(|| Fault::Value {
            message: format!("`{}` is no span of time up to 3650d", short(text)),
            cure: Some(cure.into()),
        })
    }

    fn to_toml(&self) -> String {
        quoted(&duration::show(*self))
    }
}

impl Leaf for Size {
    const EXPECTED: &'static str = "a size";
    const EXAMPLE: &'static str = "\"50MiB\"";

    fn form() -> Form {
        let text = Form::Matching("^[0-9]+ ?([Kk][Ii]?|[Mm][Ii]?|[Gg][Ii]?)?[Bb]$");
        Form::Either(vec![Form::Whole(0, i64::MAX.unsigned_abs()), text])
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        if value.is_integer() {
            return whole(value, i64::MAX.unsigned_abs()).map(Size);
        }
        let text = text(value)?;
        Size::parse(text).ok_or_else(|| Fault::Value {
            message: format!("`{}` is no size", short(text)),
            cure: Some(
                "write a whole number and a unit, such as \"50MiB\", or a number of bytes".into(),
            ),
        })
    }

    fn to_toml(&self) -> String {
        quoted(&self.show())
    }
}

/// The fault of a text that does not parse; the error's own words if they name the text.
fn not_parsed(text: &str, expected: &str, error: &dyn std::fmt::Display) -> Fault {
    let error = error.to_string();
    if !text.is_empty() && error.contains(text) {
        return Fault::value(error);
    }
    Fault::value(format_args!("`{}` is not {expected}: {error}", short(text)))
}

/// Defines leaves that are parsed from text by `FromStr`, whose errors name input and rule.
macro_rules! parsed_from_text {
    ($($type:ty, $expected:literal, $example:literal, $form:literal;)+) => { $(
        impl Leaf for $type {
            const EXPECTED: &'static str = $expected;
            const EXAMPLE: &'static str = $example;

            fn form() -> Form {
                Form::Matching($form)
            }

            fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
                let text = text(value)?;
                text.parse().map_err(|error| not_parsed(text, $expected, &error))
            }

            fn to_toml(&self) -> String {
                quoted(&self.to_string())
            }
        }
    )+ };
}

parsed_from_text! {
    Domain, "a domain", "\"example.com\"", r"^[^\s@/:]+$";
    Host, "a host name or IP address", "\"mail.example.com\"", r"^[^\s@/]+$";
    IpAddr, "an IP address", "\"192.0.2.1\"", "^[0-9A-Fa-f.:]+$";
    Mailbox, "a mailbox", "\"marie@example.com\"", "^.+@.+$";
    OrgUnit, "the path of an organizational unit", "\"/sales\"", "^/";
    RouteName, "the name of a route", "\"exchange\"", r"\S";
    SocketAddr, "an IP address with a port", "\"127.0.0.1:25\"", r"^(\[[^\]]+\]|[0-9.]+):[0-9]+$";
}

impl Leaf for HostPort {
    const EXPECTED: &'static str = "a host, with or without a port";
    const EXAMPLE: &'static str = "\"smarthost.example.com:587\"";

    fn form() -> Form {
        Form::Matching(r"^\S+$")
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        HostPort::parse_or(text(value)?, 25).map_err(Fault::value)
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Leaf for ReversePath {
    const EXPECTED: &'static str = "an envelope sender";
    const EXAMPLE: &'static str = "\"someone@example.com\"";

    fn form() -> Form {
        Form::Matching("^$|^<>$|@")
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        match text(value)? {
            "" | "<>" => Ok(ReversePath::Null),
            text => text.parse().map(ReversePath::Mailbox).map_err(Fault::value),
        }
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
}

/// A share of a tier's mail in percent, 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Load(pub u8);

impl Leaf for Load {
    const EXPECTED: &'static str = "a whole percentage, 0 to 100";
    const EXAMPLE: &'static str = "100";

    fn form() -> Form {
        Form::Whole(0, 100)
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        let found = integer(value)?;
        u8::try_from(found)
            .ok()
            .filter(|load| *load <= 100)
            .map(Load)
            .ok_or_else(|| Fault::value(format_args!("{found} is no load; 0 to 100 is allowed")))
    }

    fn to_toml(&self) -> String {
        self.0.to_string()
    }
}
