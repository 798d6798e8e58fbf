//! `filter`: who is asked about each message before it is accepted, by its address alone or with all
//! that can be said.

use std::time::Duration;

use toml::de::{DeTable, DeValue};
use waypost_types::HostPort;

use crate::difference::Tree;

use super::checked::Pattern;
use super::keys::{Form, Kind, table};
use super::leaf::{Fault, Leaf, Words, quoted, short, text};
use super::reader::{Key, Node, Read, Reader};

table! {
    /// A filter that is asked about each message before it is accepted; an address alone is its
    /// `address`.
    ///
    /// ```toml
    /// [server]
    /// hostname = "mx.solarmora.com"
    /// spool = "/var/lib/waypost"
    ///
    /// [server.filter]
    /// address = "milter:127.0.0.1:11332"
    /// timeout = "30s"
    /// on_failure = "accept"
    /// spam_tag = { regex = '^X-Spam-Score: (\d+(?:\.\d+)?)$', score_at_least = 8 }
    /// ```
    RawFilter {
        /// Where the filter listens: `milter:HOST:PORT`, or `milter:unix:PATH` with an absolute path.
        ///
        /// Example: `address = "milter:unix:/run/rspamd/milter.sock"`
        required address: FilterAddress, "D17";
        /// How long it may take for one message as a whole, waiting for a free connection included;
        /// more than nothing. The client waits for its reply so long.
        ///
        /// Example: `timeout = "30s"`
        default timeout: Duration = Duration::from_secs(60), "D17";
        /// What happens to a message while the filter gives no answer: `"defer"` refuses it for now
        /// with `451 4.7.1`, `"accept"` takes it as if the filter had found nothing.
        ///
        /// Example: `on_failure = "accept"`
        default on_failure: OnFilterFailure = OnFilterFailure::Defer, "D17";
        /// Connections to it at a time, each with one message; at least 1. Further messages wait.
        ///
        /// Example: `connections = 64`
        default connections: u64 = 64, "D17";
        /// What of its answer says spam: a line that matches, of the fields that it adds and of its
        /// answer itself, as `Reply: 550 5.7.1 TEXT` where it refuses and `Quarantine: REASON` where it
        /// wants the message held. A refusal that is neither spam nor malware is passed on as it is.
        /// Absent: `X-Spam: Yes` and its like, `X-Spam-Action` and `X-Rspamd-Action` other than none,
        /// and refusals with `5.7.1`, or with 550 or 554 and no enhanced code.
        ///
        /// Example: `spam_tag = { regex = '^X-Spam: Yes' }`
        optional spam_tag: RawFilterTag, "D17";
        /// The same for malware, which is asked first. Absent: `X-Virus: Yes`, `X-Virus-Status:
        /// Infected`, and answers that name a virus, malware, a trojan or an infection.
        ///
        /// Example: `malware_tag = { regex = '^X-Virus-Status: Infected' }`
        optional malware_tag: RawFilterTag, "D17";
        /// Which of its changes to the header are made: `"add"`, fields that it adds, on top, where they
        /// break no signature; `"all"`, it may also change and take away fields of the message.
        ///
        /// Example: `header = "add"`
        default header: FilterHeader = FilterHeader::Add, "B3";
    }
}

table! {
    /// What of a filter's answer says something: a line `Name: value` of a field that it adds, or its
    /// answer itself, `Reply: 550 5.7.1 TEXT` or `Quarantine: REASON`.
    ///
    /// ```toml
    /// [server]
    /// hostname = "mx.solarmora.com"
    /// spool = "/var/lib/waypost"
    ///
    /// [server.filter]
    /// address = "milter:127.0.0.1:11332"
    /// [server.filter.spam_tag]
    /// regex = '^X-Spam-Score: (\d+(?:\.\d+)?)$'
    /// score_at_least = 8
    /// ```
    RawFilterTag {
        /// Held against each line, unfolded, with case; `(?i)` in front leaves case out. With a score it
        /// has exactly one capture group; `(?:…)` captures nothing.
        ///
        /// Example: `regex = '(?i)^X-Spam: yes'`
        required regex: Pattern, "D17";
        /// It is so from this number on; the largest of several matches decides, and what is no number
        /// is no match. Absent: a match is enough.
        ///
        /// Example: `score_at_least = 8`
        optional score_at_least: f64, "D17";
    }
}

