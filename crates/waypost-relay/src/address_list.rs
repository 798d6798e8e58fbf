//! The IP addresses that a relay entry trusts.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::relay_error::RelayErrorKind;

/// Ranges of addresses with a description each, asked by prefix length: at most 34 look-ups, however
/// many ranges there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AddressList {
    ranges: BTreeMap<IpNet, Box<str>>,
    lengths_v4: Vec<u8>,
    lengths_v6: Vec<u8>,
}

impl AddressList {
    /// Adds a range; false when it is there already.
    pub(crate) fn insert(&mut self, range: IpNet, description: &str) -> bool {
        let lengths = match range {
            IpNet::V4(_) => &mut self.lengths_v4,
            IpNet::V6(_) => &mut self.lengths_v6,
        };
        if !lengths.contains(&range.prefix_len()) {
            lengths.push(range.prefix_len());
            lengths.sort_unstable_by(|a, b| b.cmp(a));
        }
        self.ranges.insert(range, description.into()).is_none()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The narrowest range that holds `ip`. An IPv4-mapped IPv6 address is asked as IPv4.
    pub(crate) fn find(&self, ip: IpAddr) -> Option<(&IpNet, &str)> {
        let ip = ip.to_canonical();
        let lengths = if ip.is_ipv4() { &self.lengths_v4 } else { &self.lengths_v6 };
        lengths.iter().find_map(|length| {
            let range = IpNet::new(ip, *length).ok()?.trunc();
            self.ranges.get_key_value(&range).map(|(range, text)| (range, &**text))
        })
    }
}

/// The range that `text` means: an address is a range of one. IPv4-mapped IPv6 becomes IPv4.
pub(crate) fn parse_range(text: &str) -> Result<IpNet, RelayErrorKind> {
    let wrong = || RelayErrorKind::Range(shown(text));
    let given = text.trim();
    let range = match given.parse::<IpAddr>() {
        Ok(ip) => IpNet::from(ip),
        Err(_) => given.parse::<IpNet>().map_err(|_| wrong())?,
    };
    let range = mapped_to_v4(range).unwrap_or(range);
    let bits = range.max_prefix_len() - range.prefix_len();
    if range.prefix_len() == 0 {
        return Err(RelayErrorKind::Everything(shown(text)));
    }
    if bits > 16 {
        let least = range.max_prefix_len() - 16;
        return Err(RelayErrorKind::RangeTooLarge { text: shown(text), bits, least });
    }
    if range.trunc() != range {
        return Err(RelayErrorKind::HostBits { text: shown(text), network: range.trunc() });
    }
    Ok(range)
}

fn mapped_to_v4(range: IpNet) -> Option<IpNet> {
    let IpNet::V6(v6) = range else { return None };
    let v4 = v6.addr().to_ipv4_mapped()?;
    Ipv4Net::new(v4, v6.prefix_len().checked_sub(96)?).ok().map(IpNet::V4)
}

fn shown(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Whether any address of the range is private, loopback, link-local, unique-local or CGN (D4).
pub(crate) fn is_private(range: &IpNet) -> bool {
    match range.network() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_or_refused_d4() {
        for (text, want) in [
            ("203.0.113.7", Ok("203.0.113.7/32")),
            ("203.0.113.0/28", Ok("203.0.113.0/28")),
            (" 203.0.113.0/28 ", Ok("203.0.113.0/28")),
            ("203.0.0.0/16", Ok("203.0.0.0/16")),
            ("1050:0000:0000:0000:0005:0600:300c:326b", Ok("1050::5:600:300c:326b/128")),
            ("1050:0:0:0:5:600:300c:326b", Ok("1050::5:600:300c:326b/128")),
            ("1050::5:600:300c:326b", Ok("1050::5:600:300c:326b/128")),
            ("2001:db8::/112", Ok("2001:db8::/112")),
            ("::ffff:192.0.2.0/120", Ok("192.0.2.0/24")),
            ("::ffff:192.0.2.1", Ok("192.0.2.1/32")),
            ("0.0.0.0/0", Err("every address")),
            ("::/0", Err("every address")),
            ("::ffff:0.0.0.0/96", Err("every address")),
            (
                "203.0.0.0/15",
                Err("2^17 addresses, more than 65,536 (D4); use a prefix of at least /16"),
            ),
            (
                "2001:db8::/64",
                Err("2^64 addresses, more than 65,536 (D4); use a prefix of at least /112"),
            ),
            ("203.0.113.5/28", Err("the network is `203.0.113.0/28`")),
            ("203.0.113.0/33", Err("neither an IP address")),
            ("203.0.113.0/", Err("neither an IP address")),
            ("203.0.113.0/255.255.255.0", Err("neither an IP address")),
            ("203.0.113", Err("neither an IP address")),
            ("fe80::1%eth0", Err("neither an IP address")),
            ("", Err("neither an IP address")),
            ("mail.example", Err("neither an IP address")),
        ] {
            match (parse_range(text), want) {
                (Ok(range), Ok(want)) => assert_eq!(range.to_string(), want, "{text}"),
                (Err(error), Err(want)) => {
                    assert!(error.to_string().contains(want), "{text}: {error}");
                }
                (got, want) => panic!("{text}: {got:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn the_narrowest_range_answers() {
        let mut list = AddressList::default();
        for (range, text) in
            [("192.0.2.0/24", "wide"), ("192.0.2.7", "one"), ("2001:db8::/120", "six")]
        {
            assert!(list.insert(parse_range(range).unwrap(), text));
        }
        assert!(!list.insert(parse_range("192.0.2.7").unwrap(), "again"));
        for (ip, want) in [
            ("192.0.2.7", Some("again")),
            ("192.0.2.255", Some("wide")),
            ("192.0.3.0", None),
            ("2001:db8::ff", Some("six")),
            ("2001:db8::100", None),
            ("::ffff:192.0.2.1", Some("wide")),
        ] {
            assert_eq!(list.find(ip.parse().unwrap()).map(|found| found.1), want, "{ip}");
        }
    }

    #[test]
    fn private_means_not_of_the_internet_d4() {
        for (range, private) in [
            ("10.0.0.0/16", true),
            ("127.0.0.1", true),
            ("169.254.1.1", true),
            ("172.31.0.0/24", true),
            ("192.168.1.0/24", true),
            ("100.64.0.0/16", true),
            ("100.128.0.0/16", false),
            ("203.0.113.0/24", false),
            ("::1", true),
            ("fd00::/112", true),
            ("fe80::1", true),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_private(&parse_range(range).unwrap()), private, "{range}");
        }
    }
}
