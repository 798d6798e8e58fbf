//! Routes that nobody takes, and those that lead back to this server.

use std::collections::HashSet;
use std::net::IpAddr;

use waypost_rules::{AccountKind, Direction};
use waypost_types::{Host, HostPort, RouteName};

use super::Linted;
use crate::diagnostics::{Diagnostic, Place, Report};

pub(super) fn lint(at: &Linted<'_>, report: &mut Report) {
    for raw in &at.raw.route {
        let Some(name) = &raw.name else { continue };
        let Some(route) = at.compiled.routes.get(&name.value) else { continue };
        let mut told = Vec::new();
        for (nth, host) in route.hosts().iter().enumerate() {
            let written = raw.primary.iter().chain(&raw.secondary).nth(nth);
            let written = written.and_then(|host| host.host.as_ref()).or(raw.host.as_ref());
            let place = written.map_or(raw.place, |host| host.place);
            if let Some(why) = points_back(at, host.at(), route.mx_lookup())
                && !told.contains(&place)
            {
                told.push(place);
                back(
                    format!("the route `{}` leads back to this server", **name),
                    why,
                    place,
                    report,
                );
            }
        }
    }
    if let Some(gateway) = &at.raw.outbound_gateway
        && let Some(why) = points_back(at, gateway, false)
    {
        let what = "`outbound_gateway` leads back to this server".to_owned();
        back(what, why, gateway.place, report);
    }
    circles(at, report);
}

fn back(what: String, why: String, place: Place, report: &mut Report) {
    report.push(Diagnostic::warning(
        "route-points-back",
        place,
        "O3",
        format!("{what}: {why}"),
        "name the system that the mail is for; what comes back is refused as a loop",
    ));
}

pub(super) fn unused(at: &Linted<'_>, report: &mut Report) {
    let mut used: HashSet<&RouteName> = HashSet::new();
    used.extend(at.raw.mailbox_route.iter().map(|route| &route.value));
    for rule in &at.raw.rule {
        let modify = rule.then.as_ref().and_then(|then| then.modify.as_ref());
        for modify in modify.into_iter() {
            let copies = modify.also_deliver_to.iter().filter_map(|copy| copy.route.as_ref());
            used.extend(modify.route.iter().chain(copies).map(|route| &route.value));
        }
    }
    for name in at.raw.route.iter().filter_map(|route| route.name.as_ref()) {
        if !used.contains(&name.value) {
            report.push(Diagnostic::warning(
                "unused-route",
                name.place,
                "A1",
                format!("no rule and no `mailbox_route` takes the route `{}`", **name),
                "name it in a rule, or remove it",
            ));
        }
    }
}

/// Why a host is this server, as far as the configuration can tell.
fn points_back(at: &Linted<'_>, host: &HostPort, mx_lookup: bool) -> Option<String> {
    let server = at.config.server.as_ref()?;
    let listeners: Vec<_> = at.config.listener.iter().filter_map(|one| one.bind.as_ref()).collect();
    let listens = |port: u16| listeners.iter().any(|bind| bind.port() == port && port != 0);
    // Whoever listens elsewhere may be reached at port 25 all the same.
    let is_our_port = |port: u16| port == 25 || listens(port);
    match &host.host {
        Host::Name(name) if mx_lookup => {
            let organizations = at.config.organization.iter();
            let mut domains = organizations.flat_map(|organization| &organization.domains);
            domains.any(|domain| domain.value == *name).then(|| {
                format!("`mx_lookup` finds the MX hosts of `{name}`, whose mail this server takes")
            })
        }
        Host::Name(name) => {
            let own = server.hostname.as_ref().is_some_and(|own| own.value == *name);
            if own && is_our_port(host.port) {
                return Some(format!("`{name}` is its own `hostname`"));
            }
            let local = name.as_str() == "localhost" && listens(host.port);
            local.then(|| format!("a listener has port {} of this machine", host.port))
        }
        Host::Ip(ip) => {
            let ip = ip.to_canonical();
            let takes = |bind: IpAddr| {
                let bind = bind.to_canonical();
                let any = bind.is_unspecified() && (ip.is_loopback() || is_public(at, ip));
                bind == ip || any || (bind.is_loopback() && ip.is_loopback())
            };
            let of_port = |bind: &&&crate::diagnostics::Spanned<std::net::SocketAddr>| {
                bind.port() == host.port && host.port != 0
            };
            if let Some(bind) = listeners.iter().filter(of_port).find(|bind| takes(bind.ip())) {
                return Some(format!("a listener has the address {}", bind.value));
            }
            (is_public(at, ip) && is_our_port(host.port))
                .then(|| format!("{ip} is one of its `public_addresses`"))
        }
    }
}

fn is_public(at: &Linted<'_>, ip: IpAddr) -> bool {
    let server = at.config.server.iter();
    server.flat_map(|server| &server.public_addresses).any(|own| own.to_canonical() == ip)
}

/// A split delivery whose second system is the first, or the smart host: what is not known there
/// comes back, or goes round (C7).
fn circles(at: &Linted<'_>, report: &mut Report) {
    let hosts = |name: &RouteName| {
        let route = at.compiled.routes.get(name);
        route.into_iter().flat_map(|route| route.hosts()).map(|host| host.at())
    };
    for one in at.enforced() {
        let incoming = one.rule.affects.iter().any(|direction| !Direction::is_outgoing(direction));
        let splits = incoming && one.rule.accounts.contains(AccountKind::Unrecognized);
        let Some(modify) = one.raw.then.as_ref().and_then(|then| then.modify.as_ref()) else {
            continue;
        };
        let Some(route) = modify.route.as_ref().filter(|_| splits) else { continue };
        let other = at.compiled.mailbox_route.as_ref().filter(|other| **other != route.value);
        let shared = other.and_then(|other| {
            let host = hosts(&route.value).find(|host| hosts(other).any(|there| there == *host))?;
            Some((format!("the mailbox system, route `{other}`, is"), host))
        });
        let gateway = at.compiled.outbound_gateway.as_ref().and_then(|gateway| {
            let host = hosts(&route.value).find(|host| *host == gateway)?;
            Some(("`outbound_gateway` is".to_owned(), host))
        });
        for (what, host) in shared.into_iter().chain(gateway) {
            report.push(Diagnostic::warning(
                "split-delivery-circle",
                route.place,
                "C7",
                format!(
                    "the rule `{}` sends unrecognized recipients to {host} by the route `{}`, and \
                     {what} the same host",
                    one.rule.description, **route
                ),
                "name the second system's host; the first one has no mailbox for them, and would \
                 send them back",
            ));
        }
    }
}
