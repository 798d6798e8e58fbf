//! `waypost queue`: what is owed, and what an administrator does about it.

mod text;

use std::io::{self, Write};

use clap::Subcommand;
use serde::Serialize;
use waypost_config::policy::Layout;
use waypost_queue::RetryScope;
use waypost_server::control::{self, End, Request, State};
use waypost_types::{QueueId, RouteName};

use crate::answer::{Answer, Failure};
use crate::ask::{self, Form};
use crate::batch;
use crate::look::Look;

/// Show the queue, and hold, release, retry or remove messages
///
/// Asks the running server; where none runs, the spool itself. Exit status: 0 done, 1 the answer is
/// no, such as that there is no such message.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: ask::Place,
    #[command(subcommand)]
    command: Command,
    /// Answer JSON objects, one a line; times are milliseconds since 1970
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// List the messages, oldest first
    List {
        /// Only those with a delivery over the routes of this name
        #[arg(long, value_name = "ROUTE")]
        route: Option<RouteName>,
        /// Only those with a delivery in this state
        #[arg(long, value_name = "STATE")]
        state: Option<Wanted>,
    },
    /// Show one message: envelope, deliveries, and the decision with its explanation
    Show {
        /// The queue id
        id: QueueId,
        #[command(flatten)]
        look: Look,
    },
    /// Try at once what waits for its time
    #[command(group = clap::ArgGroup::new("scope").required(true))]
    Retry {
        /// The queue id
        #[arg(group = "scope")]
        id: Option<QueueId>,
        /// Everything that waits
        #[arg(long, group = "scope")]
        all: bool,
        /// What waits for the routes of this name
        #[arg(long, value_name = "ROUTE", group = "scope")]
        route: Option<RouteName>,
    },
    /// Hold a message; a delivery under way goes on, and is held if it is deferred
    Hold {
        /// The queue id
        id: QueueId,
    },
    /// Let a message go that is held or in a quarantine; it is delivered as was decided when it came
    Release {
        /// The queue id
        id: QueueId,
    },
    /// Throw a message away; nobody is told, and a delivery under way may still succeed
    Remove {
        /// The queue id
        id: QueueId,
    },
}

/// The states that a list may be asked for.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Wanted {
    Waiting,
    Ready,
    Running,
    Held,
}

impl From<Wanted> for State {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Waiting => Self::Waiting,
            Wanted::Ready => Self::Ready,
            Wanted::Running => Self::Running,
            Wanted::Held => Self::Held,
        }
    }
}

impl Command {
    fn request(self) -> Request {
        match self {
            Self::List { route, state } => Request::List { route, state: state.map(State::from) },
            Self::Show { id, look: _ } => Request::Show { id },
            Self::Hold { id } => Request::Hold { id },
            Self::Release { id } => Request::Release { id },
            Self::Remove { id } => Request::Remove { id },
            Self::Retry { id, route, all: _ } => Request::Retry {
                scope: match (id, route) {
                    (Some(id), _) => RetryScope::Message(id),
                    (None, Some(route)) => RetryScope::Route(route),
                    (None, None) => RetryScope::All,
                },
            },
        }
    }
}

#[derive(Serialize)]
struct Retried {
    retried: u64,
}

pub(crate) fn run(arguments: Arguments) -> Result<Answer, Failure> {
    let form = Form::of(arguments.json);
    let layout = match &arguments.command {
        Command::Show { look, .. } => look.layout(),
        _ => Layout::default(),
    };
    let request = arguments.command.request();
    let many = match &request {
        Request::List { .. } => Many::Listed,
        Request::Retry { scope: RetryScope::Route(_) | RetryScope::All } => Many::Retried,
        _ => Many::No,
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut headed = false;
    let end = ask::ask(&arguments.place, request, |answer| match form {
        Form::Json => write_json(&mut out, &answer),
        Form::Text => {
            if many == Many::Listed && !headed {
                headed = true;
                text::heading(&mut out)?;
            }
            text::write(&mut out, &answer, &layout).map_err(Failure::from)
        }
    })?;
    if let End::Done { count } = end {
        match (many, form) {
            (Many::Retried, Form::Json) => {
                batch::write_line(&mut out, &Retried { retried: count })?
            }
            (Many::Retried, Form::Text) => {
                writeln!(out, "{} tried now", text::counted(count, "message is", "messages are"))?;
            }
            (Many::Listed, Form::Text) => {
                writeln!(out, "{}", text::counted(count, "message", "messages"))?;
            }
            (Many::Listed, Form::Json) | (Many::No, _) => {}
        }
    }
    out.flush()?;
    drop(out);
    ask::ended(end, form)
}

/// Whether an answer is about many messages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Many {
    No,
    Listed,
    Retried,
}

fn write_json(out: &mut impl Write, answer: &control::Answer) -> Result<(), Failure> {
    match answer {
        control::Answer::Message(message) => batch::write_line(out, message),
        control::Answer::Shown(shown) => batch::write_line(out, shown),
        control::Answer::Changed(changed) => batch::write_line(out, changed),
        other => batch::write_line(out, other),
    }
}
