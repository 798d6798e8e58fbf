//! SPF: what a domain's record says of an address, and by which of its terms (RFC 7208).
//!
//! **In:** a [`Resolver`], a domain, and a [`Client`]: its address, its sender, its HELO. **Out:** [`Spf`]:
//! the result, the terms that led to it, and how many lookups they took. It is asked about mail that
//! came in (E2), and by those who publish a record and want to know whom it covers (B4), for whom
//! [`check_host`] takes the domain's postmaster for the sender. No `exp=` is fetched.
//!
//! **Units:** lookups. **Bounds:** [`MAX_LOOKUPS`] terms that ask the DNS, [`MAX_VOID_LOOKUPS`] answers
//! without a record, ten hosts for each `mx` and `ptr`; each at the resolver's time-out. **Errors:**
//! an unusable record is [`SpfResult::PermError`], a DNS failure [`SpfResult::TempError`], each with
//! its reason. **Source:** B4; RFC 7208.
//!
//! **Not here:** the sender of a message that came in.
//!
//! ```
//! use waypost_net::dns::StaticResolver;
//! use waypost_net::spf::{SpfResult, check_host};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let resolver = StaticResolver::default()
//!     .with_txt("solarmora.com", "v=spf1 include:_spf.smart.example -all")
//!     .with_txt("_spf.smart.example", "v=spf1 ip4:192.0.2.0/24 -all");
//! let (domain, helo) = ("solarmora.com".parse()?, "mx.solarmora.com".parse()?);
//! let spf = check_host(&resolver, &domain, "192.0.2.25".parse()?, &helo).await;
//! assert_eq!(spf.result, SpfResult::Pass);
//! assert_eq!(spf.because, "`include:_spf.smart.example`, `ip4:192.0.2.0/24`");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod macros;
mod record;

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use waypost_route::Exchange;
use waypost_types::Domain;

use crate::dns::{DnsError, Resolver};
use macros::Macros;
use record::{Mechanism, Prefix, Record, is_spf};

/// Terms of one evaluation that ask the DNS (RFC 7208 section 4.6.4).
pub const MAX_LOOKUPS: usize = 10;
/// Answers without a record in one evaluation (RFC 7208 section 4.6.4).
pub const MAX_VOID_LOOKUPS: usize = 2;
/// Hosts of one `mx` term, and names of one `ptr` term (RFC 7208 section 4.6.4).
const MAX_HOSTS: usize = 10;

/// What SPF says of an address (RFC 7208 section 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpfResult {
    /// The domain has no record.
    None,
    /// The record says nothing of the address.
    Neutral,
    /// The address may send.
    Pass,
    /// It may not.
    Fail,
    /// It probably may not.
    SoftFail,
    /// No answer now.
    TempError,
    /// The record cannot be evaluated.
    PermError,
}

impl SpfResult {
    /// The word of RFC 7208: `softfail`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SpfResult::None => "none",
            SpfResult::Neutral => "neutral",
            SpfResult::Pass => "pass",
            SpfResult::Fail => "fail",
            SpfResult::SoftFail => "softfail",
            SpfResult::TempError => "temperror",
            SpfResult::PermError => "permerror",
        }
    }
}

impl fmt::Display for SpfResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a record says of an address, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spf {
    /// The result.
    pub result: SpfResult,
    /// The terms that led to it, outermost first; of an error, what is wrong.
    pub because: String,
    /// Terms evaluated that asked the DNS; at most one more than [`MAX_LOOKUPS`].
    pub lookups: usize,
}

/// Why a domain has no one SPF record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpfRecordError {
    /// There is none.
    #[error("there is no SPF record")]
    Missing,
    /// There is more than one, so none counts (RFC 7208 section 4.5).
    #[error("there are {} SPF records, and only one is allowed", .0.len())]
    Several(Vec<String>),
    /// The DNS does not answer now.
    #[error("no answer now: {0}")]
    NoAnswer(Box<str>),
}

/// The text of a domain's SPF record.
///
/// # Errors
/// [`SpfRecordError`].
pub async fn spf_record(
    resolver: &dyn Resolver,
    domain: &Domain,
) -> Result<String, SpfRecordError> {
    let mut found = match resolver.txt(domain).await {
        Ok(texts) => texts.into_iter().filter(|text| is_spf(text)).collect::<Vec<_>>(),
        Err(DnsError::Temporary(text)) => return Err(SpfRecordError::NoAnswer(text)),
        Err(DnsError::NoRecords | DnsError::NoDomain) => Vec::new(),
    };
    match found.len() {
        0 => Err(SpfRecordError::Missing),
        1 => found.pop().ok_or(SpfRecordError::Missing),
        _ => Err(SpfRecordError::Several(found)),
    }
}

/// Who sends, as macros tell of it (RFC 7208 section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client<'a> {
    /// Its address.
    pub ip: IpAddr,
    /// The local part of the sender; `postmaster` where it has none (RFC 7208 section 4.3).
    pub local_part: &'a str,
    /// The domain of the sender.
    pub sender: &'a Domain,
    /// The argument of HELO, whatever it is.
    pub helo: &'a str,
}

