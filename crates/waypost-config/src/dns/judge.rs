//! What is to be mended.

use waypost_types::{Domain, HostPort};

use super::{
    Coverage, DomainFacts, MxFacts, MxLeadsTo, NoAddress, OrganizationFacts, Sender, Sending,
    SpfCheck, SpfFacts,
};
use crate::diagnostics::{Diagnostic, Place, Report, Spanned};
use crate::raw::{RawConfig, RawOrganization};

/// Terms of a record that may ask the DNS (RFC 7208 section 4.6.4).
const MAX_LOOKUPS: usize = 10;

/// Adds a warning for each thing to mend.
///
/// A failure of the DNS is told as such: nothing is said to be missing for it.
pub fn judge(raw: &RawConfig, facts: &[OrganizationFacts], report: &mut Report) {
    let hostname = raw.server.as_ref().and_then(|server| server.hostname.as_ref());
    let mut told = Vec::new();
    for found in facts {
        let written = raw.organization.iter();
        let named = |one: &&Spanned<RawOrganization>| {
            one.name.as_ref().is_some_and(|name| name.as_str() == &*found.organization)
        };
        let Some(organization) = written.clone().find(named) else { continue };
        for sending in &found.senders {
            let place = match &sending.sender {
                Sender::Server(_) => hostname.map_or(organization.place, |name| name.place),
                Sender::Gateway(host) => place_of_gateway(organization, &host.at),
            };
            if let Err(why) = &sending.addresses
                && !told.contains(&(place, &sending.sender))
            {
                told.push((place, &sending.sender));
                report.push(no_address(place, &sending.sender, why));
            }
        }
        for facts in &found.domains {
            let place = organization.domains.iter().find(|domain| domain.value == facts.domain);
            let place = place.map_or(organization.place, |domain| domain.place);
            spf(place, facts, &found.senders, report);
            mx(place, facts, hostname.map(|name| &name.value), report);
        }
    }
}

fn place_of_gateway(organization: &Spanned<RawOrganization>, at: &HostPort) -> Place {
    let setting = organization.outbound_gateway.as_ref();
    let setting = setting.filter(|written| written.host == at.host).map(|written| written.place);
    setting.unwrap_or(organization.place)
}

const ASK_AGAIN: &str = "nothing is said to be missing; ask again when this is known";

fn warning(
    id: &'static str,
    place: Place,
    message: impl Into<String>,
    cure: impl Into<String>,
) -> Diagnostic {
    Diagnostic::warning(id, place, "B4", message, cure)
}

fn no_address(place: Place, sender: &Sender, why: &NoAddress) -> Diagnostic {
    let message =
        format!("the addresses of {sender} are not known, so SPF was not compared: {why}");
    let cure = match (why, sender) {
        (NoAddress::Unknown(_), _) => {
            return warning("dns-unknown", place, message, ASK_AGAIN);
        }
        (NoAddress::None(_), Sender::Server(_)) => {
            "give the name an address, or write `public_addresses` into `[server]`: where others see \
             mail from this server come from"
        }
        (NoAddress::None(_), Sender::Gateway(_)) => {
            "ask whoever runs the gateway which addresses it sends from, and put them into the SPF \
             record"
        }
    };
    warning("sender-without-address", place, message, cure)
}

fn spf(place: Place, facts: &DomainFacts, senders: &[Sending], report: &mut Report) {
    let domain = &facts.domain;
    let all_terms = || senders.iter().flat_map(|sending| sending.terms(true)).collect::<Vec<_>>();
    match &facts.spf {
        SpfFacts::Unknown(why) => report.push(unknown(place, "SPF record", domain, why)),
        SpfFacts::Missing => report.push(warning(
            "spf-missing",
            place,
            format!("{domain} has no SPF record"),
            format!("publish the TXT record `{}`", with_terms("v=spf1 ~all", &all_terms())),
        )),
        SpfFacts::Several(records) => report.push(warning(
            "spf-several",
            place,
            format!("{domain} has {} SPF records, so none counts", records.len()),
            "join their terms in one record (RFC 7208 section 4.5)",
        )),
        SpfFacts::Found { record, checks } => {
            found_spf(place, domain, record, checks, senders, report);
        }
    }
}

fn found_spf(
    place: Place,
    domain: &Domain,
    record: &str,
    checks: &[SpfCheck],
    senders: &[Sending],
    report: &mut Report,
) {
    let first = |coverage: &Coverage| checks.iter().find(|check| check.coverage == *coverage);
    if let Some(broken) = first(&Coverage::Broken) {
        report.push(warning(
            "spf-broken",
            place,
            format!("the SPF record of {domain} cannot be evaluated: {}", broken.because),
            "correct it; until then receivers take it for an error",
        ));
        return;
    }
    if let Some(failed) = first(&Coverage::Unknown) {
        report.push(unknown(place, "SPF record", domain, &failed.because));
    }
    let everyone = |check: &&SpfCheck| check.coverage == Coverage::Covered && check.is_by_all();
    if let Some(open) = checks.iter().find(everyone) {
        let terms: Vec<String> = senders.iter().flat_map(|one| one.terms(true)).collect();
        report.push(warning(
            "spf-covers-everyone",
            place,
            format!(
                "the SPF record of {domain} covers every address there is, by {}",
                open.because
            ),
            format!("end it in `~all` or `-all`, and add {}", quoted(&terms)),
        ));
    }
    let lacking = |at: usize| {
        let lacks =
            |check: &&SpfCheck| check.sender == at && check.coverage == Coverage::NotCovered;
        checks.iter().filter(lacks).collect::<Vec<_>>()
    };
    let lookups = checks.iter().map(|check| check.lookups).max().unwrap_or_default();
    let mut left = MAX_LOOKUPS.saturating_sub(lookups);
    let mut missing = Vec::new();
    for (at, sending) in senders.iter().enumerate() {
        let lacking = lacking(at);
        if lacking.is_empty() {
            continue;
        }
        let terms = sending.terms(left > 0);
        left = left.saturating_sub(terms.iter().filter(|term| !term.starts_with("ip")).count());
        missing.push((sending, lacking, terms));
    }
    let together: Vec<String> = missing.iter().flat_map(|(_, _, terms)| terms.clone()).collect();
    for (sending, lacking, terms) in &missing {
        let id = match sending.sender {
            Sender::Server(_) => "spf-lacks-server",
            Sender::Gateway(_) => "spf-lacks-gateway",
        };
        let of: Vec<String> = lacking
            .iter()
            .map(|check| format!("{}: {} by {}", check.ip, check.result, check.because))
            .collect();
        report.push(warning(
            id,
            place,
            format!("the SPF record of {domain} lacks {} ({})", sending.sender, of.join(", ")),
            format!("add {}, so that it reads `{}`", quoted(terms), with_terms(record, &together)),
        ));
    }
}

