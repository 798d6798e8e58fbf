//! What a listener offers and allows.

use std::time::Duration;

use waypost_types::Domain;

/// How a listener does TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsOffer {
    /// Not at all.
    #[default]
    Off,
    /// By STARTTLS (RFC 3207).
    StartTls,
    /// From the first octet (RFC 8314); the state machine then starts inside TLS.
    Implicit,
}

/// Whether a listener lets clients prove who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthOffer {
    /// No AUTH.
    #[default]
    Off,
    /// PLAIN and LOGIN, inside TLS only (D6).
    InsideTls,
}

/// Limits of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest message, in octets, without stuffed dots: announced as SIZE, else `552 5.3.4`;
    /// 50 MiB by default.
    pub message_size: u64,
    /// Recipients of one transaction (D14); beyond: `452 4.5.3`. 1,000 by default.
    pub recipients: usize,
    /// Commands refused for their form or order, and failed AUTHs, since the last accepted message;
    /// beyond: 421. 20 by default.
    pub errors: u32,
    /// Commands since the last accepted MAIL that carry nothing forward (HELO, RSET, NOOP, VRFY,
    /// HELP, AUTH, BDAT 0); beyond: 421. 100 by default.
    pub idle_commands: u32,
    /// MAIL, RCPT and messages refused, chunks refused for their order, and transactions given up,
    /// since the last accepted message; beyond: 421. 5,000 by default.
    pub fruitless: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_size: 50 << 20,
            recipients: 1000,
            errors: 20,
            idle_commands: 100,
            fruitless: 5000,
        }
    }
}

/// How long the server waits. A deadline holds for a whole command, not for one read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the next complete command or AUTH response (RFC 5321 section 4.5.3.2.7); 5 minutes by
    /// default.
    pub command: Duration,
    /// For each next 16 KiB of a message, or its end (section 4.5.3.2.5); 3 minutes by default.
    pub data: Duration,
    /// For a TLS handshake; one minute by default.
    pub handshake: Duration,
    /// How long the greeting is held back; a client that talks before it is turned away. Not at all
    /// by default.
    pub greeting_pause: Duration,
    /// How long the reply to a failed AUTH is held back (D6); 2 seconds by default.
    pub auth_failure_pause: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            command: Duration::from_secs(300),
            data: Duration::from_secs(180),
            handshake: Duration::from_secs(60),
            greeting_pause: Duration::ZERO,
            auth_failure_pause: Duration::from_secs(2),
        }
    }
}

/// What a listener offers and allows; shared by its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The server's own name: greeting, EHLO, and the domain of `<postmaster>`.
    pub hostname: Domain,
    /// How TLS is done.
    pub tls: TlsOffer,
    /// Whether AUTH is offered.
    pub auth: AuthOffer,
    /// Limits of one connection.
    pub limits: Limits,
    /// How long the server waits.
    pub timeouts: Timeouts,
}

impl Settings {
    /// No TLS, no AUTH, default limits and time-outs, under this name.
    #[must_use]
    pub fn new(hostname: Domain) -> Self {
        Self {
            hostname,
            tls: TlsOffer::Off,
            auth: AuthOffer::Off,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
        }
    }
}
