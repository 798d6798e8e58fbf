//! Why a connection is of no more use.

use waypost_types::{Failure, FailureScope, HostPort, Reply};

use super::reply_reader::ReplyError;

/// What ended a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The greeting was not 220.
    Greeting,
    /// EHLO, LHLO or HELO was refused.
    Hello,
    /// TLS is required, and STARTTLS is not offered.
    StartTlsNotOffered,
    /// TLS is required, and STARTTLS was refused.
    StartTlsRefused,
    /// Bytes followed the reply to STARTTLS in clear text: somebody put them there (RFC 3207
    /// section 6).
    Injection,
    /// There are credentials, and the session is not encrypted.
    CredentialsInClear,
    /// There are credentials, and neither PLAIN nor LOGIN is offered.
    NoAuthMechanism,
    /// AUTH was refused.
    AuthRefused,
    /// The peer sent bytes that are no reply.
    Syntax(ReplyError),
    /// A reply came that nobody waited for, or one whose code does not answer the command.
    OutOfStep,
    /// The peer said 421.
    ShuttingDown,
    /// A phase took too long.
    TimedOut,
    /// The connection broke.
    Lost,
}

/// The end of a connection: what ended it, and the failure of all that depended on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// What ended it.
    pub cause: Cause,
    /// As it stands in outcomes; of scope `Host` or `Tls`.
    pub failure: Failure,
}

impl Closed {
    /// `said` is the peer's reply, if a reply was the cause; `phase` what was waited for.
    pub(super) fn new(
        cause: Cause,
        host: &HostPort,
        phase: &str,
        said: Option<Reply>,
        detail: &str,
    ) -> Self {
        let scope = match cause {
            Cause::StartTlsNotOffered | Cause::StartTlsRefused => FailureScope::Tls,
            _ => FailureScope::Host,
        };
        let reply = said.unwrap_or_else(|| own_reply(&cause, phase, detail));
        Self { cause, failure: Failure { scope, host: Some(host.clone()), reply } }
    }
}

fn own_reply(cause: &Cause, phase: &str, detail: &str) -> Reply {
    let (enhanced, text) = match cause {
        Cause::StartTlsNotOffered => (
            (4, 7, 4),
            "TLS is required here, and the host does not offer STARTTLS (A5): let it offer \
             STARTTLS, or set require_tls = false"
                .to_owned(),
        ),
        Cause::Injection => (
            (4, 7, 0),
            "bytes in clear text follow the reply to STARTTLS (RFC 3207 section 6): somebody on \
             the way may have put them there"
                .to_owned(),
        ),
        Cause::CredentialsInClear => (
            (4, 7, 11),
            "AUTH is set, and credentials are only sent inside TLS: let the host offer STARTTLS, \
             or remove auth"
                .to_owned(),
        ),
        Cause::NoAuthMechanism => (
            (4, 7, 0),
            "AUTH is set, and the host offers neither PLAIN nor LOGIN: remove auth, or let the \
             host offer one"
                .to_owned(),
        ),
        Cause::Syntax(error) => ((4, 5, 0), format!("the host sent {error}, {phase}")),
        Cause::TimedOut => ((4, 4, 2), format!("timed out {phase}")),
        Cause::Lost => ((4, 4, 2), format!("connection lost {phase}: {detail}")),
        Cause::AuthRefused => (
            (4, 7, 8),
            format!(
                "the host refused AUTH {detail} (RFC 4954 section 6): if that stays, correct the \
                 user or the password in the route's `auth`"
            ),
        ),
        Cause::Greeting
        | Cause::Hello
        | Cause::StartTlsRefused
        | Cause::ShuttingDown
        | Cause::OutOfStep => ((4, 5, 0), format!("the host is out of step {phase}: {detail}")),
    };
    Reply::new(451, enhanced, &text)
}
