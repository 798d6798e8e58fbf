//! `waypost reload`: asks the running server to take its configuration anew (A12).

use std::io::{self, Write as _};

use serde::Serialize;
use waypost_server::control;

use crate::answer::{Answer, Failure};
use crate::ask::{self, Form};
use crate::batch;

/// Ask the running server to read its configuration anew, whole or not at all (A12)
///
/// The audit log names the user. Exit status: 0 it is in force, 1 it is refused and the running one
/// stays; all errors are printed, as `check` does.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: ask::Place,
    /// Answer one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Reply<'a> {
    version: &'a str,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let form = Form::of(arguments.json);
    let end = ask::ask(&arguments.place, control::Request::Reload, |answer| {
        let control::Answer::Reloaded { version } = answer else { return Ok(()) };
        let mut out = io::stdout().lock();
        match form {
            Form::Json => batch::write_line(&mut out, &Reply { version: &version }),
            Form::Text => {
                writeln!(out, "reloaded: version {version} is in force").map_err(Failure::from)
            }
        }
    })?;
    ask::ended(end, form)
}