impl<'a> Client<'a> {
    /// A client that sends for a domain's postmaster, as for the identity of HELO.
    #[must_use]
    pub fn postmaster(domain: &'a Domain, ip: IpAddr, helo: &'a str) -> Self {
        Self { ip, local_part: "postmaster", sender: domain, helo }
    }
}

/// What the record of `domain` says of `ip` (the function of that name in RFC 7208 section 4), for
/// mail from the domain's postmaster by a client that says HELO `helo`.
pub async fn check_host(
    resolver: &dyn Resolver,
    domain: &Domain,
    ip: IpAddr,
    helo: &Domain,
) -> Spf {
    check_client(resolver, domain, Client::postmaster(domain, ip, helo.as_str())).await
}

/// What the record of `domain` says of a client: [`check_host`] for mail of any sender.
pub async fn check_client(resolver: &dyn Resolver, domain: &Domain, client: Client<'_>) -> Spf {
    let client = Client { ip: client.ip.to_canonical(), ..client };
    let mut evaluation = Evaluation { resolver, client, lookups: 0, voids: 0 };
    let Ended { result, because } = match evaluation.host(domain.clone()).await {
        Ok(ended) | Err(ended) => ended,
    };
    Spf { result, because, lookups: evaluation.lookups }
}

struct Evaluation<'a> {
    resolver: &'a dyn Resolver,
    client: Client<'a>,
    lookups: usize,
    voids: usize,
}

/// A result and its reason; as an `Err`, one that ends the evaluation of all records.
struct Ended {
    result: SpfResult,
    because: String,
}

impl Ended {
    fn permanent(because: String) -> Self {
        Self { result: SpfResult::PermError, because }
    }

    fn temporary(name: &impl fmt::Display, text: &str) -> Self {
        let because = format!("{name}: no answer now: {text}");
        Self { result: SpfResult::TempError, because }
    }
}

/// Whether a term matched; for `include`, by which terms inside.
enum Matched {
    No,
    Yes,
    Inside(String),
}

