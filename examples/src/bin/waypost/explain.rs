//! `waypost explain`: what would become of a message, and why (C9).

mod dns;

use std::io::{self, Write as _};
use std::net::IpAddr;

use serde::Deserialize;
use waypost_config::policy::{
    Answers, DryRun, DryRunError, Explanation, FilterAnswer, FilterSaid, Known, Policy,
};
use waypost_types::TlsState;

use self::dns::Asking;
use crate::answer::{self, Answer, Failure};
use crate::look::Look;
use crate::{batch, configuration};

/// Explain what would become of a message, without sending anything (C9)
///
/// A live session is played: the server's own `Received` line is not in the message. Nothing is asked
/// over the network unless --dns is given. Exit status: 0 some recipient is accepted, 1 all are refused.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The configuration's main file
    #[arg(value_name = "CONFIG")]
    config: String,
    /// The message, or its header alone; `-` is stdin
    #[arg(value_name = "MESSAGE.eml", required_unless_present = "batch")]
    message: Option<String>,
    /// The client's address
    #[arg(long, value_name = "IP", required_unless_present = "batch")]
    client_ip: Option<IpAddr>,
    /// The listener it connects to [default: the first for inbound mail, or with --auth for relaying]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The envelope sender; "" or <> is the null sender
    #[arg(long, value_name = "ADDRESS", required_unless_present = "batch")]
    from: Option<String>,
    /// A recipient; may be repeated
    #[arg(long, value_name = "ADDRESS", required_unless_present = "batch")]
    to: Vec<String>,
    /// The name that the client gives in EHLO
    #[arg(long, value_name = "NAME")]
    helo: Option<String>,
    /// The user that the client has authenticated as; counts inside TLS only (D6)
    #[arg(long, value_name = "USER")]
    auth: Option<String>,
    /// The session is inside TLS
    #[arg(long)]
    tls: bool,
    /// Suppose that the filter holds the message for spam, for this reason; none is asked (D17)
    #[arg(long, value_name = "REASON")]
    spam: Option<String>,
    /// The same of malware
    #[arg(long, value_name = "REASON", conflicts_with = "spam")]
    malware: Option<String>,
    /// Ask the DNS what the decision needs: SPF, DKIM and DMARC, where an organization evaluates them (E2)
    /// or wants its own senders proved (C3); what is not known in 10 seconds is a temperror
    #[arg(long)]
    dns: bool,
    /// Answer one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    look: Look,
    /// Read JSON lines {"id", "client_ip", "listener", "helo", "auth", "tls", "mail_from", "rcpt_to",
    /// "message", "spam", "malware"} on stdin and answer one each
    #[arg(long, conflicts_with_all = ["message", "client_ip", "listener", "from", "to", "helo", "auth", "tls", "spam", "malware"])]
    batch: bool,
}

#[derive(Deserialize)]
struct Question {
    client_ip: IpAddr,
    #[serde(default)]
    listener: Option<String>,
    #[serde(default)]
    helo: Option<String>,
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    tls: Option<bool>,
    mail_from: Option<String>,
    rcpt_to: Vec<String>,
    message: String,
    /// The filter is supposed to say so, for this reason.
    #[serde(default)]
    spam: Option<String>,
    #[serde(default)]
    malware: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let policy = configuration::policy(&arguments.config)?;
    let asking = arguments.dns.then(|| Asking::of(&policy)).transpose()?;
    if arguments.batch {
        return batch::run(|question: Question| answer(&policy, &question, asking.as_ref()));
    }
    one(arguments, &policy, asking.as_ref())
}

/// What becomes of a message, with what the filter is supposed to say, and with the DNS where it is asked.
fn explain(
    policy: &Policy,
    run: &DryRun<'_>,
    filter: Option<&FilterAnswer>,
    asking: Option<&Asking>,
) -> Result<Explanation, DryRunError> {
    let about = asking.map(|asking| asking.about(run.message));
    let answer = about.as_ref().map(|about| |question: &_| about.answer(question));
    let dns = answer.as_ref().map(|answer| Answers::Asked(answer));
    policy.explain_knowing(
        run,
        Known { dns, filter: filter.map(std::slice::from_ref).unwrap_or_default() },
    )
}

fn answer(
    policy: &Policy,
    question: &Question,
    asking: Option<&Asking>,
) -> Result<Explanation, DryRunError> {
    let run = DryRun {
        client_ip: question.client_ip,
        listener: question.listener.as_deref(),
        helo: question.helo.as_deref(),
        auth: question.auth.as_deref(),
        tls: tls(question.tls == Some(true)),
        mail_from: question.mail_from.as_deref().unwrap_or(""),
        rcpt_to: question.rcpt_to.iter().map(String::as_str).collect(),
        message: question.message.as_bytes(),
    };
    let filter = supposed(question.spam.as_deref(), question.malware.as_deref());
    explain(policy, &run, filter.as_ref(), asking)
}

/// What the filter is supposed to say; of two, the graver.
fn supposed(spam: Option<&str>, malware: Option<&str>) -> Option<FilterAnswer> {
    let malware = malware.map(|because| FilterSaid::Malware(because.into()));
    let said = malware.or_else(|| spam.map(|because| FilterSaid::Spam(because.into())));
    said.map(FilterAnswer::supposed)
}

fn one(arguments: &Arguments, policy: &Policy, asking: Option<&Asking>) -> Result<Answer, Failure> {
    let (Some(message), Some(client_ip), Some(from)) =
        (&arguments.message, arguments.client_ip, &arguments.from)
    else {
        return Err(Failure::Input("give --client-ip, --from, --to and a message".to_owned()));
    };
    let message = answer::read_file(message)?;
    let run = DryRun {
        client_ip,
        listener: arguments.listener.as_deref(),
        helo: arguments.helo.as_deref(),
        auth: arguments.auth.as_deref(),
        tls: tls(arguments.tls),
        mail_from: from,
        rcpt_to: arguments.to.iter().map(String::as_str).collect(),
        message: &message,
    };
    let filter = supposed(arguments.spam.as_deref(), arguments.malware.as_deref());
    let explanation = explain(policy, &run, filter.as_ref(), asking)
        .map_err(|error| Failure::Input(options(&error.to_string())))?;
    let mut out = io::stdout().lock();
    if arguments.json {
        batch::write_line(&mut out, &explanation)?;
    } else {
        write!(out, "{}", explanation.text(&arguments.look.layout()))?;
        if arguments.auth.is_some() && !arguments.tls {
            writeln!(out, "\nnote  --auth counts inside TLS only (D6); add --tls")?;
        }
    }
    let stored = explanation.replies.data.is_some_and(|reply| reply.starts_with('2'));
    Ok(if stored { Answer::Done } else { Answer::No })
}

fn tls(encrypted: bool) -> TlsState {
    if encrypted { TlsState::Encrypted } else { TlsState::Clear }
}

/// The error with the options' names for those of the batch form.
fn options(error: &str) -> String {
    error
        .replace("mail_from:", "--from:")
        .replace("rcpt_to:", "--to:")
        .replace("auth:", "--auth:")
        .replace("`listener`", "--listener")
}
