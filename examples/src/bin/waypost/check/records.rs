//! What the DNS says of the domains of a configuration (B4), as text and as JSON.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use waypost_config::dns::{
    Coverage, DomainFacts, MxFacts, MxHost, MxLeadsTo, NoAddress, OrganizationFacts, OutboundHost,
    Sender, Sending, SpfCheck, SpfFacts, mx_leads_to, outbound_hosts,
};
use waypost_config::policy::{Organization, Policy};
use waypost_config::settings::DnsServers;
use waypost_net::dns::{DnsError, DnsLimits, Resolver, SystemResolver};
use waypost_net::spf::{SpfRecordError, SpfResult, check_host, spf_record};
use waypost_route::{Exchange, MxRecord};
use waypost_types::{Domain, Host};

use crate::answer::Failure;
use crate::table;

/// Columns for what comes from the DNS.
const ANSWER_WIDTH: usize = 200;

/// A person waits for the answers.
fn limits() -> DnsLimits {
    DnsLimits {
        one_try: Duration::from_secs(3),
        retries: 1,
        answer: Duration::from_secs(8),
        ..DnsLimits::default()
    }
}

/// Asks the DNS about every organization.
///
/// # Errors
/// There is no name server to ask.
pub(super) fn look(policy: &Policy) -> Result<Vec<OrganizationFacts>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::Input(format!("the system gives no threads: {error}")))?;
    runtime.block_on(async {
        let resolver = match &policy.server.dns {
            DnsServers::System => SystemResolver::from_system(limits()),
            DnsServers::List(servers) => SystemResolver::with_servers(servers, limits()),
        };
        let resolver = resolver.map_err(|error| Failure::Input(error.to_string()))?;
        let looking = Looking { resolver: &resolver, policy };
        let server = looking.server().await;
        let mut found = Vec::new();
        for organization in policy.organizations() {
            found.push(looking.organization(organization, &server).await);
        }
        Ok(found)
    })
}

struct Looking<'a> {
    resolver: &'a dyn Resolver,
    policy: &'a Policy,
}

impl Looking<'_> {
    async fn server(&self) -> Sending {
        let server = &self.policy.server;
        let written = !server.public_addresses.is_empty();
        let found = match written {
            true => Ok(server.public_addresses.clone()),
            false => self.addresses(&server.hostname).await,
        };
        Sending::new(Sender::Server(server.hostname.clone()), found, written)
    }

    async fn organization(
        &self,
        organization: &Organization,
        server: &Sending,
    ) -> OrganizationFacts {
        let mut senders = vec![server.clone()];
        for host in outbound_hosts(organization) {
            let found = self.gateway(&host).await;
            senders.push(Sending::new(Sender::Gateway(host), found, false));
        }
        let own = server.addresses.as_deref().ok();
        let mut domains = Vec::new();
        for domain in &organization.domains {
            let spf = self.spf(domain, &senders).await;
            let mx = self.mx(domain, own, organization).await;
            domains.push(DomainFacts { domain: domain.clone(), spf, mx });
        }
        OrganizationFacts { organization: organization.name.clone(), senders, domains }
    }

    async fn addresses(&self, name: &Domain) -> Result<Vec<IpAddr>, NoAddress> {
        self.resolver.addresses(name).await.map_err(|error| no_address(name, &error))
    }

    async fn gateway(&self, host: &OutboundHost) -> Result<Vec<IpAddr>, NoAddress> {
        let name = match &host.at.host {
            Host::Ip(ip) => return Ok(vec![*ip]),
            Host::Name(name) => name,
        };
        if !host.mx_lookup {
            return self.addresses(name).await;
        }
        let records = match self.resolver.mx(name).await {
            Ok(records) => records,
            Err(DnsError::NoRecords) => return self.addresses(name).await,
            Err(error) => return Err(no_address(name, &error)),
        };
        let mut found = Vec::new();
        for record in records {
            if let Exchange::Host(host) = &record.exchange {
                found.extend(self.addresses(host).await?);
            }
        }
        Ok(found)
    }

    async fn spf(&self, domain: &Domain, senders: &[Sending]) -> SpfFacts {
        let record = match spf_record(self.resolver, domain).await {
            Ok(record) => record,
            Err(SpfRecordError::Missing) => return SpfFacts::Missing,
            Err(SpfRecordError::Several(records)) => return SpfFacts::Several(records),
            Err(error) => return SpfFacts::Unknown(error.to_string()),
        };
        let mut checks = Vec::new();
        for (sender, sending) in senders.iter().enumerate() {
            for ip in sending.addresses.iter().flatten() {
                let spf =
                    check_host(self.resolver, domain, *ip, &self.policy.server.hostname).await;
                let coverage = match spf.result {
                    SpfResult::Pass => Coverage::Covered,
                    SpfResult::PermError => Coverage::Broken,
                    SpfResult::TempError => Coverage::Unknown,
                    _ => Coverage::NotCovered,
                };
                let (result, because, lookups) = (spf.result.as_str(), spf.because, spf.lookups);
                checks.push(SpfCheck { sender, ip: *ip, coverage, result, because, lookups });
            }
        }
        SpfFacts::Found { record, checks }
    }

    async fn mx(
        &self,
        domain: &Domain,
        own: Option<&[IpAddr]>,
        organization: &Organization,
    ) -> MxFacts {
        let mut records = match self.resolver.mx(domain).await {
            Ok(records) => records,
            Err(DnsError::NoDomain) => return MxFacts::Missing,
            Err(DnsError::NoRecords) => {
                return match self.resolver.addresses(domain).await {
                    Ok(found) => MxFacts::Hosts(vec![MxHost {
                        host: domain.to_string(),
                        preference: None,
                        leads_to: self.leads_to(domain, Ok(found), own, organization),
                    }]),
                    Err(DnsError::NoRecords | DnsError::NoDomain) => MxFacts::Missing,
                    Err(error) => MxFacts::Unknown(error.to_string()),
                };
            }
            Err(error) => return MxFacts::Unknown(error.to_string()),
        };
        if records.iter().all(|record| record.exchange == Exchange::Null) {
            return MxFacts::Null;
        }
        records.sort_by_key(|record| (record.preference, exchange(record)));
        let mut hosts = Vec::new();
        for record in records {
            let leads_to = match &record.exchange {
                Exchange::Host(host) => {
                    let found = self.resolver.addresses(host).await;
                    self.leads_to(host, found, own, organization)
                }
                _ => MxLeadsTo::Elsewhere,
            };
            let (host, preference) = (exchange(&record), Some(record.preference));
            hosts.push(MxHost { host, preference, leads_to });
        }
        MxFacts::Hosts(hosts)
    }

    fn leads_to(
        &self,
        host: &Domain,
        found: Result<Vec<IpAddr>, DnsError>,
        own: Option<&[IpAddr]>,
        organization: &Organization,
    ) -> MxLeadsTo {
        let found = match found {
            // A host without an address is nobody's.
            Err(DnsError::NoRecords | DnsError::NoDomain) => Ok(Vec::new()),
            found => found.map_err(|error| error.to_string()),
        };
        let gateway = organization.inbound_gateway.as_ref();
        let found = found.as_deref().map_err(Clone::clone);
        mx_leads_to(host, found, &self.policy.server, own, gateway)
    }
}

