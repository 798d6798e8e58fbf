//! Answers from name servers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as ServerError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use waypost_route::{Exchange, MxRecord};
use waypost_types::Domain;

use super::{DnsError, DnsFuture, Resolver, either_family};

/// Records read from one answer; further ones are left unread.
pub const MAX_RECORDS: usize = 100;

/// Bounds on the time and memory that answers take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsLimits {
    /// The time that one server gets for one try; 5 s by default.
    pub one_try: Duration,
    /// Tries after the first; 2 by default.
    pub retries: usize,
    /// The time that an answer gets in all; 20 s by default.
    pub answer: Duration,
    /// The longest time that a positive answer is cached, whatever its TTL; 1 day by default.
    pub longest_cached: Duration,
    /// The longest time that a negative answer is cached; 15 min by default.
    pub longest_cached_negative: Duration,
    /// Answers in the cache; 8,192 by default.
    pub cached_answers: u64,
}

impl Default for DnsLimits {
    fn default() -> Self {
        Self {
            one_try: Duration::from_secs(5),
            retries: 2,
            answer: Duration::from_secs(20),
            longest_cached: Duration::from_secs(24 * 3600),
            longest_cached_negative: Duration::from_secs(15 * 60),
            cached_answers: 8192,
        }
    }
}

/// Why a [`SystemResolver`] could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolverError {
    /// The system's configuration could not be read.
    #[error(
        "the system's DNS configuration could not be read: {0}; mend it (often /etc/resolv.conf), \
         or set `dns` to a list of server addresses"
    )]
    System(Box<str>),
    /// An empty list of servers.
    #[error(
        "the list `dns` names no server; write addresses such as `\"192.0.2.53\"`, or `\"system\"`"
    )]
    NoServers,
}

/// A [`Resolver`] that asks name servers over UDP, and over TCP where an answer is too long.
///
/// Cheap to clone: clones share the cache. Must be used inside a tokio runtime with I/O and time.
/// Names of more than one label are taken as they are, never with the system's search list.
#[derive(Clone)]
pub struct SystemResolver {
    inner: Arc<TokioResolver>,
    limits: DnsLimits,
}

impl std::fmt::Debug for SystemResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SystemResolver").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl SystemResolver {
    /// Asks the name servers of the system's configuration (`dns = "system"`), and its hosts file for
    /// addresses. A change of either takes a new resolver.
    ///
    /// # Errors
    /// [`ResolverError::System`] when the system's configuration cannot be read.
    pub fn from_system(limits: DnsLimits) -> Result<Self, ResolverError> {
        let wrong = |error: NetError| ResolverError::System(error.to_string().into());
        let mut builder = TokioResolver::builder_tokio().map_err(wrong)?;
        set(builder.options_mut(), limits, ResolveHosts::Always);
        Ok(Self { inner: Arc::new(built(builder).map_err(wrong)?), limits })
    }

    /// Asks these name servers only, at these ports; the hosts file is not looked at.
    ///
    /// # Errors
    /// [`ResolverError::NoServers`] for an empty list.
    pub fn with_servers(servers: &[SocketAddr], limits: DnsLimits) -> Result<Self, ResolverError> {
        if servers.is_empty() {
            return Err(ResolverError::NoServers);
        }
        // One entry an address: ports of one address are ways to the same server.
        let mut ways: BTreeMap<IpAddr, Vec<ConnectionConfig>> = BTreeMap::new();
        let mut order: Vec<IpAddr> = Vec::new();
        for server in servers {
            if !order.contains(&server.ip()) {
                order.push(server.ip());
            }
            for mut way in [ConnectionConfig::udp(), ConnectionConfig::tcp()] {
                way.port = server.port();
                ways.entry(server.ip()).or_default().push(way);
            }
        }
        let servers = order
            .into_iter()
            .map(|ip| NameServerConfig::new(ip, true, ways.remove(&ip).unwrap_or_default()))
            .collect();
        let config = ResolverConfig::from_name_servers(servers);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        set(builder.options_mut(), limits, ResolveHosts::Never);
        let built = built(builder).map_err(|e| ResolverError::System(e.to_string().into()))?;
        Ok(Self { inner: Arc::new(built), limits })
    }

    /// The library's resolver, with the same servers, limits and cache.
    #[cfg(feature = "authenticate")]
    pub(crate) fn library(&self) -> TokioResolver {
        TokioResolver::clone(&self.inner)
    }

    async fn records<T>(
        &self,
        name: Result<Name, DnsError>,
        kind: RecordType,
        read: impl Fn(&RData) -> Option<T>,
    ) -> Result<Vec<T>, DnsError> {
        let answer = tokio::time::timeout(self.limits.answer, self.inner.lookup(name?, kind));
        let lookup = match answer.await {
            Ok(answer) => answer.map_err(from_net)?,
            Err(_) => return Err(DnsError::Temporary("time-out".into())),
        };
        let found: Vec<T> = lookup
            .answers()
            .iter()
            .filter_map(|record| read(&record.data))
            .take(MAX_RECORDS)
            .collect();
        // An alias that leads to no record of the type leaves only itself in the answer.
        if found.is_empty() { Err(DnsError::NoRecords) } else { Ok(found) }
    }
}

