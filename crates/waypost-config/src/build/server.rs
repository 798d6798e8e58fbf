//! `[server]` and `[[listener]]`.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;
use waypost_inbound::PublicAddresses;
use waypost_types::ListenerRole;

use super::{Unique, filter, proxies};
use crate::diagnostics::{Diagnostic, Place, Report, Spanned};
use crate::raw::{
    self, RawConfig, RawListener, RawRecord, RawRetry, RawServer, RawTls, RedisFallback, Role,
};
use crate::settings::{
    Delays, DnsServers, Limits, ListenerSettings, ListenerTls, LocalParts, RecordSettings, Retry,
    ServerSettings, SharingFallback, SharingIdentity, SharingSettings, SharingTls, Timeouts,
    TlsStart,
};

pub(super) fn build(raw: &RawConfig, report: &mut Report) -> Option<ServerSettings> {
    let server = raw.server.as_ref()?;
    let retry = server.retry.as_ref().map(|raw| retry(raw, report)).unwrap_or_default();
    let listeners = listeners(raw, report);
    if server.mx_port.0 != 25 {
        report.push(Diagnostic::warning(
            "mx-port",
            server.mx_port.place,
            "A4",
            format!("mail for other domains goes to port {} of their MX hosts", server.mx_port.0),
            "MX hosts listen on port 25; another port is for tests",
        ));
    }
    Some(ServerSettings {
        hostname: server.hostname.as_ref()?.value.clone(),
        spool: server.spool.as_str().into(),
        user: user(server, report),
        group: server.group.as_ref().map(|group| group.as_str().into()),
        admin: server.admin.as_ref().map(|admin| admin.value),
        public_addresses: public_addresses(server, report),
        dns: match &server.dns.value {
            raw::DnsServers::System => DnsServers::System,
            raw::DnsServers::Servers(list) => DnsServers::List(list.clone()),
        },
        mx_port: server.mx_port.0,
        proxy_protocol_from: proxies::build(&server.proxy_protocol_from, report),
        xclient_from: proxies::build(&server.xclient_from, report),
        tls_check: tls_check(server, report),
        limits: limits(server, report),
        timeouts: timeouts(server, report),
        retry,
        filter: server.filter.as_ref().and_then(|raw| filter::build(&raw.0, report)),
        record: server.record.as_ref().and_then(|record| self::record(&record.0, report)),
        sharing: sharing(server, report),
        listeners,
    })
}

/// Who the server is to become; that it exists on this machine is seen where it is started.
fn user(server: &RawServer, report: &mut Report) -> Option<Box<str>> {
    if let (None, Some(group)) = (&server.user, &server.group) {
        report.push(Diagnostic::warning(
            "group-without-user",
            group.place,
            "O1",
            "a group is given and no user, so it has no effect: root in another group is still root",
            "write `user = \"waypost\"` beside it, or remove it",
        ));
    }
    let user = server.user.as_ref()?;
    if user.as_str() == "root" {
        report.push(Diagnostic::error(
            "user-is-root",
            user.place,
            "O1",
            "the server would stay root",
            "name a user of its own, such as `user = \"waypost\"`",
        ));
    }
    Some(user.as_str().into())
}

/// How quotas are shared, if they are (O5).
fn sharing(server: &RawServer, report: &mut Report) -> Option<SharingSettings> {
    let spans = [
        ("redis_timeout", &server.redis_timeout, Duration::from_millis(10), "10s", 10),
        ("redis_lease", &server.redis_lease, Duration::from_secs(1), "1h", 3600),
    ];
    for (name, span, least, most_text, most) in spans {
        if span.value < least || span.value > Duration::from_secs(most) {
            report.push(Diagnostic::error(
                "redis-span",
                span.place,
                "O5",
                format!("`{name}` is too short or too long"),
                format!("write a span from {} to {most_text}", crate::duration::show(least)),
            ));
        }
    }
    let nodes = u32::try_from(server.redis_nodes.value).unwrap_or(u32::MAX);
    let nodes = NonZeroU32::new(nodes).unwrap_or_else(|| {
        report.push(Diagnostic::error(
            "redis-nodes",
            server.redis_nodes.place,
            "O5",
            "quotas are shared by at least one node",
            "write 1 or more",
        ));
        NonZeroU32::MIN
    });
    let address = server.redis.as_ref()?.value.as_str();
    Some(SharingSettings {
        address: address.into(),
        tls: sharing_tls(server, address, report),
        prefix: server.redis_prefix.as_str().into(),
        fallback: match server.redis_fallback.value {
            RedisFallback::Defer => SharingFallback::Defer,
            RedisFallback::Local => SharingFallback::Local { nodes },
        },
        timeout: server.redis_timeout.value,
        lease: server.redis_lease.value,
    })
}

