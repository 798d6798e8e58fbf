//! Asking a running server. Blocking: for programs of the command line.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::answer::Answer;
use super::request::Request;
use super::socket;

/// The longest wait for the next line of an answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Octets of one line of an answer.
const LINE: u64 = 256 << 20;

/// Why a server does not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Nobody listens on the socket.
    #[error("no server runs: nobody listens on {socket}; start `waypost serve`")]
    NoServer {
        /// Where.
        socket: PathBuf,
    },
    /// The socket is not ours to use.
    #[error(
        "{socket} may not be used by this user; run the command as the server's user or as root"
    )]
    Denied {
        /// Where.
        socket: PathBuf,
    },
    /// The connection broke.
    #[error("{socket}: {source}; look at the server's log")]
    Broken {
        /// Where.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The server hung up before its answer ended.
    #[error(
        "the server hung up before its answer ended; look whether it still runs and what it did"
    )]
    Cut,
    /// A line that this program does not understand.
    #[error("the server said what this program cannot read: {0}; use the same version for both")]
    Unreadable(String),
}

/// The lines of an answer, as they come; the last one is an [`Answer::End`].
pub struct Answers<'a>(Box<dyn Iterator<Item = Result<Answer, AskError>> + 'a>);

impl<'a> Answers<'a> {
    pub(crate) fn new(answers: impl Iterator<Item = Result<Answer, AskError>> + 'a) -> Self {
        Self(Box::new(answers))
    }
}

impl Iterator for Answers<'_> {
    type Item = Result<Answer, AskError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

/// Asks the server that has a spool open. Waits two minutes for each line at most.
///
/// # Errors
/// [`AskError`]; [`AskError::NoServer`] when there is none.
pub fn ask(spool: &Path, request: &Request) -> Result<Answers<'static>, AskError> {
    let path = spool.join(socket::NAME);
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskError::NoServer { socket: path.clone() }
        }
        io::ErrorKind::PermissionDenied => AskError::Denied { socket: path.clone() },
        _ => AskError::Broken { socket: path.clone(), source },
    };
    let mut stream = socket::at_short_path(spool, socket::NAME, |path| UnixStream::connect(path))
        .map_err(failed)?;
    let mut line = serde_json::to_vec(request).map_err(|error| failed(error.into()))?;
    line.push(b'\n');
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    // A server that has no place for us answers and hangs up without reading.
    match stream.write_all(&line) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(failed(error)),
        _ => {}
    }
    let mut lines = BufReader::new(stream);
    let mut over = false;
    Ok(Answers::new(std::iter::from_fn(move || {
        if over {
            return None;
        }
        let answer = next_line(&mut lines, &path);
        over = matches!(answer, Err(_) | Ok(Answer::End(_)));
        Some(answer)
    })))
}

fn next_line(lines: &mut BufReader<UnixStream>, path: &Path) -> Result<Answer, AskError> {
    let mut line = Vec::new();
    let read = lines.by_ref().take(LINE).read_until(b'\n', &mut line);
    match read {
        Ok(_) if line.ends_with(b"\n") => {
            serde_json::from_slice(&line).map_err(|error| AskError::Unreadable(error.to_string()))
        }
        Ok(_) => Err(AskError::Cut),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(AskError::Cut),
        Err(source) => Err(AskError::Broken { socket: path.to_owned(), source }),
    }
}
