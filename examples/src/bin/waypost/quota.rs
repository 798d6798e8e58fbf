//! `waypost quota`: how far the relay quotas are used (D10-D14), or a replay against them.

use std::io::{self, Write as _};
use std::net::IpAddr;

use waypost_relay::LimitMode;
use waypost_server::control::{self, Counted, QuotaLine};

use crate::answer::{Answer, Failure};
use crate::ask::{self, Form};
use crate::{batch, configuration, look, replay, table};

/// Show how far relay quotas are used and when there is room again, or play transactions against them
/// (D10-D14)
///
/// Exit status: 1 when there is no such organization or user.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: ask::Place,
    /// A user's address, an organization's name, or a client's IP address [default: all organizations]
    #[arg(value_name = "USER|ORGANIZATION|IP", conflicts_with = "replay")]
    of: Option<String>,
    /// Show only limits of which at least 80 % are used or under way
    #[arg(long, conflicts_with = "replay")]
    near: bool,
    /// Read JSON lines {"id", "at", "client_ip", "helo", "auth", "tls", "mail_from", "rcpt_to",
    /// "accepted"} on stdin, play them on a relay listener with simulated time, and answer the
    /// replies' codes
    #[arg(long)]
    replay: bool,
    /// Answer one JSON object for each limit; times are milliseconds since 1970
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    if arguments.replay {
        return replay::run(configuration::policy(arguments.place.config())?);
    }
    let form = Form::of(arguments.json);
    let request = control::Request::Quota { of: arguments.of.clone() };
    let colored = look::is_colored();
    let mut rows = Vec::new();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let end = ask::ask(&arguments.place, request, |answer| {
        let control::Answer::Quota(line) = answer else { return Ok(()) };
        if arguments.near && (!line.quota.is_near() || line.mode == LimitMode::Off) {
            return Ok(());
        }
        match form {
            Form::Json => {
                batch::write_line(&mut out, &Shared { percent: line.quota.percent(), line: &line })
            }
            Form::Text => {
                rows.push(row(&line, colored));
                Ok(())
            }
        }
    })?;
    if !rows.is_empty() {
        let heading = ["whose", "limit", "used", "under way", "allowed", "share", "room"];
        table::write(&mut out, "", heading, &rows)?;
    }
    out.flush()?;
    drop(out);
    ask::ended(end, form)
}

/// A line for programs, with what follows from it.
#[derive(serde::Serialize)]
struct Shared<'a> {
    #[serde(flatten)]
    line: &'a QuotaLine,
    percent: u64,
}

fn row(line: &QuotaLine, colored: bool) -> [String; 7] {
    let QuotaLine { organization, user, login, client, mode, counted, quota } = line;
    let whose = match (user.as_ref().or(login.as_ref()), client) {
        (Some(user), _) => user.to_string(),
        (None, Some(IpAddr::V6(client))) => format!("{client}/64 ({organization})"),
        (None, Some(client)) => format!("{client} ({organization})"),
        (None, None) => organization.to_string(),
    };
    let used = quota.used.saturating_add(quota.reserved);
    let room = match (quota.room_at, quota.allowed.saturating_sub(used)) {
        (Some(at), _) => format!("at {at} or before"),
        (None, 0) => "never: the limit is 0".to_owned(),
        (None, left) => left.to_string(),
    };
    let room = match mode {
        LimitMode::Enforce => room,
        LimitMode::Observe => format!("{room} (only observed)"),
        LimitMode::Off => "no limit: mode is off".to_owned(),
    };
    let room = match counted {
        Counted::Here | Counted::Shared => room,
        Counted::HereForNow => format!("{room} (this node alone: Redis does not answer)"),
    };
    let colour = match (mode, quota.room_at) {
        _ if !colored || quota.allowed == 0 => "",
        (LimitMode::Enforce, Some(_)) => "\u{1b}[31m",
        (LimitMode::Enforce | LimitMode::Observe, _) if quota.is_near() => "\u{1b}[33m",
        _ => "",
    };
    // In the last column, where nothing is aligned behind it.
    let room = if colour.is_empty() { room } else { format!("{colour}{room}\u{1b}[0m") };
    let number = |number: u32| number.to_string();
    [
        table::shown(whose.as_bytes(), 80),
        quota.limit.to_string(),
        number(quota.used),
        number(quota.reserved),
        number(quota.allowed),
        format!("{} %", quota.percent()),
        room,
    ]
}
