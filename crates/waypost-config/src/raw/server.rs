//! `[server]` and `[[listener]]`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use waypost_types::Domain;

use super::checked::{DnsServers, Range, TlsCheck};
use super::filter::Filter;
use super::keys::table;
use super::leaf::Port;
use super::record::Record;
use super::redis::{RedisAddress, RedisPrefix};
use super::text::{FilePath, Name};
use super::words::{RedisFallback, Role};
use crate::size::Size;

table! {
    /// What holds for the whole server.
    ///
    /// ```toml
    /// [server]
    /// hostname = "mx.solarmora.com"
    /// spool = "/var/lib/waypost"
    /// admin = "127.0.0.1:8025"
    /// public_addresses = ["192.0.2.10"]
    /// ```
    RawServer {
        /// The server's own name: in its greeting, in EHLO to next hops and in its trace lines. It
        /// should have an address record, and the address should lead back to it: many receivers
        /// ask for both. A client that gives this name as its own in HELO is held to be a generic
        /// one.
        ///
        /// Example: `hostname = "mx.solarmora.com"`
        required hostname: Domain, "D15";
        /// The directory that holds accepted mail, the quota's counts, the audit log, the
        /// quarantines and the socket for commands; created, with mode 0700, if it is missing. It
        /// must be on a disk that keeps what was synced. A change takes a restart.
        ///
        /// Example: `spool = "/var/lib/waypost"`
        default spool: FilePath = FilePath::new("/var/lib/waypost"), "O1";
        /// The user that `serve`, started as root, becomes for good: by name. It binds the listeners and
        /// reads certificates and keys first; all later files, the spool among them, are read and
        /// written as this user. Started as somebody else it must be this user already. Absent: it
        /// stays who it is, and warns of it where that is root. A change takes a restart.
        ///
        /// Example: `user = "waypost"`
        optional user: Name, "O1";
        /// The group that it becomes at the same time, by name; only beside `user`. Absent: the user's
        /// own. Further groups of the user are kept.
        ///
        /// Example: `group = "waypost"`
        optional group: Name, "O1";
        /// Where metrics, health and readiness are served over HTTP, read-only and without a
        /// password: let it be a loopback address. Absent: nowhere. Commands do not come in here;
        /// they go over a socket in the spool.
        ///
        /// Example: `admin = "127.0.0.1:8025"`
        optional admin: SocketAddr, "O4";
        /// The addresses that others see mail from this server come from, where these differ from
        /// those of `hostname`, as behind address translation. `check --dns` looks for them in SPF
        /// records; no connection is bound to them. Private addresses are refused. Absent: the
        /// addresses of `hostname`.
        ///
        /// Example: `public_addresses = ["192.0.2.10"]`
        list public_addresses: IpAddr, "B4";
        /// Who answers DNS questions: `"system"` for the servers that the system uses, or a list of
        /// IP addresses, with a port where it is not 53.
        ///
        /// Example: `dns = ["192.0.2.53", "[2001:db8::53]:5353"]`
        default dns: DnsServers = DnsServers::System, "A4";
        /// The port for delivery by MX, where no route or gateway holds. Another port than 25 is
        /// for tests, and `check` warns of it.
        ///
        /// Example: `mx_port = 25`
        default mx_port: Port = Port(25), "A4";
        /// How often `serve` tests the TLS of every host of every route by itself, as `waypost
        /// test-tls` does, and says so in log and metrics; `"off"` for never. A change of the
        /// configuration is tested at once. Less than ten minutes is a warning. It delivers nothing
        /// and stops nothing.
        ///
        /// Example: `tls_check = "12h"`
        default tls_check: TlsCheck = TlsCheck::Every(Duration::from_secs(86_400)), "A8";
        /// A Redis or Valkey server over which several nodes share quotas: `redis://`, `rediss://`
        /// for TLS, or `redis+unix://` and the path of a socket. It may hold a user and password,
        /// and is not shown anywhere. Absent: each node counts for itself, in its spool. A change
        /// of it, and of the keys that begin with `redis_`, takes a restart. See REDIS.md.
        ///
        /// Example: `redis = "redis://127.0.0.1:6379"`
        optional redis: RedisAddress, "O5";
        /// A PEM file with the authorities that may have signed the certificate of a `rediss://`
        /// server, instead of the system's. It is read at each connection. The host's name is
        /// verified all the same. Absent: the system's.
        ///
        /// Example: `redis_ca = "redis-ca.pem"`
        optional redis_ca: FilePath, "O5";
        /// A PEM file with the certificate that is shown to a `rediss://` server that asks for one,
        /// and what it is signed by. It is read at each connection, so that a renewed one needs no
        /// restart; the user that the server becomes must be able to read it. Absent: none.
        ///
        /// Example: `redis_certificate = "redis-node.pem"`
        optional redis_certificate: FilePath, "O5";
        /// The private key of `redis_certificate`, in PEM, without a passphrase.
        ///
        /// Example: `redis_key = "redis-node.key"`
        optional redis_key: FilePath, "O5";
        /// What holds while Redis does not answer: `"defer"` answers `451 4.3.0` to the recipients
        /// of relayed mail, `"local"` lets each node count for itself, up to its share of each
        /// limit (`redis_nodes`).
        ///
        /// Example: `redis_fallback = "local"`
        default redis_fallback: RedisFallback = RedisFallback::Defer, "O5";
        /// How many nodes share the limits: with `redis_fallback = "local"`, a node that cannot
        /// reach Redis relays up to this part of each limit, and at least one.
        ///
        /// Example: `redis_nodes = 3`
        default redis_nodes: u64 = 2, "O5";
        /// What the names of all keys in Redis begin with; the same on all nodes that share quotas.
        ///
        /// Example: `redis_prefix = "waypost"`
        default redis_prefix: RedisPrefix = RedisPrefix::new("waypost"), "O5";
        /// How long Redis may take to answer; then it counts as gone, and no other session waits
        /// for it. 10ms to 10s.
        ///
        /// Example: `redis_timeout = "500ms"`
        default redis_timeout: Duration = Duration::from_millis(500), "O5";
        /// How long the reservations of a node stand that has gone without giving them back. A
        /// living node renews its own. 1s to 1h.
        ///
        /// Example: `redis_lease = "1m"`
        default redis_lease: Duration = Duration::from_secs(60), "O5";
        /// A filter that sees relayed and inbound mail before it is accepted: where it listens, or a
        /// table. Absent: none.
        ///
        /// Example: `filter = "milter:127.0.0.1:11332"`
        optional filter: Filter, "D17";
        /// Addresses and ranges of proxies whose connections begin with a PROXY header, version 1
        /// or 2. From these a header is demanded, from others none is taken. What it announces is
        /// the client for every rule, limit and log line. Wide ranges are warned of.
        ///
        /// Example: `proxy_protocol_from = ["192.0.2.80"]`
        list proxy_protocol_from: Range, "D15";
        /// Addresses and ranges of proxies that may name another client by the command XCLIENT.
        /// Others are not offered it.
        ///
        /// Example: `xclient_from = ["192.0.2.81"]`
        list xclient_from: Range, "D15";
        /// A file to which each transaction's envelope is written, a JSON line each, for `waypost
        /// diff`: its path, or a table. Absent: none.
        ///
        /// Example: `record = "envelopes.jsonl"`
        optional record: Record, "C9";
        /// Files with more `[[organization]]` and `[[expect]]` tables, read in the order of their
        /// names; `*` and `?` match in a file's name. Relative paths start at the directory of the
        /// main file. An included file holds no `[server]` and no `[[listener]]`, and includes
        /// nothing itself.
        ///
        /// Example: `include = ["organizations/*.toml"]`
        list include: FilePath, "A11";
        /// Limits of sessions and messages. Absent: the defaults of each.
        section limits: RawServerLimits, "D14";
        /// How long a peer may take. Absent: the defaults of each.
        section timeouts: RawTimeouts, "D15";
        /// When a delivery is tried again. Absent: after 5 minutes, doubling to 4 hours, for 5
        /// days.
        section retry: RawRetry, "O2";
    }
}