fn no_address(name: &Domain, error: &DnsError) -> NoAddress {
    let text = format!("{name}: {error}");
    match error {
        DnsError::NoRecords | DnsError::NoDomain => NoAddress::None(text),
        _ => NoAddress::Unknown(text),
    }
}

fn exchange(record: &MxRecord) -> String {
    match &record.exchange {
        Exchange::Host(host) => host.to_string(),
        Exchange::Null => ".".to_owned(),
        Exchange::Unusable(text) => text.to_string(),
    }
}

/// The answers as a table for each organization.
pub(super) fn write_text(out: &mut Vec<u8>, found: &[OrganizationFacts]) -> io::Result<()> {
    for organization in found {
        let mut rows = Vec::new();
        for facts in &organization.domains {
            let mut domain = facts.domain.to_string();
            let told = spf_rows(&facts.spf, &organization.senders).into_iter();
            for [record, of, answer] in told.chain(mx_rows(&facts.mx)) {
                let answer = table::shown(answer.as_bytes(), ANSWER_WIDTH);
                rows.push([std::mem::take(&mut domain), record, of, answer]);
            }
        }
        let heading = ["domain", "record", "of", "what the DNS says"];
        table::write(out, "", heading, &rows)?;
        out.push(b'\n');
    }
    Ok(())
}

fn spf_rows(spf: &SpfFacts, senders: &[Sending]) -> Vec<[String; 3]> {
    let row = |of: &str, answer: String| ["SPF".to_owned(), of.to_owned(), answer];
    match spf {
        SpfFacts::Missing => vec![row("", "no record".to_owned())],
        SpfFacts::Several(records) => {
            records.iter().map(|record| row("one of several", record.clone())).collect()
        }
        SpfFacts::Unknown(why) => vec![row("", why.clone())],
        SpfFacts::Found { record, checks } => {
            let mut rows = vec![row("", record.clone())];
            for check in checks {
                let who = senders.get(check.sender).map(|sending| sending.sender.to_string());
                let who = who.unwrap_or_default();
                let answer = format!("{} by {}", check.result, check.because);
                rows.push(row(&format!("{}, {who}", check.ip), answer));
            }
            rows
        }
    }
}

fn mx_rows(mx: &MxFacts) -> Vec<[String; 3]> {
    let row = |of: String, answer: String| ["MX".to_owned(), of, answer];
    let hosts = match mx {
        MxFacts::Missing => return vec![row(String::new(), "no record".to_owned())],
        MxFacts::Null => return vec![row(".".to_owned(), "takes no mail".to_owned())],
        MxFacts::Unknown(why) => return vec![row(String::new(), why.clone())],
        MxFacts::Hosts(hosts) => hosts,
    };
    let one = |host: &MxHost| {
        let of = match host.preference {
            Some(preference) => format!("{preference} {}", host.host),
            None => format!("{} itself", host.host),
        };
        let answer = match &host.leads_to {
            MxLeadsTo::Server => "this server".to_owned(),
            MxLeadsTo::Gateway(ip) => format!("the inbound gateway {ip}"),
            MxLeadsTo::Elsewhere => "neither this server nor a listed gateway".to_owned(),
            MxLeadsTo::Unknown(why) => why.clone(),
        };
        row(table::shown(of.as_bytes(), ANSWER_WIDTH), answer)
    };
    hosts.iter().map(one).collect()
}

