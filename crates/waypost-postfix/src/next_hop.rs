//! Values of Postfix's tables `transport_maps` and `smtp_tls_policy_maps`.

use std::fmt;

use waypost_types::{Host, HostPort, Reply};

/// A service of master.cf that delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// SMTP, TLS by STARTTLS.
    Smtp,
    /// SMTP inside TLS: a service `smtps` that one adds, with `smtp_tls_wrappermode=yes`.
    Smtps,
    /// LMTP.
    Lmtp,
}

/// Where mail goes, as transport(5) writes it. Shown as the value of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NextHop {
    /// Hosts, tried in this order. Postfix 3.5 and later take several.
    Hosts {
        /// The service that delivers.
        by: Transport,
        /// The hosts.
        hosts: Vec<HostPort>,
        /// Whether each name is looked up for its MX hosts first.
        mx_lookup: bool,
    },
    /// Nowhere: the sender gets a notice, or the client this reply.
    Refused(Reply),
}

impl NextHop {
    /// The destinations one by one, as `smtp_tls_policy_maps` is asked for them.
    #[must_use]
    pub fn destinations(&self) -> Vec<String> {
        match self {
            NextHop::Refused(_) => Vec::new(),
            NextHop::Hosts { by, hosts, mx_lookup } => {
                hosts.iter().map(|at| destination(*by, at, *mx_lookup)).collect()
            }
        }
    }
}

fn destination(by: Transport, at: &HostPort, mx_lookup: bool) -> String {
    let port = at.port;
    match (by, &at.host, mx_lookup) {
        (Transport::Lmtp, Host::Name(name), _) => format!("inet:{name}:{port}"),
        (Transport::Lmtp, Host::Ip(ip), _) => format!("inet:[{}]:{port}", literal(*ip)),
        (_, Host::Name(name), true) => format!("{name}:{port}"),
        (_, Host::Name(name), false) => format!("[{name}]:{port}"),
        (_, Host::Ip(ip), _) => format!("[{}]:{port}", literal(*ip)),
    }
}

fn literal(ip: std::net::IpAddr) -> String {
    match ip {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("ipv6:{ip}"),
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextHop::Hosts { by, .. } => {
                let service = match by {
                    Transport::Smtp => "smtp",
                    Transport::Smtps => "smtps",
                    Transport::Lmtp => "lmtp",
                };
                write!(f, "{service}:{}", self.destinations().join(","))
            }
            NextHop::Refused(reply) => {
                let service = if reply.code() < 500 { "retry" } else { "error" };
                let text = reply.text().replace('\n', " ");
                match reply.enhanced() {
                    Some(enhanced) => write!(f, "{service}:{enhanced} {text}"),
                    None => write!(f, "{service}:{text}"),
                }
            }
        }
    }
}

/// Whose name a certificate must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsNames {
    /// The destination's.
    NextHop,
    /// The destination's, or that of the host that its MX record names.
    HostOrNextHop,
}

/// What a delivery asks of TLS, as `smtp_tls_policy_maps` has it. Shown as the value of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsLevel {
    /// TLS where it is offered.
    May,
    /// TLS or no delivery, with any certificate.
    Encrypt,
    /// TLS with a certificate of a trusted authority for one of these names, or no delivery.
    Secure(TlsNames),
}

impl fmt::Display for TlsLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsLevel::May => "may",
            TlsLevel::Encrypt => "encrypt",
            TlsLevel::Secure(TlsNames::NextHop) => "secure match=nexthop",
            TlsLevel::Secure(TlsNames::HostOrNextHop) => "secure match=hostname:nexthop",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_hops_as_transport_5_writes_them() {
        let hop = |by, hosts: &[&str], mx_lookup| {
            let hosts = hosts.iter().map(|at| at.parse().unwrap()).collect();
            NextHop::Hosts { by, hosts, mx_lookup }.to_string()
        };
        use Transport::{Lmtp, Smtp, Smtps};
        for (got, want) in [
            (hop(Smtp, &["a.example:25"], false), "smtp:[a.example]:25"),
            (hop(Smtp, &["a.example:25"], true), "smtp:a.example:25"),
            (
                hop(Smtp, &["a.example:25", "192.0.2.1:2525"], false),
                "smtp:[a.example]:25,[192.0.2.1]:2525",
            ),
            (hop(Smtp, &["[2001:db8::1]:25"], false), "smtp:[ipv6:2001:db8::1]:25"),
            (hop(Smtps, &["a.example:465"], false), "smtps:[a.example]:465"),
            (hop(Lmtp, &["127.0.0.1:24"], false), "lmtp:inet:[127.0.0.1]:24"),
            (hop(Lmtp, &["a.example:24"], false), "lmtp:inet:a.example:24"),
            (NextHop::Refused(Reply::new(550, (5, 7, 1), "a\nb")).to_string(), "error:5.7.1 a b"),
            (NextHop::Refused(Reply::new(451, (4, 3, 0), "c")).to_string(), "retry:4.3.0 c"),
        ] {
            assert_eq!(got, want);
        }
    }
}
