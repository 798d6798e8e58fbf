//! What RFC 7208 calls an error in a record, and the library passes over.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use waypost_types::Domain;

/// Whether a TXT record is one of SPF (RFC 7208 section 4.5).
pub(super) fn is_spf(record: &str) -> bool {
    let Some(version) = record.get(..6) else { return false };
    version.eq_ignore_ascii_case("v=spf1") && matches!(record.as_bytes().get(6), None | Some(b' '))
}

/// Whether each mechanism has a name that there is, and each address can be read (RFC 7208 sections 4.6.1
/// and 5.6). A slip such as `ipv4:` would else make a domain deny its own servers.
pub(super) fn is_sound(record: &str) -> bool {
    terms(record).all(|term| {
        let name_end = term.find([':', '=', '/']).unwrap_or(term.len());
        let (name, rest) = term.split_at(name_end);
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match rest.strip_prefix(':') {
            _ if rest.starts_with('=') => true,
            Some(network) if is("ip4") => is_network::<Ipv4Addr>(network, 32),
            Some(network) if is("ip6") => is_network::<Ipv6Addr>(network, 128),
            Some(target) => {
                !target.is_empty() && ["include", "a", "mx", "ptr", "exists"].into_iter().any(is)
            }
            None if rest.is_empty() => ["all", "a", "mx", "ptr"].into_iter().any(is),
            None => ["a", "mx"].into_iter().any(is),
        }
    })
}

fn is_network<A: FromStr>(text: &str, longest: u8) -> bool {
    let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
    let fits = |length: &str| length.parse::<u8>().is_ok_and(|length| length <= longest);
    address.parse::<A>().is_ok() && length.is_none_or(fits)
}

/// The domains of other records that are a part of this one, those with macros left out.
pub(super) fn included(record: &str) -> impl Iterator<Item = Domain> {
    terms(record).filter_map(|term| {
        let (name, target) = term.split_once([':', '='])?;
        let leads = ["include", "redirect"].iter().any(|known| name.eq_ignore_ascii_case(known));
        leads.then(|| target.strip_suffix('.').unwrap_or(target).parse().ok())?
    })
}

/// The terms behind the version, without their qualifiers.
fn terms(record: &str) -> impl Iterator<Item = &str> {
    let terms = record.split(' ').skip(1).filter(|term| !term.is_empty());
    terms.map(|term| term.strip_prefix(['+', '-', '?', '~']).unwrap_or(term))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_rfc_7208() {
        for (record, spf, sound, leads) in [
            ("v=spf1", true, true, ""),
            ("V=SPF1 -ALL", true, true, ""),
            ("v=spf10 -all", false, true, ""),
            ("v=spf", false, true, ""),
            ("v=spf1 a/24 mx:b.example/24//64 ptr ?exists:%{i}.x.example ~all", true, true, ""),
            ("v=spf1  include:b.example redirect=c.example. ", true, true, "b.example c.example"),
            ("v=spf1 include:%{d}.x.example exp=e.example x-new=1 -all", true, true, ""),
            ("v=spf1 ipv4:192.0.2.1 -all", true, false, ""),
            ("v=spf1 192.0.2.1 -all", true, false, ""),
            ("v=spf1 --all", true, false, ""),
            ("v=spf1 ip4:192.0.2.1/24 ip6:2001:db8::/32 ip6:::ffff:192.0.2.1 -all", true, true, ""),
            ("v=spf1 ip4:192.0.2.1, -all", true, false, ""),
            ("v=spf1 ip4:192.0.2.300 -all", true, false, ""),
            ("v=spf1 ip4:192.0.2.0/33 -all", true, false, ""),
            ("v=spf1 ip4 -all", true, false, ""),
            ("v=spf1 include: -all", true, false, ""),
            ("v=spf1 all/24", true, false, ""),
        ] {
            assert_eq!(is_spf(record), spf, "{record}");
            assert_eq!(is_sound(record), sound, "{record}");
            let found: Vec<String> = included(record).map(|domain| domain.to_string()).collect();
            assert_eq!(found.join(" "), leads, "{record}");
        }
    }
}
