//! Loopback addresses that belong to one scenario, so that each server may listen at a known port.

use std::net::{IpAddr, Ipv4Addr, TcpListener};

/// The port of MX listeners and of sinks.
pub(crate) const SMTP: u16 = 2525;
/// The port of relay listeners.
pub(crate) const RELAY: u16 = 2587;
/// The port of metrics.
pub(crate) const ADMIN: u16 = 8025;
/// The port of the name server.
pub(crate) const DNS: u16 = 5353;
/// Who listens here has the block of addresses.
const OWNER: u16 = 2524;

/// A block of 254 addresses.
pub(crate) struct Loopback {
    block: [u8; 2],
    given: u8,
    _owner: TcpListener,
}

impl Loopback {
    /// A block that no other scenario on this machine has. `None`: the system has one loopback address only.
    pub(crate) fn take() -> Option<Self> {
        let seed = std::process::id().to_be_bytes()[3];
        (64..=127)
            .flat_map(|high| (0..=255).map(move |low: u8| [high, low.wrapping_add(seed)]))
            .find_map(|block| {
                let owner = TcpListener::bind((Ipv4Addr::new(127, block[0], block[1], 1), OWNER));
                Some(Self { block, given: 1, _owner: owner.ok()? })
            })
    }

    /// The next address.
    pub(crate) fn next(&mut self) -> IpAddr {
        self.given += 1;
        Ipv4Addr::new(127, self.block[0], self.block[1], self.given).into()
    }
}
