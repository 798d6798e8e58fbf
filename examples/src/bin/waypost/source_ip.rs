//! `waypost source-ip`: where messages came from (E3 to E6).

mod hop_table;

use std::io::{self, Write as _};
use std::net::IpAddr;

use clap::ArgAction;
use serde::{Deserialize, Serialize};
use waypost_inbound::{GatewaySettings, HopReport, InboundGateway, OwnLine, Reading, Source};
use waypost_types::HeaderBlock;

use crate::answer::{self, Answer, Failure};
use crate::batch;

/// Show the hops of messages and their source IP, as an inbound gateway's settings find it (E3-E6)
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Messages, or headers alone; `-` is stdin
    #[arg(value_name = "FILE", required_unless_present = "batch")]
    files: Vec<String>,
    /// The client that handed the message over [default: the one in the message's first `Received:
    /// from` line]
    #[arg(long, value_name = "IP")]
    client_ip: Option<IpAddr>,
    /// A gateway's address or range; may be repeated
    #[arg(long = "gateway", value_name = "CIDR")]
    gateways: Vec<String>,
    /// Go one hop back (E5) instead of looking for the first external address (E4)
    #[arg(long = "no-detect", action = ArgAction::SetFalse)]
    detect: bool,
    /// Stop at a line that is not understood (E4)
    #[arg(long)]
    strict: bool,
    /// Take gateway addresses that are not public (E1)
    #[arg(long)]
    allow_private: bool,
    /// Answer one JSON object for each file
    #[arg(long)]
    json: bool,
    /// Read JSON lines {"id", "client_ip", "gateways", "detect", "headers"} on stdin and answer one
    /// each; optional: "strict", "allow_private", "own_line"
    #[arg(long, conflicts_with_all = ["files", "client_ip", "gateways", "detect", "strict", "allow_private"])]
    batch: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    if arguments.batch { batch::run(answer) } else { files(arguments) }
}

#[derive(Deserialize)]
struct Question {
    client_ip: IpAddr,
    #[serde(default)]
    gateways: Option<Vec<String>>,
    #[serde(default = "on")]
    detect: bool,
    #[serde(default)]
    strict: bool,
    #[serde(default)]
    allow_private: bool,
    #[serde(default)]
    own_line: Option<bool>,
    headers: String,
}

fn on() -> bool {
    true
}

#[derive(Serialize)]
struct Reply {
    #[serde(flatten)]
    source: Source,
    hops: Vec<HopReport>,
}

fn answer(question: Question) -> Result<Reply, String> {
    let headers = batch::bytes("headers", &question.headers)?;
    let gateway = compiled(GatewaySettings {
        addresses: question.gateways.unwrap_or_default(),
        detect_external_ip: question.detect,
        strict: question.strict,
        allow_private: question.allow_private,
        ..GatewaySettings::default()
    })?;
    let own = match question.own_line {
        None => OwnLine::FindOut,
        Some(true) => OwnLine::Present,
        Some(false) => OwnLine::Absent,
    };
    let (source, hops) =
        gateway.source_with_hops(question.client_ip, own, &HeaderBlock::of(&headers));
    Ok(Reply { source, hops })
}

fn compiled(settings: GatewaySettings) -> Result<InboundGateway, String> {
    InboundGateway::new(&settings)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// What is said about one file.
#[derive(Serialize)]
struct FileReply<'a> {
    file: &'a str,
    client_ip: IpAddr,
    client_from: ClientFrom,
    #[serde(flatten)]
    reply: Reply,
}

/// Where the client's address was taken from.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum ClientFrom {
    Option,
    FirstReceivedLine,
}

