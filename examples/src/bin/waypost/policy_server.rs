//! `waypost policy-server`: answers a Postfix that receives and delivers by itself.

use std::io::{self, Write as _};
use std::path::PathBuf;

use serde_json::json;
use waypost_config::policy::Policy;
use waypost_config::postfix::{Limit, Table, limits};
use waypost_server::{ForeignSenders, Front, FrontAddress, Options, Reload, Server, load};

use crate::answer::{Answer, Failure};
use crate::configuration::unusable;
use crate::serve::{GRACE, Signals, live, raise_open_files, start_log};

/// Answers Postfix: who may relay, quotas and recipients by policy delegation; next hops, recipients and
/// aliases as tables. The decisions are those of `serve` with the same configuration, as far as
/// Postfix can follow them. Prints `ready` on stderr; SIGHUP or a changed file reloads; SIGTERM ends in
/// order. docs/POSTFIX.md says what to write in main.cf.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file.
    config: PathBuf,
    /// Where policy delegation is answered: 127.0.0.1:10030 or unix:/run/waypost/policy.
    #[arg(long, value_name = "ADDRESS")]
    policy: Vec<FrontAddress>,
    /// Where socketmap is answered. The tables are transport, senders, recipients, domains, aliases and
    /// tls.
    #[arg(long, value_name = "ADDRESS")]
    socketmap: Vec<FrontAddress>,
    /// Where one table is answered as a tcp table: transport=127.0.0.1:10032.
    #[arg(long, value_name = "TABLE=ADDRESS", value_parser = named_table)]
    tcp_table: Vec<(Table, FrontAddress)>,
    /// Takes foreign senders whom serve would rewrite (D8), and leaves them as they are; otherwise they are
    /// refused.
    #[arg(long)]
    keep_foreign_senders: bool,
    /// Prints the settings that Postfix cannot follow as serve does, each with the reason, and ends.
    #[arg(long)]
    list_limits: bool,
    /// Writes the log, or the list, as JSON.
    #[arg(long)]
    json: bool,
    /// What is logged, as `waypost serve --log` takes it.
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

fn named_table(text: &str) -> Result<(Table, FrontAddress), String> {
    let (table, address) =
        text.split_once('=').ok_or("write a table and an address: transport=127.0.0.1:10032")?;
    let table = table.parse::<Table>().map_err(|error| error.to_string())?;
    Ok((table, address.parse::<FrontAddress>().map_err(|error| error.to_string())?))
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    start_log(arguments.json, arguments.log.as_deref())?;
    let loaded = load(&arguments.config).map_err(|error| Failure::Input(unusable(&error)))?;
    let shown = loaded.report.render(false);
    if !shown.is_empty() {
        eprint!("{shown}");
    }
    let Some(policy) = loaded.policy.clone() else { return Ok(Answer::No) };
    if arguments.list_limits {
        print(&policy, arguments.json)?;
        return Ok(Answer::Done);
    }
    let front = Front {
        policy: arguments.policy.clone(),
        socketmap: arguments.socketmap.clone(),
        tcp_table: arguments.tcp_table.clone(),
        foreign_senders: match arguments.keep_foreign_senders {
            true => ForeignSenders::Kept,
            false => ForeignSenders::Refused,
        },
    };
    if front.policy.is_empty() && front.socketmap.is_empty() && front.tcp_table.is_empty() {
        let cure = "give --policy, --socketmap or --tcp-table, such as --policy 127.0.0.1:10030";
        return Err(Failure::Input(format!("there is nowhere to answer; {cure}")));
    }
    for Limit { organization, kind, name, because } in limits(&policy) {
        tracing::warn!(%organization, kind, %name, because, "not followed as serve does");
    }
    let base = loaded.base.clone();
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::Input(format!("the system gives no threads: {error}")))?;
    runtime.block_on(async {
        // Before `ready`: whoever waited for it may send a signal at once.
        let signals = Signals::listen()
            .map_err(|error| Failure::Input(format!("signals cannot be heard: {error}")))?;
        let options = Options { policy, base, resolver: None, authenticator: None };
        let started = Server::start_front(options, front).await;
        let server = started.map_err(|error| {
            let cure = "a spool has one owner: where serve runs too, give the policy server a \
                        configuration with a spool of its own, that includes the same organizations";
            let hint = match error {
                waypost_server::ServerError::Spool(_) => format!("; {cure}"),
                _ => String::new(),
            };
            Failure::Input(format!("{error}{hint}"))
        })?;
        for (name, address) in server.front_addresses() {
            tracing::info!(name, %address, "listening");
        }
        if let Some(address) = server.admin_address() {
            tracing::info!(name = "admin", %address, "listening");
        }
        if server.messages() > 0 {
            let messages = server.messages();
            tracing::warn!(messages, "mail is in the spool from before; it is delivered from here");
        }
        let asked = server.reload_requests();
        let reload = Reload::started(&server, &arguments.config, loaded).await;
        eprintln!("ready");
        live(&server, &arguments.config, reload, signals, asked).await;
        server.stop(GRACE).await;
        Ok(Answer::Done)
    })
}

fn print(policy: &Policy, as_json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let found = limits(policy);
    if as_json {
        let list = found.iter().map(|Limit { organization, kind, name, because }| {
            json!({"organization": organization, "kind": kind, "name": name, "because": because})
        });
        return writeln!(out, "{}", json!(list.collect::<Vec<_>>()));
    }
    if found.is_empty() {
        return writeln!(out, "Postfix can follow every setting as serve does.");
    }
    writeln!(out, "Settings that Postfix does not follow as serve does:")?;
    let mut last = None;
    for Limit { organization, kind, name, because } in &found {
        let this = (organization, kind, name);
        if last != Some(this) {
            writeln!(out, "\n{kind} \"{name}\" of {organization}")?;
            last = Some(this);
        }
        writeln!(out, "    {because}")?;
    }
    Ok(())
}
