//! Sets of addresses, made of ranges.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A set of address ranges, merged and sorted: looking one up takes `log2` of their number.
///
/// IPv4-mapped IPv6 addresses and ranges are held and asked for as IPv4.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Ranges {
    /// Whether an address is in one of the ranges.
    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => within(&self.v4, u32::from(ip)),
            IpAddr::V6(ip) => within(&self.v6, u128::from(ip)),
        }
    }

    /// Whether one of the ranges, or several that overlap, hold all addresses of another one.
    pub(crate) fn covers(&self, range: IpNet) -> bool {
        match canonical(range) {
            IpNet::V4(net) => covers(&self.v4, net.network().into(), net.broadcast().into()),
            IpNet::V6(net) => covers(&self.v6, net.network().into(), net.broadcast().into()),
        }
    }

    /// Whether there is no range at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

impl FromIterator<IpNet> for Ranges {
    fn from_iter<T: IntoIterator<Item = IpNet>>(ranges: T) -> Self {
        let mut all = Self::default();
        for range in ranges {
            match canonical(range) {
                IpNet::V4(net) => all.v4.push((net.network().into(), net.broadcast().into())),
                IpNet::V6(net) => all.v6.push((net.network().into(), net.broadcast().into())),
            }
        }
        merge(&mut all.v4);
        merge(&mut all.v6);
        all
    }
}

/// A range of IPv4-mapped addresses as IPv4; any other as it is.
pub(crate) fn canonical(range: IpNet) -> IpNet {
    if let IpNet::V6(net) = range
        && let Some(network) = net.network().to_ipv4_mapped()
        && let Some(length) = net.prefix_len().checked_sub(96)
        && let Ok(net) = Ipv4Net::new(network, length)
    {
        return IpNet::V4(net);
    }
    range
}

/// Whether two ranges have an address in common.
pub(crate) fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// The range of IPv4-mapped addresses, `::ffff:0:0/96`.
pub(crate) fn mapped() -> IpNet {
    let network = std::net::Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();
    IpNet::V6(Ipv6Net::new_assert(network, 96))
}

fn within<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    covers(ranges, address, address)
}

fn covers<T: Copy + Ord>(ranges: &[(T, T)], address: T, end: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= address);
    behind.checked_sub(1).and_then(|i| ranges.get(i)).is_some_and(|(_, last)| end <= *last)
}

/// Sorts, and joins ranges that overlap, so that the one before an address is the only candidate.
fn merge<T: Copy + Ord>(ranges: &mut Vec<(T, T)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let joined = next.0 <= kept.1;
        if joined {
            kept.1 = kept.1.max(next.1);
        }
        joined
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_holds_what_one_of_its_ranges_holds(
            nets in proptest::collection::vec((any::<u32>(), 0_u8..=32), 0..20),
            address in any::<u32>(),
            near in any::<prop::sample::Index>(),
        ) {
            let nets: Vec<IpNet> =
                nets.into_iter().map(|(a, l)| Ipv4Net::new(a.into(), l).unwrap().trunc().into()).collect();
            let ranges: Ranges = nets.iter().copied().collect();
            let mut addresses = vec![IpAddr::V4(address.into())];
            if !nets.is_empty() {
                addresses.push(nets[near.index(nets.len())].broadcast());
            }
            for ip in addresses {
                prop_assert_eq!(ranges.contains(ip), nets.iter().any(|net| net.contains(&ip)));
            }
        }
    }

    #[test]
    fn mapped_ranges_are_ipv4() {
        for (range, want) in [
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:192.0.2.1/128", "192.0.2.1/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(canonical(range.parse().unwrap()), want.parse().unwrap(), "{range}");
        }
    }
}
