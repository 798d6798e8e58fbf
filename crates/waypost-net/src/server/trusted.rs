//! Whom a listener believes when he says that he speaks for somebody else.

use std::net::IpAddr;

use ipnet::IpNet;

/// The addresses of proxies: whose PROXY header is read, and who may give XCLIENT. Nobody, at first.
///
/// Ranges of IPv4-mapped IPv6 match nothing: give them as IPv4. Looked through once a connection, one
/// by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Who must begin each connection with a PROXY header.
    pub proxy_protocol: Vec<IpNet>,
    /// Who may give XCLIENT. Behind a PROXY header it is the address announced there that counts.
    pub xclient: Vec<IpNet>,
}

impl TrustedProxies {
    /// Whether connections from this address begin with a PROXY header.
    #[must_use]
    pub fn sends_header(&self, peer: IpAddr) -> bool {
        holds(&self.proxy_protocol, peer)
    }

    /// Whether this address may give XCLIENT.
    #[must_use]
    pub fn gives_xclient(&self, peer: IpAddr) -> bool {
        holds(&self.xclient, peer)
    }
}

fn holds(ranges: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ranges.iter().any(|range| range.contains(&ip))
}