fn files(arguments: &Arguments) -> Result<Answer, Failure> {
    let settings = GatewaySettings {
        addresses: arguments.gateways.clone(),
        detect_external_ip: arguments.detect,
        strict: arguments.strict,
        allow_private: arguments.allow_private,
        ..GatewaySettings::default()
    };
    let gateway = compiled(settings.clone()).map_err(|error| Failure::Input(options(&error)))?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut ended = Answer::Done;
    for file in &arguments.files {
        match one_file(arguments, &settings, &gateway, file, &mut out) {
            Err(Failure::Input(error)) => {
                out.flush()?;
                answer::tell(&error);
                ended = Answer::Unusable;
            }
            other => other?,
        }
    }
    out.flush()?;
    Ok(ended)
}

/// The error with the options' names for those of the settings.
fn options(error: &str) -> String {
    error.replace("addresses[", "--gateway [").replace("allow_private = true", "--allow-private")
}

fn one_file(
    arguments: &Arguments,
    settings: &GatewaySettings,
    gateway: &InboundGateway,
    file: &str,
    out: &mut impl io::Write,
) -> Result<(), Failure> {
    let message = answer::read_file(file)?;
    let header = HeaderBlock::of(&message);
    let (client_ip, client_from) = match arguments.client_ip {
        Some(ip) => (ip.to_canonical(), ClientFrom::Option),
        None => (own_line_ip(file, &header)?, ClientFrom::FirstReceivedLine),
    };
    let (source, hops) = gateway.source_with_hops(client_ip, OwnLine::FindOut, &header);
    let reply = Reply { source, hops };
    if arguments.json {
        return batch::write_line(out, &FileReply { file, client_ip, client_from, reply });
    }
    writeln!(out, "{file}")?;
    let origin = match client_from {
        ClientFrom::Option => "given by --client-ip",
        ClientFrom::FirstReceivedLine => {
            "taken from the message's first `Received: from` line; --client-ip names another"
        }
    };
    writeln!(out, "  client     {client_ip} ({origin})")?;
    writeln!(out, "  gateways   {}", gateways(settings))?;
    hop_table::write(out, client_ip, &header, &reply.hops)?;
    write_source(out, &source)?;
    Ok(())
}

/// A stored message begins with the line of the server that received it.
fn own_line_ip(file: &str, header: &HeaderBlock<'_>) -> Result<IpAddr, Failure> {
    let received = header.fields().filter(|field| field.is("Received"));
    let first = received.map(|field| Reading::of(field.raw)).find(|line| *line != Reading::By);
    let why = match first {
        Some(Reading::From(hop)) => return Ok(hop.ip),
        Some(_) => "its first `Received: from` line names no address",
        None => "it has no `Received: from` line",
    };
    Err(Failure::Input(format!(
        "{file}: {why}, so the client's address is not known (E3); give it with --client-ip"
    )))
}

fn gateways(settings: &GatewaySettings) -> String {
    if settings.addresses.is_empty() {
        return "none; --gateway names one".to_owned();
    }
    let how = match (settings.detect_external_ip, settings.strict) {
        (false, _) => "one hop back",
        (true, false) => "detecting the external IP",
        (true, true) => "detecting the external IP, strictly",
    };
    format!("{}; {how}", settings.addresses.join(", "))
}

fn write_source(out: &mut impl io::Write, source: &Source) -> io::Result<()> {
    use waypost_inbound::Because;
    let why = match source.because {
        Because::NotFromGateway => "the client is no listed gateway, so it is the source (E3)",
        Because::FirstExternal => "the first public address from the top that is no gateway (E4)",
        Because::PreviousHop => "the hop before the gateway (E5)",
        Because::NothingReadable => "a line is missing or not understood: the client (E4, E5)",
        Because::Internal => "every line was understood and none is external (E4)",
        _ => "",
    };
    let ip = source.ip.map_or_else(|| "none".to_owned(), |ip| ip.to_string());
    let spf = if source.spf { "due, for this address" } else { "not due" };
    writeln!(out, "  source IP  {ip}")?;
    writeln!(out, "  because    {}: {why}", source.because.as_str())?;
    writeln!(out, "  SPF check  {spf}\n")
}
