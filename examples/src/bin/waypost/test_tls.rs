//! `waypost test-tls`: what every host of a route shows in TLS, and whether mail would go (A8).

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use waypost_config::policy::{Organization, Policy};
use waypost_config::settings::DnsServers;
use waypost_net::client::{
    Checked, Finding, HostReport, PROBE_TIME, Passage, RouteProbe, RouteReport, TlsReport,
};
use waypost_net::dns::{DnsLimits, Resolver, SystemResolver};
use waypost_net::tls::{CertificateFacts, TlsClients, TlsVersion};
use waypost_route::{Check, Route, TlsStart};
use waypost_types::{Timestamp, TlsDemand};

use crate::answer::{Answer, Failure};
use crate::pick_host::found_route;
use crate::{batch, configuration, table};

/// Addresses looked at at the same time.
const AT_ONCE: usize = 8;

/// Test the TLS connection of every host of a route (A8); no mail is sent
///
/// Exit status: 0 mail would go, by the route's own demands, at every address; 1 it would not; 2 the
/// configuration or the route cannot be used.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The configuration's main file
    #[arg(value_name = "CONFIG")]
    config: String,
    /// The route's name
    #[arg(value_name = "ROUTE")]
    route: String,
    /// The organization, where several have a route of that name
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
    /// How long one address may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = PROBE_TIME.as_secs(), value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// Answer one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let loaded = configuration::loaded(&arguments.config)?;
    let base = loaded.base.clone();
    let policy = configuration::usable(&arguments.config, loaded)?;
    let (owner, route) = found_route(&policy, &arguments.route, arguments.organization.as_deref())?;
    let limit = Duration::from_secs(arguments.timeout);
    let report = look(&policy, route, &base, limit)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp::default() + now;
    let mut out = io::BufWriter::new(io::stdout().lock());
    if arguments.json {
        batch::write_line(&mut out, &reply(owner, route, &report, now))?;
    } else {
        write_text(&mut out, owner, route, &report, now)?;
    }
    out.flush()?;
    Ok(if report.is_good() { Answer::Done } else { Answer::No })
}

fn look(
    policy: &Policy,
    route: &Route,
    base: &Path,
    limit: Duration,
) -> Result<RouteReport, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::Input(format!("the system gives no threads: {error}")))?;
    runtime.block_on(async {
        let resolver: Arc<dyn Resolver> = match &policy.server.dns {
            DnsServers::System => SystemResolver::from_system(DnsLimits::default()),
            DnsServers::List(servers) => {
                SystemResolver::with_servers(servers, DnsLimits::default())
            }
        }
        .map(Arc::new)
        .map_err(|error| Failure::Input(error.to_string()))?;
        let probe = RouteProbe {
            resolver: &*resolver,
            tls: &TlsClients::default(),
            hostname: &policy.server.hostname,
            base,
            limit,
            at_once: AT_ONCE,
        };
        Ok(probe.run(route).await)
    })
}

#[derive(Serialize)]
struct Reply<'a> {
    route: &'a str,
    organization: &'a str,
    ok: bool,
    hosts: Vec<HostReply<'a>>,
}

#[derive(Serialize)]
struct HostReply<'a> {
    host: String,
    tier: String,
    ok: bool,
    error: Option<String>,
    left_out: Vec<String>,
    addresses: Vec<AddressReply<'a>>,
}

#[derive(Serialize)]
struct AddressReply<'a> {
    host: String,
    address: String,
    ok: bool,
    mail: &'static str,
    tls: Option<&'static str>,
    cipher: Option<&'a str>,
    options: Vec<OptionReply>,
    error: Option<String>,
    days_left: Option<i64>,
    chain: Vec<CertificateReply<'a>>,
    names_to_use: Vec<&'a str>,
    remedies: Vec<String>,
}

#[derive(Serialize)]
struct OptionReply {
    option: &'static str,
    rule: &'static str,
    on: bool,
    result: &'static str,
    because: Option<String>,
}

#[derive(Serialize)]
struct CertificateReply<'a> {
    subject: &'a str,
    issuer: &'a str,
    names: &'a [String],
    not_before: String,
    not_after: String,
    days_left: i64,
}

fn reply<'a>(
    owner: &'a Organization,
    route: &'a Route,
    report: &'a RouteReport,
    now: Timestamp,
) -> Reply<'a> {
    Reply {
        route: route.name().as_str(),
        organization: &owner.name,
        ok: report.is_good(),
        hosts: report.hosts.iter().map(|host| host_reply(host, now)).collect(),
    }
}

fn host_reply(host: &HostReport, now: Timestamp) -> HostReply<'_> {
    HostReply {
        host: host.host.to_string(),
        tier: host.tier.to_string(),
        ok: host.is_good(),
        error: host.failure.as_ref().map(|failure| failure.reply.text().to_owned()),
        left_out: host.left_out.iter().map(ToString::to_string).collect(),
        addresses: host.addresses.iter().map(|address| address_reply(address, now)).collect(),
    }
}

fn address_reply(report: &TlsReport, now: Timestamp) -> AddressReply<'_> {
    AddressReply {
        host: report.host.to_string(),
        address: report.address.to_string(),
        ok: report.passage() != Passage::Stopped,
        mail: match report.passage() {
            Passage::Encrypted => "encrypted",
            Passage::Clear => "clear",
            Passage::Stopped => "stopped",
        },
        tls: version(report),
        cipher: report.session.as_ref().map(|session| &*session.cipher),
        options: report
            .findings
            .iter()
            .map(|finding| OptionReply {
                option: finding.switch.as_str(),
                rule: finding.switch.requirement(),
                on: finding.is_on,
                result: result(finding),
                because: because(finding),
            })
            .collect(),
        error: report.error.as_ref().map(ToString::to_string),
        days_left: report.certificate().map(|own| own.days_left(now)),
        chain: report
            .chain
            .iter()
            .map(|one| CertificateReply {
                subject: &one.subject,
                issuer: &one.issuer,
                names: &one.names,
                not_before: one.not_before.to_string(),
                not_after: one.not_after.to_string(),
                days_left: one.days_left(now),
            })
            .collect(),
        names_to_use: report.names_to_use(),
        remedies: report.remedies(),
    }
}