table! {
    /// Limits of sessions and messages, the same for all organizations. Quotas of organizations are
    /// in `[organization.limits]`.
    ///
    /// ```toml
    /// [server.limits]
    /// message_size = "25MiB"
    /// recipients = 500
    /// connections_per_client = 20
    /// ```
    RawServerLimits {
        /// The largest message as it is received, told in EHLO (`SIZE`); a larger one gets `552
        /// 5.3.4`. It bounds what a session may hold on disk, not in memory.
        ///
        /// Example: `message_size = "50MiB"`
        default message_size: Size = Size(50 << 20), "D14";
        /// Recipients in one transaction; beyond it RCPT gets `452 4.5.3`, and the client sends the
        /// rest in another transaction. Less than 100 is a warning (RFC 5321 section 4.5.3.1.8).
        ///
        /// Example: `recipients = 1000`
        default recipients: u64 = 1000, "D14";
        /// `Received:` lines that a message may have; one with more is a loop, and refused with
        /// `554 5.4.6`.
        ///
        /// Example: `hops = 50`
        default hops: u64 = 50, "O3";
        /// Connections of all clients at a time, over all listeners; beyond it a client gets `421`
        /// and may come back.
        ///
        /// Example: `connections = 10000`
        default connections: u64 = 10_000, "D15";
        /// Connections of one client address at a time; beyond it `421`.
        ///
        /// Example: `connections_per_client = 100`
        default connections_per_client: u64 = 100, "D15";
        /// Connections of one network at a time, beyond it `421`: the 256 addresses of an IPv4 /24, an
        /// IPv6 /48. A client is an IPv4 address, or the /64 of an IPv6 one.
        ///
        /// Example: `connections_per_network = 1000`
        default connections_per_network: u64 = 1000, "D15";
        /// New connections of one client address in a minute; beyond it `421`. Many messages over
        /// one connection are never limited by this.
        ///
        /// Example: `connections_per_client_per_minute = 600`
        default connections_per_client_per_minute: u64 = 600, "D15";
        /// The same for clients whose HELO says nothing about them: `localhost`, our own name, a
        /// name of one label or in `localdomain`. They are accepted, within this.
        ///
        /// Example: `generic_helo_connections_per_minute = 10`
        default generic_helo_connections_per_minute: u64 = 10, "D15";
        /// Failed AUTH of one client address within `auth_failure_window`; from then on AUTH gets
        /// `454 4.7.0` without a look at the password, until the oldest failure is out of the
        /// window. A success takes nothing back.
        ///
        /// Example: `auth_failures = 20`
        default auth_failures: u64 = 20, "D6";
        /// How long a failed AUTH counts.
        ///
        /// Example: `auth_failure_window = "15m"`
        default auth_failure_window: Duration = Duration::from_secs(15 * 60), "D6";
        /// The largest header block of a message; a larger one is refused, never cut.
        ///
        /// Example: `header_size = "1MiB"`
        default header_size: Size = Size(1 << 20), "E12";
        /// Connections to one host of the next hops at a time, for each way in which TLS is used
        /// there; at least 1.
        ///
        /// Example: `connections_per_host = 20`
        default connections_per_host: u64 = 20, "A9";
        /// Messages over one connection to a next hop, which is then closed; at least 1.
        ///
        /// Example: `messages_per_connection = 100`
        default messages_per_connection: u64 = 100, "A9";
    }
}

