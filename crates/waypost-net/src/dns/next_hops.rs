//! From a host or a domain to addresses to connect to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use waypost_route::{Draw, MxOrder, mx_order};
use waypost_types::{Domain, Failure, FailureScope, Host, HostPort, Reply};

use super::{DnsError, Resolver};
use crate::concurrent::all;

/// Hosts in one answer: MX hosts beyond these are left out.
pub const MAX_HOSTS: usize = 10;
/// Addresses in one answer, shared evenly by its hosts (at least two each).
pub const MAX_ADDRESSES: usize = 20;

/// Which records lead to the next hops, and whose failure it is when they lead nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The addresses of a route's or a gateway's host. A name that does not exist is the host's
    /// failure: mail waits (A9, A10).
    Host,
    /// The MX hosts of a route's host (A4). As `Host`, but null MX and loops are permanent.
    HostMx,
    /// The MX hosts of a recipient's domain. A domain that does not exist is a permanent failure.
    DomainMx,
}

/// One host to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The host and port, by which health, pools and logs know it.
    pub host: HostPort,
    /// What its certificate may be made out to (A7): the host itself first, which is also the name
    /// to send as SNI; with MX lookup also the name whose MX records led here.
    pub tls_names: Vec<Host>,
    /// Its addresses in the order to try; not empty.
    pub addresses: Vec<SocketAddr>,
}

/// A host that cannot be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The host.
    pub host: Domain,
    /// Why.
    pub why: DnsError,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.host, self.why)
    }
}

/// The hosts to try, in order, and those of them that have no usable address, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHops {
    /// Not empty; at most [`MAX_HOSTS`].
    pub hops: Vec<Hop>,
    /// For logs and explanations.
    pub left_out: Vec<LeftOut>,
}

/// Finds where to connect to for `target`: a route's host, or a recipient's domain and the MX port.
///
/// An IP address is taken as it is. A name gives its addresses (A and AAAA, in turn); with MX lookup
/// it gives its MX hosts in the order of [`mx_order`], each with its addresses, and `target`'s port
/// holds for each of them. `own_names` are this server's, for loops. Addresses that no connection
/// can lead to (unspecified, multicast, broadcast) are dropped.
///
/// Bounds: [`MAX_HOSTS`], [`MAX_ADDRESSES`]; all hosts are asked for at the same time, so the time is
/// that of two answers of the resolver.
///
/// # Errors
/// A [`Failure`] whose reply says what to report:
///
/// | | `Host`, `HostMx` | `DomainMx` |
/// | --- | --- | --- |
/// | no answer now | 451 4.4.3, host | 451 4.4.3, host |
/// | no such name, or neither MX nor address | 451 4.4.4, host | 550 5.1.2, message |
/// | MX hosts, none with an address | 451 4.4.4, host | 550 5.4.4, message |
/// | null MX (RFC 7505) | 556 5.1.10, message | 556 5.1.10, message |
/// | loop | 554 5.4.6, message | 554 5.4.6, message |
/// | MX records that name no host | 550 5.4.4, message | 550 5.4.4, message |
pub async fn resolve_next_hops(
    resolver: &dyn Resolver,
    target: &HostPort,
    lookup: Lookup,
    own_names: &[Domain],
    draw: Draw,
) -> Result<NextHops, Failure> {
    let name = match &target.host {
        Host::Name(name) => name,
        Host::Ip(ip) => {
            let hop = Hop {
                host: target.clone(),
                tls_names: vec![Host::Ip(*ip)],
                addresses: vec![SocketAddr::new(*ip, target.port)],
            };
            return Ok(NextHops { hops: vec![hop], left_out: Vec::new() });
        }
    };
    let records = match lookup {
        Lookup::Host => Ok(Vec::new()),
        Lookup::HostMx | Lookup::DomainMx => resolver.mx(name).await,
    };
    let order = match (lookup, records) {
        (Lookup::Host, _) => MxOrder::Implicit(name.clone()),
        (_, Ok(records)) => {
            mx_order(name, &records, own_names, draw).map_err(|error| error.failure())?
        }
        (_, Err(DnsError::NoRecords)) => {
            mx_order(name, &[], own_names, draw).map_err(|error| error.failure())?
        }
        (_, Err(why)) => {
            let nothing = LeftOut { host: name.clone(), why };
            return Err(failure(target, lookup, None, &[nothing]));
        }
    };
    let hosts: Vec<&Domain> = order.hosts().iter().take(MAX_HOSTS).collect();
    let each = (MAX_ADDRESSES / hosts.len().max(1)).max(2);
    let answers = all(hosts.iter().map(|host| resolver.addresses(host)).collect()).await;
    let mut found = NextHops { hops: Vec::new(), left_out: Vec::new() };
    for (host, answer) in hosts.into_iter().zip(answers) {
        let answer = answer.and_then(|ips| {
            let usable: Vec<_> = ips.into_iter().filter(is_reachable).take(each).collect();
            if usable.is_empty() { Err(DnsError::NoRecords) } else { Ok(usable) }
        });
        match answer {
            Ok(ips) => found.hops.push(hop(host, name, target.port, ips)),
            Err(why) => found.left_out.push(LeftOut { host: host.clone(), why }),
        }
    }
    if found.hops.is_empty() {
        return Err(failure(target, lookup, Some(&order), &found.left_out));
    }
    Ok(found)
}

fn hop(host: &Domain, asked: &Domain, port: u16, ips: Vec<IpAddr>) -> Hop {
    let mut tls_names = vec![Host::Name(host.clone())];
    if host != asked {
        tls_names.push(Host::Name(asked.clone()));
    }
    Hop {
        host: HostPort::new(host.clone(), port),
        tls_names,
        addresses: ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect(),
    }
}

fn is_reachable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()),
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast()),
    }
}

/// The failure when no host has an address; `order` is `None` when the MX records were not found.
fn failure(
    target: &HostPort,
    lookup: Lookup,
    order: Option<&MxOrder>,
    left_out: &[LeftOut],
) -> Failure {
    let temporary = left_out.iter().any(|left| matches!(left.why, DnsError::Temporary(_)));
    let what = match (lookup, order) {
        (Lookup::Host, _) => "the addresses of",
        (_, None) => "the MX records of",
        (_, Some(MxOrder::Implicit(_))) => "an MX record or an address of",
        (_, Some(MxOrder::Hosts(_))) => "an address of an MX host of",
    };
    let (code, enhanced) = match (temporary, lookup, order) {
        (true, _, _) => (451, (4, 4, 3)),
        (false, Lookup::Host | Lookup::HostMx, _) => (451, (4, 4, 4)),
        (false, Lookup::DomainMx, Some(MxOrder::Hosts(_))) => (550, (5, 4, 4)),
        (false, Lookup::DomainMx, _) => (550, (5, 1, 2)),
    };
    let permanent = code == 550;
    let cure = match (temporary, permanent) {
        (true, _) => "; it is asked for again",
        (_, true) => "; check the domain in the address",
        (_, false) => "; check the route's host name",
    };
    let why: Vec<String> = left_out.iter().take(3).map(ToString::to_string).collect();
    let text = format!("DNS did not give {what} {}: {}{cure}", target.host, why.join(", "));
    Failure {
        scope: if permanent { FailureScope::Message } else { FailureScope::Host },
        host: (!permanent).then(|| target.clone()),
        reply: Reply::new(code, enhanced, &text),
    }
}
