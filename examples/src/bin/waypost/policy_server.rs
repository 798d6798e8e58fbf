//! `waypost policy-server`: answers a Postfix that receives and delivers by itself.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::json;
use waypost_config::policy::Policy;
use waypost_config::postfix::{Limit, Table, limits};
use waypost_server::{
    ForeignSenders, Front, FrontAddress, Inherited, InheritedError, Options, Prepared, Reload,
    Server, load,
};

use crate::answer::{Answer, Failure};
use crate::configuration::unusable;
use crate::milter::Work;
use crate::serve::{GRACE, Signals, live, raise_open_files, start_log};
use crate::sockets::Rights;
use crate::{privileges, service_manager};

/// Answers Postfix: who may relay, quotas and recipients by policy delegation; next hops, recipients and
/// aliases as tables. The decisions are those of `serve` with the same configuration, as far as
/// Postfix can follow them. Prints `ready` on stderr; SIGHUP or a changed file reloads; SIGTERM ends in
/// order. Sockets of a service manager are taken (LISTEN_FDS) by their names (policy, socketmap, milter,
/// tcp-table-transport and the like) or addresses, and it is told of the state (NOTIFY_SOCKET); started as root, it becomes
/// the `user` of the configuration. docs/POSTFIX.md says what to write in main.cf.
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
    /// Where a milter listens beside: inet:127.0.0.1:10033. It works as `waypost milter` does.
    #[arg(long, value_name = "ADDRESS")]
    milter: Vec<FrontAddress>,
    #[command(flatten)]
    work: Work,
    #[command(flatten)]
    rights: Rights,
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

/// What a front end is started with.
pub(crate) struct Asked<'a> {
    pub(crate) config: &'a Path,
    pub(crate) json: bool,
    pub(crate) log: Option<&'a str>,
    pub(crate) list_limits: bool,
    /// Who cannot follow everything.
    pub(crate) server: &'static str,
    /// What it cannot follow.
    pub(crate) limits: &'a dyn Fn(&Policy) -> Vec<Limit>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    // While there is one thread: it takes variables out of the environment.
    let inherited = Inherited::from_environment();
    let front = Front {
        policy: arguments.policy.clone(),
        socketmap: arguments.socketmap.clone(),
        tcp_table: arguments.tcp_table.clone(),
        foreign_senders: match arguments.keep_foreign_senders {
            true => ForeignSenders::Kept,
            false => ForeignSenders::Refused,
        },
        milter: arguments.milter.clone(),
        milter_settings: arguments.work.settings(),
        socket_rights: arguments.rights.of_sockets()?,
        ..Front::default()
    };
    let handed = |name| inherited.as_ref().is_ok_and(|inherited| inherited.has(name));
    let has_policy = !front.policy.is_empty() || handed("policy");
    let has_milter = !front.milter.is_empty() || handed("milter");
    let limits = |policy: &Policy| both(policy, has_policy, has_milter);
    let asked = Asked {
        config: &arguments.config,
        json: arguments.json,
        log: arguments.log.as_deref(),
        list_limits: arguments.list_limits,
        server: "Postfix",
        limits: &limits,
    };
    run_front(&asked, front, inherited)
}

/// What is not followed: with a milter, what that cannot do, and routes as tables tell them.
fn both(policy: &Policy, has_policy: bool, has_milter: bool) -> Vec<Limit> {
    let mut found = limits(policy);
    if has_milter {
        found.retain(|limit| limit.kind == "route");
        let of_milter = waypost_config::milter::limits(policy).into_iter();
        found.extend(of_milter.filter(|limit| !(has_policy && limit.kind == "relay")));
    }
    found
}

pub(crate) fn run_front(
    asked: &Asked<'_>,
    front: Front,
    inherited: Result<Inherited, InheritedError>,
) -> Result<Answer, Failure> {
    start_log(asked.json, asked.log)?;
    let inherited = inherited.map_err(|error| Failure::Input(error.to_string()))?;
    let loaded = load(asked.config).map_err(|error| Failure::Input(unusable(&error)))?;
    let shown = loaded.report.render(false);
    if !shown.is_empty() {
        eprint!("{shown}");
    }
    let Some(policy) = loaded.policy.clone() else { return Ok(Answer::No) };
    let limits = (asked.limits)(&policy);
    if asked.list_limits {
        print(&limits, asked.server, asked.json)?;
        return Ok(Answer::Done);
    }
    let listener = front.milter_settings.listener.as_deref();
    let mut known = policy.server.listeners.iter().map(|one| &*one.name);
    if let Some(name) = listener.filter(|name| !known.any(|known| known == *name)) {
        let cure = "name one of the configuration, or leave the option out";
        return Err(Failure::Input(format!(
            "--listener {name}: there is no such [[listener]]; {cure}"
        )));
    }
    for Limit { organization, kind, name, because } in limits {
        tracing::warn!(%organization, kind, %name, because, "not followed as serve does");
    }
    let base = loaded.base.clone();
    raise_open_files();
    let prepared = Prepared::bind_front(&policy, &front, inherited)
        .map_err(|error| Failure::Input(error.to_string()))?;
    privileges::give_up(&policy.server, &base.join(&*policy.server.spool))?;
    // From here on there are threads.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::Input(format!("the system gives no threads: {error}")))?;
    runtime.block_on(async {
        // Before `ready`: whoever waited for it may send a signal at once.
        let signals = Signals::listen()
            .map_err(|error| Failure::Input(format!("signals cannot be heard: {error}")))?;
        let options = Options { policy, base, resolver: None, authenticator: None };
        let started = Server::start_on(prepared, options).await;
        let server = started.map_err(|error| {
            let cure = "a spool has one owner: where serve runs too, give this program a \
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
        let requests = server.reload_requests();
        let reload = Reload::started(&server, asked.config, loaded).await;
        eprintln!("ready");
        service_manager::ready();
        live(&server, asked.config, reload, signals, requests).await;
        service_manager::stopping();
        server.stop(GRACE).await;
        Ok(Answer::Done)
    })
}

fn print(found: &[Limit], server: &str, as_json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if as_json {
        let list = found.iter().map(|Limit { organization, kind, name, because }| {
            json!({"organization": organization, "kind": kind, "name": name, "because": because})
        });
        return writeln!(out, "{}", json!(list.collect::<Vec<_>>()));
    }
    if found.is_empty() {
        return writeln!(out, "{} can follow every setting as serve does.", capitalized(server));
    }
    writeln!(out, "Settings that {server} does not follow as serve does:")?;
    let mut last = None;
    for Limit { organization, kind, name, because } in found {
        let this = (organization, kind, name);
        if last != Some(this) {
            writeln!(out, "\n{kind} \"{name}\" of {organization}")?;
            last = Some(this);
        }
        writeln!(out, "    {because}")?;
    }
    Ok(())
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
