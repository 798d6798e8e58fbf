//! What an organization's SPF and MX records should say, against what they say (B4).
//!
//! **In:** a compiled [`Organization`] with [`ServerSettings`], and what the DNS answered, as values.
//! **Out:** [`outbound_hosts`]: the hosts that its mail leaves by; [`mx_leads_to`]: whether an MX host
//! is this server or a listed inbound gateway; and in [`judge`] one warning for each thing to mend,
//! with the record to publish. **Not here:** no question is asked.

use std::fmt;
use std::net::IpAddr;

use waypost_inbound::{InboundGateway, PublicAddresses};
use waypost_rules::{Action, Direction, Mode};
use waypost_types::{Domain, HostPort};

use crate::diagnostics::{Diagnostic, Place, Report, Spanned};
use crate::policy::Organization;
use crate::raw::{RawConfig, RawOrganization};
use crate::settings::ServerSettings;

/// Terms of a record that may ask the DNS (RFC 7208 section 4.6.4).
const MAX_LOOKUPS: usize = 10;

/// A host that an organization's outbound mail goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundHost {
    /// The host.
    pub at: HostPort,
    /// It stands for its MX hosts.
    pub mx_lookup: bool,
}

/// The hosts of the setting `outbound_gateway` and of the routes that enforced rules choose for outbound
/// mail, each once (B1, B2).
#[must_use]
pub fn outbound_hosts(organization: &Organization) -> Vec<OutboundHost> {
    let setting = organization.outbound_gateway.iter();
    let mut found: Vec<OutboundHost> =
        setting.map(|at| OutboundHost { at: at.clone(), mx_lookup: false }).collect();
    for rule in organization.rules.rules() {
        let outbound = rule.mode == Mode::Enforce && rule.affects.contains(Direction::Outbound);
        let Action::Modify(changes) = &rule.action else { continue };
        let route = changes.route.as_ref().and_then(|name| organization.routes.get(name));
        let Some(route) = route.filter(|_| outbound) else { continue };
        for host in route.hosts() {
            let host = OutboundHost { at: host.at().clone(), mx_lookup: route.mx_lookup() };
            if !found.iter().any(|known| known.at.host == host.at.host) {
                found.push(host);
            }
        }
    }
    found
}

/// Who sends an organization's mail to the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// This server.
    Server(Domain),
    /// A host that outbound mail goes to.
    Gateway(OutboundHost),
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sender::Server(name) => write!(f, "this server ({name})"),
            Sender::Gateway(host) => write!(f, "the gateway {}", host.at.host),
        }
    }
}

/// Why a sender's addresses are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAddress {
    /// The DNS does not answer now.
    Unknown(String),
    /// It has none that others could see.
    None(String),
}

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoAddress::Unknown(why) | NoAddress::None(why) => f.write_str(why),
        }
    }
}

/// Where a sender's mail is seen to come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    /// Who sends.
    pub sender: Sender,
    /// Its public addresses, or why there are none.
    pub addresses: Result<Vec<IpAddr>, NoAddress>,
    /// The addresses were written into the configuration, not found by the sender's name.
    pub written: bool,
}

impl Sending {
    /// A sender with the addresses that were found or written; those that are not public are left out,
    /// since nobody outside sees them.
    #[must_use]
    pub fn new(sender: Sender, found: Result<Vec<IpAddr>, NoAddress>, written: bool) -> Self {
        let addresses = found.and_then(|found| {
            let (public, hidden): (Vec<_>, Vec<_>) =
                found.iter().partition(|ip| PublicAddresses::default().contains(**ip));
            match (public.is_empty(), hidden.first()) {
                (true, Some(hidden)) => {
                    Err(NoAddress::None(format!("{hidden} is no public address")))
                }
                _ => Ok(public),
            }
        });
        Self { sender, addresses, written }
    }

