//! The server's own settings: names, listeners, limits, time-outs.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;
use waypost_inbound::SpamTag;
use waypost_types::{Domain, ListenerRole};

/// `[server]` and its tables, and `[[listener]]`.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// The name in greetings, EHLO and trace lines.
    pub hostname: Domain,
    /// The spool directory as written; created if missing.
    pub spool: Box<str>,
    /// The user that a server started as root becomes.
    pub user: Option<Box<str>>,
    /// The group that it becomes; `None`: the user's own.
    pub group: Option<Box<str>>,
    /// Where metrics and health are served over HTTP.
    pub admin: Option<SocketAddr>,
    /// Where others see mail from this server come from (B4); empty: the addresses of the hostname.
    /// No IPv4-mapped ones.
    pub public_addresses: Vec<IpAddr>,
    /// Which name servers are asked.
    pub dns: DnsServers,
    /// The port of MX hosts; other than 25 only in tests.
    pub mx_port: u16,
    /// Whose connections begin with a PROXY header. IPv4-mapped ranges are IPv4.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Who may give XCLIENT. IPv4-mapped ranges are IPv4.
    pub xclient_from: Vec<IpNet>,
    /// How often the TLS of the routes' hosts is tested (A8); `None`: never.
    pub tls_check: Option<Duration>,
    /// Limits.
    pub limits: Limits,
    /// Time-outs.
    pub timeouts: Timeouts,
    /// The retry schedule of routes that have none of their own (O2).
    pub retry: Retry,
    /// Who is asked about each message before it is accepted (D17).
    pub filter: Option<FilterSettings>,
    /// Where envelopes are recorded, if they are.
    pub record: Option<RecordSettings>,
    /// Where quotas are shared with other nodes, if they are (O5).
    pub sharing: Option<SharingSettings>,
    /// The listeners, in file order.
    pub listeners: Vec<ListenerSettings>,
}

/// `[server] filter`: who is asked about each message, and what the answers mean (D17).
#[derive(Clone, Debug)]
pub struct FilterSettings {
    /// Where it listens, as written: `milter:HOST:PORT` or `milter:unix:PATH`.
    pub address: Box<str>,
    /// How long it may take for one message as a whole; more than nothing, one minute by default.
    pub timeout: Duration,
    /// What happens to a message about which it says nothing.
    pub on_failure: OnFilterFailure,
    /// Connections to it at a time; at least 1, 64 by default.
    pub connections: usize,
    /// What of its answer says spam.
    pub spam_tag: SpamTag,
    /// What of its answer says malware.
    pub malware_tag: SpamTag,
    /// Which changes to the header it may make.
    pub header: FilterHeader,
}

impl PartialEq for FilterSettings {
    fn eq(&self, other: &Self) -> bool {
        let plain = |one: &Self| {
            (one.address.clone(), one.timeout, one.on_failure, one.connections, one.header)
        };
        plain(self) == plain(other)
            && self.spam_tag.is_same(&other.spam_tag)
            && self.malware_tag.is_same(&other.malware_tag)
    }
}

/// What happens to a message about which a filter says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFilterFailure {
    /// It is refused for now, with `451 4.7.1`.
    #[default]
    Defer,
    /// It is taken as if the filter had found nothing.
    Accept,
}

/// Which changes to the header a filter may make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FilterHeader {
    /// It may add fields, on top.
    #[default]
    Add,
    /// It may also change and take away fields of the message.
    All,
}

/// `[server] redis` and what belongs to it: how nodes share quotas (O5).
#[derive(Clone, PartialEq, Eq)]
pub struct SharingSettings {
    /// The address of the server, as written; it may hold a password.
    pub address: Box<str>,
    /// What TLS trusts and shows, where the address asks for it.
    pub tls: SharingTls,
    /// What all keys begin with.
    pub prefix: Box<str>,
    /// What holds while it does not answer.
    pub fallback: SharingFallback,
    /// How long an answer may take; 500 ms by default.
    pub timeout: Duration,
    /// How long what a node reserved stands after it has gone; one minute by default.
    pub lease: Duration,
}

/// PEM files for TLS to the server over which quotas are shared, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharingTls {
    /// The authorities that are trusted; `None`: those of the system.
    pub ca: Option<Box<str>>,
    /// What is shown to a server that asks for it.
    pub identity: Option<SharingIdentity>,
}

/// A certificate and its key, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharingIdentity {
    /// The file of the chain.
    pub certificate: Box<str>,
    /// The file of the private key.
    pub key: Box<str>,
}

/// What holds while quotas cannot be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharingFallback {
    /// Relayed mail waits.
    Defer,
    /// Each node counts for itself, up to its part of each limit.
    Local {
        /// How many nodes there are.
        nodes: NonZeroU32,
    },
}

impl fmt::Debug for SharingSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the address, which may hold a password.
        let Self { tls, prefix, fallback, timeout, lease, .. } = self;
        f.debug_struct("SharingSettings")
            .field("tls", tls)
            .field("prefix", prefix)
            .field("fallback", fallback)
            .field("timeout", timeout)
            .field("lease", lease)
            .finish_non_exhaustive()
    }
}

/// `[server] record`: the file to which envelopes are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSettings {
    /// The file, as written.
    pub file: Box<str>,
    /// What is written of local parts.
    pub local_parts: LocalParts,
    /// The size in octets at which the file is put aside.
    pub rotate: u64,
    /// How many files that were put aside are kept.
    pub keep: usize,
    /// The file of the key, as written; `None`: `record.key` in the spool.
    pub key: Option<Box<str>>,
}

