//! `waypost quota`: how far the relay quotas are used (D10-D14), or a replay against them.

use std::io::{self, Write as _};

use waypost_relay::LimitMode;
use waypost_server::control::{self, Counted, QuotaLine};

use crate::answer::{Answer, Failure};
use crate::ask::{self, Form};
use crate::{batch, configuration, replay, table};

/// Show how far relay quotas are used and when there is room again, or play transactions against them
/// (D10-D14)
///
/// Exit status: 1 when there is no such organization or user.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The configuration's main file
    #[arg(value_name = "CONFIG")]
    config: String,
    /// A user's address, or an organization's name [default: all organizations]
    #[arg(value_name = "USER|ORGANIZATION", conflicts_with = "replay")]
    of: Option<String>,
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
        return replay::run(configuration::policy(&arguments.config)?);
    }
    let form = Form::of(arguments.json);
    let request = control::Request::Quota { of: arguments.of.clone() };
    let mut rows = Vec::new();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let end = ask::ask(&arguments.config, request, |answer| {
        let control::Answer::Quota(line) = answer else { return Ok(()) };
        match form {
            Form::Json => batch::write_line(&mut out, &line),
            Form::Text => {
                rows.push(row(&line));
                Ok(())
            }
        }
    })?;
    if !rows.is_empty() {
        let heading = ["whose", "limit", "used", "under way", "allowed", "room"];
        table::write(&mut out, "", heading, &rows)?;
    }
    out.flush()?;
    drop(out);
    ask::ended(end, form)
}

fn row(line: &QuotaLine) -> [String; 6] {
    let QuotaLine { organization, user, mode, counted, quota } = line;
    let whose = user.as_ref().map_or_else(|| organization.to_string(), ToString::to_string);
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
    let number = |number: u32| number.to_string();
    [
        table::shown(whose.as_bytes(), 80),
        quota.limit.to_string(),
        number(quota.used),
        number(quota.reserved),
        number(quota.allowed),
        room,
    ]
}