    /// The terms that put it into an SPF record; addresses alone if the record can ask no more.
    fn terms(&self, may_ask: bool) -> Vec<String> {
        let by_name = match &self.sender {
            _ if self.written || !may_ask => None,
            Sender::Server(name) => Some(format!("a:{name}")),
            Sender::Gateway(OutboundHost { at, mx_lookup }) => {
                let kind = if *mx_lookup { "mx" } else { "a" };
                at.host.name().map(|name| format!("{kind}:{name}"))
            }
        };
        let by_address = || {
            let found = self.addresses.iter().flatten();
            found.map(|ip| if ip.is_ipv4() { format!("ip4:{ip}") } else { format!("ip6:{ip}") })
        };
        by_name.map_or_else(|| by_address().collect(), |term| vec![term])
    }
}

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
    fn is_by_all(&self) -> bool {
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

/// Adds a warning for each thing to mend.
///
/// A failure of the DNS is told as such: nothing is said to be missing for it.
pub fn judge(raw: &RawConfig, facts: &[OrganizationFacts], report: &mut Report) {
    let hostname = raw.server.as_ref().and_then(|server| server.hostname.as_ref());
    let mut told = Vec::new();
    for found in facts {
        let written = raw.organization.iter();
        let named = |one: &&Spanned<RawOrganization>| {
            one.name.as_ref().is_some_and(|name| name.as_str() == &*found.organization)
        };
        let Some(organization) = written.clone().find(named) else { continue };
        for sending in &found.senders {
            let place = match &sending.sender {
                Sender::Server(_) => hostname.map_or(organization.place, |name| name.place),
                Sender::Gateway(host) => place_of_gateway(organization, &host.at),
            };
            if let Err(why) = &sending.addresses
                && !told.contains(&(place, &sending.sender))
            {
                told.push((place, &sending.sender));
                report.push(no_address(place, &sending.sender, why));
            }
        }
        for facts in &found.domains {
            let place = organization.domains.iter().find(|domain| domain.value == facts.domain);
            let place = place.map_or(organization.place, |domain| domain.place);
            spf(place, facts, &found.senders, report);
            mx(place, facts, hostname.map(|name| &name.value), report);
        }
    }
}

fn place_of_gateway(organization: &Spanned<RawOrganization>, at: &HostPort) -> Place {
    let setting = organization.outbound_gateway.as_ref();
    let setting = setting.filter(|written| written.host == at.host).map(|written| written.place);
    setting.unwrap_or(organization.place)
}

const ASK_AGAIN: &str = "nothing is said to be missing; ask again when this is known";

fn warning(
    id: &'static str,
    place: Place,
    message: impl Into<String>,
    cure: impl Into<String>,
) -> Diagnostic {
    Diagnostic::warning(id, place, "B4", message, cure)
}

fn no_address(place: Place, sender: &Sender, why: &NoAddress) -> Diagnostic {
    let message =
        format!("the addresses of {sender} are not known, so SPF was not compared: {why}");
    let cure = match (why, sender) {
        (NoAddress::Unknown(_), _) => {
            return warning("dns-unknown", place, message, ASK_AGAIN);
        }
        (NoAddress::None(_), Sender::Server(_)) => {
            "give the name an address, or write `public_addresses` into `[server]`: where others see \
             mail from this server come from"
        }
        (NoAddress::None(_), Sender::Gateway(_)) => {
            "ask whoever runs the gateway which addresses it sends from, and put them into the SPF \
             record"
        }
    };
    warning("sender-without-address", place, message, cure)
}

fn spf(place: Place, facts: &DomainFacts, senders: &[Sending], report: &mut Report) {
    let domain = &facts.domain;
    let all_terms = || senders.iter().flat_map(|sending| sending.terms(true)).collect::<Vec<_>>();
    match &facts.spf {
        SpfFacts::Unknown(why) => report.push(unknown(place, "SPF record", domain, why)),
        SpfFacts::Missing => report.push(warning(
            "spf-missing",
            place,
            format!("{domain} has no SPF record"),
            format!("publish the TXT record `{}`", with_terms("v=spf1 ~all", &all_terms())),
        )),
        SpfFacts::Several(records) => report.push(warning(
            "spf-several",
            place,
            format!("{domain} has {} SPF records, so none counts", records.len()),
            "join their terms in one record (RFC 7208 section 4.5)",
        )),
        SpfFacts::Found { record, checks } => {
            found_spf(place, domain, record, checks, senders, report);
        }
    }
}

fn found_spf(
    place: Place,
    domain: &Domain,
    record: &str,
    checks: &[SpfCheck],
    senders: &[Sending],
    report: &mut Report,
) {
    let first = |coverage: &Coverage| checks.iter().find(|check| check.coverage == *coverage);
    if let Some(broken) = first(&Coverage::Broken) {
        report.push(warning(
            "spf-broken",
            place,
            format!("the SPF record of {domain} cannot be evaluated: {}", broken.because),
            "correct it; until then receivers take it for an error",
        ));
        return;
    }
    if let Some(failed) = first(&Coverage::Unknown) {
        report.push(unknown(place, "SPF record", domain, &failed.because));
    }
    let everyone = |check: &&SpfCheck| check.coverage == Coverage::Covered && check.is_by_all();
    if let Some(open) = checks.iter().find(everyone) {
        let terms: Vec<String> = senders.iter().flat_map(|one| one.terms(true)).collect();
        report.push(warning(
            "spf-covers-everyone",
            place,
            format!(
                "the SPF record of {domain} covers every address there is, by {}",
                open.because
            ),
            format!("end it in `~all` or `-all`, and add {}", quoted(&terms)),
        ));
    }
    let lacking = |at: usize| {
        let lacks =
            |check: &&SpfCheck| check.sender == at && check.coverage == Coverage::NotCovered;
        checks.iter().filter(lacks).collect::<Vec<_>>()
    };
    let lookups = checks.iter().map(|check| check.lookups).max().unwrap_or_default();
    let mut left = MAX_LOOKUPS.saturating_sub(lookups);
    let mut missing = Vec::new();
    for (at, sending) in senders.iter().enumerate() {
        let lacking = lacking(at);
        if lacking.is_empty() {
            continue;
        }
        let terms = sending.terms(left > 0);
        left = left.saturating_sub(terms.iter().filter(|term| !term.starts_with("ip")).count());
        missing.push((sending, lacking, terms));
    }
    let together: Vec<String> = missing.iter().flat_map(|(_, _, terms)| terms.clone()).collect();
    for (sending, lacking, terms) in &missing {
        let id = match sending.sender {
            Sender::Server(_) => "spf-lacks-server",
            Sender::Gateway(_) => "spf-lacks-gateway",
        };
        let of: Vec<String> = lacking
            .iter()
            .map(|check| format!("{}: {} by {}", check.ip, check.result, check.because))
            .collect();
        report.push(warning(
            id,
            place,
            format!("the SPF record of {domain} lacks {} ({})", sending.sender, of.join(", ")),
            format!("add {}, so that it reads `{}`", quoted(terms), with_terms(record, &together)),
        ));
    }
}

fn mx(place: Place, facts: &DomainFacts, hostname: Option<&Domain>, report: &mut Report) {
    let domain = &facts.domain;
    let own = hostname.map_or("this server", Domain::as_str);
    let publish = format!("publish the MX record `{domain}. MX 10 {own}.`");
    let hosts = match &facts.mx {
        MxFacts::Unknown(why) => return report.push(unknown(place, "MX records", domain, why)),
        MxFacts::Null => {
            return report.push(warning(
                "mx-null",
                place,
                format!("{domain} takes no mail: it has a null MX record (RFC 7505)"),
                format!("if it is to take mail here, {publish} instead"),
            ));
        }
        MxFacts::Missing => {
            return report.push(warning(
                "mx-missing",
                place,
                format!("{domain} has neither MX records nor an address, so no mail comes"),
                publish,
            ));
        }
        MxFacts::Hosts(hosts) => hosts,
    };
    if let Some((host, why)) = hosts.iter().find_map(|host| match &host.leads_to {
        MxLeadsTo::Unknown(why) => Some((host, why)),
        _ => None,
    }) {
        report.push(unknown(place, &format!("MX host {} of", host.host), domain, why));
    }
    let elsewhere: Vec<&str> = hosts
        .iter()
        .filter(|host| host.leads_to == MxLeadsTo::Elsewhere)
        .map(|host| host.host.as_str())
        .collect();
    if elsewhere.is_empty() {
        return;
    }
    let what = match hosts.iter().all(|host| host.preference.is_none()) {
        true => format!("{domain} has no MX records, and its own address is"),
        false => {
            let are = if elsewhere.len() == 1 { "is" } else { "are" };
            format!("the MX records of {domain} name {}, which {are}", elsewhere.join(" and "))
        }
    };
    report.push(warning(
        "mx-elsewhere",
        place,
        format!("{what} neither this server ({own}) nor a listed inbound gateway"),
        format!(
            "{publish}, or list the addresses of the gateway in front of this server in \
             `[organization.inbound_gateway]`"
        ),
    ));
}

fn unknown(place: Place, what: &str, domain: &Domain, why: &str) -> Diagnostic {
    let what = what.strip_suffix(" of").unwrap_or(what);
    warning(
        "dns-unknown",
        place,
        format!("the {what} of {domain} could not be found out: {why}"),
        ASK_AGAIN,
    )
}

fn quoted(terms: &[String]) -> String {
    let quoted: Vec<String> = terms.iter().map(|term| format!("`{term}`")).collect();
    quoted.join(" and ")
}

/// A record with these terms before the one that ends it.
fn with_terms(record: &str, terms: &[String]) -> String {
    let ends = |term: &str| {
        let plain = term.trim_start_matches(['+', '-', '~', '?']);
        let redirect = plain.get(..9).is_some_and(|name| name.eq_ignore_ascii_case("redirect="));
        plain.eq_ignore_ascii_case("all") || redirect
    };
    let words: Vec<&str> = record.split(' ').filter(|word| !word.is_empty()).collect();
    let at = words.iter().position(|word| ends(word)).unwrap_or(words.len());
    let (before, behind) = words.split_at_checked(at).unwrap_or((&words, &[]));
    let terms = terms.iter().map(String::as_str);
    let all: Vec<&str> =
        before.iter().copied().chain(terms).chain(behind.iter().copied()).collect();
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_go_before_the_end_b4() {
        for (record, terms, want) in [
            ("v=spf1 -all", &["a:b.example"][..], "v=spf1 a:b.example -all"),
            (
                "v=spf1 mx  ~ALL",
                &["ip4:192.0.2.1", "mx:c.example"],
                "v=spf1 mx ip4:192.0.2.1 mx:c.example ~ALL",
            ),
            (
                "v=spf1 mx redirect=b.example",
                &["a:c.example"],
                "v=spf1 mx a:c.example redirect=b.example",
            ),
            ("v=spf1", &["a:c.example"], "v=spf1 a:c.example"),
            ("v=spf1 include:all.example ?all", &["mx"], "v=spf1 include:all.example mx ?all"),
        ] {
            let terms: Vec<String> = terms.iter().map(|term| (*term).to_owned()).collect();
            assert_eq!(with_terms(record, &terms), want);
        }
    }

    #[test]
    fn terms_name_a_sender_by_name_else_by_address_b4() {
        let ips = || Ok(vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]);
        let server = || Sender::Server("mx.solarmora.com".parse().unwrap());
        let gateway = |text: &str, mx_lookup| {
            let at = HostPort::parse_or(text, 25).unwrap();
            Sender::Gateway(OutboundHost { at, mx_lookup })
        };
        for (sender, written, may_ask, want) in [
            (server(), false, true, &["a:mx.solarmora.com"][..]),
            (server(), true, true, &["ip4:192.0.2.1", "ip6:2001:db8::1"]),
            (server(), false, false, &["ip4:192.0.2.1", "ip6:2001:db8::1"]),
            (gateway("smart.example:587", false), false, true, &["a:smart.example"]),
            (gateway("smart.example", true), false, true, &["mx:smart.example"]),
            (gateway("192.0.2.1", false), false, true, &["ip4:192.0.2.1", "ip6:2001:db8::1"]),
        ] {
            assert_eq!(Sending::new(sender, ips(), written).terms(may_ask), want);
        }
    }

    #[test]
    fn only_public_addresses_are_compared_b4() {
        let sending = |list: &[&str]| {
            let found = list.iter().map(|ip| ip.parse().unwrap()).collect();
            Sending::new(Sender::Server("mx.a.example".parse().unwrap()), Ok(found), false)
                .addresses
        };
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(sending(&["127.0.1.1", "192.0.2.1"]), Ok(vec![ip("192.0.2.1")]));
        assert_eq!(
            sending(&["127.0.1.1"]),
            Err(NoAddress::None("127.0.1.1 is no public address".to_owned()))
        );
    }
}
