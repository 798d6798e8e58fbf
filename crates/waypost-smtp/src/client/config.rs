//! What a client is told before it begins.

use std::fmt;
use std::time::Duration;

use waypost_types::{Host, HostPort};

/// Which of the two protocols is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// SMTP (RFC 5321): one reply to the message.
    #[default]
    Smtp,
    /// LMTP (RFC 2033): `LHLO`, and one reply for each recipient after the message.
    Lmtp,
}

/// How a session comes to be encrypted, or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TlsUse {
    /// Clear text, whatever the peer offers.
    Off,
    /// STARTTLS where the peer offers it, clear text where it does not or refuses.
    #[default]
    Opportunistic,
    /// STARTTLS, or no mail (A5).
    Required,
    /// The bytes are inside TLS from the first one on, as on port 465; STARTTLS is not used.
    Implicit,
}

/// What to do with a message that holds octets above 127 when the peer lacks 8BITMIME (RFC 6152).
///
/// A message is never converted: that would break its signatures (B3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EightBitPolicy {
    /// Always refused (`554 5.6.3`).
    #[default]
    Refuse,
    /// Sent as it is when the envelope did not say `BODY=8BITMIME`, refused when it did.
    RefuseDeclared,
    /// Always sent as it is.
    SendAsIs,
}

/// How long to wait in each phase (RFC 5321 section 4.5.3.2).
///
/// A time-out runs from the moment that its phase begins and is not put off by single octets: for a
/// reply until its last line, for the message for each 16 KiB of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// For the greeting; 5 minutes by default.
    pub greeting: Duration,
    /// For the reply to EHLO, STARTTLS, AUTH, RSET and QUIT; 5 minutes by default.
    pub command: Duration,
    /// For the reply to MAIL; 5 minutes by default.
    pub mail: Duration,
    /// For the reply to each RCPT; 5 minutes by default.
    pub rcpt: Duration,
    /// For the reply to DATA; 2 minutes by default.
    pub data_start: Duration,
    /// For 16 KiB of the message to be taken; 3 minutes by default.
    pub data_block: Duration,
    /// For the reply to the message; 10 minutes by default.
    pub data_end: Duration,
}

impl Default for Timeouts {
    /// 5 minutes for greeting and commands, then 2, 3 and 10.
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self {
            greeting: minutes(5),
            command: minutes(5),
            mail: minutes(5),
            rcpt: minutes(5),
            data_start: minutes(2),
            data_block: minutes(3),
            data_end: minutes(10),
        }
    }
}

/// Whether a message goes out by BDAT (RFC 3030) where the peer offers CHUNKING.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Chunking {
    /// Where the stored octets are the content, that is where no line begins with a dot: one chunk,
    /// as it is stored. Over SMTP only.
    #[default]
    AsStored,
    /// Never: always DATA.
    Off,
}

/// A user and password for AUTH; shown without the password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The user, as the peer knows it.
    pub user: Box<str>,
    /// The password.
    pub password: Box<str>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What a client is told before it begins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientConfig {
    /// Whom we talk to; outcomes name it.
    pub peer: HostPort,
    /// Our own name or address, the argument of EHLO.
    pub ehlo: Host,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// How TLS is used.
    pub tls: TlsUse,
    /// For AUTH; used inside TLS only, and a session that is not encrypted then ends.
    pub credentials: Option<Credentials>,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// What to do with 8-bit messages that the peer does not take.
    pub eight_bit: EightBitPolicy,
    /// Whether BDAT is used.
    pub chunking: Chunking,
}

impl ClientConfig {
    /// SMTP with opportunistic STARTTLS, no AUTH, and the time-outs of the RFC.
    #[must_use]
    pub fn new(peer: HostPort, ehlo: Host) -> Self {
        Self {
            peer,
            ehlo,
            protocol: Protocol::default(),
            tls: TlsUse::default(),
            credentials: None,
            timeouts: Timeouts::default(),
            eight_bit: EightBitPolicy::default(),
            chunking: Chunking::default(),
        }
    }
}
