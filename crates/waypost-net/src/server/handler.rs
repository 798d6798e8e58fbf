//! What an application does with a connection.

use std::future::{Future, ready};
use std::io;
use std::net::SocketAddr;

use waypost_smtp::end_of_data::Data;
use waypost_smtp::server::{CloseCause, Credentials, HelloKind, OwnRefusal, ResetCause, Xclient};
use waypost_types::{MailParameters, Mailbox, Recipient, Reply, ReversePath, Session};

/// The two ends of a connection, and who is between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client's address and port, as announced where a trusted proxy did so.
    pub client: SocketAddr,
    /// The proxy that announced the client: the other end of the TCP connection.
    pub proxy: Option<SocketAddr>,
    /// Ours.
    pub local: SocketAddr,
}

/// What MAIL said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The sender.
    pub sender: ReversePath,
    /// What travels with the message.
    pub parameters: MailParameters,
    /// `SIZE=`, within the limit.
    pub size: Option<u64>,
}

/// What a TLS handshake agreed on, for the trace header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// The protocol version, such as `TLSv1_3`.
    pub version: Box<str>,
    /// The cipher suite, such as `TLS13_AES_256_GCM_SHA384`.
    pub cipher: Box<str>,
    /// The server name that the client asked for.
    pub server_name: Option<Box<str>>,
}

/// An application's side of one connection: a value made for it, and dropped with it.
///
/// Calls come one after the other. `Session` says what is known of the client when the call is made:
/// HELO and user are those accepted since TLS began. Refusals are sent as given; 421 ends the
/// connection. While one runs, nothing is read from the client, and no time-out of its runs. Every method but [`Handler::message`] has a default that says yes, but
/// [`Handler::auth`] refuses.
pub trait Handler: Send {
    /// A client connected, its TLS handshake done if TLS is implicit. Refused: the connection ends.
    fn connected(
        &mut self,
        session: &Session,
        peer: Peer,
    ) -> impl Future<Output = Result<(), Reply>> + Send {
        let _ = (session, peer);
        ready(Ok(()))
    }

    /// XCLIENT from a trusted proxy: the session is as new, and another client's, whose address
    /// `session` and `peer` have if XCLIENT gave it. Its limits are kept already. Refused: the connection
    /// ends. What else is `said` was not proved to us.
    fn announced(
        &mut self,
        session: &Session,
        peer: Peer,
        said: &Xclient,
    ) -> impl Future<Output = Result<(), Reply>> + Send {
        let _ = (session, peer, said);
        ready(Ok(()))
    }

    /// TLS began; HELO and everything after it are to be forgotten.
    fn tls(&mut self, session: &Session, facts: TlsFacts) -> impl Future<Output = ()> + Send {
        let _ = (session, facts);
        ready(())
    }

    /// A TLS handshake failed; where TLS is implicit this is the only call.
    fn tls_failed(
        &mut self,
        session: &Session,
        error: &io::Error,
    ) -> impl Future<Output = ()> + Send {
        let _ = (session, error);
        ready(())
    }

    /// EHLO or HELO. `session.helo` is still the one before.
    fn hello(
        &mut self,
        session: &Session,
        kind: HelloKind,
        name: &str,
    ) -> impl Future<Output = Result<(), Reply>> + Send {
        let _ = (session, kind, name);
        ready(Ok(()))
    }

    /// AUTH, inside TLS: the user, or a refusal (`535 5.7.8`, or `454 4.7.0` when it cannot be
    /// checked now).
    fn auth(
        &mut self,
        session: &Session,
        credentials: Credentials,
    ) -> impl Future<Output = Result<Mailbox, Reply>> + Send {
        let _ = (session, credentials);
        ready(Err(super::LoginRefusal::WrongCredentials.reply()))
    }

    /// MAIL: accepted, it opens a transaction.
    fn mail(
        &mut self,
        session: &Session,
        mail: Mail,
    ) -> impl Future<Output = Result<(), Reply>> + Send {
        let _ = (session, mail);
        ready(Ok(()))
    }

    /// Whether [`Handler::recipients_ahead`] is of use now.
    fn looks_ahead(&self) -> bool {
        false
    }

    /// The client has already said for whom the next RCPTs are, behind this one that comes next
    /// (RFC 2920): who asks somebody far away may ask once for all. Nothing is answered here, and they
    /// may never come.
    fn recipients_ahead(
        &mut self,
        session: &Session,
        first: &Recipient,
        ahead: Vec<Mailbox>,
    ) -> impl Future<Output = ()> + Send {
        let _ = (session, first, ahead);
        ready(())
    }

    /// RCPT.
    fn rcpt(
        &mut self,
        session: &Session,
        recipient: Recipient,
    ) -> impl Future<Output = Result<(), Reply>> + Send {
        let _ = (session, recipient);
        ready(Ok(()))
    }

    /// DATA or the first BDAT, with at least one recipient accepted. Refused: the transaction is over.
    fn data(&mut self, session: &Session) -> impl Future<Output = Result<(), Reply>> + Send {
        let _ = session;
        ready(Ok(()))
    }

    /// A message that is being received has come to so many octets, more than were allowed. Nothing is
    /// read from the client until this returns how many may be held in all; `None`: there is no room,
    /// the message is read to its end without being held and answered with `452 4.3.1`.
    fn room(&mut self, session: &Session, octets: u64) -> impl Future<Output = Option<u64>> + Send {
        let _ = (session, octets);
        ready(Some(u64::MAX))
    }

    /// A whole message. A positive reply takes responsibility for it; the transaction is over either
    /// way.
    fn message(&mut self, session: &Session, data: Data) -> impl Future<Output = Reply> + Send;

    /// The client was refused without asking: a command out of form or order, or beyond a limit of
    /// the settings.
    fn refused(
        &mut self,
        session: &Session,
        refusal: OwnRefusal,
    ) -> impl Future<Output = ()> + Send {
        let _ = (session, refusal);
        ready(())
    }

    /// The open transaction is over without a message.
    fn reset(&mut self, session: &Session, cause: ResetCause) -> impl Future<Output = ()> + Send {
        let _ = (session, cause);
        ready(())
    }

    /// The last call: the connection has ended, and with it a transaction that was open. A
    /// connection that is cut when the grace time of a stop is over only drops its handler.
    fn closed(&mut self, session: &Session, cause: CloseCause) -> impl Future<Output = ()> + Send {
        let _ = (session, cause);
        ready(())
    }
}