/// What TLS to Redis trusts and shows (O5).
fn sharing_tls(server: &RawServer, address: &str, report: &mut Report) -> SharingTls {
    let [ca, certificate, key] = [
        ("redis_ca", &server.redis_ca),
        ("redis_certificate", &server.redis_certificate),
        ("redis_key", &server.redis_key),
    ];
    for (name, file) in [ca, certificate, key] {
        if let Some(file) = file.as_ref().filter(|_| !address.starts_with("rediss://")) {
            let cure = "write an address that begins with `rediss://`, or remove it";
            let message = format!("`{name}` is for TLS, and the address of Redis asks for none");
            report.push(Diagnostic::error("redis-tls", file.place, "O5", message, cure));
        }
    }
    let alone = match (certificate, key) {
        ((_, Some(_)), (_, Some(_))) | ((_, None), (_, None)) => None,
        ((name, Some(file)), (other, None)) | ((other, None), (name, Some(file))) => {
            Some((name, file.place, other))
        }
    };
    if let Some((name, place, other)) = alone {
        let message = format!("`{name}` is given and `{other}` is not");
        let cure = format!(
            "name the other file in `{other}` (it may be the same one), or remove `{name}`"
        );
        report.push(Diagnostic::error("redis-tls", place, "O5", message, cure));
    }
    let written = |file: &Option<Spanned<raw::FilePath>>| -> Option<Box<str>> {
        file.as_ref().map(|file| file.as_str().into())
    };
    let identity = match (written(certificate.1), written(key.1)) {
        (Some(certificate), Some(key)) => Some(SharingIdentity { certificate, key }),
        _ => None,
    };
    SharingTls { ca: written(ca.1), identity }
}

/// The smallest size at which a record is put aside: some lines must fit in.
const SMALLEST_RECORD: u64 = 64 << 10;
/// The most files of a record: each is renamed when one is put aside.
const MOST_RECORDS: u64 = 1000;

fn record(raw: &RawRecord, report: &mut Report) -> Option<RecordSettings> {
    if raw.rotate.0 < SMALLEST_RECORD {
        report.push(Diagnostic::error(
            "record-size",
            raw.rotate.place,
            "C9",
            format!("a record of {} octets holds few lines, or none", raw.rotate.0),
            "write \"64KiB\" or more",
        ));
    }
    if raw.keep.value > MOST_RECORDS {
        report.push(Diagnostic::error(
            "record-keep",
            raw.keep.place,
            "C9",
            format!("{} files are too many to keep", raw.keep.value),
            format!("write {MOST_RECORDS} or less; a larger `rotate` keeps more in each"),
        ));
    }
    let local_parts = match raw.local_parts.value {
        raw::LocalParts::Plain => LocalParts::Plain,
        raw::LocalParts::Hashed => LocalParts::Hashed,
    };
    if let Some(key) = raw.key.as_ref().filter(|_| local_parts == LocalParts::Plain) {
        report.push(Diagnostic::warning(
            "unused-key",
            key.place,
            "C9",
            "the key is not used, since local parts are written as they are",
            "write `local_parts = \"hashed\"` beside it, or remove it",
        ));
    }
    Some(RecordSettings {
        file: raw.file.as_ref()?.as_str().into(),
        local_parts,
        rotate: raw.rotate.0,
        keep: usize::try_from(raw.keep.value).unwrap_or(usize::MAX),
        key: raw.key.as_ref().map(|key| key.as_str().into()),
    })
}