table! {
    /// How long a peer may take (RFC 5321 section 4.5.3.2). The first two are for clients, the
    /// others for next hops.
    ///
    /// ```toml
    /// [server.timeouts]
    /// command = "2m"
    /// next_hop_connect = "10s"
    /// ```
    RawTimeouts {
        /// For a client's next whole command, however slowly its octets come; then `421`.
        ///
        /// Example: `command = "5m"`
        default command: Duration = Duration::from_secs(300), "D15";
        /// For a client's next block of data; then `421`, and nothing of the message is kept.
        ///
        /// Example: `data = "3m"`
        default data: Duration = Duration::from_secs(180), "D15";
        /// For a connection to the next hop, each address for itself.
        ///
        /// Example: `next_hop_connect = "30s"`
        default next_hop_connect: Duration = Duration::from_secs(30), "A9";
        /// For the next hop's greeting. Absent: as `next_hop_command`.
        ///
        /// Example: `next_hop_greeting = "5m"`
        optional next_hop_greeting: Duration, "A9";
        /// For the next hop's reply to a command that has no time of its own here.
        ///
        /// Example: `next_hop_command = "5m"`
        default next_hop_command: Duration = Duration::from_secs(300), "A9";
        /// For the next hop's reply to MAIL. Absent: as `next_hop_command`.
        ///
        /// Example: `next_hop_mail = "5m"`
        optional next_hop_mail: Duration, "A9";
        /// For the next hop's reply to RCPT. Absent: as `next_hop_command`.
        ///
        /// Example: `next_hop_rcpt = "5m"`
        optional next_hop_rcpt: Duration, "A9";
        /// For the next hop's reply to DATA. Absent: 2m, or `next_hop_command` where that is
        /// shorter.
        ///
        /// Example: `next_hop_data = "2m"`
        optional next_hop_data: Duration, "A9";
        /// For the next hop to take 16 KiB of a message. Absent: as `data`.
        ///
        /// Example: `next_hop_data_block = "3m"`
        optional next_hop_data_block: Duration, "A9";
        /// For the next hop's reply to the final dot. A short one sends messages twice: a host that
        /// has taken a message and answers late is asked again.
        ///
        /// Example: `next_hop_data_end = "10m"`
        default next_hop_data_end: Duration = Duration::from_secs(600), "A9";
        /// How long a connection to a next hop is kept open for another message.
        ///
        /// Example: `next_hop_idle = "30s"`
        default next_hop_idle: Duration = Duration::from_secs(30), "A9";
    }
}

