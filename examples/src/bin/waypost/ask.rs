//! Asking the running server, or where none runs, its spool.

use std::io::{self, Write as _};

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

/// Asks the server that runs with a configuration. Where none runs, the spool is opened and asked
/// itself. Each line of the answer but the last goes to `each`; the last one is returned.
///
/// The configuration may have errors while a server runs: it is only asked where the spool is.
pub(crate) fn ask(
    config: &str,
    request: Request,
    mut each: impl FnMut(control::Answer) -> Result<(), Failure>,
) -> Result<End, Failure> {
    let loaded = configuration::loaded(config)?;
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
