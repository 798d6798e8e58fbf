//! The setting `outbound_gateway`.

use waypost_types::HostPort;

use crate::{RouteError, RouteErrorKind};

/// Reads the setting `outbound_gateway`: `host`, `host:port`, `ip`, `[ip]` or `[ip]:port`, with the
/// ports of a single-host route; 25 by default (B1, A2).
///
/// Mail to it goes without MX lookup, under
/// [`TlsPolicy::OPPORTUNISTIC`](crate::TlsPolicy::OPPORTUNISTIC).
///
/// # Errors
/// [`RouteErrorKind::Host`] or [`RouteErrorKind::GatewayPort`], at the field `outbound_gateway`.
///
/// ```
/// let gateway = waypost_route::outbound_gateway("smarthost.example:587")?;
/// assert_eq!(gateway.port, 587);
/// # Ok::<(), waypost_route::RouteError>(())
/// ```
pub fn outbound_gateway(text: &str) -> Result<HostPort, RouteError> {
    let wrong = |kind| RouteError::new("outbound_gateway", kind);
    let found = HostPort::parse_or(text.trim(), 25).map_err(|e| wrong(RouteErrorKind::Host(e)))?;
    match found.port {
        25 | 587 | 1024.. => Ok(found),
        port => Err(wrong(RouteErrorKind::GatewayPort(port))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_ports_b1() {
        for (text, want) in [
            ("smarthost.example", "smarthost.example:25"),
            ("smarthost.example:587", "smarthost.example:587"),
            ("192.0.2.1", "192.0.2.1:25"),
            ("[192.0.2.1]", "192.0.2.1:25"),
            ("[2001:db8::1]:2525", "[2001:db8::1]:2525"),
            ("smarthost.example:465", "outbound_gateway: port 465 is not allowed for the outbound"),
            ("smarthost.example:26", "outbound_gateway: port 26 is not allowed for the outbound"),
            ("smarthost.example:0", "outbound_gateway: `0` is no port; write a number from 1"),
            ("smart host", "outbound_gateway: `smart host` is no host name: "),
            ("", "outbound_gateway: `` is no host name: "),
        ] {
            let got = match outbound_gateway(text) {
                Ok(found) => found.to_string(),
                Err(error) => error.to_string(),
            };
            assert!(got.starts_with(want), "{text:?}: {got}");
        }
    }
}