impl Evaluation<'_> {
    /// Evaluates a domain's record. Boxed, since records lead to records.
    fn host<'s>(
        &'s mut self,
        domain: Domain,
    ) -> Pin<Box<dyn Future<Output = Result<Ended, Ended>> + Send + 's>> {
        Box::pin(async move {
            let text = match spf_record(self.resolver, &domain).await {
                Ok(text) => text,
                Err(SpfRecordError::NoAnswer(text)) => {
                    return Err(Ended::temporary(&domain, &text));
                }
                Err(SpfRecordError::Missing) => {
                    let because = format!("{domain} has no SPF record");
                    return Ok(Ended { result: SpfResult::None, because });
                }
                Err(error) => return Err(Ended::permanent(format!("{domain}: {error}"))),
            };
            let record = Record::read(&text)
                .map_err(|what| Ended::permanent(format!("{domain}: {what}")))?;
            for directive in &record.directives {
                let inside =
                    match self.matches(&directive.mechanism, &directive.text, &domain).await? {
                        Matched::No => continue,
                        Matched::Yes => String::new(),
                        Matched::Inside(terms) => format!(", {terms}"),
                    };
                let because = format!("`{}`{inside}", directive.text);
                return Ok(Ended { result: directive.result, because });
            }
            let Some(redirect) = &record.redirect else {
                let because = "no term matches".to_owned();
                return Ok(Ended { result: SpfResult::Neutral, because });
            };
            let term = format!("redirect={redirect}");
            self.count(&term)?;
            let target = self.name(redirect, &domain);
            let target =
                target.ok_or_else(|| Ended::permanent(format!("`{term}` names no domain")))?;
            let ended = self.host(target).await?;
            match ended.result {
                SpfResult::None => Err(Ended::permanent(format!("`{term}`: {}", ended.because))),
                result => Ok(Ended { result, because: format!("`{term}`, {}", ended.because) }),
            }
        })
    }

    async fn matches(
        &mut self,
        mechanism: &Mechanism,
        term: &str,
        domain: &Domain,
    ) -> Result<Matched, Ended> {
        let matched = match mechanism {
            Mechanism::All => true,
            Mechanism::Ip4(ip, length) => in_block(self.client.ip, IpAddr::V4(*ip), *length),
            Mechanism::Ip6(ip, length) => in_block(self.client.ip, IpAddr::V6(*ip), *length),
            Mechanism::Include(spec) => return self.include(spec, term, domain).await,
            Mechanism::A(spec, prefix) => {
                self.count(term)?;
                match self.target(spec.as_deref(), domain) {
                    Some(name) => self.address_of(&name, *prefix).await?,
                    None => false,
                }
            }
            Mechanism::Mx(spec, prefix) => {
                self.count(term)?;
                match self.target(spec.as_deref(), domain) {
                    Some(name) => self.mx_of(&name, *prefix, term).await?,
                    None => false,
                }
            }
            Mechanism::Exists(spec) => {
                self.count(term)?;
                match self.name(spec, domain) {
                    // Only IPv4 counts here, whatever the client has (RFC 7208 section 5.7).
                    Some(name) => self.addresses(&name).await?.iter().any(IpAddr::is_ipv4),
                    None => false,
                }
            }
            Mechanism::Ptr(spec) => {
                self.count(term)?;
                match self.target(spec.as_deref(), domain) {
                    Some(name) => self.name_below(&name).await?,
                    None => false,
                }
            }
        };
        Ok(if matched { Matched::Yes } else { Matched::No })
    }

    async fn include(&mut self, spec: &str, term: &str, domain: &Domain) -> Result<Matched, Ended> {
        self.count(term)?;
        let target = self.name(spec, domain);
        let target = target.ok_or_else(|| Ended::permanent(format!("`{term}` names no domain")))?;
        let ended = self.host(target).await?;
        match ended.result {
            SpfResult::Pass => Ok(Matched::Inside(ended.because)),
            SpfResult::None => Err(Ended::permanent(format!("`{term}`: {}", ended.because))),
            _ => Ok(Matched::No),
        }
    }

    /// Counts a term that asks the DNS.
    fn count(&mut self, term: &str) -> Result<(), Ended> {
        self.lookups += 1;
        match self.lookups > MAX_LOOKUPS {
            true => Err(Ended::permanent(format!(
                "`{term}` is the DNS lookup after the {MAX_LOOKUPS} that are allowed (RFC 7208 \
                 section 4.6.4)"
            ))),
            false => Ok(()),
        }
    }

    /// Counts an answer without a record.
    fn void(&mut self, name: &impl fmt::Display) -> Result<(), Ended> {
        self.voids += 1;
        match self.voids > MAX_VOID_LOOKUPS {
            true => Err(Ended::permanent(format!(
                "{name} has no record, as more than the {MAX_VOID_LOOKUPS} names that are allowed \
                 (RFC 7208 section 4.6.4)"
            ))),
            false => Ok(()),
        }
    }

    fn name(&self, spec: &str, domain: &Domain) -> Option<Domain> {
        Macros { domain, client: self.client }.name(spec)
    }

    fn target(&self, spec: Option<&str>, domain: &Domain) -> Option<Domain> {
        spec.map_or_else(|| Some(domain.clone()), |spec| self.name(spec, domain))
    }

    async fn addresses(&mut self, name: &Domain) -> Result<Vec<IpAddr>, Ended> {
        match self.resolver.addresses(name).await {
            Ok(found) => Ok(found),
            Err(DnsError::Temporary(text)) => Err(Ended::temporary(name, &text)),
            Err(DnsError::NoRecords | DnsError::NoDomain) => {
                self.void(name)?;
                Ok(Vec::new())
            }
        }
    }

    async fn address_of(&mut self, name: &Domain, prefix: Prefix) -> Result<bool, Ended> {
        let length = if self.client.ip.is_ipv4() { prefix.v4 } else { prefix.v6 };
        let found = self.addresses(name).await?;
        Ok(found.into_iter().any(|ip| in_block(self.client.ip, ip, length)))
    }

    async fn mx_of(&mut self, name: &Domain, prefix: Prefix, term: &str) -> Result<bool, Ended> {
        let records = match self.resolver.mx(name).await {
            Ok(records) => records,
            Err(DnsError::Temporary(text)) => return Err(Ended::temporary(name, &text)),
            Err(DnsError::NoRecords | DnsError::NoDomain) => {
                self.void(name)?;
                return Ok(false);
            }
        };
        if records.len() > MAX_HOSTS {
            return Err(Ended::permanent(format!(
                "`{term}`: {name} has {} MX hosts, and {MAX_HOSTS} are allowed (RFC 7208 section \
                 4.6.4)",
                records.len()
            )));
        }
        for record in records {
            if let Exchange::Host(host) = record.exchange
                && self.address_of(&host, prefix).await?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a name of the address, confirmed by its own addresses, is `domain` or below it; a
    /// failure counts as no match (RFC 7208 section 5.5).
    async fn name_below(&mut self, domain: &Domain) -> Result<bool, Ended> {
        let names = match self.resolver.ptr(self.client.ip).await {
            Ok(names) => names,
            Err(DnsError::Temporary(_)) => return Ok(false),
            Err(DnsError::NoRecords | DnsError::NoDomain) => {
                self.void(&self.client.ip.to_string())?;
                return Ok(false);
            }
        };
        let below = |name: &Domain| {
            let rest = name.as_str().strip_suffix(domain.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        for name in names.iter().take(MAX_HOSTS).filter(|name| below(name)) {
            let own = self.resolver.addresses(name).await;
            if own.is_ok_and(|own| own.contains(&self.client.ip)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether two addresses of one family have the same first bits.
fn in_block(ip: IpAddr, block: IpAddr, length: u8) -> bool {
    match (ip, block) {
        (IpAddr::V4(ip), IpAddr::V4(block)) => {
            let apart = u32::from(ip) ^ u32::from(block);
            apart.leading_zeros() >= u32::from(length)
        }
        (IpAddr::V6(ip), IpAddr::V6(block)) => {
            let apart = u128::from(ip) ^ u128::from(block);
            apart.leading_zeros() >= u32::from(length)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
