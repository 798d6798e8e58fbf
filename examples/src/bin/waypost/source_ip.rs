//! `waypost source-ip`: where messages came from (E3 to E6).

mod hop_table;
mod summary;
pub(crate) mod trail;

use std::io::{self, Write as _};
use std::net::IpAddr;

use clap::ArgAction;
use serde::{Deserialize, Serialize};
use waypost_inbound::{GatewaySettings, HopReport, InboundGateway, OwnLine, Reading, Source};
use waypost_types::HeaderBlock;

use self::summary::Summary;
use self::trail::Trail;
use crate::answer::{Answer, Failure};
use crate::batch;
use crate::messages::{self, HEADER_SIZE, Message};
use crate::progress::Progress;

/// Show the hops of messages and their source IP, as an inbound gateway's settings find it (E3-E6)
///
/// Each message gets a table: its Received lines, newest first, with the host, the address, the software whose
/// layout it is, the time since the line below, and what became of it; a line is drawn where trust ends. Several
/// messages get a summary. Headers longer than 1 MiB are cut.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Messages, headers alone, mbox files, Maildir folders, folders of .eml files; `-` is stdin
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
    /// Only count: how many messages by because, the top networks and hosts
    #[arg(long)]
    summary: bool,
    /// Answer one JSON object for each message
    #[arg(long)]
    json: bool,
    /// Read JSON lines {"id", "client_ip", "gateways", "detect", "headers"} on stdin and answer one
    /// each; optional: "strict", "allow_private", "own_line"
    #[arg(long, conflicts_with_all = ["files", "client_ip", "gateways", "detect", "strict", "allow_private", "summary"])]
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
    /// How many more were passed over, of a very long header.
    #[serde(skip_serializing_if = "Option::is_none")]
    more_hops: Option<usize>,
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
    let more_hops = Some(hops.left_out).filter(|more| *more > 0);
    Ok(Reply { source, hops: hops.listed, more_hops })
}

fn compiled(settings: GatewaySettings) -> Result<InboundGateway, String> {
    InboundGateway::new(&settings).map_err(|errors| errors.to_string().replace('\n', "; "))
}

/// What is said about one message.
#[derive(Serialize)]
struct MessageReply<'a> {
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<u64>,
    client_ip: IpAddr,
    client_from: ClientFrom,
    #[serde(flatten)]
    trail: &'a Trail,
    #[serde(skip_serializing_if = "is_false")]
    header_cut: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(flag: &bool) -> bool {
    !flag
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
    let mut summary = Summary::default();
    let mut progress = Progress::new(arguments.summary);
    let ended = messages::each(&arguments.files, &mut progress, |message| {
        let done = one_message(arguments, &settings, &gateway, message, &mut summary, &mut out);
        if done.is_err() {
            out.flush()?;
        }
        done
    })?;
    let is_wanted = arguments.summary || (!arguments.json && summary.messages() > 1);
    match (is_wanted, arguments.json) {
        (false, _) => {}
        (true, true) => batch::write_line(&mut out, &summary.json())?,
        (true, false) => summary.write(&mut out)?,
    }
    out.flush()?;
    Ok(ended)
}

/// The error with the options' names for those of the settings.
fn options(error: &str) -> String {
    error.replace("addresses[", "--gateway [").replace("allow_private = true", "--allow-private")
}

fn one_message(
    arguments: &Arguments,
    settings: &GatewaySettings,
    gateway: &InboundGateway,
    message: Message<'_>,
    summary: &mut Summary,
    out: &mut impl io::Write,
) -> Result<(), Failure> {
    let header = HeaderBlock::of(message.header);
    let (client_ip, client_from) = match arguments.client_ip {
        Some(ip) => (ip.to_canonical(), ClientFrom::Option),
        None => (own_line_ip(&message, &header)?, ClientFrom::FirstReceivedLine),
    };
    let trail = Trail::of(gateway, client_ip, &header);
    summary.add(&trail);
    if arguments.summary {
        return Ok(());
    }
    if arguments.json {
        let Message { file, number, cut, .. } = message;
        let reply = MessageReply {
            file,
            message: number,
            client_ip,
            client_from,
            trail: &trail,
            header_cut: cut,
        };
        return batch::write_line(out, &reply);
    }
    writeln!(out, "{}", message.place())?;
    let origin = match client_from {
        ClientFrom::Option => "given by --client-ip",
        ClientFrom::FirstReceivedLine => {
            "taken from the message's first `Received: from` line; --client-ip names another"
        }
    };
    writeln!(out, "  client     {client_ip} ({origin})")?;
    writeln!(out, "  gateways   {}", gateways(settings))?;
    if message.cut {
        writeln!(
            out,
            "  note       the header is longer than {HEADER_SIZE} octets; the rest is cut"
        )?;
    }
    hop_table::write(out, &trail)?;
    write_source(out, &trail.source)?;
    Ok(())
}

/// A stored message begins with the line of the server that received it.
fn own_line_ip(message: &Message<'_>, header: &HeaderBlock<'_>) -> Result<IpAddr, Failure> {
    let received = header.fields().filter(|field| field.is("Received"));
    let first = received.map(|field| Reading::of(field.raw)).find(|line| *line != Reading::By);
    let why = match first {
        Some(Reading::From(hop)) => return Ok(hop.ip),
        Some(_) => "its first `Received: from` line names no address",
        None => "it has no `Received: from` line",
    };
    Err(Failure::Input(format!(
        "{}: {why}, so the client's address is not known (E3); give it with --client-ip",
        message.place()
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
    let why = summary::sentence(source.because);
    let ip = source.ip.map_or_else(|| "none".to_owned(), |ip| ip.to_string());
    let spf = if source.spf { "due, for this address" } else { "not due" };
    writeln!(out, "  source IP  {ip}")?;
    writeln!(out, "  because    {}: {why}", source.because.as_str())?;
    writeln!(out, "  SPF check  {spf}\n")
}
