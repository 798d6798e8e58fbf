//! What the DNS answered.

use std::net::IpAddr;

use waypost_inbound::InboundGateway;
use waypost_types::Domain;

use super::Sending;
use crate::settings::ServerSettings;

/// What a record says of an address, as far as B4 asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// The address is in the record.
    Covered,
    /// It is not.
    NotCovered,
    /// The record cannot be evaluated: receivers take it for none.
    Broken,
    /// The DNS does not answer now.
    Unknown,
}

/// What a record says of one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpfCheck {
    /// Which of [`OrganizationFacts::senders`].
    pub sender: usize,
    /// The address.
    pub ip: IpAddr,
    /// Whether it is covered.
    pub coverage: Coverage,
    /// The result in RFC 7208's words: `softfail`.
    pub result: &'static str,
    /// The terms that led to it, or what is wrong.
    pub because: String,
    /// Terms evaluated that asked the DNS.
    pub lookups: usize,
}

impl SpfCheck {
    /// Whether the term that decided is `all`.
    pub(super) fn is_by_all(&self) -> bool {
        let last = self.because.rsplit('`').nth(1).unwrap_or_default();
        last.trim_start_matches(['+', '-', '~', '?']).eq_ignore_ascii_case("all")
    }
}

/// What the DNS says of a domain's SPF record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpfFacts {
    /// There is none.
    Missing,
    /// There are several.
    Several(Vec<String>),
    /// The DNS does not answer now.
    Unknown(String),
    /// The record, and what it says of each address.
    Found {
        /// Its text.
        record: String,
        /// The addresses of all senders.
        checks: Vec<SpfCheck>,
    },
}

/// What an MX host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MxLeadsTo {
    /// This server, by name or by address.
    Server,
    /// A listed inbound gateway, by this address.
    Gateway(IpAddr),
    /// Neither.
    Elsewhere,
    /// The DNS does not give its addresses.
    Unknown(String),
}

/// One host of a domain's MX records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MxHost {
    /// The host as written.
    pub host: String,
    /// The preference; `None`: there are no MX records, and the domain is the host itself.
    pub preference: Option<u16>,
    /// What it is.
    pub leads_to: MxLeadsTo,
}

/// What the DNS says of a domain's MX records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MxFacts {
    /// Neither MX records nor an address.
    Missing,
    /// The domain takes no mail (RFC 7505).
    Null,
    /// The DNS does not answer now.
    Unknown(String),
    /// Its hosts.
    Hosts(Vec<MxHost>),
}

/// What the DNS says of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainFacts {
    /// The domain.
    pub domain: Domain,
    /// Its SPF record.
    pub spf: SpfFacts,
    /// Its MX records.
    pub mx: MxFacts,
}

/// What the DNS says of an organization's domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganizationFacts {
    /// The organization.
    pub organization: Box<str>,
    /// Who sends its mail; this server first.
    pub senders: Vec<Sending>,
    /// Its domains, in the order of the configuration.
    pub domains: Vec<DomainFacts>,
}

/// What an MX host is: `host` with the addresses that the DNS gave for it. `own` are this server's, if
/// they are known.
#[must_use]
pub fn mx_leads_to(
    host: &Domain,
    addresses: Result<&[IpAddr], String>,
    server: &ServerSettings,
    own: Option<&[IpAddr]>,
    gateway: Option<&InboundGateway>,
) -> MxLeadsTo {
    if *host == server.hostname {
        return MxLeadsTo::Server;
    }
    let addresses = match addresses {
        Ok(addresses) => addresses,
        Err(why) => return MxLeadsTo::Unknown(why),
    };
    if addresses.iter().any(|ip| own.is_some_and(|own| own.contains(ip))) {
        return MxLeadsTo::Server;
    }
    let listed = |ip: &&IpAddr| gateway.is_some_and(|gateway| gateway.lists(**ip));
    if let Some(ip) = addresses.iter().find(listed) {
        return MxLeadsTo::Gateway(*ip);
    }
    match own {
        Some(_) => MxLeadsTo::Elsewhere,
        None if addresses.is_empty() => MxLeadsTo::Elsewhere,
        None => MxLeadsTo::Unknown("the addresses of this server are not known".to_owned()),
    }
}
