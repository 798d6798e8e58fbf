//! Where a delivery goes next.

use std::fmt;

use crate::{HostPort, Reply, RouteName};

/// The next hop of one delivery. Hosts, ports and TLS of a route are looked up at each attempt (A12).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Destination {
    /// The organization's mailbox system: its `mailbox_route`, or the built-in Maildir.
    Mailbox {
        /// The organization's name.
        organization: Box<str>,
    },
    /// A named route of an organization.
    Route {
        /// The organization's name.
        organization: Box<str>,
        /// The route.
        route: RouteName,
    },
    /// The MX hosts of the recipient's domain.
    Mx,
    /// The host of the setting `outbound_gateway` (B1).
    Gateway(HostPort),
    /// Nowhere: the recipient was refused after DATA while others were accepted, and its sender is
    /// to be told so.
    Refused {
        /// The refusal.
        reply: Reply,
    },
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Mailbox { organization } => {
                write!(f, "the mailbox system of {organization}")
            }
            Destination::Route { route, .. } => write!(f, "route {route}"),
            Destination::Mx => f.write_str("the recipient's MX hosts"),
            Destination::Gateway(host) => write!(f, "outbound gateway {host}"),
            Destination::Refused { reply } => write!(f, "nowhere: {reply}"),
        }
    }
}
