//! One connection of Postfix: requests read, answered in their order.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use waypost_postfix::RequestError;

use super::Stream;

/// How long a connection may say nothing. Postfix closes idle ones after five minutes.
const IDLE: Duration = Duration::from_secs(3600);
/// How long Postfix may take to read an answer.
const WRITE: Duration = Duration::from_secs(30);

/// What is spoken on a connection.
pub(super) trait Conversation: Send {
    /// Takes octets in.
    fn feed(&mut self, octets: &[u8]);

    /// Answers the next whole request; `None`: there is none yet.
    fn answer(&mut self) -> impl Future<Output = Result<Option<Vec<u8>>, RequestError>> + Send;
}

/// Why a connection is closed though Postfix did not ask for it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    /// What came is no request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Answers until the other side closes, says nothing for an hour, or a stop is asked for.
pub(super) async fn serve(
    mut stream: Box<dyn Stream>,
    mut conversation: impl Conversation,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Closed> {
    let mut chunk = [0; 8192];
    loop {
        while let Some(answer) = conversation.answer().await? {
            let written = tokio::time::timeout(WRITE, stream.write_all(&answer)).await;
            written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        }
        let count = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            read = tokio::time::timeout(IDLE, stream.read(&mut chunk)) => match read {
                Err(_) | Ok(Ok(0)) => return Ok(()),
                Ok(count) => count?,
            },
        };
        conversation.feed(chunk.get(..count).unwrap_or_default());
    }
}
