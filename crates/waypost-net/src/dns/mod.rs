//! Names to addresses: MX, A, AAAA, TXT and PTR, and the next hops of a host or a domain.
//!
//! **In:** a [`Resolver`], a host, and whether MX records count. **Out:** [`NextHops`]: hosts in the
//! order to try, their addresses, and the names that their certificates may show; or the
//! [`Failure`](waypost_types::Failure) to report.
//!
//! [`SystemResolver`] asks the system's name servers or a list of servers, and caches by TTL;
//! [`StaticResolver`] answers from a table, for tests.
//!
//! **Units:** [`Duration`](std::time::Duration). **Bounds:** [`DnsLimits`] bounds the time of an
//! answer, [`MAX_HOSTS`] and [`MAX_ADDRESSES`] the size of [`NextHops`], [`MAX_RECORDS`] the records
//! read from an answer; CNAME chains are followed up to a depth of 8. **Errors:** [`DnsError`] for one
//! question, a `Failure` with code and scope for next hops. **Source:** A4; RFC 5321 section 5.1, RFC
//! 7505 (null MX).
//!
//! **Not here:** no DNSSEC validation; no connection to a host.

mod next_hops;
mod static_resolver;
mod system;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use waypost_route::MxRecord;
use waypost_types::Domain;

pub use next_hops::{Hop, LeftOut, Lookup, MAX_ADDRESSES, MAX_HOSTS, NextHops, resolve_next_hops};
pub use static_resolver::StaticResolver;
pub use system::{DnsLimits, MAX_RECORDS, ResolverError, SystemResolver};

/// What a [`Resolver`] hands back: boxed, so that a resolver can stand behind `dyn`.
pub type DnsFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, DnsError>> + Send + 'a>>;

/// Why a question to the DNS has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// The name exists, but has no record of this type.
    #[error("no record of this type")]
    NoRecords,
    /// The name does not exist (NXDOMAIN).
    #[error("no such domain")]
    NoDomain,
    /// No answer now: time-out, SERVFAIL, REFUSED, no server reached. The text says which.
    #[error("no answer now: {0}")]
    Temporary(Box<str>),
}

/// Answers questions to the DNS. CNAMEs are followed. An answer is never empty: nothing found is
/// [`DnsError::NoRecords`] or [`DnsError::NoDomain`]; no answer is [`DnsError::Temporary`]. It
/// comes in bounded time, which the implementation sets ([`DnsLimits::answer`]).
pub trait Resolver: Send + Sync {
    /// The MX records of a domain, in no order.
    fn mx<'a>(&'a self, domain: &'a Domain) -> DnsFuture<'a, Vec<MxRecord>>;

    /// The addresses of a name, IPv6 and IPv4 in turn as long as there are both (in the spirit of
    /// RFC 8305 section 4): a host without IPv6 loses one connection, not one for each address.
    fn addresses<'a>(&'a self, name: &'a Domain) -> DnsFuture<'a, Vec<IpAddr>>;

    /// The TXT records of a name, the strings of each record joined (RFC 7208 section 3.3); octets
    /// that are no UTF-8 are replaced.
    fn txt<'a>(&'a self, name: &'a Domain) -> DnsFuture<'a, Vec<String>>;

    /// The names of an address (PTR), unchecked: a name counts only if its own addresses lead back.
    fn ptr(&self, ip: IpAddr) -> DnsFuture<'_, Vec<Domain>>;
}

/// One answer from those for IPv6 and IPv4: what was found, else the most cautious error.
fn either_family(
    v6: Result<Vec<IpAddr>, DnsError>,
    v4: Result<Vec<IpAddr>, DnsError>,
) -> Result<Vec<IpAddr>, DnsError> {
    let error = match (&v6, &v4) {
        (Err(DnsError::Temporary(text)), _) | (_, Err(DnsError::Temporary(text))) => {
            DnsError::Temporary(text.clone())
        }
        (Err(DnsError::NoDomain), Err(DnsError::NoDomain)) => DnsError::NoDomain,
        _ => DnsError::NoRecords,
    };
    let (mut v6, mut v4) = (v6.unwrap_or_default().into_iter(), v4.unwrap_or_default().into_iter());
    let mut found: Vec<IpAddr> = Vec::new();
    loop {
        let pair = [v6.next(), v4.next()];
        if pair == [None, None] {
            break;
        }
        for ip in pair.into_iter().flatten() {
            if !found.contains(&ip) {
                found.push(ip);
            }
        }
    }
    if found.is_empty() { Err(error) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_errors_stay_cautious() {
        let temporary = || Err(DnsError::Temporary("time-out".into()));
        let ips = |text: &str| -> Vec<IpAddr> {
            text.split_whitespace().map(|ip| ip.parse().unwrap()).collect()
        };
        for (v6, v4, want) in [
            (Ok(ips("::1 ::2 ::3")), Ok(ips("192.0.2.1")), Ok(ips("::1 192.0.2.1 ::2 ::3"))),
            (Err(DnsError::NoRecords), Ok(ips("192.0.2.1 192.0.2.1")), Ok(ips("192.0.2.1"))),
            (temporary(), Ok(ips("192.0.2.1")), Ok(ips("192.0.2.1"))),
            (temporary(), Err(DnsError::NoRecords), temporary()),
            (Err(DnsError::NoDomain), temporary(), temporary()),
            (Err(DnsError::NoDomain), Err(DnsError::NoDomain), Err(DnsError::NoDomain)),
            (Err(DnsError::NoRecords), Err(DnsError::NoDomain), Err(DnsError::NoRecords)),
            (Ok(Vec::new()), Ok(Vec::new()), Err(DnsError::NoRecords)),
        ] {
            assert_eq!(either_family(v6, v4), want);
        }
    }
}
