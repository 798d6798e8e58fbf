//! Which addresses are public.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::ranges::{Ranges, canonical, mapped, overlap};

/// What is not public, in any network (E1), and what to call it.
const NOT_PUBLIC: [(&str, &str); 15] = [
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared (carrier-grade NAT)"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarking"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("fe80::/10", "link-local"),
    ("fc00::/7", "unique-local"),
    ("ff00::/8", "multicast"),
];

/// What to call the ranges for documentation.
pub(crate) const DOCUMENTATION: &str = "documentation";

/// They: RFC 5737, RFC 3849, RFC 9637.
const FOR_DOCUMENTATION: [(&str, &str); 5] = [
    ("192.0.2.0/24", DOCUMENTATION),
    ("198.51.100.0/24", DOCUMENTATION),
    ("203.0.113.0/24", DOCUMENTATION),
    ("2001:db8::/32", DOCUMENTATION),
    ("3fff::/20", DOCUMENTATION),
];

/// The predicate *public*: an address is public unless it is in one of a list of blocks (E1).
///
/// An IPv4-mapped IPv6 address is judged as IPv4. Source: E1; RFC 6890; RFC 1918; RFC 4193.
///
/// ```
/// use waypost_inbound::PublicAddresses;
///
/// let public = PublicAddresses::default();
/// assert!(public.contains("192.0.2.1".parse()?)); // documentation ranges count as public (E6)
/// assert!(!public.contains("::ffff:10.0.0.1".parse()?));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicAddresses {
    blocks: Vec<(IpNet, &'static str)>,
    not_public: Ranges,
}

impl PublicAddresses {
    /// E1's list; with `documentation_ranges` false the documentation ranges are not public either.
    #[must_use]
    pub fn new(documentation_ranges: bool) -> Self {
        let more = FOR_DOCUMENTATION.iter().filter(|_| !documentation_ranges);
        let known = NOT_PUBLIC.iter().chain(more);
        // Every row of both tables is a range; a test holds on to it.
        Self::of(known.filter_map(|(range, name)| Some((range.parse().ok()?, *name))).collect())
    }

    /// Everything is public but these blocks: for networks that have rules of their own.
    #[must_use]
    pub fn all_but(blocks: impl IntoIterator<Item = IpNet>) -> Self {
        Self::of(blocks.into_iter().map(|block| (block, "non-public")).collect())
    }

    fn of(blocks: Vec<(IpNet, &'static str)>) -> Self {
        let not_public = blocks.iter().map(|(block, _)| *block).collect();
        Self { blocks, not_public }
    }

    /// Whether an address is public.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        !self.not_public.contains(ip)
    }

    /// The first block that has an address in common with `range`, and its kind.
    #[must_use]
    pub fn block_in(&self, range: IpNet) -> Option<(IpNet, &'static str)> {
        let range = canonical(range);
        let found = self.blocks.iter().find(|(block, _)| overlap(*block, range));
        // A range around the mapped addresses holds the private ones of IPv4 with them.
        found.copied().or_else(|| overlap(range, mapped()).then(|| (mapped(), "IPv4-mapped")))
    }
}

impl Default for PublicAddresses {
    fn default() -> Self {
        Self::new(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_is_what_e1_says() {
        let table: &[(&str, bool)] = &[
            ("0.0.0.0", false),
            ("0.255.255.255", false),
            ("1.0.0.0", true),
            ("9.255.255.255", true),
            ("10.0.0.0", false),
            ("10.255.255.255", false),
            ("11.0.0.0", true),
            ("100.63.255.255", true),
            ("100.64.0.0", false),
            ("100.127.255.255", false),
            ("100.128.0.0", true),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("169.255.0.0", true),
            ("172.15.255.255", true),
            ("172.16.0.0", false),
            ("172.31.255.255", false),
            ("172.32.0.0", true),
            ("192.0.2.1", true),
            ("192.168.0.1", false),
            ("192.169.0.0", true),
            ("198.17.255.255", true),
            ("198.18.0.0", false),
            ("198.19.255.255", false),
            ("198.20.0.0", true),
            ("198.51.100.1", true),
            ("203.0.113.1", true),
            ("223.255.255.255", true),
            ("224.0.0.1", false),
            ("239.255.255.255", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::2", true),
            ("::ffff:10.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("2001:db8::1", true),
            ("2a00::1", true),
            ("fbff::1", true),
            ("fc00::1", false),
            ("fdff::1", false),
            ("fe7f::1", true),
            ("fe80::1", false),
            ("febf::1", false),
            ("fec0::1", true),
            ("ff02::1", false),
        ];
        let public = PublicAddresses::default();
        for (ip, want) in table {
            assert_eq!(public.contains(ip.parse().unwrap()), *want, "{ip}");
        }
    }

    #[test]
    fn documentation_ranges_follow_the_switch_e6() {
        for ip in ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"] {
            assert!(PublicAddresses::new(true).contains(ip.parse().unwrap()), "{ip}");
            assert!(!PublicAddresses::new(false).contains(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn every_row_is_a_range() {
        assert_eq!(
            PublicAddresses::new(false).blocks.len(),
            NOT_PUBLIC.len() + FOR_DOCUMENTATION.len()
        );
    }

    #[test]
    fn blocks_inside_a_range_are_found() {
        let table: &[(&str, Option<&str>)] = &[
            ("8.8.8.0/24", None),
            ("8.0.0.0/5", Some("10.0.0.0/8")),
            ("10.1.0.0/16", Some("10.0.0.0/8")),
            ("::ffff:10.0.0.0/120", Some("10.0.0.0/8")),
            ("::ffff:8.8.8.0/120", None),
            ("::ffff:0:0/80", Some("::/128")),
            ("2000::/3", None),
            ("f000::/4", Some("fe80::/10")),
        ];
        for (range, want) in table {
            let found = PublicAddresses::default().block_in(range.parse().unwrap());
            let want = want.map(|want| want.parse().unwrap());
            assert_eq!(found.map(|(block, _)| block), want, "{range}");
        }
    }
}
