//! One connection of Postfix: requests read, answered in their order.
//!
//! **Bounds:** a request that has begun is whole within a minute. Idle, a connection holds no octets; up to
//! 4 KiB of a request and what came in one piece (8 KiB) are its own, and a longer request has a share of the
//! room for messages, so all of them together take what small messages may.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::time::Instant;
use waypost_postfix::RequestError;

use super::Stream;
use super::read::read;
use crate::room::{Room, SMALL, Share};

/// How long a connection may say nothing. Postfix closes idle ones after five minutes.
const IDLE: Duration = Duration::from_secs(3600);
/// How long a request may take to come. Postfix writes it at once.
const REQUEST: Duration = Duration::from_secs(60);
/// How long Postfix may take to read an answer.
const WRITE: Duration = Duration::from_secs(30);
/// Octets that a request may have without a share of the room for messages. Postfix's have some hundred.
const LITTLE: usize = 4 << 10;

/// What is spoken on a connection.
pub(super) trait Conversation: Send {
    /// Takes octets in.
    fn feed(&mut self, octets: &[u8]);

    /// Octets of requests that are not answered yet.
    fn octets(&self) -> usize;

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
    /// A request does not end.
    #[error("a request of {0} octets so far is not whole after a minute")]
    Slow(usize),
    /// There is no room in memory.
    #[error("no room in memory for a request of {0} octets and more")]
    NoRoom(usize),
}

/// Answers until the other side closes, says nothing for an hour, or a stop is asked for.
pub(super) async fn serve(
    mut stream: Box<dyn Stream>,
    mut conversation: impl Conversation,
    room: &Room,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Closed> {
    let mut share: Option<Share> = None;
    let mut begun: Option<Instant> = None;
    loop {
        // On the heap, and only while there is something to answer.
        while conversation.octets() > 0
            && let Some(answer) = Box::pin(conversation.answer()).await?
        {
            begun = None;
            let written = tokio::time::timeout(WRITE, stream.write_all(&answer)).await;
            written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        }
        let octets = conversation.octets();
        if octets <= LITTLE {
            share = None;
        } else if share.is_none() {
            share = Some(room.share(SMALL).await.ok_or(Closed::NoRoom(octets))?);
        }
        let now = Instant::now();
        let until = match octets {
            0 => now + IDLE,
            _ => *begun.get_or_insert(now) + REQUEST,
        };
        let reading = read(&mut *stream, |octets| conversation.feed(octets));
        let count = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            count = tokio::time::timeout_at(until, reading) => count,
        };
        match count {
            Err(_) if octets == 0 => return Ok(()),
            Err(_) => return Err(Closed::Slow(octets)),
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Lines, echoed; one may have so many octets.
    struct Echo(Vec<u8>);

    impl Conversation for Echo {
        fn feed(&mut self, octets: &[u8]) {
            self.0.extend_from_slice(octets);
        }

        fn octets(&self) -> usize {
            self.0.len()
        }

        async fn answer(&mut self) -> Result<Option<Vec<u8>>, RequestError> {
            let end = self.0.iter().position(|octet| *octet == b'\n');
            Ok(end.map(|end| self.0.drain(..=end).collect()))
        }
    }

    fn paused<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build();
        runtime.unwrap().block_on(future)
    }

    /// What becomes of a connection on which these are said, so long after one another.
    fn said(words: &'static [(u64, &'static [u8])]) -> (Result<(), Closed>, Vec<u8>, Duration) {
        paused(async {
            let (mut client, server) = tokio::io::duplex(1 << 20);
            let (_keep, stop) = watch::channel(false);
            let began = Instant::now();
            let served = tokio::spawn(async move {
                let room = Room::new();
                let served = serve(Box::new(server), Echo(Vec::new()), &room, stop).await;
                assert_eq!(room.used(), 0);
                (served, began.elapsed())
            });
            for (after, octets) in words {
                tokio::time::sleep(Duration::from_secs(*after)).await;
                let _ = client.write_all(octets).await;
            }
            let mut heard = Vec::new();
            let _ = client.read_to_end(&mut heard).await;
            let (served, took) = served.await.unwrap();
            (served, heard, took)
        })
    }

    #[test]
    fn an_idle_connection_ends_after_an_hour_and_a_half_request_after_a_minute() {
        let (served, heard, took) = said(&[(0, b"a\nb\n"), (3599, b"c\n")]);
        assert!(served.is_ok(), "{served:?}");
        assert_eq!((&*heard, took.as_secs()), (&b"a\nb\nc\n"[..], 7199));
        // Octets that come one by one do not make the minute longer.
        let (served, heard, took) = said(&[(5, b"a\nb"), (30, b"b"), (20, b"b"), (9, b"b")]);
        assert!(matches!(served, Err(Closed::Slow(4))), "{served:?}");
        assert_eq!((&*heard, took.as_secs()), (&b"a\n"[..], 65));
        // Each request has a minute of its own.
        let (served, heard, _) = said(&[(0, b"a"), (59, b"\nb"), (59, b"\nc"), (59, b"\n")]);
        assert!(served.is_ok(), "{served:?}");
        assert_eq!(heard, b"a\nb\nc\n");
    }

    #[test]
    fn long_requests_share_the_room_for_small_messages() {
        paused(async {
            let room = Room::new();
            let (_keep, stop) = watch::channel(false);
            let connections = usize::try_from(crate::room::ALL_SMALL / SMALL).unwrap();
            let mut clients = Vec::new();
            let mut served = tokio::task::JoinSet::new();
            let room = std::sync::Arc::new(room);
            let mut connect = |octets: usize| {
                let (client, server) = tokio::io::duplex(1 << 20);
                let (room, stop) = (std::sync::Arc::clone(&room), stop.clone());
                served.spawn(async move {
                    serve(Box::new(server), Echo(Vec::new()), &room, stop).await
                });
                (client, vec![b'x'; octets])
            };
            for octets in [LITTLE, LITTLE + 1] {
                let (mut client, request) = connect(octets);
                client.write_all(&request).await.unwrap();
                clients.push(client);
            }
            for _ in 2..connections + 10 {
                let (mut client, request) = connect(20_000);
                client.write_all(&request).await.unwrap();
                clients.push(client);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(room.used(), crate::room::ALL_SMALL, "never more, however many there are");
            // One that is whole gives its share to one that waits.
            clients[1].write_all(b"\n").await.unwrap();
            let mut heard = vec![0; LITTLE + 2];
            clients[1].read_exact(&mut heard).await.unwrap();
            drop(clients);
            while served.join_next().await.is_some() {}
            assert_eq!(room.used(), 0);
        });
    }
}
