//! What a person wants to know of a certificate.

use std::net::IpAddr;
use std::time::Duration;

use waypost_types::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

/// Names kept of one certificate.
const MOST_NAMES: usize = 100;
/// Characters kept of a name.
const LONGEST: usize = 255;

/// What stands on a certificate, for people (A8). Nothing here is verified.
///
/// Texts hold no control characters; at most 100 names of at most 255 characters are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Whom it is for, such as `CN=mx.example`; may be empty.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// The DNS names and IP addresses that it is good for (RFC 9525): the subject's own name does not
    /// count.
    pub names: Vec<String>,
    /// From when on it is valid; 1970 at the earliest.
    pub not_before: Timestamp,
    /// Until when it is valid.
    pub not_after: Timestamp,
}

impl CertificateFacts {
    /// From a certificate in DER; `None` when it cannot be read.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, found) = X509Certificate::from_der(der).ok()?;
        let names = match found.subject_alternative_name() {
            Ok(Some(names)) => names.value.general_names.iter().filter_map(name).collect(),
            Ok(None) | Err(_) => Vec::new(),
        };
        let validity = found.validity();
        Some(Self {
            subject: distinguished(found.subject()),
            issuer: distinguished(found.issuer()),
            names: names.into_iter().take(MOST_NAMES).collect(),
            not_before: moment(validity.not_before),
            not_after: moment(validity.not_after),
        })
    }

    /// Whether it names itself as its issuer, as a root and a self-signed certificate do.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whole days until it expires; negative once it has.
    #[must_use]
    pub fn days_left(&self, now: Timestamp) -> i64 {
        const DAY: i64 = 86_400_000;
        let millis = |at: Timestamp| i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
        millis(self.not_after).saturating_sub(millis(now)).div_euclid(DAY)
    }

    /// The names that can be a route's host as they are: no wild cards.
    pub fn usable_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str).filter(|name| !name.contains('*'))
    }
}

fn distinguished(name: &X509Name<'_>) -> String {
    clean(&name.to_string())
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(clean(name)),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
            let ip = v4.or_else(|_| <[u8; 16]>::try_from(*octets).map(IpAddr::from));
            ip.ok().map(|ip| ip.to_string())
        }
        _ => None,
    }
}

fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

fn moment(at: ASN1Time) -> Timestamp {
    Timestamp::default() + Duration::from_secs(u64::try_from(at.timestamp()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn made() -> Vec<u8> {
        let names = ["mx.example", "*.mx.example", "192.0.2.1", "2001:db8::1"];
        let mut params = CertificateParams::new(names.map(str::to_owned)).unwrap();
        params.distinguished_name.push(DnType::CommonName, "the\u{1b}[31m host");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 31);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn facts_are_those_of_the_certificate_a8() {
        let found = CertificateFacts::read(&made()).unwrap();
        assert_eq!(found.subject, "CN=the[31m host");
        assert!(found.is_self_issued());
        assert_eq!(found.names, ["mx.example", "*.mx.example", "192.0.2.1", "2001:db8::1"]);
        let usable: Vec<_> = found.usable_names().collect();
        assert_eq!(usable, ["mx.example", "192.0.2.1", "2001:db8::1"]);
        assert_eq!(found.not_before.to_string(), "2020-01-01T00:00:00Z");
        assert_eq!(found.not_after.to_string(), "2020-01-31T00:00:00Z");
        for (before, want) in [(30, 30), (1, 1), (0, 0), (-1, -1), (-30, -30)] {
            let day = Duration::from_secs(86_400);
            let now = match u32::try_from(before) {
                Ok(days) => found.not_after.before(day * days),
                Err(_) => found.not_after + day * u32::try_from(-before).unwrap(),
            };
            assert_eq!(found.days_left(now), want);
        }
        let half = found.not_after.before(Duration::from_secs(3600));
        assert_eq!(found.days_left(half), 0);
        assert_eq!(found.days_left(found.not_after + Duration::from_secs(1)), -1);
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_not(at in 0_usize..600, octet in any::<u8>(), cut in 0_usize..600) {
            let mut der = made();
            if let Some(place) = der.get_mut(at) {
                *place = octet;
            }
            der.truncate(cut.max(300));
            if let Some(found) = CertificateFacts::read(&der) {
                prop_assert!(found.names.len() <= MOST_NAMES);
                let texts = found.names.iter().chain([&found.subject, &found.issuer]);
                prop_assert!(texts.flat_map(|text| text.chars()).all(|c| !c.is_control()));
            }
        }
    }
}
