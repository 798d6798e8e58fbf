//! What became of one recipient in one attempt.

use std::fmt;

use crate::{HostPort, Reply, ReplyClass};

/// Whether a failure is the host's or the message's (A9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum FailureScope {
    /// DNS, connect, time-out, banner, EHLO, TLS, 421, connection lost before the final dot: the
    /// next host of the route may do better.
    Host,
    /// As `Host`, but TLS or its certificate is what failed (A10 bounces when every host fails so).
    Tls,
    /// 4yz or 5yz to MAIL, RCPT, DATA or the dot, or anything after the dot: says nothing about the
    /// host, and no other host is tried in this attempt.
    Message,
}

/// Why an attempt did not deliver: what was said or seen, and whose fault it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Failure {
    /// Whose failure it is.
    pub scope: FailureScope,
    /// The host that it happened at; `None` when no host was reached or known.
    pub host: Option<HostPort>,
    /// The peer's reply, or one of our own making with a code and text that say what happened.
    pub reply: Reply,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) => write!(f, "{host}: {}", self.reply),
            None => self.reply.fmt(f),
        }
    }
}

/// What became of one recipient in one attempt. An outcome is a value, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Outcome {
    /// The next hop took responsibility.
    Delivered {
        /// Who took it; `None` for the built-in Maildir.
        host: Option<HostPort>,
        /// Its reply to the message.
        reply: Reply,
    },
    /// Not now: the retry schedule decides when again.
    Deferred(Failure),
    /// Never: the sender is to be told.
    Failed(Failure),
}

impl Outcome {
    /// The outcome that a negative reply asks for: 5yz fails, anything else defers.
    #[must_use]
    pub fn from_refusal(scope: FailureScope, host: Option<HostPort>, reply: Reply) -> Self {
        let permanent = reply.class() == ReplyClass::Permanent;
        let failure = Failure { scope, host, reply };
        match (permanent, scope) {
            (true, FailureScope::Message) => Outcome::Failed(failure),
            _ => Outcome::Deferred(failure),
        }
    }

    /// Whether nothing more is owed to the recipient.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !matches!(self, Outcome::Deferred(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_5yz_of_the_host_defers_and_of_the_message_fails_a9_a10() {
        for (code, scope, fails) in [
            (550, FailureScope::Message, true),
            (450, FailureScope::Message, false),
            (554, FailureScope::Host, false),
            (421, FailureScope::Host, false),
        ] {
            let outcome = Outcome::from_refusal(scope, None, Reply::plain(code, "no"));
            assert_eq!(matches!(outcome, Outcome::Failed(_)), fails, "{code} {scope:?}");
            assert_eq!(outcome.is_final(), fails);
        }
    }
}
