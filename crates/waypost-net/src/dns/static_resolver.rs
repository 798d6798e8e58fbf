//! Answers from a table.

use std::collections::HashMap;
use std::net::IpAddr;

use waypost_route::{Exchange, MxRecord};
use waypost_types::Domain;

use super::{DnsError, DnsFuture, Resolver, either_family};

/// A resolver that answers from a table, for tests and for programs without DNS.
///
/// A name that is in no table does not exist ([`DnsError::NoDomain`]); one that is in another table
/// has no record of the type asked for ([`DnsError::NoRecords`]).
///
/// ```
/// use waypost_net::dns::StaticResolver;
///
/// let resolver = StaticResolver::default()
///     .with_mx("solarmora.com", &[(10, "mx.solarmora.com")])
///     .with_addresses("mx.solarmora.com", &["192.0.2.25", "2001:db8::25"])
///     .with_failure("broken.example", "SERVFAIL");
/// # let _ = resolver;
/// ```
#[derive(Clone, Debug, Default)]
pub struct StaticResolver {
    names: HashMap<Box<str>, Records>,
    ptr: HashMap<IpAddr, Vec<Domain>>,
}

#[derive(Clone, Debug, Default)]
struct Records {
    mx: Vec<MxRecord>,
    addresses: Vec<IpAddr>,
    txt: Vec<String>,
    cname: Option<Box<str>>,
    failure: Option<Box<str>>,
}

impl StaticResolver {
    /// Adds MX records as preference and host; the host `.` is a null MX.
    #[must_use]
    pub fn with_mx(mut self, domain: &str, records: &[(u16, &str)]) -> Self {
        let records = records.iter().map(|(preference, host)| MxRecord {
            preference: *preference,
            exchange: Exchange::from_text(host),
        });
        self.entry(domain).mx.extend(records);
        self
    }

    /// Adds addresses; a text that is none is passed over.
    #[must_use]
    pub fn with_addresses(mut self, name: &str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().filter_map(|ip| ip.parse::<IpAddr>().ok());
        self.entry(name).addresses.extend(addresses);
        self
    }

    /// Adds a TXT record.
    #[must_use]
    pub fn with_txt(mut self, name: &str, text: &str) -> Self {
        self.entry(name).txt.push(text.to_owned());
        self
    }

    /// Adds a name to an address.
    #[must_use]
    pub fn with_ptr(mut self, ip: IpAddr, name: Domain) -> Self {
        self.ptr.entry(ip).or_default().push(name);
        self
    }

    /// Makes a name an alias of another (CNAME).
    #[must_use]
    pub fn with_alias(mut self, name: &str, target: &str) -> Self {
        self.entry(name).cname = Some(key(target));
        self
    }

    /// Makes each question about a name fail for now.
    #[must_use]
    pub fn with_failure(mut self, name: &str, text: &str) -> Self {
        self.entry(name).failure = Some(text.into());
        self
    }

    fn entry(&mut self, name: &str) -> &mut Records {
        self.names.entry(key(name)).or_default()
    }

    fn find(&self, name: &Domain) -> Result<&Records, DnsError> {
        let mut at = name.as_str();
        for _ in 0..8 {
            let records = self.names.get(at).ok_or(DnsError::NoDomain)?;
            if let Some(text) = &records.failure {
                return Err(DnsError::Temporary(text.clone()));
            }
            match &records.cname {
                Some(target) => at = target,
                None => return Ok(records),
            }
        }
        Err(DnsError::Temporary("CNAME chain too long".into()))
    }

    fn answer<T: Clone>(
        &self,
        name: &Domain,
        part: impl Fn(&Records) -> &Vec<T>,
    ) -> Result<Vec<T>, DnsError> {
        let found = part(self.find(name)?);
        if found.is_empty() { Err(DnsError::NoRecords) } else { Ok(found.clone()) }
    }
}

/// The form in which a [`Domain`] keeps a name.
fn key(name: &str) -> Box<str> {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase().into()
}

impl Resolver for StaticResolver {
    fn mx<'a>(&'a self, domain: &'a Domain) -> DnsFuture<'a, Vec<MxRecord>> {
        Box::pin(std::future::ready(self.answer(domain, |records| &records.mx)))
    }

    fn addresses<'a>(&'a self, name: &'a Domain) -> DnsFuture<'a, Vec<IpAddr>> {
        let answer = self.answer(name, |records| &records.addresses).and_then(|found| {
            let (v6, v4) = found.into_iter().partition(IpAddr::is_ipv6);
            either_family(Ok(v6), Ok(v4))
        });
        Box::pin(std::future::ready(answer))
    }

    fn txt<'a>(&'a self, name: &'a Domain) -> DnsFuture<'a, Vec<String>> {
        Box::pin(std::future::ready(self.answer(name, |records| &records.txt)))
    }

    fn ptr(&self, ip: IpAddr) -> DnsFuture<'_, Vec<Domain>> {
        let answer = self.ptr.get(&ip).cloned().ok_or(DnsError::NoDomain);
        Box::pin(std::future::ready(answer))
    }
}