fn public_addresses(server: &RawServer, report: &mut Report) -> Vec<IpAddr> {
    for ip in &server.public_addresses {
        let block = PublicAddresses::default().block_in(IpNet::from(ip.value));
        if let Some((_, kind)) = block.filter(|_| !PublicAddresses::default().contains(ip.value)) {
            report.push(Diagnostic::error(
                "not-public",
                ip.place,
                "B4",
                format!("{} is no public address: it is {kind}", ip.value),
                "write the address that others see, such as that of the router in front of this \
                 server",
            ));
        }
    }
    server.public_addresses.iter().map(|ip| ip.value.to_canonical()).collect()
}

fn tls_check(server: &RawServer, report: &mut Report) -> Option<Duration> {
    let raw::TlsCheck::Every(span) = server.tls_check.value else { return None };
    if span < Duration::from_secs(600) {
        report.push(Diagnostic::warning(
            "frequent-tls-check",
            server.tls_check.place,
            "A8",
            "the hosts of the routes are connected to more often than every ten minutes",
            "write a span such as \"1d\"; a change of the configuration is tested at once anyway",
        ));
    }
    Some(span)
}

fn limits(server: &RawServer, report: &mut Report) -> Limits {
    let Some(raw) = &server.limits else { return Limits::default() };
    let count = |number: &Spanned<u64>| usize::try_from(number.value).unwrap_or(usize::MAX);
    if raw.recipients.value < 100 {
        report.push(Diagnostic::warning(
            "few-recipients",
            raw.recipients.place,
            "D14",
            format!("only {} recipients are taken in a transaction", raw.recipients.value),
            "RFC 5321 section 4.5.3.1.8 asks for at least 100",
        ));
    }
    for (name, number) in [
        ("connections_per_host", &raw.connections_per_host),
        ("messages_per_connection", &raw.messages_per_connection),
    ] {
        if number.value == 0 {
            report.push(Diagnostic::error(
                "no-delivery",
                number.place,
                "A9",
                format!("with `{name} = 0` nothing can be delivered"),
                "write 1 or more, or remove it",
            ));
        }
    }
    if raw.auth_failures.value == 0 {
        report.push(Diagnostic::error(
            "no-login",
            raw.auth_failures.place,
            "D6",
            "with `auth_failures = 0` nobody can authenticate",
            "write 1 or more, or remove it",
        ));
    }
    Limits {
        message_size: raw.message_size.0,
        recipients: count(&raw.recipients),
        hops: count(&raw.hops),
        connections: count(&raw.connections),
        connections_per_client: count(&raw.connections_per_client),
        connections_per_network: count(&raw.connections_per_network),
        connections_per_client_per_minute: count(&raw.connections_per_client_per_minute),
        generic_helo_connections_per_minute: count(&raw.generic_helo_connections_per_minute),
        auth_failures: count(&raw.auth_failures),
        auth_failure_window: raw.auth_failure_window.value,
        header_size: raw.header_size.0,
        connections_per_host: count(&raw.connections_per_host),
        messages_per_connection: u32::try_from(raw.messages_per_connection.value)
            .unwrap_or(u32::MAX),
    }
}

fn timeouts(server: &RawServer, report: &mut Report) -> Timeouts {
    let Some(raw) = &server.timeouts else { return Timeouts::default() };
    let phases = [
        ("next_hop_connect", Some(&raw.next_hop_connect)),
        ("next_hop_greeting", raw.next_hop_greeting.as_ref()),
        ("next_hop_command", Some(&raw.next_hop_command)),
        ("next_hop_mail", raw.next_hop_mail.as_ref()),
        ("next_hop_rcpt", raw.next_hop_rcpt.as_ref()),
        ("next_hop_data", raw.next_hop_data.as_ref()),
        ("next_hop_data_block", raw.next_hop_data_block.as_ref()),
        ("next_hop_data_end", Some(&raw.next_hop_data_end)),
    ];
    for (name, timeout) in phases {
        if let Some(timeout) = timeout.filter(|timeout| timeout.is_zero()) {
            report.push(Diagnostic::error(
                "no-delivery",
                timeout.place,
                "A9",
                format!("with `{name}` of nothing each delivery times out"),
                "write a time such as \"5m\", or remove it",
            ));
        }
    }
    let command = raw.next_hop_command.value;
    let or = |own: &Option<Spanned<Duration>>, other| own.as_ref().map_or(other, |own| own.value);
    Timeouts {
        command: raw.command.value,
        data: raw.data.value,
        next_hop_connect: raw.next_hop_connect.value,
        next_hop_greeting: or(&raw.next_hop_greeting, command),
        next_hop_command: command,
        next_hop_mail: or(&raw.next_hop_mail, command),
        next_hop_rcpt: or(&raw.next_hop_rcpt, command),
        next_hop_data: or(&raw.next_hop_data, command.min(Timeouts::default().next_hop_data)),
        next_hop_data_block: or(&raw.next_hop_data_block, raw.data.value),
        next_hop_data_end: raw.next_hop_data_end.value,
        next_hop_idle: raw.next_hop_idle.value,
    }
}

