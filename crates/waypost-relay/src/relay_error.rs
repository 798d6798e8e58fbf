//! What can be wrong with, or odd about, the settings of the relay service.

use std::fmt;

use ipnet::IpNet;

/// The setting that an error or a warning is about, so that a caller can point at its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayPlace {
    /// `description`.
    Description,
    /// `allowed_senders`.
    AllowedSenders,
    /// The entry of `addresses` with this index, counted from 0.
    Address(usize),
    /// `addresses` and `require_auth` together.
    Authentication,
    /// `copy_to`.
    CopyTo,
}

/// A relay entry breaks a rule. [`RelayEntry::new`](crate::RelayEntry::new) gives all of them at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("relay entry `{entry}`: {kind}")]
pub struct RelayError {
    /// The description of the entry, as given.
    pub entry: String,
    /// The setting.
    pub place: RelayPlace,
    /// The rule and the cure.
    pub kind: RelayErrorKind,
}

/// The rule that a relay entry breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelayErrorKind {
    /// The description is empty or blank.
    #[error("the description is empty (D1); say whose servers the entry is for")]
    EmptyDescription,
    /// The description is over-long or holds a control character.
    #[error(
        "the description has more than 256 octets or holds a control character (D1); shorten it to one line"
    )]
    Description,
    /// Neither an IP address nor a CIDR range.
    #[error(
        "`{0}` is neither an IP address nor a CIDR range (D4); write `203.0.113.7`, `203.0.113.0/28` or `2001:db8::/120`"
    )]
    Range(String),
    /// A CIDR range with bits set behind its prefix.
    #[error("`{text}` has bits set behind its prefix (D4); the network is `{network}`")]
    HostBits {
        /// The text as given.
        text: String,
        /// The network that contains it.
        network: IpNet,
    },
    /// A range of more than 65,536 addresses.
    #[error(
        "`{text}` holds 2^{bits} addresses, more than 65,536 (D4); use a prefix of at least /{least}"
    )]
    RangeTooLarge {
        /// The text as given.
        text: String,
        /// The binary logarithm of the number of addresses.
        bits: u8,
        /// The shortest prefix that is allowed.
        least: u8,
    },
    /// A range that is the whole Internet.
    #[error(
        "`{0}` is every address there is, an open relay (D4); list the addresses of your own servers"
    )]
    Everything(String),
    /// Neither an enabled address nor AUTH.
    #[error(
        "no address is enabled and AUTH is not required, so nothing would be checked (D3); enable an address or set `require_auth = true`"
    )]
    NoAuthentication,
    /// Neither `sender-mailbox` nor an address.
    #[error("`{0}` is no place for copies (D16); write `sender-mailbox` or an address")]
    CopyTo(String),
}

/// Something allowed but unwise in a relay entry, for `check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayWarning {
    /// The description of the entry.
    pub entry: String,
    /// The setting.
    pub place: RelayPlace,
    /// What is unwise, and the cure.
    pub kind: RelayWarningKind,
}

impl fmt::Display for RelayWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "relay entry `{}`: ", self.entry)?;
        match &self.kind {
            RelayWarningKind::PrivateRange(range) => write!(
                f,
                "`{range}` is a private range (D4); use the public addresses of your servers, unless this server stands in their network"
            ),
            RelayWarningKind::AnySender => f.write_str(
                "`allowed_senders = \"any\"` lets a broken-in server send as anybody (D2); prefer `my-domains`",
            ),
            RelayWarningKind::RepeatedRange(range) => {
                write!(f, "`{range}` is listed twice (D4); remove one")
            }
        }
    }
}

/// What is unwise in a relay entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayWarningKind {
    /// An enabled range is private, loopback, link-local, unique-local or CGN.
    PrivateRange(IpNet),
    /// `allowed_senders = "any"`.
    AnySender,
    /// A range is listed more than once.
    RepeatedRange(IpNet),
}

/// Organizations cannot be served together. [`RelayService::new`](crate::RelayService::new) gives all
/// of them at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// Two relay entries of one organization have one description, compared without case.
    #[error(
        "organization `{organization}` has two relay entries with the description `{description}` (D1); rename one"
    )]
    DuplicateDescription {
        /// The organization.
        organization: String,
        /// The description.
        description: String,
    },
    /// An organization without a domain.
    #[error("organization `{0}` has no domain (D8 needs one); list its verified domains")]
    NoDomain(String),
    /// Two organizations have one name; quotas are counted by name.
    #[error("two organizations have the name `{0}` (D11); rename one")]
    DuplicateOrganization(String),
    /// Two organizations verified one domain.
    #[error("`{domain}` is a domain of both `{first}` and `{second}` (D2); remove it from one")]
    SharedDomain {
        /// The domain.
        domain: String,
        /// The organization that names it first.
        first: String,
        /// The other one.
        second: String,
    },
}