table! {
    /// When a delivery is tried again: pauses that double from `first` to `longest`, or the list
    /// `delays`, until `lifetime` is over and the message bounces. In a route, what is left out is
    /// the server's.
    ///
    /// ```toml
    /// [server.retry]
    /// delays = ["1m", "1m", "3m", "5m", "30m", "4h"]
    /// lifetime = "2d"
    /// ```
    RawRetry {
        /// The first pause; more than nothing. Absent: 5m, or `longest` where that is shorter. Not
        /// beside `delays`.
        ///
        /// Example: `first = "5m"`
        optional first: Duration, "O2";
        /// The longest pause; not shorter than `first`. Absent: 4h, or `first` where that is
        /// longer. Not beside `delays`.
        ///
        /// Example: `longest = "4h"`
        optional longest: Duration, "O2";
        /// How long after its acceptance a message is given up and its sender told. Absent: 5d.
        ///
        /// Example: `lifetime = "5d"`
        optional lifetime: Duration, "O2";
        /// The pauses one by one; the last one repeats. Instead of `first` and `longest`. At least
        /// one, each more than nothing. Absent: pauses that double.
        ///
        /// Example: `delays = ["1m", "3m", "30m"]`
        list delays: Duration, "O2";
    }
}

table! {
    /// A port that SMTP clients connect to.
    ///
    /// ```toml
    /// [[listener]]
    /// name = "mx"
    /// role = "mx"
    /// bind = "0.0.0.0:25"
    /// tls = { certificate = "mx.pem", key = "mx.key" }
    ///
    /// [[listener]]
    /// name = "submissions"
    /// role = "relay"
    /// bind = "0.0.0.0:465"
    /// tls = { certificate = "mx.pem", key = "mx.key", implicit = true }
    /// ```
    RawListener {
        /// The name, for logs, metrics and `explain --listener`; unique without case.
        ///
        /// Example: `name = "mx"`
        required name: Name, "D5";
        /// What it is for. `"mx"` takes mail for the organizations' own domains and never relays.
        /// `"relay"` takes what a relay entry admits, and nothing else. `"both"` relays where a
        /// relay entry admits client and sender, and is an MX for everybody else.
        ///
        /// Example: `role = "both"`
        required role: Role, "D3";
        /// Address and port to listen on; `0.0.0.0` and `[::]` are all addresses. The same address
        /// and port twice is an error.
        ///
        /// Example: `bind = "[::]:25"`
        required bind: SocketAddr, "D5";
        /// The certificate. Absent: no TLS is offered, and so no AUTH; on a listener that relays
        /// `check` warns of it.
        ///
        /// Example: `tls = { certificate = "mx.pem", key = "mx.key" }`
        optional tls: RawTls, "D5";
    }
}

table! {
    /// The certificate of a listener. Each reload reads the files anew.
    ///
    /// ```toml
    /// [[listener]]
    /// name = "submission"
    /// role = "relay"
    /// bind = "0.0.0.0:587"
    /// [listener.tls]
    /// certificate = "mx.pem"
    /// key = "mx.key"
    /// ```
    RawTls {
        /// A PEM file with the chain, the server's own certificate first.
        ///
        /// Example: `certificate = "mx.pem"`
        required certificate: FilePath, "D5";
        /// A PEM file with the private key of that certificate; only the server's user should be
        /// able to read it.
        ///
        /// Example: `key = "mx.key"`
        required key: FilePath, "D5";
        /// TLS begins at once, as on port 465, instead of by STARTTLS.
        ///
        /// Example: `implicit = true`
        default implicit: bool = false, "D5";
    }
}
