//! How a command ends.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

/// What a command answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answer {
    /// Done.
    Done,
    /// The answer is no; it has been told why.
    No,
    /// Some input could not be used; it has been told which and why.
    Unusable,
}

/// Why a command could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The input is unusable: what it is, and the cure.
    #[error("{0}")]
    Input(String),
    /// The answer cannot be written.
    #[error("the answer cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// Turns the end of a command into the exit status; a failure is told on stderr. A reader that has
/// seen enough of stdout is no failure.
pub(crate) fn exit(ended: Result<Answer, Failure>) -> ExitCode {
    match ended {
        Ok(Answer::Done) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Ok(Answer::Unusable) => ExitCode::from(2),
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            tell(&failure.to_string());
            ExitCode::from(2)
        }
    }
}

/// Tells on stderr what is wrong with some input while the rest goes on.
pub(crate) fn tell(text: &str) {
    // There is nobody left to tell that stderr is closed.
    let _ = writeln!(io::stderr(), "waypost: {text}");
}

/// The bytes of a file; `-` is stdin.
pub(crate) fn read_file(path: &str) -> Result<Vec<u8>, Failure> {
    let read = if path == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    read.map_err(|error| {
        Failure::Input(format!(
            "{path}: cannot be read: {error}; name a file that can, or - for stdin"
        ))
    })
}