#[cfg(not(feature = "authenticate"))]
fn built(builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<TokioResolver, NetError> {
    builder.build()
}

/// The feature brings DNS over TLS along, which is not used here: left alone, it would read the system's
/// certificates and fail where there are none.
#[cfg(feature = "authenticate")]
fn built(builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<TokioResolver, NetError> {
    builder.with_tls_config(crate::tls::trusting_nobody()).build()
}

fn set(options: &mut ResolverOpts, limits: DnsLimits, hosts: ResolveHosts) {
    options.timeout = limits.one_try;
    options.attempts = limits.retries;
    options.cache_size = limits.cached_answers;
    options.positive_max_ttl = Some(limits.longest_cached);
    options.negative_max_ttl = Some(limits.longest_cached_negative);
    options.use_hosts_file = hosts;
    // The library's 32 would turn away questions of a busy server.
    options.max_active_requests = 1024;
}

fn from_net(error: NetError) -> DnsError {
    match &error {
        NetError::Dns(ServerError::NoRecordsFound(found)) => match found.response_code {
            ResponseCode::NXDomain => DnsError::NoDomain,
            ResponseCode::NoError => DnsError::NoRecords,
            code => DnsError::Temporary(code.to_string().into()),
        },
        NetError::Dns(ServerError::ResponseCode(ResponseCode::NXDomain)) => DnsError::NoDomain,
        NetError::Timeout => DnsError::Temporary("time-out".into()),
        _ => DnsError::Temporary(error.to_string().into()),
    }
}

/// A name to ask for as it is, never with the search list.
fn absolute(name: &Domain) -> Result<Name, DnsError> {
    Name::from_ascii(format!("{name}."))
        .map_err(|error| DnsError::Temporary(error.to_string().into()))
}

/// A host's name; one without a dot may be short for one in the system's search list.
fn host_name(name: &Domain) -> Result<Name, DnsError> {
    if !name.is_unqualified() {
        return absolute(name);
    }
    Name::from_ascii(name.as_str()).map_err(|error| DnsError::Temporary(error.to_string().into()))
}

impl Resolver for SystemResolver {
    fn mx<'a>(&'a self, domain: &'a Domain) -> DnsFuture<'a, Vec<MxRecord>> {
        Box::pin(self.records(absolute(domain), RecordType::MX, |data| match data {
            RData::MX(mx) => Some(MxRecord {
                preference: mx.preference,
                exchange: Exchange::from_text(&mx.exchange.to_ascii()),
            }),
            _ => None,
        }))
    }

    fn addresses<'a>(&'a self, name: &'a Domain) -> DnsFuture<'a, Vec<IpAddr>> {
        let address = |data: &RData| match data {
            RData::A(ip) => Some(IpAddr::V4(ip.0)),
            RData::AAAA(ip) => Some(IpAddr::V6(ip.0).to_canonical()),
            _ => None,
        };
        Box::pin(async move {
            let (v6, v4) = tokio::join!(
                self.records(host_name(name), RecordType::AAAA, address),
                self.records(host_name(name), RecordType::A, address),
            );
            either_family(v6, v4)
        })
    }

    fn txt<'a>(&'a self, name: &'a Domain) -> DnsFuture<'a, Vec<String>> {
        Box::pin(self.records(absolute(name), RecordType::TXT, |data| match data {
            RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
            _ => None,
        }))
    }

    fn ptr(&self, ip: IpAddr) -> DnsFuture<'_, Vec<Domain>> {
        Box::pin(self.records(Ok(Name::from(ip)), RecordType::PTR, |data| match data {
            RData::PTR(name) => name.0.to_ascii().parse().ok(),
            _ => None,
        }))
    }
}