/// What happens to a message about which the filter says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnFilterFailure {
    /// It is refused for now.
    Defer,
    /// It is taken.
    Accept,
}

impl Words for OnFilterFailure {
    const EXPECTED: &'static str = "what to do while the filter gives no answer";
    const EXAMPLE: &'static str = "\"defer\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("defer", OnFilterFailure::Defer), ("accept", OnFilterFailure::Accept)];
}

/// Which changes to the header a filter may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FilterHeader {
    /// It may add fields.
    Add,
    /// It may also change fields and take them away.
    All,
}

impl Words for FilterHeader {
    const EXPECTED: &'static str = "the changes to the header that a filter may make";
    const EXAMPLE: &'static str = "\"add\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("add", FilterHeader::Add), ("all", FilterHeader::All)];
}

/// What a filter is supposed to say of a message, in a test of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FilterSays {
    /// It is spam.
    Spam,
    /// It is malware.
    Malware,
}

impl Words for FilterSays {
    const EXPECTED: &'static str = "something that a filter may say";
    const EXAMPLE: &'static str = "\"spam\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("spam", FilterSays::Spam), ("malware", FilterSays::Malware)];
}

/// Where a filter listens, as written: `milter:HOST:PORT` or `milter:unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FilterAddress(Box<str>);

impl FilterAddress {
    /// The address as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The longest path of a socket, in octets: what `sun_path` takes on Linux, without its NUL.
const MAX_PATH: usize = 107;

impl Leaf for FilterAddress {
    const EXPECTED: &'static str = "the address of a filter";
    const EXAMPLE: &'static str = "\"milter:127.0.0.1:11332\"";

    fn form() -> Form {
        Form::Matching("^milter:.")
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        let text = text(value)?;
        let wrong = |message: String| {
            let cure =
                "write \"milter:127.0.0.1:11332\" or \"milter:unix:/run/rspamd/milter.sock\"";
            Fault::Value { message, cure: Some(cure.into()) }
        };
        let Some(at) = text.strip_prefix("milter:") else {
            return Err(wrong(format!("`{}` is no filter", short(text))));
        };
        if let Some(path) = at.strip_prefix("unix:") {
            if !path.starts_with('/') || path.len() > MAX_PATH || path.contains('\0') {
                let message = format!(
                    "`{}` is no absolute path of a socket, of at most {MAX_PATH} octets",
                    short(path)
                );
                return Err(wrong(message));
            }
            return Ok(Self(text.into()));
        }
        match HostPort::parse_or(at, 0) {
            Ok(host) if host.port != 0 => Ok(Self(text.into())),
            Ok(_) => Err(wrong(format!("`{}` has no port", short(text)))),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    fn to_toml(&self) -> String {
        quoted(&self.0)
    }
}

/// The value of `filter`.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter(pub RawFilter);

impl Read for Filter {
    fn kind() -> Kind {
        RawFilter::kind()
    }

    fn read(node: &Node<'_>, at: &Key<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::String(address) = node.get_ref() else {
            return RawFilter::read(node, at, reader).map(Self);
        };
        let mut table = DeTable::new();
        table.insert(
            toml::Spanned::new(node.span(), "address".into()),
            toml::Spanned::new(node.span(), DeValue::String(address.clone())),
        );
        let table = toml::Spanned::new(node.span(), DeValue::Table(table));
        RawFilter::read(&table, at, reader).map(Self)
    }

    fn tree(&self) -> Tree {
        self.0.tree()
    }
}
