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

    /// The reply for one's own client, where it waits for the next hop and nothing is queued.
    ///
    /// A delivery and a failure are told as the next hop told them. A deferral is told so that the
    /// client keeps the message: a 4yz as it came, anything else (a 5yz that is but the host's, a 421,
    /// which would end the client's connection) as `451 4.4.0` with the same text.
    #[must_use]
    pub fn to_reply(&self) -> Reply {
        match self {
            Outcome::Delivered { reply, .. } => reply.clone(),
            Outcome::Failed(failure) => failure.reply.clone(),
            Outcome::Deferred(Failure { reply, .. })
                if reply.class() == ReplyClass::Transient && reply.code() != 421 =>
            {
                reply.clone()
            }
            Outcome::Deferred(failure) => Reply::new(451, (4, 4, 0), failure.reply.text()),
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
    fn a_client_that_waits_hears_the_next_hop_and_keeps_what_is_deferred() {
        let deferred = |code| {
            let (scope, reply) = (FailureScope::Host, Reply::plain(code, "busy"));
            Outcome::Deferred(Failure { scope, host: None, reply })
        };
        let refused = Reply::new(550, (5, 1, 1), "No such user");
        let taken = Reply::new(250, (2, 0, 0), "queued as 7");
        for (outcome, want) in [
            (Outcome::Delivered { host: None, reply: taken }, "250 2.0.0 queued as 7"),
            (Outcome::from_refusal(FailureScope::Message, None, refused), "550 5.1.1 No such user"),
            (deferred(452), "452 busy"),
            (deferred(421), "451 4.4.0 busy"),
            (deferred(554), "451 4.4.0 busy"),
        ] {
            assert_eq!(outcome.to_reply().to_string(), want);
        }
    }

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
