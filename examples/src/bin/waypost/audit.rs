//! `waypost audit`: who changed what, and when (A12).

use std::io::{self, Write};

use waypost_queue::{QueueCommand, RetryScope};
use waypost_server::control::{self, AuditLine, Audited};

use crate::answer::{Answer, Failure};
use crate::ask::{self, Form};
use crate::{batch, table};

/// Characters of a name or a change.
const WIDTH: usize = 200;

/// Show who changed the configuration and the queue, oldest first (A12)
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The configuration's main file, which names the spool
    #[arg(value_name = "CONFIG")]
    config: String,
    /// Answer one JSON object a line; times are milliseconds since 1970
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let form = Form::of(arguments.json);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let end = ask::ask(&arguments.config, control::Request::Audit, |answer| {
        let control::Answer::Audited(line) = answer else { return Ok(()) };
        match form {
            Form::Json => batch::write_line(&mut out, &line),
            Form::Text => write_text(&mut out, &line).map_err(Failure::from),
        }
    })?;
    out.flush()?;
    drop(out);
    ask::ended(end, form)
}

fn write_text(out: &mut impl Write, line: &AuditLine) -> io::Result<()> {
    let what = match &line.what {
        Audited::Configuration { change, .. } => format!("configuration: {}", shown(change)),
        Audited::Queue(command) => format!("queue: {}", said(command)),
    };
    writeln!(out, "{}  {}  {what}", line.at, shown(&line.who))
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
