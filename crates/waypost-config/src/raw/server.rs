//! `[server]` and `[[listener]]`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use waypost_types::Domain;

use super::checked::{DnsServers, Range, TlsCheck};
use super::keys::table;
use super::leaf::Port;
use super::record::Record;
use super::text::{FilePath, Name};
use super::words::{RedisFallback, Role};
use crate::size::Size;

table! {
    /// What holds for the whole server.
    RawServer {
        /// The server's own name: in its greeting, EHLO and trace lines.
        required hostname: Domain, "D15";
        /// The directory of the spool, created if missing.
        default spool: FilePath = FilePath::new("/var/lib/waypost"), "O1";
        /// Where metrics and health are served over HTTP, read-only; absent: nowhere.
        optional admin: SocketAddr, "O4";
        /// The addresses that others see mail from this server come from; absent: those of the hostname.
        list public_addresses: IpAddr, "B4";
        /// Who answers DNS questions: the system's servers, or those listed.
        default dns: DnsServers = DnsServers::System, "A4";
        /// The port for delivery by MX; another one is for tests.
        default mx_port: Port = Port(25), "A4";
        /// How often the TLS of the routes' hosts is tested, or "off".
        default tls_check: TlsCheck = TlsCheck::Every(Duration::from_secs(86_400)), "A8";
        /// A Redis server that quotas are shared over.
        optional redis: String, "O5";
        /// What holds while Redis does not answer.
        default redis_fallback: RedisFallback = RedisFallback::Defer, "O5";
        /// A filter that sees each message before it is accepted.
        optional filter: String, "D17";
        /// Addresses of proxies whose connections begin with a PROXY header, version 1 or 2.
        list proxy_protocol_from: Range, "D15";
        /// Addresses of proxies that may name another client by XCLIENT.
        list xclient_from: Range, "D15";
        /// A file to which envelopes are written, for `waypost diff`: its path, or a table.
        optional record: Record, "C9";
        /// Files with more `[[organization]]` and `[[expect]]` tables; `*` and `?` match in a name.
        list include: FilePath, "A11";
        /// Limits of sessions and messages.
        section limits: RawServerLimits, "D14";
        /// How long a peer may take.
        section timeouts: RawTimeouts, "D15";
        /// When a delivery is tried again.
        section retry: RawRetry, "O2";
    }
}

table! {
    /// Limits of sessions and messages.
    RawServerLimits {
        /// The largest message.
        default message_size: Size = Size(50 << 20), "D14";
        /// Recipients in one transaction; RFC 5321 section 4.5.3.1.8 asks for 100 or more.
        default recipients: u64 = 1000, "D14";
        /// `Received:` lines above which a message is a loop.
        default hops: u64 = 50, "O3";
        /// Connections at a time.
        default connections: u64 = 10_000, "D15";
        /// Connections of one client at a time.
        default connections_per_client: u64 = 100, "D15";
        /// New connections of one client in a minute.
        default connections_per_client_per_minute: u64 = 600, "D15";
        /// The same for clients whose HELO says nothing: `localhost`, our own name, one label.
        default generic_helo_connections_per_minute: u64 = 10, "D15";
        /// The largest header block.
        default header_size: Size = Size(1 << 20), "E12";
        /// Connections to one host of the next hops at a time, for each way in which TLS is used there.
        default connections_per_host: u64 = 20, "A9";
        /// Messages over one connection to a next hop; then it is closed.
        default messages_per_connection: u64 = 100, "A9";
    }
}

table! {
    /// How long a peer may take (RFC 5321 section 4.5.3.2).
    RawTimeouts {
        /// For a client's next command.
        default command: Duration = Duration::from_secs(300), "D15";
        /// For a client's next block of data.
        default data: Duration = Duration::from_secs(180), "D15";
        /// For a connection to the next hop.
        default next_hop_connect: Duration = Duration::from_secs(30), "A9";
        /// For the next hop's greeting; absent: as `next_hop_command`.
        optional next_hop_greeting: Duration, "A9";
        /// For the next hop's reply to a command.
        default next_hop_command: Duration = Duration::from_secs(300), "A9";
        /// For the next hop's reply to MAIL; absent: as `next_hop_command`.
        optional next_hop_mail: Duration, "A9";
        /// For the next hop's reply to RCPT; absent: as `next_hop_command`.
        optional next_hop_rcpt: Duration, "A9";
        /// For the next hop's reply to DATA; absent: 2m, or `next_hop_command` where that is shorter.
        optional next_hop_data: Duration, "A9";
        /// For the next hop to take 16 KiB of a message; absent: as `data`.
        optional next_hop_data_block: Duration, "A9";
        /// For the next hop's reply to the final dot.
        default next_hop_data_end: Duration = Duration::from_secs(600), "A9";
        /// How long a connection to a next hop is kept open for another message.
        default next_hop_idle: Duration = Duration::from_secs(30), "A9";
    }
}

table! {
    /// When a delivery is tried again: pauses that double from `first` to `longest`, or `delays`.
    RawRetry {
        /// The first pause; absent: 5m.
        optional first: Duration, "O2";
        /// The longest pause; absent: 4h.
        optional longest: Duration, "O2";
        /// How long after its acceptance a message is given up; absent: 5d.
        optional lifetime: Duration, "O2";
        /// The pauses one by one, the last one repeats; instead of `first` and `longest`.
        list delays: Duration, "O2";
    }
}

table! {
    /// A port that SMTP clients connect to.
    RawListener {
        /// The name, unique.
        required name: Name, "D5";
        /// What it is for: mail from the world, relayed mail, or both.
        required role: Role, "D3";
        /// Address and port.
        required bind: SocketAddr, "D5";
        /// The certificate; absent: no TLS is offered.
        optional tls: RawTls, "D5";
    }
}

table! {
    /// The certificate of a listener.
    RawTls {
        /// A PEM file with the chain, the server's own certificate first.
        required certificate: FilePath, "D5";
        /// A PEM file with the private key.
        required key: FilePath, "D5";
        /// TLS begins at once, as on port 465, instead of by STARTTLS.
        default implicit: bool = false, "D5";
    }
}
