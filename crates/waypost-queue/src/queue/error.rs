//! Why a queue cannot do what it was asked for.

use waypost_types::QueueId;

/// Why the queue cannot do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// There is no such message, or no more.
    #[error("message {0} is not in the queue: it was delivered, returned or removed")]
    Unknown(QueueId),
    /// There is such a message already.
    #[error("message {0} is in the queue already; an id is given once")]
    Known(QueueId),
    /// No delivery of the message is held.
    #[error("nothing of message {0} is held")]
    NotHeld(QueueId),
    /// As many messages as [`Limits::messages`](crate::Limits::messages).
    #[error("the queue holds {0} messages, its limit; intake waits until some are delivered")]
    TooManyMessages(usize),
    /// As many octets as [`Limits::octets`](crate::Limits::octets).
    #[error("the queue holds {0} octets, its limit; intake waits until some are delivered")]
    TooManyOctets(u64),
}