/// What a record holds of the local parts of addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalParts {
    /// They are written as they are.
    #[default]
    Plain,
    /// A keyed hash of the address stands in the place of each.
    Hashed,
}

/// Which name servers are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DnsServers {
    /// Those of the system.
    #[default]
    System,
    /// These; port 53 where none was written.
    List(Vec<SocketAddr>),
}

/// One listening socket.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// Its name in logs and for `explain --listener`.
    pub name: Box<str>,
    /// What it is for.
    pub role: ListenerRole,
    /// Where it listens.
    pub bind: SocketAddr,
    /// Its certificate, if it offers TLS.
    pub tls: Option<ListenerTls>,
}

/// The TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// The certificate chain's PEM file, as written.
    pub certificate: Box<str>,
    /// The private key's PEM file, as written.
    pub key: Box<str>,
    /// Whether TLS begins with the connection, or by STARTTLS.
    pub start: TlsStart,
}

/// When TLS begins on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsStart {
    /// By the command STARTTLS.
    StartTls,
    /// With the connection, as on port 465.
    Implicit,
}

/// `[server.limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest message, in octets; 50 MiB by default.
    pub message_size: u64,
    /// Recipients in a transaction (D14); 1,000 by default.
    pub recipients: usize,
    /// `Received` lines (O3); 50 by default.
    pub hops: usize,
    /// Connections at once; 10,000 by default.
    pub connections: usize,
    /// Connections at once of one client; 100 by default (D15).
    pub connections_per_client: usize,
    /// Connections at once of one network, an IPv4 /24 or an IPv6 /48; 1,000 by default (D15).
    pub connections_per_network: usize,
    /// New connections of one client in a minute; 600 by default (D15).
    pub connections_per_client_per_minute: usize,
    /// New connections a minute of one client with a generic HELO name (D15); 10 by default.
    pub generic_helo_connections_per_minute: usize,
    /// Failed AUTH of one client within the window (D6); 20 by default.
    pub auth_failures: usize,
    /// How long a failed AUTH counts; 15 minutes by default.
    pub auth_failure_window: Duration,
    /// The largest header, in octets; 1 MiB by default.
    pub header_size: u64,
    /// Connections to one host of the next hops at a time; at least 1, 20 by default.
    pub connections_per_host: usize,
    /// Messages over one connection to a next hop; at least 1, 100 by default.
    pub messages_per_connection: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_size: 50 << 20,
            recipients: 1000,
            hops: 50,
            connections: 10_000,
            connections_per_client: 100,
            connections_per_network: 1000,
            connections_per_client_per_minute: 600,
            generic_helo_connections_per_minute: 10,
            auth_failures: 20,
            auth_failure_window: Duration::from_secs(15 * 60),
            header_size: 1 << 20,
            connections_per_host: 20,
            messages_per_connection: 100,
        }
    }
}

/// `[server.timeouts]` (RFC 5321 section 4.5.3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A client's next command, whole; 5 minutes by default.
    pub command: Duration,
    /// A client's next 16 KiB of message data; 3 minutes by default.
    pub data: Duration,
    /// Connecting to a next hop; 30 seconds by default.
    pub next_hop_connect: Duration,
    /// A next hop's greeting; 5 minutes by default.
    pub next_hop_greeting: Duration,
    /// A next hop's reply to a command; 5 minutes by default.
    pub next_hop_command: Duration,
    /// A next hop's reply to MAIL; 5 minutes by default.
    pub next_hop_mail: Duration,
    /// A next hop's reply to RCPT; 5 minutes by default.
    pub next_hop_rcpt: Duration,
    /// A next hop's reply to DATA; 2 minutes by default.
    pub next_hop_data: Duration,
    /// Until a next hop has taken 16 KiB of a message; 3 minutes by default.
    pub next_hop_data_block: Duration,
    /// A next hop's reply to the final dot; 10 minutes by default.
    pub next_hop_data_end: Duration,
    /// How long a connection to a next hop waits for another message; 30 seconds by default.
    pub next_hop_idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Self {
            command: minutes(5),
            data: minutes(3),
            next_hop_connect: Duration::from_secs(30),
            next_hop_greeting: minutes(5),
            next_hop_command: minutes(5),
            next_hop_mail: minutes(5),
            next_hop_rcpt: minutes(5),
            next_hop_data: minutes(2),
            next_hop_data_block: minutes(3),
            next_hop_data_end: minutes(10),
            next_hop_idle: Duration::from_secs(30),
        }
    }
}

/// `[server.retry]`, or a route's `retry` (O2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// When it is tried again; 5 minutes doubling to 4 hours by default.
    pub delays: Delays,
    /// How long it is tried before it bounces; 5 days by default.
    pub lifetime: Duration,
}

/// The pauses between attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delays {
    /// Doubling from the first to the longest.
    Doubling {
        /// The first pause.
        first: Duration,
        /// The longest.
        longest: Duration,
    },
    /// These; the last one repeats. Never empty.
    Listed(Vec<Duration>),
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            delays: Delays::Doubling {
                first: Duration::from_secs(5 * 60),
                longest: Duration::from_secs(4 * 3600),
            },
            lifetime: Duration::from_secs(5 * 86_400),
        }
    }
}