/// A retry schedule; contradictions are noted and the default stands in.
fn retry(raw: &Spanned<RawRetry>, report: &mut Report) -> Retry {
    let default = Retry::default();
    let lifetime = raw.lifetime.as_ref().map_or(default.lifetime, |lifetime| lifetime.value);
    let mut wrong = |place: Place, message: &str, cure: &str| {
        report.push(Diagnostic::error("retry-schedule", place, "O2", message, cure));
    };
    let pauses = raw.delays.iter().chain(&raw.first).chain(&raw.longest);
    for zero in pauses.filter(|pause| pause.is_zero()) {
        wrong(zero.place, "a pause of nothing tries again without end", "write for example \"5m\"");
    }
    if raw.delays.is_written_empty() {
        wrong(raw.delays.place, "the list of delays is empty", "write at least one, or remove it");
    }
    if !raw.delays.is_unset() {
        for other in raw.first.iter().chain(&raw.longest) {
            wrong(
                other.place,
                "`delays` stands beside `first` or `longest`",
                "keep `delays`, or keep `first` and `longest`",
            );
        }
        let delays = raw.delays.iter().map(|delay| delay.value).collect();
        return Retry { delays: Delays::Listed(delays), lifetime };
    }
    let (mut first, mut longest) = match default.delays {
        Delays::Doubling { first, longest } => (first, longest),
        Delays::Listed(_) => return Retry::default(),
    };
    if let Some(written) = &raw.first {
        first = written.value;
        longest = longest.max(first);
    }
    if let Some(written) = &raw.longest {
        longest = written.value;
        if raw.first.is_none() {
            first = first.min(longest);
        }
        if first > longest {
            wrong(written.place, "`longest` is shorter than `first`", "make it longer");
        }
    }
    Retry { delays: Delays::Doubling { first, longest }, lifetime }
}

fn listeners(raw: &RawConfig, report: &mut Report) -> Vec<ListenerSettings> {
    let mut names = Unique::new("listener", "D5");
    let mut binds = Unique::new("address and port", "D5");
    let mut listeners = Vec::new();
    for listener in &raw.listener {
        if let Some(name) = &listener.name {
            names.claim(name.as_str().to_lowercase(), name.as_str(), name.place, report);
        }
        if let Some(bind) = listener.bind.as_ref().filter(|bind| bind.port() != 0) {
            binds.claim(bind.to_string(), &bind.to_string(), bind.place, report);
        }
        if listener.role.as_ref().is_some_and(|role| role.value != Role::Mx)
            && listener.tls.is_none()
        {
            report.push(Diagnostic::warning(
                "relay-without-tls",
                listener.place,
                "D6",
                "this listener relays and offers no TLS, so nobody can authenticate on it",
                "add `tls = { certificate = \"…\", key = \"…\" }`",
            ));
        }
        listeners.extend(settings(listener));
    }
    listeners
}

fn settings(raw: &RawListener) -> Option<ListenerSettings> {
    Some(ListenerSettings {
        name: raw.name.as_ref()?.as_str().into(),
        role: match raw.role.as_ref()?.value {
            Role::Mx => ListenerRole::Mx,
            Role::Relay => ListenerRole::Relay,
            Role::Both => ListenerRole::Both,
        },
        bind: raw.bind.as_ref()?.value,
        tls: match &raw.tls {
            None => None,
            Some(tls) => Some(listener_tls(tls)?),
        },
    })
}

fn listener_tls(raw: &RawTls) -> Option<ListenerTls> {
    Some(ListenerTls {
        certificate: raw.certificate.as_ref()?.as_str().into(),
        key: raw.key.as_ref()?.as_str().into(),
        start: if raw.implicit.value { TlsStart::Implicit } else { TlsStart::StartTls },
    })
}
