//! The socket in the spool, and who talks on it.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use super::answer::{Answer, End};
use super::desk::Desk;
use super::peer;
use super::request::Request;

/// Its name in the spool.
pub(crate) const NAME: &str = "control.sock";
/// Octets of a request.
const LINE: usize = 4 << 10;
/// Clients at a time.
const CLIENTS: usize = 16;
/// Answers that wait for a client to read them.
const WAITING: usize = 64;
/// The longest path that a socket's address holds everywhere; longer ones take a way round.
const LONGEST_PATH: usize = 100;

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For its whole request.
    pub(super) request: Duration,
    /// To make room for the next answers.
    pub(super) answer: Duration,
}

const PATIENCE: Patience =
    Patience { request: Duration::from_secs(10), answer: Duration::from_secs(30) };

/// The server's end of the socket.
pub(crate) struct Socket {
    spool: PathBuf,
    task: JoinHandle<()>,
}

impl Socket {
    /// Makes the socket, for its owner alone, in place of one that a dead server left, and answers on
    /// it. Whoever calls this holds the spool's lock, so no living server's socket is replaced.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open(spool: &Path, desk: Arc<Desk>) -> io::Result<Self> {
        let listener = bind(spool)?;
        let task = tokio::spawn(serve(listener, desk, PATIENCE));
        Ok(Self { spool: spool.to_owned(), task })
    }

    /// Removes the socket and hangs up on everyone. To be called while the spool is still locked.
    pub(crate) fn close(self) {
        if let Err(error) = fs::remove_file(self.spool.join(NAME)) {
            tracing::warn!(%error, "the command socket cannot be removed");
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Binds under another name and renames, so that nobody sees the socket before its mode is set.
pub(super) fn bind(spool: &Path) -> io::Result<UnixListener> {
    let (fresh, name) = (spool.join("control.sock.new"), spool.join(NAME));
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = at_short_path(spool, "control.sock.new", |path| UnixListener::bind(path))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
    fs::rename(&fresh, &name)?;
    Ok(listener)
}

/// Calls with the path of a file in a folder, or, where that is too long for a socket's address, with a
/// short one that leads there.
pub(crate) fn at_short_path<T>(
    folder: &Path,
    name: &str,
    call: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let path = folder.join(name);
    if path.as_os_str().len() <= LONGEST_PATH {
        return call(&path);
    }
    let open = fs::File::open(folder)?;
    call(&PathBuf::from(format!("/proc/self/fd/{}/{name}", open.as_raw_fd())))
}

pub(super) async fn serve(listener: UnixListener, desk: Arc<Desk>, patience: Patience) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    let mut clients = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while clients.try_join_next().is_some() {}
        match (accepted, Arc::clone(&places).try_acquire_owned()) {
            (Ok((stream, _)), Ok(place)) => {
                let desk = Arc::clone(&desk);
                clients.spawn(async move {
                    if let Err(error) = talk(stream, &desk, patience).await {
                        tracing::debug!(%error, "a client of the command socket went away");
                    }
                    drop(place);
                });
            }
            (Ok((stream, _)), Err(_)) => {
                let because =
                    format!("{CLIENTS} clients are served already; try again in a moment");
                // A few octets fit, or the client has no use for them.
                let _ = stream.try_write(&line(&Answer::End(End::Unusable { because })));
            }
            (Err(error), _) => {
                tracing::warn!(%error, "command socket: accept failed; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn talk(stream: UnixStream, desk: &Desk, patience: Patience) -> io::Result<()> {
    let who = peer::allowed(&stream).await;
    let (read, mut write) = stream.into_split();
    let request = tokio::time::timeout(patience.request, request(read)).await;
    let request = request.unwrap_or_else(|_| {
        Err(format!("no request came in {} seconds; write one line", patience.request.as_secs()))
    });
    match who.and_then(|who| request.map(|request| (who, request))) {
        Ok((who, request)) => {
            let (out, answers) = mpsc::channel(WAITING);
            let answer = async move {
                let end = desk.answer(request, &who, &out).await;
                // A client that went away does not hear the end.
                let _ = out.send(Answer::End(end)).await;
            };
            tokio::join!(answer, pass_on(answers, &mut write, patience.answer)).1?;
        }
        Err(because) => {
            let end = line(&Answer::End(End::Unusable { because }));
            in_time(patience.answer, write.write_all(&end)).await?;
        }
    }
    write.shutdown().await
}

/// The one request of a connection; what stands behind its line is not read.
async fn request(mut read: OwnedReadHalf) -> Result<Request, String> {
    let mut text = Vec::new();
    let mut chunk = [0; 1024];
    let end = loop {
        if let Some(end) = text.iter().position(|b| *b == b'\n') {
            break end;
        }
        if text.len() > LINE {
            return Err(format!("the request has more than {LINE} octets; write one line of JSON"));
        }
        match read.read(&mut chunk).await {
            Ok(0) => break text.len(),
            Ok(count) => text.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) => return Err(format!("the request cannot be read: {error}")),
        }
    };
    let text = text.get(..end).unwrap_or_default();
    serde_json::from_slice(text).map_err(|error| {
        format!(
            "this is no request: {error}; write one line of JSON such as \"reload\" or \
             {{\"show\":{{\"id\":\"0F3Z9K2M4T7QA\"}}}}"
        )
    })
}

/// Writes answers as they come, several at a time. Dropping the receiver stops who makes them.
async fn pass_on(
    mut answers: mpsc::Receiver<Answer>,
    write: &mut OwnedWriteHalf,
    patience: Duration,
) -> io::Result<()> {
    let mut some = Vec::new();
    loop {
        some.clear();
        if answers.recv_many(&mut some, WAITING).await == 0 {
            return Ok(());
        }
        let lines: Vec<u8> = some.iter().flat_map(line).collect();
        in_time(patience, write.write_all(&lines)).await?;
    }
}

async fn in_time(
    patience: Duration,
    write: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    tokio::time::timeout(patience, write).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, "it does not read its answers"))
    })
}

fn line(answer: &Answer) -> Vec<u8> {
    let line = serde_json::to_vec(answer).map_err(|error| error.to_string());
    let mut line = line.unwrap_or_else(|because| {
        // Nothing that is answered has keys that JSON cannot hold.
        tracing::error!(because, "an answer cannot be written");
        b"{\"end\":{\"unusable\":{\"because\":\"the answer cannot be written\"}}}".to_vec()
    });
    line.push(b'\n');
    line
}
