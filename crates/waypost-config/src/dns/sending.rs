//! Who sends an organization's mail to the world.

use std::fmt;
use std::net::IpAddr;

use waypost_inbound::PublicAddresses;
use waypost_rules::{Action, Direction, Mode};
use waypost_types::{Domain, HostPort};

use crate::policy::Organization;

/// A host that an organization's outbound mail goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundHost {
    /// The host.
    pub at: HostPort,
    /// It stands for its MX hosts.
    pub mx_lookup: bool,
}

/// The hosts of the setting `outbound_gateway` and of the routes that enforced rules choose for outbound
/// mail, each once (B1, B2).
#[must_use]
pub fn outbound_hosts(organization: &Organization) -> Vec<OutboundHost> {
    let setting = organization.outbound_gateway.iter();
    let mut found: Vec<OutboundHost> =
        setting.map(|at| OutboundHost { at: at.clone(), mx_lookup: false }).collect();
    for rule in organization.rules.rules() {
        let outbound = rule.mode == Mode::Enforce && rule.affects.contains(Direction::Outbound);
        let Action::Modify(changes) = &rule.action else { continue };
        let route = changes.route.as_ref().and_then(|name| organization.routes.get(name));
        let Some(route) = route.filter(|_| outbound) else { continue };
        for host in route.hosts() {
            let host = OutboundHost { at: host.at().clone(), mx_lookup: route.mx_lookup() };
            if !found.iter().any(|known| known.at.host == host.at.host) {
                found.push(host);
            }
        }
    }
    found
}

/// Who sends an organization's mail to the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// This server.
    Server(Domain),
    /// A host that outbound mail goes to.
    Gateway(OutboundHost),
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sender::Server(name) => write!(f, "this server ({name})"),
            Sender::Gateway(host) => write!(f, "the gateway {}", host.at.host),
        }
    }
}

/// Why a sender's addresses are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAddress {
    /// The DNS does not answer now.
    Unknown(String),
    /// It has none that others could see.
    None(String),
}

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoAddress::Unknown(why) | NoAddress::None(why) => f.write_str(why),
        }
    }
}

/// Where a sender's mail is seen to come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    /// Who sends.
    pub sender: Sender,
    /// Its public addresses, or why there are none.
    pub addresses: Result<Vec<IpAddr>, NoAddress>,
    /// The addresses were written into the configuration, not found by the sender's name.
    pub written: bool,
}

impl Sending {
    /// A sender with the addresses that were found or written; those that are not public are left out,
    /// since nobody outside sees them.
    #[must_use]
    pub fn new(sender: Sender, found: Result<Vec<IpAddr>, NoAddress>, written: bool) -> Self {
        let addresses = found.and_then(|found| {
            let (public, hidden): (Vec<_>, Vec<_>) =
                found.iter().partition(|ip| PublicAddresses::default().contains(**ip));
            match (public.is_empty(), hidden.first()) {
                (true, Some(hidden)) => {
                    Err(NoAddress::None(format!("{hidden} is no public address")))
                }
                _ => Ok(public),
            }
        });
        Self { sender, addresses, written }
    }

    /// The terms that put it into an SPF record; addresses alone if the record can ask no more.
    pub(super) fn terms(&self, may_ask: bool) -> Vec<String> {
        let by_name = match &self.sender {
            _ if self.written || !may_ask => None,
            Sender::Server(name) => Some(format!("a:{name}")),
            Sender::Gateway(OutboundHost { at, mx_lookup }) => {
                let kind = if *mx_lookup { "mx" } else { "a" };
                at.host.name().map(|name| format!("{kind}:{name}"))
            }
        };
        let by_address = || {
            let found = self.addresses.iter().flatten();
            found.map(|ip| if ip.is_ipv4() { format!("ip4:{ip}") } else { format!("ip6:{ip}") })
        };
        by_name.map_or_else(|| by_address().collect(), |term| vec![term])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_name_a_sender_by_name_else_by_address_b4() {
        let ips = || Ok(vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]);
        let server = || Sender::Server("mx.solarmora.com".parse().unwrap());
        let gateway = |text: &str, mx_lookup| {
            let at = HostPort::parse_or(text, 25).unwrap();
            Sender::Gateway(OutboundHost { at, mx_lookup })
        };
        for (sender, written, may_ask, want) in [
            (server(), false, true, &["a:mx.solarmora.com"][..]),
            (server(), true, true, &["ip4:192.0.2.1", "ip6:2001:db8::1"]),
            (server(), false, false, &["ip4:192.0.2.1", "ip6:2001:db8::1"]),
            (gateway("smart.example:587", false), false, true, &["a:smart.example"]),
            (gateway("smart.example", true), false, true, &["mx:smart.example"]),
            (gateway("192.0.2.1", false), false, true, &["ip4:192.0.2.1", "ip6:2001:db8::1"]),
        ] {
            assert_eq!(Sending::new(sender, ips(), written).terms(may_ask), want);
        }
    }

    #[test]
    fn only_public_addresses_are_compared_b4() {
        let sending = |list: &[&str]| {
            let found = list.iter().map(|ip| ip.parse().unwrap()).collect();
            Sending::new(Sender::Server("mx.a.example".parse().unwrap()), Ok(found), false)
                .addresses
        };
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(sending(&["127.0.1.1", "192.0.2.1"]), Ok(vec![ip("192.0.2.1")]));
        assert_eq!(
            sending(&["127.0.1.1"]),
            Err(NoAddress::None("127.0.1.1 is no public address".to_owned()))
        );
    }
}
