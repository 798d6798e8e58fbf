//! `waypost audit`: who changed what from what to what, and when (A12).

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use mail_parser::DateTime;
use waypost_queue::{QueueCommand, RetryScope};
use waypost_server::control::{self, AuditLine, Audited};
use waypost_types::Timestamp;

use crate::answer::{Answer, Failure};
use crate::ask::{self, Form};
use crate::{batch, table};

/// Characters of a name or a change.
const WIDTH: usize = 200;

/// Show who changed the configuration and the queue, oldest first (A12)
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: ask::Place,
    /// Only what happened since then: a date such as 2026-11-22, with or without a time (T13:45 or
    /// T13:45:00Z, in UTC), or how long ago, such as 90m, 12h or 7d
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<Timestamp>,
    /// Only the last N
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// Answer one JSON object a line; times are milliseconds since 1970
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let form = Form::of(arguments.json);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut write = |line: &AuditLine| match form {
        Form::Json => batch::write_line(&mut out, line),
        Form::Text => write_text(&mut out, line).map_err(Failure::from),
    };
    // With a count, the last ones of those seen so far; they are written at the end.
    let mut last: VecDeque<AuditLine> = VecDeque::new();
    let end = ask::ask(&arguments.place, control::Request::Audit, |answer| {
        let control::Answer::Audited(line) = answer else { return Ok(()) };
        if arguments.since.is_some_and(|since| line.at < since) {
            return Ok(());
        }
        let Some(count) = arguments.count else { return write(&line) };
        last.push_back(*line);
        if last.len() > count {
            last.pop_front();
        }
        Ok(())
    })?;
    last.iter().try_for_each(&mut write)?;
    out.flush()?;
    drop(out);
    ask::ended(end, form)
}

/// A date and time in UTC, or a span back from now.
fn since(text: &str) -> Result<Timestamp, String> {
    let wrong =
        || format!("`{text}` is no time; write 2026-11-22, 2026-11-22T13:45 or a span such as 12h");
    if let Some((number, unit)) = text.split_at_checked(text.len().saturating_sub(1))
        && let Ok(number) = number.parse::<u64>()
        && let Some(seconds) = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)]
            .iter()
            .find(|(name, _)| *name == unit)
    {
        let span = Duration::from_secs(number.saturating_mul(seconds.1));
        let since = SystemTime::now().checked_sub(span).unwrap_or(SystemTime::UNIX_EPOCH);
        let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        return Ok(Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)));
    }
    let full = match text.trim_end_matches('Z').len() {
        10 => format!("{}T00:00:00Z", text.trim_end_matches('Z')),
        16 => format!("{}:00Z", text.trim_end_matches('Z')),
        _ => format!("{}Z", text.trim_end_matches('Z')),
    };
    let date = DateTime::parse_rfc3339(&full).filter(DateTime::is_valid).ok_or_else(wrong)?;
    let seconds = u64::try_from(date.to_timestamp()).map_err(|_| wrong())?;
    Ok(Timestamp::from_millis(seconds.saturating_mul(1000)))
}

fn write_text(out: &mut impl Write, line: &AuditLine) -> io::Result<()> {
    let (what, lines) = match &line.what {
        Audited::Configuration { change, lines, .. } => {
            (format!("configuration: {}", shown(change)), lines.as_slice())
        }
        Audited::Queue(command) => (format!("queue: {}", said(command)), [].as_slice()),
    };
    writeln!(out, "{}  {}  {what}", line.at, shown(&line.who))?;
    // Longer than other names: the lines were made to be read whole.
    lines.iter().try_for_each(|line| writeln!(out, "    {}", table::shown(line.as_bytes(), 1000)))
}

fn said(command: &QueueCommand) -> String {
    match command {
        QueueCommand::Hold { id } => format!("hold {id}"),
        QueueCommand::Release { id } => format!("release {id}"),
        QueueCommand::Remove { id, sender, owed } => {
            format!("remove {id} from <{}>, {owed} deliveries owed", shown(&sender.to_string()))
        }
        QueueCommand::Retry { scope, messages } => match scope {
            RetryScope::Message(id) => format!("retry {id}"),
            RetryScope::Route(route) => format!("retry route {route}, {messages} messages"),
            RetryScope::All => format!("retry all, {messages} messages"),
        },
        other => format!("{other:?}"),
    }
}

fn shown(text: &str) -> String {
    table::shown(text.as_bytes(), WIDTH)
}
