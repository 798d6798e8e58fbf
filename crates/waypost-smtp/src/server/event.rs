//! What the server tells and asks the application.

use waypost_types::{EnhancedCode, MailParameters, Recipient, ReversePath};

use super::{Credentials, HelloKind, Xclient};
use crate::end_of_data::Data;

/// What happened. The first eight wait for an answer ([`Server::accept`](super::Server::accept),
/// [`Server::answer`](super::Server::answer)); until it comes, nothing else is read or said.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A client connected. Accepted: the greeting; refused: the reply, and the connection ends.
    Connect,
    /// HELO or EHLO. A transaction that was open is over. The text of a positive reply is ours.
    Hello {
        /// Which of the two.
        kind: HelloKind,
        /// The name as given: 1 to 255 letters, digits, `-`, `.`, `_`, `:`, `[`, `]`.
        name: Box<str>,
    },
    /// XCLIENT, from a client that it was [offered](super::Server::offer_xclient) to: it is a proxy, and
    /// speaks for this client from now on. Accepted: the session is as new, with the greeting for a reply;
    /// refused: the reply, and the connection ends. The next EHLO or HELO is told with the name and kind
    /// that stood here, if they did.
    Xclient(Box<Xclient>),
    /// AUTH, inside TLS; answered by [`Server::accept_auth`](super::Server::accept_auth) or a
    /// negative reply, which is held back for a while (D6).
    Auth(Credentials),
    /// MAIL. Accepted: a transaction is open.
    Mail {
        /// The sender.
        sender: ReversePath,
        /// What travels with the message.
        parameters: MailParameters,
        /// `SIZE=`, within the limit.
        size: Option<u64>,
    },
    /// RCPT, below the limit of recipients. Accepted: it counts.
    Rcpt(Recipient),
    /// DATA or the first BDAT, with at least one recipient accepted. Refused: the transaction is over.
    Data,
    /// A whole message, handed over once. The answer ends the transaction either way; a positive one
    /// takes responsibility.
    Message(Data),
    /// The output up to here goes out in clear text, then TLS is to begin; then
    /// [`Server::handle_tls`](super::Server::handle_tls).
    StartTls,
    /// The open transaction is over without a message; what was reserved for it is free.
    Reset(ResetCause),
    /// The last event. Output may be left to send; an open transaction is over without a message.
    Closed(CloseCause),
}

/// A negative reply that the server gave without asking the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnRefusal {
    /// The reply's code.
    pub code: u16,
    /// Its enhanced code.
    pub enhanced: Option<EnhancedCode>,
}

/// Why a transaction ended without a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResetCause {
    /// RSET.
    Rset,
    /// EHLO or HELO again.
    Hello,
    /// STARTTLS.
    StartTls,
    /// The message itself cannot be taken: too big, a bare CR or LF, a NUL.
    Message(crate::end_of_data::DataFault),
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCause {
    /// QUIT.
    Quit,
    /// The client or the network ended the connection.
    Disconnected,
    /// The connection ended in the TLS handshake.
    TlsFailed,
    /// The client was silent, or too slow.
    TimedOut,
    /// The client talked before the greeting.
    EarlyTalker,
    /// Too many errors or commands without effect, or too many octets of refused messages.
    TooManyErrors,
    /// The application refused the connection, or gave 421.
    Refused,
    /// The server is going down.
    ShuttingDown,
}