fn mx(place: Place, facts: &DomainFacts, hostname: Option<&Domain>, report: &mut Report) {
    let domain = &facts.domain;
    let own = hostname.map_or("this server", Domain::as_str);
    let publish = format!("publish the MX record `{domain}. MX 10 {own}.`");
    let hosts = match &facts.mx {
        MxFacts::Unknown(why) => return report.push(unknown(place, "MX records", domain, why)),
        MxFacts::Null => {
            return report.push(warning(
                "mx-null",
                place,
                format!("{domain} takes no mail: it has a null MX record (RFC 7505)"),
                format!("if it is to take mail here, {publish} instead"),
            ));
        }
        MxFacts::Missing => {
            return report.push(warning(
                "mx-missing",
                place,
                format!("{domain} has neither MX records nor an address, so no mail comes"),
                publish,
            ));
        }
        MxFacts::Hosts(hosts) => hosts,
    };
    if let Some((host, why)) = hosts.iter().find_map(|host| match &host.leads_to {
        MxLeadsTo::Unknown(why) => Some((host, why)),
        _ => None,
    }) {
        report.push(unknown(place, &format!("MX host {} of", host.host), domain, why));
    }
    let elsewhere: Vec<&str> = hosts
        .iter()
        .filter(|host| host.leads_to == MxLeadsTo::Elsewhere)
        .map(|host| host.host.as_str())
        .collect();
    if elsewhere.is_empty() {
        return;
    }
    let what = match hosts.iter().all(|host| host.preference.is_none()) {
        true => format!("{domain} has no MX records, and its own address is"),
        false => {
            let are = if elsewhere.len() == 1 { "is" } else { "are" };
            format!("the MX records of {domain} name {}, which {are}", elsewhere.join(" and "))
        }
    };
    report.push(warning(
        "mx-elsewhere",
        place,
        format!("{what} neither this server ({own}) nor a listed inbound gateway"),
        format!(
            "{publish}, or list the addresses of the gateway in front of this server in \
             `[organization.inbound_gateway]`"
        ),
    ));
}

fn unknown(place: Place, what: &str, domain: &Domain, why: &str) -> Diagnostic {
    let what = what.strip_suffix(" of").unwrap_or(what);
    warning(
        "dns-unknown",
        place,
        format!("the {what} of {domain} could not be found out: {why}"),
        ASK_AGAIN,
    )
}

fn quoted(terms: &[String]) -> String {
    let quoted: Vec<String> = terms.iter().map(|term| format!("`{term}`")).collect();
    quoted.join(" and ")
}

/// A record with these terms before the one that ends it.
fn with_terms(record: &str, terms: &[String]) -> String {
    let ends = |term: &str| {
        let plain = term.trim_start_matches(['+', '-', '~', '?']);
        let redirect = plain.get(..9).is_some_and(|name| name.eq_ignore_ascii_case("redirect="));
        plain.eq_ignore_ascii_case("all") || redirect
    };
    let words: Vec<&str> = record.split(' ').filter(|word| !word.is_empty()).collect();
    let at = words.iter().position(|word| ends(word)).unwrap_or(words.len());
    let (before, behind) = words.split_at_checked(at).unwrap_or((&words, &[]));
    let terms = terms.iter().map(String::as_str);
    let all: Vec<&str> =
        before.iter().copied().chain(terms).chain(behind.iter().copied()).collect();
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_go_before_the_end_b4() {
        for (record, terms, want) in [
            ("v=spf1 -all", &["a:b.example"][..], "v=spf1 a:b.example -all"),
            (
                "v=spf1 mx  ~ALL",
                &["ip4:192.0.2.1", "mx:c.example"],
                "v=spf1 mx ip4:192.0.2.1 mx:c.example ~ALL",
            ),
            (
                "v=spf1 mx redirect=b.example",
                &["a:c.example"],
                "v=spf1 mx a:c.example redirect=b.example",
            ),
            ("v=spf1", &["a:c.example"], "v=spf1 a:c.example"),
            ("v=spf1 include:all.example ?all", &["mx"], "v=spf1 include:all.example mx ?all"),
        ] {
            let terms: Vec<String> = terms.iter().map(|term| (*term).to_owned()).collect();
            assert_eq!(with_terms(record, &terms), want);
        }
    }
}
