//! Octets of a connection, read without room of its own.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::ReadBuf;

use super::Stream;

/// Octets that are read at once.
const CHUNK: usize = 8 << 10;

/// Reads what there is, and hands it over; how many octets it was, 0 at the end. The room to read into is on
/// the stack while there is something to read: a connection that waits has none.
pub(super) async fn read(
    stream: &mut dyn Stream,
    mut take: impl FnMut(&[u8]),
) -> io::Result<usize> {
    poll_fn(|context| {
        let mut room = [0; CHUNK];
        let mut read = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut *stream).poll_read(context, &mut read))?;
        take(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    })
    .await
}
