//! Several futures of one task at the same time.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Drives all futures at the same time; answers in their order.
pub(crate) async fn all<T>(futures: Vec<Pin<Box<dyn Future<Output = T> + Send + '_>>>) -> Vec<T> {
    let mut open: Vec<(_, Option<T>)> = futures.into_iter().map(|future| (future, None)).collect();
    poll_fn(|context| {
        let mut pending = false;
        for (future, answer) in open.iter_mut().filter(|(_, answer)| answer.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(found) => *answer = Some(found),
                Poll::Pending => pending = true,
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    open.into_iter().filter_map(|(_, answer)| answer).collect()
}
