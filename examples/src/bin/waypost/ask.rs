//! Asking the running server, or where none runs, its spool.

use std::io::{self, Write as _};
use std::path::PathBuf;

use serde::Serialize;
use waypost_server::control::{self, Answers, AskError, End, Offline, Request};

use crate::answer::{self, Answer, Failure};
use crate::{batch, configuration};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people.
    Text,
    /// For programs: a JSON object a line.
    Json,
}

impl Form {
    pub(crate) fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// Whose spool is asked.
#[derive(clap::Args)]
pub(crate) struct Place {
    /// The configuration's main file, which names the spool
    #[arg(value_name = "CONFIG")]
    config: String,
    /// The spool of the running server, for when CONFIG cannot be read at all: then it is not
    #[arg(long, value_name = "DIR", global = true)]
    spool: Option<PathBuf>,
}

impl Place {
    /// The configuration's main file.
    pub(crate) fn config(&self) -> &str {
        &self.config
    }
}

/// Asks the server that runs with a configuration. Where none runs, the spool is opened and asked
/// itself. Each line of the answer but the last goes to `each`; the last one is returned.
///
/// The configuration may have errors while a server runs: it is only asked where the spool is, and
/// with `--spool` not even that.
pub(crate) fn ask(
    place: &Place,
    request: Request,
    mut each: impl FnMut(control::Answer) -> Result<(), Failure>,
) -> Result<End, Failure> {
    let config = place.config.as_str();
    if let Some(spool) = &place.spool {
        return match control::ask(spool, &request) {
            Ok(answers) => read(answers, &mut each),
            Err(error @ AskError::NoServer { .. }) => {
                let text = format!("{error}; without --spool, the spool itself is asked");
                Err(Failure::Input(text))
            }
            Err(error) => Err(Failure::Input(error.to_string())),
        };
    }
    let loaded = configuration::loaded(config).map_err(|failure| match failure {
        Failure::Input(text) => {
            let cure = "a server that still runs answers with `--spool DIR`, the directory that it keeps mail in";
            Failure::Input(format!("{text}\n{cure}"))
        }
        other => other,
    })?;
    let spool = configuration::spool(config, &loaded)?;
    match control::ask(&spool, &request) {
        Ok(answers) => read(answers, &mut each),
        Err(AskError::NoServer { .. }) => {
            let base = loaded.base.clone();
            let policy = configuration::usable(config, loaded)?;
            let offline = Offline::open(policy, &base);
            let offline = offline.map_err(|error| Failure::Input(error.to_string()))?;
            for damaged in offline.set_aside() {
                answer::tell(&format!("{} is set aside: {}", damaged.what, damaged.because));
            }
            read(offline.ask(request), &mut each)
        }
        Err(error) => Err(Failure::Input(error.to_string())),
    }
}

fn read(
    answers: Answers<'_>,
    each: &mut impl FnMut(control::Answer) -> Result<(), Failure>,
) -> Result<End, Failure> {
    for answer in answers {
        match answer.map_err(|error| Failure::Input(error.to_string()))? {
            control::Answer::End(end) => return Ok(end),
            other => each(other)?,
        }
    }
    Err(Failure::Input(AskError::Cut.to_string()))
}

/// The exit status of an end; a no is told on stderr, and as `{"error": …}` to programs.
pub(crate) fn ended(end: End, form: Form) -> Result<Answer, Failure> {
    #[derive(Serialize)]
    struct Refused<'a> {
        error: &'a str,
    }
    match end {
        End::Done { .. } => Ok(Answer::Done),
        End::No { because } => {
            match form {
                Form::Text => answer::tell(&because),
                Form::Json => {
                    batch::write_line(&mut io::stdout().lock(), &Refused { error: &because })?;
                }
            }
            Ok(Answer::No)
        }
        End::NotReloaded { text, report } => {
            let mut out = io::stdout().lock();
            match form {
                Form::Text => out.write_all(text.as_bytes())?,
                Form::Json => batch::write_line(&mut out, &report)?,
            }
            Ok(Answer::No)
        }
        End::Unusable { because } => Err(Failure::Input(because)),
        _ => Err(Failure::Input("the server is of another version".to_owned())),
    }
}