#[derive(Serialize)]
pub(super) struct OrganizationReply<'a> {
    organization: &'a str,
    senders: Vec<SenderReply<'a>>,
    domains: Vec<DomainReply<'a>>,
}

#[derive(Serialize)]
struct SenderReply<'a> {
    kind: &'static str,
    host: String,
    addresses: &'a [IpAddr],
    error: Option<String>,
}

#[derive(Serialize)]
struct DomainReply<'a> {
    domain: &'a str,
    spf: SpfReply<'a>,
    mx: MxReply<'a>,
}

#[derive(Serialize)]
struct SpfReply<'a> {
    state: &'static str,
    records: Vec<&'a str>,
    error: Option<&'a str>,
    checks: Vec<CheckReply<'a>>,
}

#[derive(Serialize)]
struct CheckReply<'a> {
    kind: &'static str,
    ip: IpAddr,
    result: &'a str,
    because: &'a str,
    lookups: usize,
}

#[derive(Serialize)]
struct MxReply<'a> {
    state: &'static str,
    error: Option<&'a str>,
    hosts: Vec<HostReply<'a>>,
}

#[derive(Serialize)]
struct HostReply<'a> {
    host: &'a str,
    preference: Option<u16>,
    leads_to: &'static str,
    gateway: Option<IpAddr>,
    error: Option<&'a str>,
}

/// The answers for `--json`.
pub(super) fn reply(found: &[OrganizationFacts]) -> Vec<OrganizationReply<'_>> {
    found.iter().map(organization_reply).collect()
}

fn organization_reply(found: &OrganizationFacts) -> OrganizationReply<'_> {
    OrganizationReply {
        organization: &found.organization,
        senders: found.senders.iter().map(sender_reply).collect(),
        domains: found.domains.iter().map(|facts| domain_reply(facts, &found.senders)).collect(),
    }
}

fn kind(sender: &Sender) -> &'static str {
    match sender {
        Sender::Server(_) => "server",
        Sender::Gateway(_) => "gateway",
    }
}

fn sender_reply(sending: &Sending) -> SenderReply<'_> {
    SenderReply {
        kind: kind(&sending.sender),
        host: match &sending.sender {
            Sender::Server(name) => name.to_string(),
            Sender::Gateway(host) => host.at.host.to_string(),
        },
        addresses: sending.addresses.as_deref().unwrap_or_default(),
        error: sending.addresses.as_ref().err().map(ToString::to_string),
    }
}

fn domain_reply<'a>(facts: &'a DomainFacts, senders: &[Sending]) -> DomainReply<'a> {
    let (state, records, error, checks): (_, Vec<&str>, _, &[SpfCheck]) = match &facts.spf {
        SpfFacts::Missing => ("missing", Vec::new(), None, &[]),
        SpfFacts::Several(all) => ("several", all.iter().map(String::as_str).collect(), None, &[]),
        SpfFacts::Unknown(why) => ("unknown", Vec::new(), Some(why.as_str()), &[]),
        SpfFacts::Found { record, checks } => ("found", vec![record.as_str()], None, checks),
    };
    let check = |check: &'a SpfCheck| CheckReply {
        kind: senders.get(check.sender).map_or("server", |sending| kind(&sending.sender)),
        ip: check.ip,
        result: check.result,
        because: &check.because,
        lookups: check.lookups,
    };
    let checks = checks.iter().map(check).collect();
    DomainReply {
        domain: facts.domain.as_str(),
        spf: SpfReply { state, records, error, checks },
        mx: mx_reply(&facts.mx),
    }
}

fn mx_reply(mx: &MxFacts) -> MxReply<'_> {
    let (state, error, hosts): (_, _, &[MxHost]) = match mx {
        MxFacts::Missing => ("missing", None, &[]),
        MxFacts::Null => ("null", None, &[]),
        MxFacts::Unknown(why) => ("unknown", Some(why.as_str()), &[]),
        MxFacts::Hosts(hosts) => ("found", None, hosts),
    };
    MxReply { state, error, hosts: hosts.iter().map(host_reply).collect() }
}

fn host_reply(host: &MxHost) -> HostReply<'_> {
    let (leads_to, gateway, error) = match &host.leads_to {
        MxLeadsTo::Server => ("server", None, None),
        MxLeadsTo::Gateway(ip) => ("gateway", Some(*ip), None),
        MxLeadsTo::Elsewhere => ("elsewhere", None, None),
        MxLeadsTo::Unknown(why) => ("unknown", None, Some(why.as_str())),
    };
    HostReply { host: &host.host, preference: host.preference, leads_to, gateway, error }
}