fn version(report: &TlsReport) -> Option<&'static str> {
    report.session.as_ref().map(|session| TlsVersion::named(&session.version).as_str())
}

fn result(finding: &Finding) -> &'static str {
    match &finding.result {
        Checked::Passes => "passes",
        Checked::Fails(_) => "fails",
        Checked::Unknown => "unknown",
    }
}

/// The failure without its cure, which stands among the remedies.
fn because(finding: &Finding) -> Option<String> {
    match &finding.result {
        Checked::Fails(failure) => Some(failure.what()),
        Checked::Passes | Checked::Unknown => None,
    }
}

/// What a row of the table says of a failure: why, and by which requirement.
fn told(finding: &Finding) -> String {
    match because(finding) {
        Some(why) => format!("{why} ({})", finding.switch.requirement()),
        None => String::new(),
    }
}

fn write_text(
    out: &mut impl io::Write,
    owner: &Organization,
    route: &Route,
    report: &RouteReport,
    now: Timestamp,
) -> io::Result<()> {
    writeln!(
        out,
        "route `{}` of {}: {}{}",
        route.name(),
        owner.name,
        route.protocol(),
        if route.mx_lookup() { ", by MX lookup" } else { "" }
    )?;
    for (host, written) in report.hosts.iter().zip(route.hosts()) {
        let start = match written.tls().start {
            TlsStart::Starttls => "STARTTLS",
            TlsStart::Implicit => "TLS from the first octet on",
        };
        writeln!(out, "\n{} ({}, {start})", host.host, host.tier)?;
        if let Some(failure) = &host.failure {
            writeln!(out, "  {}", failure.reply.text())?;
        }
        for left in &host.left_out {
            writeln!(out, "  left out: {left}")?;
        }
        for address in &host.addresses {
            write_address(out, host, address, now)?;
        }
    }
    let policy = route.hosts().first().map(|host| host.tls());
    let all_on = policy.is_some_and(|policy| {
        policy.requirement == TlsDemand::Required
            && policy.ca_signed == Check::On
            && policy.hostname == Check::On
    });
    writeln!(out)?;
    match (report.is_good(), all_on) {
        (true, true) => writeln!(out, "Mail would go by every address, inside verified TLS."),
        (true, false) => writeln!(
            out,
            "Mail would go by every address. Options that are off are better on, where they pass."
        ),
        (false, _) => writeln!(
            out,
            "Mail would not go by every address. The route can be kept as it is: its mail then \
             waits or comes back, as `on_tls_failure` says."
        ),
    }
}

fn write_address(
    out: &mut impl io::Write,
    host: &HostReport,
    report: &TlsReport,
    now: Timestamp,
) -> io::Result<()> {
    let of = match report.host == host.host {
        true => String::new(),
        false => format!(" of {}", report.host.host),
    };
    let mail = match report.passage() {
        Passage::Encrypted => "mail would go, encrypted",
        Passage::Clear => "mail would go, in clear text",
        Passage::Stopped => "mail would NOT go",
    };
    writeln!(out, "\n  {}{of}: {mail}", report.address)?;
    if let Some(error) = &report.error {
        writeln!(out, "    {error}")?;
    }
    if let (Some(version), Some(session)) = (version(report), &report.session) {
        writeln!(out, "    {version}, {}", table::shown(session.cipher.as_bytes(), 80))?;
    }
    let rows: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            [
                finding.switch.to_string(),
                if finding.is_on { "on" } else { "off" }.to_owned(),
                result(finding).to_owned(),
                told(finding),
            ]
        })
        .collect();
    table::write(out, "    ", ["option", "set", "result", ""], &rows)?;
    for (index, certificate) in report.chain.iter().enumerate() {
        write_certificate(out, index, certificate, now)?;
    }
    let remedies = report.remedies();
    if !remedies.is_empty() {
        writeln!(out, "    what helps:")?;
    }
    for remedy in remedies {
        writeln!(out, "      - {remedy}")?;
    }
    Ok(())
}

fn write_certificate(
    out: &mut impl io::Write,
    index: usize,
    certificate: &CertificateFacts,
    now: Timestamp,
) -> io::Result<()> {
    let left = match certificate.days_left(now) {
        days @ ..0 => format!("expired {} days ago", days.unsigned_abs()),
        0 => "less than a day left".to_owned(),
        days => format!("{days} days left"),
    };
    let date = |at: Timestamp| at.to_string().split('T').next().unwrap_or_default().to_owned();
    let nothing =
        |text: &str| if text.is_empty() { "(nothing)".to_owned() } else { text.to_owned() };
    let what = if index == 0 { "certificate" } else { "issued by" };
    let blank = "";
    writeln!(out, "    {what:<12} {}", nothing(&certificate.subject))?;
    if !certificate.names.is_empty() {
        writeln!(out, "    {blank:<12} for {}", certificate.names.join(", "))?;
    }
    let issuer = match certificate.is_self_issued() {
        true => "itself".to_owned(),
        false => nothing(&certificate.issuer),
    };
    writeln!(out, "    {blank:<12} by {issuer}")?;
    writeln!(
        out,
        "    {blank:<12} valid from {} to {}, {left}",
        date(certificate.not_before),
        date(certificate.not_after)
    )
}
