//! Asks a filter, such as rspamd, what it thinks of a message (`waypost-net`, D17).
//!
//! ```text
//! filter_ask message.eml --milter milter:127.0.0.1:11332 --client-ip 192.0.2.1
//! ```
//!
//! Prints the verdict with its because and what is to be done to the header, as a table or as JSON. The
//! exit status is 0 when there is a verdict, whatever it is, 1 when the filter gives none, 2 when the
//! command is wrong.

use std::fs;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::json;
use waypost_net::milter::{
    FilterQuestion, FilterVerdict, MilterAddress, MilterClient, MilterLimits, TlsFacts,
};
use waypost_smtp::end_of_data::stuff;
use waypost_types::{Domain, Mailbox, QueueId, ReversePath};

/// Asks a filter what it thinks of a message.
#[derive(Parser)]
struct Arguments {
    /// The message; `-` reads it from the standard input
    file: PathBuf,
    /// Where the filter listens: `milter:HOST:PORT` or `milter:unix:PATH`
    #[arg(long, default_value = "milter:127.0.0.1:11332")]
    milter: MilterAddress,
    /// Who handed the message over
    #[arg(long)]
    client_ip: IpAddr,
    /// The source found behind gateways; this is what the filter is told as the client
    #[arg(long)]
    source_ip: Option<IpAddr>,
    /// The verified name of whoever is told as the client
    #[arg(long)]
    host_name: Option<String>,
    /// The argument of HELO
    #[arg(long, default_value = "client.example")]
    helo: String,
    /// The sender; without it the null sender
    #[arg(long)]
    sender: Option<Mailbox>,
    /// A recipient; can be given more than once
    #[arg(long, default_value = "postmaster@localhost.example")]
    recipient: Vec<Mailbox>,
    /// The user that AUTH proved
    #[arg(long)]
    auth: Option<String>,
    /// The version of TLS that the client used, as `TLSv1.3`
    #[arg(long)]
    tls: Option<String>,
    /// Our own name
    #[arg(long, default_value = "mx.localhost.example")]
    own_name: Domain,
    /// The message's queue id
    #[arg(long)]
    queue_id: Option<QueueId>,
    /// How often to ask, one after the other
    #[arg(long, default_value_t = 1)]
    times: u32,
    /// Seconds for each answer
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Print JSON, one line a verdict
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let message = match read(&arguments.file) {
        Ok(message) => message,
        Err(error) => {
            eprintln!("{}: {error}; name a file that can be read", arguments.file.display());
            return ExitCode::from(2);
        }
    };
    match ask(&arguments, &message).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The message as a server stores it: lines ended by CR LF, stuffed.
fn read(file: &PathBuf) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    match file.to_str() {
        Some("-") => drop(io::stdin().read_to_end(&mut text)?),
        _ => text = fs::read(file)?,
    }
    let mut message = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|octet| *octet == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        message.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        message.extend_from_slice(b"\r\n");
    }
    Ok(stuff(&message).into_owned())
}

async fn ask(arguments: &Arguments, message: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    let limits = MilterLimits {
        dialogue: Duration::from_secs(arguments.seconds),
        ..MilterLimits::default()
    };
    let client = MilterClient::new(arguments.milter.clone(), limits);
    let sender = arguments.sender.clone().map_or(ReversePath::Null, ReversePath::Mailbox);
    let mut question = FilterQuestion::new(
        &arguments.own_name,
        arguments.client_ip,
        &sender,
        &arguments.recipient,
        message,
    );
    question.source_ip = arguments.source_ip;
    question.host_name = arguments.host_name.as_deref();
    question.helo = Some(&arguments.helo);
    question.auth = arguments.auth.as_deref();
    question.queue_id = arguments.queue_id;
    let tls = |version| TlsFacts { version, ..TlsFacts::default() };
    question.tls = arguments.tls.as_deref().map(tls);
    for _ in 0..arguments.times {
        let verdict = client.filter(&question).await?;
        if arguments.json {
            println!("{}", json!(verdict));
        } else {
            print(&question, &verdict);
        }
    }
    Ok(())
}

fn print(question: &FilterQuestion<'_>, verdict: &FilterVerdict) {
    let mut rows = vec![
        ("told as client", question.told_ip().to_string()),
        ("verdict", verdict.action.to_string()),
        ("because", verdict.reason.to_string()),
    ];
    rows.extend(verdict.headers.iter().map(|edit| ("header", edit.to_string())));
    rows.extend(verdict.ignored.iter().map(|ignored| ("ignored", ignored.to_string())));
    for (name, value) in rows {
        println!("{name:14}  {value}");
    }
}
