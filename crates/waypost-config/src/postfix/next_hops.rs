//! Destinations as next hops of Postfix, and what they ask of TLS.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;
use waypost_postfix::{NextHop, TlsLevel, TlsNames, Transport};
use waypost_route::{Check, Draw, Health, Protocol, Route, RouteHost, TlsStart};
use waypost_rules::{Action, Mode};
use waypost_types::{Destination, HostPort, Mailbox, QueueId, RouteName, Timestamp, TlsDemand};

use crate::policy::{Organization, Policy};

/// Hosts of a route that are told; more would make a long line for hosts that are hardly ever tried.
const MOST_HOSTS: usize = 10;

/// Where Postfix is to send; `None`: where it sends by itself, to MX hosts or to its own mailboxes.
pub(super) fn next_hop(
    policy: &Policy,
    destination: &Destination,
    address: &Mailbox,
    key: [u8; 16],
) -> Option<NextHop> {
    let of_route = |organization: &Organization, name: &RouteName| {
        organization.routes.get(name).map(|route| over(route, address, key))
    };
    match destination {
        Destination::Route { organization, route } => {
            of_route(policy.organization(organization)?, route)
        }
        Destination::Mailbox { organization } => {
            let organization = policy.organization(organization)?;
            of_route(organization, organization.mailbox_route.as_ref()?)
        }
        Destination::Gateway(at) => {
            Some(NextHop::Hosts { by: Transport::Smtp, hosts: vec![at.clone()], mx_lookup: false })
        }
        _ => None,
    }
}

/// The hosts of a route, drawn for an address as serve draws them for a message (A9).
fn over(route: &Route, address: &Mailbox, key: [u8; 16]) -> NextHop {
    let mut hash = SipHasher24::new_with_key(&key);
    hash.write(address.to_string().to_lowercase().as_bytes());
    let draw = Draw::new(key, QueueId::new(hash.finish()), route.name());
    let attempts = route.attempts(draw, &Health::default(), Timestamp::default());
    // One service delivers to all of them: that of the first.
    let by = attempts.order.first().map_or(Transport::Smtp, |host| service(route, host));
    let alike = attempts.order.iter().filter(|host| service(route, host) == by);
    NextHop::Hosts {
        by,
        hosts: alike.take(MOST_HOSTS).map(|host| host.at().clone()).collect(),
        mx_lookup: route.mx_lookup(),
    }
}

pub(super) fn service(route: &Route, host: &RouteHost) -> Transport {
    match (route.protocol(), host.tls().start) {
        (Protocol::Lmtp, _) => Transport::Lmtp,
        (_, TlsStart::Implicit) => Transport::Smtps,
        (_, TlsStart::Starttls) => Transport::Smtp,
    }
}

/// What is asked of TLS by the next hop of that name, as Postfix writes it: the strictest of all routes
/// that lead there, and of all rules that may send there.
pub(super) fn tls_level(policy: &Policy, destination: &str) -> Option<TlsLevel> {
    let mut strictest: Option<TlsLevel> = None;
    let mut see = |level: TlsLevel| {
        strictest = Some(strictest.map_or(level, |other| stricter(other, level)));
    };
    for organization in policy.organizations() {
        let demanded = demanded_by_rules(organization);
        for route in organization.routes.values() {
            for host in route.hosts() {
                let at = NextHop::Hosts {
                    by: service(route, host),
                    hosts: vec![host.at().clone()],
                    mx_lookup: route.mx_lookup(),
                };
                if !at.destinations().iter().any(|one| one.eq_ignore_ascii_case(destination)) {
                    continue;
                }
                see(level(route, host));
                if demanded.iter().any(|name| name.is_none_or(|name| name == route.name())) {
                    see(TlsLevel::Encrypt);
                }
            }
        }
        if let Some(gateway) = &organization.outbound_gateway {
            let at = smtp(gateway);
            if at.destinations().iter().any(|one| one.eq_ignore_ascii_case(destination)) {
                see(TlsLevel::May);
                if demanded.contains(&None) {
                    see(TlsLevel::Encrypt);
                }
            }
        }
    }
    strictest
}

fn smtp(at: &HostPort) -> NextHop {
    NextHop::Hosts { by: Transport::Smtp, hosts: vec![at.clone()], mx_lookup: false }
}

/// The routes that rules demand TLS over; `None` among them: of any way, since the rule names no route.
fn demanded_by_rules(organization: &Organization) -> Vec<Option<&RouteName>> {
    let mut found = Vec::new();
    for rule in organization.rules.rules().iter().filter(|rule| rule.mode == Mode::Enforce) {
        let Action::Modify(changes) = &rule.action else { continue };
        if changes.tls == Some(TlsDemand::Required) {
            found.push(changes.route.as_ref());
        }
        let copies = changes.also_deliver_to.iter().filter(|one| one.tls == TlsDemand::Required);
        found.extend(copies.map(|one| one.route.as_ref()));
    }
    found
}

/// What a host asks for (A5 to A7). Where Postfix has no level for a combination of checks, the next
/// stricter one.
fn level(route: &Route, host: &RouteHost) -> TlsLevel {
    let tls = host.tls();
    let names = if route.mx_lookup() { TlsNames::HostOrNextHop } else { TlsNames::NextHop };
    match (tls.ca_signed, tls.hostname, tls.requirement) {
        (Check::Off, Check::Off, TlsDemand::Opportunistic) => TlsLevel::May,
        (Check::Off, Check::Off, TlsDemand::Required) => TlsLevel::Encrypt,
        _ => TlsLevel::Secure(names),
    }
}

/// Whether Postfix checks something else than the route asks for.
pub(super) fn is_stricter_than_asked(host: &RouteHost) -> bool {
    let tls = host.tls();
    let checks = [tls.ca_signed, tls.hostname].iter().filter(|check| **check == Check::On).count();
    checks == 1 || (checks == 2 && tls.requirement == TlsDemand::Opportunistic)
}

fn stricter(one: TlsLevel, other: TlsLevel) -> TlsLevel {
    let rank = |level: TlsLevel| match level {
        TlsLevel::May => 0,
        TlsLevel::Encrypt => 1,
        TlsLevel::Secure(TlsNames::HostOrNextHop) => 2,
        _ => 3,
    };
    if rank(other) > rank(one) { other } else { one }
}
