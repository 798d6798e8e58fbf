//! The order of a domain's MX hosts.

use std::cmp::Reverse;

use waypost_types::{Domain, Failure, FailureScope, Reply};

use crate::Draw;

/// What an MX record points to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Exchange {
    /// A host.
    Host(Domain),
    /// The root, `.`: the domain takes no mail (RFC 7505).
    Null,
    /// Something that is no host name, such as an address; as text, for the explanation.
    Unusable(Box<str>),
}

impl Exchange {
    /// Reads the name of an MX record in presentation form; a trailing dot may stand or not.
    /// Nothing but the dot, or nothing at all, is the root.
    #[must_use]
    pub fn from_text(name: &str) -> Self {
        match name {
            "" | "." => Exchange::Null,
            _ => match name.parse() {
                Ok(host) => Exchange::Host(host),
                Err(_) => Exchange::Unusable(name.chars().take(255).collect::<String>().into()),
            },
        }
    }
}

/// One MX record: lower preferences first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MxRecord {
    /// The preference.
    pub preference: u16,
    /// The host.
    pub exchange: Exchange,
}

/// What the MX records of a domain say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum MxOrder {
    /// The hosts to try, first to last; not empty, none twice.
    Hosts(Vec<Domain>),
    /// There are no MX records: the domain itself is the host (RFC 5321 section 5.1).
    Implicit(Domain),
}

impl MxOrder {
    /// The hosts to try in either case.
    #[must_use]
    pub fn hosts(&self) -> &[Domain] {
        match self {
            MxOrder::Hosts(hosts) => hosts,
            MxOrder::Implicit(domain) => std::slice::from_ref(domain),
        }
    }
}

/// Why a domain's MX records give no host to try. All are permanent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MxError {
    /// A null MX.
    #[error("{0} does not accept mail: it has a null MX record (RFC 7505)")]
    Null(Domain),
    /// We are its best MX host.
    #[error(
        "mail for {0} loops back: {1} is this server, and no better MX host is there (RFC 5321 \
         section 5.1); have its MX records changed, or make it a domain of this server"
    )]
    Loop(Domain, Domain),
    /// No record names a host.
    #[error("the MX records of {0} name no usable host, only `{1}` (RFC 5321 section 5.1)")]
    Unusable(Domain, Box<str>),
}

impl MxError {
    /// The failure to report for a recipient: 556 5.1.10, 554 5.4.6 or 550 5.4.4, of the message.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let (code, enhanced) = match self {
            MxError::Null(_) => (556, (5, 1, 10)),
            MxError::Loop(..) => (554, (5, 4, 6)),
            MxError::Unusable(..) => (550, (5, 4, 4)),
        };
        let reply = Reply::new(code, enhanced, &self.to_string());
        Failure { scope: FailureScope::Message, host: None, reply }
    }
}

/// The hosts to try for a domain, from its MX records (A4).
///
/// Lower preferences come first, equal ones are shuffled by `draw`; a host named twice keeps its
/// better place. From a host in `own_names` (this server) on, everything equal or worse is dropped.
/// Records that name no host are passed over where others do. No records: the domain itself.
///
/// **Bounds:** O(n log n) for n records; the caller bounds n. CNAME chains are the resolver's
/// matter. **Source:** RFC 5321 section 5.1, RFC 7505.
///
/// # Errors
/// [`MxError`] for a null MX, a loop, and records without any host.
pub fn mx_order(
    domain: &Domain,
    records: &[MxRecord],
    own_names: &[Domain],
    draw: Draw,
) -> Result<MxOrder, MxError> {
    if records.is_empty() {
        if own_names.contains(domain) {
            return Err(MxError::Loop(domain.clone(), domain.clone()));
        }
        return Ok(MxOrder::Implicit(domain.clone()));
    }
    let mut hosts: Vec<(u16, &Domain)> = records
        .iter()
        .filter_map(|record| match &record.exchange {
            Exchange::Host(host) => Some((record.preference, host)),
            Exchange::Null | Exchange::Unusable(_) => None,
        })
        .collect();
    if hosts.is_empty() {
        let odd = records.iter().find_map(|record| match &record.exchange {
            Exchange::Unusable(text) => Some(text.clone()),
            Exchange::Host(_) | Exchange::Null => None,
        });
        return Err(match odd {
            Some(text) => MxError::Unusable(domain.clone(), text),
            None => MxError::Null(domain.clone()),
        });
    }
    // DNS hands records out in any order; sorted first, the draw alone decides.
    hosts.sort_unstable();
    let mut seen = std::collections::HashSet::new();
    hosts.retain(|(_, host)| seen.insert(*host));
    let ours = hosts.iter().find(|(_, host)| own_names.contains(host)).copied();
    if let Some((limit, us)) = ours {
        hosts.retain(|(preference, _)| *preference < limit);
        if hosts.is_empty() {
            return Err(MxError::Loop(domain.clone(), us.clone()));
        }
    }
    let mut numbers = draw.numbers(1);
    let mut keyed: Vec<_> = hosts
        .into_iter()
        .map(|(preference, host)| (preference, Reverse(numbers.below(u32::MAX)), host))
        .collect();
    keyed.sort_unstable();
    Ok(MxOrder::Hosts(keyed.into_iter().map(|(_, _, host)| host.clone()).collect()))
}
