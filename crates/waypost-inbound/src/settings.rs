//! The settings of an inbound gateway, as a configuration writes them.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;

use ipnet::IpNet;

use crate::admission::{RejectCode, Switch};
use crate::public::{DOCUMENTATION, PublicAddresses};
use crate::ranges::canonical;
use crate::tag::TagError;

/// The table `[organization.inbound_gateway]` in plain types; [`Default`] gives its defaults.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct GatewaySettings {
    /// The gateways: addresses or CIDR ranges, public ones (E1). None: no gateway is configured.
    pub addresses: Vec<String>,
    /// Look for the first external address (E4) instead of one hop back (E5); off by default.
    pub detect_external_ip: bool,
    /// Stop at a line that is not understood (E4); off by default.
    pub strict: bool,
    /// Accept gateway addresses that are not public (E1); off by default.
    pub allow_private: bool,
    /// Count the documentation ranges as public (E6); on by default.
    pub documentation_ranges_public: bool,
    /// Refuse gateways in clear text (E8); off by default.
    pub require_tls: Switch,
    /// Refuse clients that are no gateway (E7); off by default.
    pub reject_other_clients: Switch,
    /// With which code (E7); `550 5.7.1` by default.
    pub reject_code: RejectCode,
    /// Addresses or CIDR ranges whose mail passes the spam filter, by source IP (E11).
    pub allow_list: Vec<String>,
    /// How a gateway marks spam (E9).
    pub spam_tag: Option<SpamTagSettings>,
    /// Let the tag alone decide about mail from the gateways (E10); off by default.
    pub only_spam_tag: bool,
}

/// A spam tag: an expression, and the number its group must reach (E9).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct SpamTagSettings {
    /// The expression.
    pub regex: String,
    /// The limit; absent: a match is spam.
    #[cfg_attr(feature = "serde", serde(default))]
    pub score_at_least: Option<f64>,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            detect_external_ip: false,
            strict: false,
            allow_private: false,
            documentation_ranges_public: true,
            require_tls: Switch::Off,
            reject_other_clients: Switch::Off,
            reject_code: RejectCode::Permanent,
            allow_list: Vec::new(),
            spam_tag: None,
            only_spam_tag: false,
        }
    }
}

/// A setting that breaks a rule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{setting}: {kind}")]
pub struct GatewayError {
    /// Which setting.
    pub setting: Setting,
    /// What is wrong with it.
    #[source]
    pub kind: GatewayErrorKind,
}

/// All settings that break a rule, in the order of the settings; never empty. Its text has a line for each.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayErrors(Vec<GatewayError>);

impl GatewayErrors {
    pub(crate) fn of(errors: Vec<GatewayError>) -> Option<Self> {
        (!errors.is_empty()).then_some(Self(errors))
    }
}

impl fmt::Display for GatewayErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            let between = if i > 0 { "\n" } else { "" };
            write!(f, "{between}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for GatewayErrors {}

impl Deref for GatewayErrors {
    type Target = [GatewayError];

    fn deref(&self) -> &[GatewayError] {
        &self.0
    }
}

impl IntoIterator for GatewayErrors {
    type Item = GatewayError;
    type IntoIter = std::vec::IntoIter<GatewayError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The setting an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Setting {
    /// `addresses`, and which of them, counted from 0.
    #[error("addresses[{0}]")]
    Address(usize),
    /// `allow_list`, and which of its entries, counted from 0.
    #[error("allow_list[{0}]")]
    AllowListEntry(usize),
    /// `spam_tag`.
    #[error("spam_tag")]
    SpamTag,
    /// `only_spam_tag`.
    #[error("only_spam_tag")]
    OnlySpamTag,
    /// `reject_other_clients`.
    #[error("reject_other_clients")]
    RejectOtherClients,
}

/// What is wrong with a setting: the value, the rule and the cure.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayErrorKind {
    /// Neither an address nor a range.
    #[error(
        "`{0}` is no IP address or CIDR range (E1); write 198.51.100.7, 198.51.100.0/24 or 2001:db8::/64"
    )]
    NotARange(String),
    /// A range whose address has bits behind its prefix.
    #[error(
        "`{range}` has host bits behind its prefix (E1); did you mean `{network}`, or the address alone?"
    )]
    HostBits {
        /// The range as given.
        range: String,
        /// The range that the prefix names.
        network: IpNet,
    },
    /// A range of all addresses.
    #[error("`{0}` holds every address there is (E1); list single addresses and smaller ranges")]
    Everything(String),
    /// An address that is not public.
    #[error(
        "`{range}` is not public but {what} (E1, {block}); {}",
        if *what == DOCUMENTATION {
            "set documentation_ranges_public = true, which is what it is by default"
        } else {
            "list the address your gateway connects from, or set allow_private = true for gateways inside your own network"
        }
    )]
    NotPublic {
        /// The address or range as given.
        range: String,
        /// What it is: private, loopback, …
        what: &'static str,
        /// The block it is in.
        block: IpNet,
    },
    /// A range around a block that is not public.
    #[error("`{range}` holds the {what} block {block} (E1); list smaller ranges without it")]
    HoldsNotPublic {
        /// The range as given.
        range: String,
        /// What the block is: private, loopback, …
        what: &'static str,
        /// The block.
        block: IpNet,
    },
    /// The spam tag is broken.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// Only the tag is to decide, but there is none.
    #[error(
        "only_spam_tag = true needs a spam_tag to decide by (E10); add one, or remove this line"
    )]
    NoTag,
    /// All clients but the gateways are to be refused, but there are none.
    #[error(
        "without addresses every client would be refused (E7); list the gateways, or set it to false"
    )]
    NoGateways,
}

/// Reads a list of addresses or ranges and tells every one that is none.
pub(crate) fn ranges(
    texts: &[String],
    setting: fn(usize) -> Setting,
    rule: impl Fn(&str, IpNet) -> Result<(), GatewayErrorKind>,
    errors: &mut Vec<GatewayError>,
) -> Vec<IpNet> {
    let mut ranges = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        match range(text).and_then(|range| rule(text, range).map(|()| range)) {
            Ok(range) => ranges.push(range),
            Err(kind) => errors.push(GatewayError { setting: setting(i), kind }),
        }
    }
    ranges
}

fn range(text: &str) -> Result<IpNet, GatewayErrorKind> {
    let given: IpNet = text
        .parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| GatewayErrorKind::NotARange(text.to_owned()))?;
    if given.trunc() != given {
        let network = canonical(given.trunc());
        if network.prefix_len() == 0 {
            return Err(GatewayErrorKind::Everything(text.to_owned()));
        }
        return Err(GatewayErrorKind::HostBits { range: text.to_owned(), network });
    }
    Ok(canonical(given))
}

/// A gateway is a public address, never all of them (E1).
pub(crate) fn is_gateway(
    text: &str,
    range: IpNet,
    allow_private: bool,
    public: &PublicAddresses,
) -> Result<(), GatewayErrorKind> {
    let text = || text.to_owned();
    if range.prefix_len() == 0 {
        return Err(GatewayErrorKind::Everything(text()));
    }
    match public.block_in(range) {
        _ if allow_private => Ok(()),
        None => Ok(()),
        Some((block, what)) if block.contains(&range) => {
            Err(GatewayErrorKind::NotPublic { range: text(), what, block })
        }
        Some((block, what)) => Err(GatewayErrorKind::HoldsNotPublic { range: text(), what, block }),
    }
}
