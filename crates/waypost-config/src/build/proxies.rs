//! `proxy_protocol_from` and `xclient_from`: whose word is taken for the client's address.

use ipnet::{IpNet, Ipv4Net};

use crate::diagnostics::{Diagnostic, Report, Spanned};
use crate::raw::{List, Range};

/// Prefixes shorter than these hold more than one network of proxies.
const WIDE_V4: u8 = 16;
const WIDE_V6: u8 = 64;

/// The ranges of a list; mistakes and doubts are noted.
pub(super) fn build(list: &List<Range>, report: &mut Report) -> Vec<IpNet> {
    let mut ranges = Vec::new();
    for written in list.iter() {
        let Some(given) = written.net() else { continue };
        if given.trunc() != given {
            report.push(Diagnostic::error(
                "wrong-proxy",
                written.place,
                "D15",
                format!("`{}` has host bits behind its prefix", written.as_str()),
                format!("write `{}`, or the one address without a length", given.trunc()),
            ));
            continue;
        }
        let range = canonical(given);
        doubts(written, range, report);
        ranges.push(range);
    }
    ranges
}

fn doubts(written: &Spanned<Range>, range: IpNet, report: &mut Report) {
    let least = match range {
        IpNet::V4(_) => WIDE_V4,
        IpNet::V6(_) => WIDE_V6,
    };
    if range.prefix_len() >= least {
        return;
    }
    let who = match range.prefix_len() {
        0 => "everybody".to_owned(),
        length => format!("each of 2^{} addresses", range.max_prefix_len() - length),
    };
    report.push(Diagnostic::warning(
        "wide-proxy",
        written.place,
        "D15",
        format!(
            "with `{}` {who} may say to be any client, a relay or gateway too",
            written.as_str()
        ),
        "list the proxies' own addresses, or a network that nobody else has",
    ));
}

/// A range of IPv4-mapped addresses as IPv4; any other as it is.
fn canonical(range: IpNet) -> IpNet {
    let mapped = match range {
        IpNet::V4(_) => None,
        IpNet::V6(net) => net
            .network()
            .to_ipv4_mapped()
            .and_then(|network| Ipv4Net::new(network, net.prefix_len().checked_sub(96)?).ok()),
    };
    mapped.map_or(range, IpNet::V4)
}
