//! Which domains count as an organization's own.

use std::collections::HashSet;

use waypost_types::{Domain, ReversePath};

use crate::FromField;

/// The domains whose senders are internal (C3): verified ones, their sub-domains, and their parents
/// down from the registrable domain.
///
/// The public suffix list, its private part included, is asked only while compiling; asking costs a
/// hash look-up a label.
#[derive(Clone, Debug, Default)]
pub struct InternalDomains {
    verified: HashSet<Domain>,
    parents: HashSet<Domain>,
    /// What was registered for each verified domain; the domain itself where nobody registers above it.
    registered: HashSet<Domain>,
}

impl InternalDomains {
    /// Compiles the set from the verified domains.
    #[must_use]
    pub fn new(verified: impl IntoIterator<Item = Domain>) -> Self {
        let verified: HashSet<Domain> = verified.into_iter().collect();
        let (mut parents, mut registered) = (HashSet::new(), HashSet::new());
        for domain in &verified {
            let registrable = psl::domain_str(domain.as_str()).unwrap_or(domain.as_str());
            let above = std::iter::successors(domain.parent(), Domain::parent);
            let above = above.take_while(|parent| parent.as_str().len() >= registrable.len());
            let mut highest = domain.clone();
            for parent in above {
                highest = parent.clone();
                parents.insert(parent);
            }
            registered.insert(highest);
        }
        Self { verified, parents, registered }
    }

    /// Whether a domain is one that the organization receives for: a verified one, exactly.
    #[must_use]
    pub fn is_verified(&self, domain: &Domain) -> bool {
        self.verified.contains(domain)
    }

    /// Whether a domain is verified or below a verified one.
    #[must_use]
    pub fn is_at_or_below_verified(&self, domain: &Domain) -> bool {
        domain.suffixes().any(|suffix| self.verified.contains(suffix))
    }

    /// Whether a sender of that domain is internal.
    #[must_use]
    pub fn is_internal(&self, domain: &Domain) -> bool {
        self.is_at_or_below_verified(domain) || self.parents.contains(domain)
    }

    /// Whether what `domain` vouches for is vouched for in the name of an internal `author`: both are at
    /// or below the same registered domain (the relaxed alignment of DMARC, RFC 9989 section 4.10).
    #[must_use]
    pub fn is_aligned(&self, domain: &Domain, author: &Domain) -> bool {
        let registered = author.suffixes().find(|suffix| self.registered.contains(*suffix));
        registered.is_some_and(|registered| domain.suffixes().any(|suffix| suffix == registered))
    }

    /// Whether the sender is internal: by the `From:` field; without one by the envelope sender; by
    /// neither, external. Several addresses: only if all are.
    #[must_use]
    pub fn is_internal_sender(&self, from: &FromField, sender: &ReversePath) -> bool {
        match from {
            FromField::Domains(domains) => domains
                .iter()
                .all(|domain| domain.as_ref().is_some_and(|domain| self.is_internal(domain))),
            FromField::Missing => sender.domain().is_some_and(|domain| self.is_internal(domain)),
        }
    }
}

/// How a sender's domain is related to an organization's own (C3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kinship {
    /// It is verified.
    Verified,
    /// It is below this verified domain.
    Below(Domain),
    /// It is above this verified domain, at or below the registrable one.
    Above(Domain),
    /// It is none of these, such as a sibling or a public suffix.
    Stranger,
}

impl InternalDomains {
    /// How a domain is related to the organization's own; all but [`Kinship::Stranger`] are internal.
    #[must_use]
    pub fn kinship(&self, domain: &Domain) -> Kinship {
        if self.is_verified(domain) {
            return Kinship::Verified;
        }
        if let Some(above) = domain.suffixes().find(|suffix| self.verified.contains(*suffix)) {
            return above.parse().map_or(Kinship::Stranger, Kinship::Below);
        }
        if !self.parents.contains(domain) {
            return Kinship::Stranger;
        }
        let below = self.verified.iter().filter(|one| one.is_at_or_below(domain));
        below.min().map_or(Kinship::Stranger, |below| Kinship::Above(below.clone()))
    }

    /// Why [`InternalDomains::is_internal_sender`] says what it says: the domains seen, and which
    /// verified domain makes each internal. At most a line: of several domains, the first external
    /// one, else the first.
    #[must_use]
    pub fn because(&self, from: &FromField, sender: &ReversePath) -> String {
        let seen = |what: &str, domain: &Domain| {
            let kinship = match self.kinship(domain) {
                Kinship::Verified => "a verified domain".to_owned(),
                Kinship::Below(above) => format!("below the verified domain {above}"),
                Kinship::Above(below) => format!("above the verified domain {below}"),
                Kinship::Stranger => {
                    "which is no verified domain, nor below or above one".to_owned()
                }
            };
            format!("{what} {domain}, {kinship}")
        };
        match (from, sender.domain()) {
            (FromField::Domains(domains), _) => {
                let is_strange = |domain: &Option<Domain>| {
                    domain.as_ref().is_none_or(|one| !self.is_internal(one))
                };
                let decides = domains.iter().find(|one| is_strange(one)).or(domains.first());
                let also = match domains.len() {
                    0 | 1 => String::new(),
                    all if domains.iter().any(is_strange) => {
                        format!("; of {all} authors all must be internal")
                    }
                    all => format!("; so are all {all} authors"),
                };
                match decides {
                    Some(Some(domain)) => seen("From: names", domain) + &also,
                    _ => format!("From: names an address without a domain{also}"),
                }
            }
            (FromField::Missing, Some(domain)) => {
                seen("no From: can be read, and the envelope sender is of", domain)
            }
            (FromField::Missing, None) => {
                "no From: can be read, and the envelope sender names no domain".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Domain {
        text.parse().unwrap()
    }

    #[test]
    fn verified_below_and_registrable_parents_c3() {
        let ours = InternalDomains::new(
            ["mail.solarmora.com", "shop.solarmora.co.uk", "me.github.io", "example"].map(domain),
        );
        for (name, internal) in [
            ("mail.solarmora.com", true),
            ("a.b.mail.solarmora.com", true),
            ("solarmora.com", true),
            ("com", false),
            ("www.solarmora.com", false),
            ("solarmora.co.uk", true),
            ("co.uk", false),
            ("uk", false),
            ("me.github.io", true),
            ("github.io", false),
            ("other.github.io", false),
            ("example", true),
            ("below.example", true),
            ("notmail.solarmora.com", false),
        ] {
            assert_eq!(ours.is_internal(&domain(name)), internal, "{name}");
        }
        assert!(!ours.is_verified(&domain("solarmora.com")));
    }

    #[test]
    fn who_vouches_for_an_author_is_of_the_same_registered_domain_c3() {
        let ours =
            InternalDomains::new(["mail.solarmora.com", "shop.co.uk", "example"].map(domain));
        for (vouching, author, aligned) in [
            ("solarmora.com", "mail.solarmora.com", true),
            ("mail.solarmora.com", "solarmora.com", true),
            ("bounces.solarmora.com", "news.mail.solarmora.com", true),
            ("notsolarmora.com", "solarmora.com", false),
            ("com", "solarmora.com", false),
            ("solarmora.com.evil.example", "solarmora.com", false),
            ("shop.co.uk", "solarmora.com", false),
            ("other.co.uk", "shop.co.uk", false),
            ("a.example", "example", true),
            ("else.net", "else.net", false),
        ] {
            let found = ours.is_aligned(&domain(vouching), &domain(author));
            assert_eq!(found, aligned, "{vouching} for {author}");
        }
    }

    #[test]
    fn the_from_field_decides_then_the_envelope_c3() {
        let ours = InternalDomains::new([domain("solarmora.com")]);
        let from = |names: &[&str]| {
            FromField::Domains(names.iter().map(|name| name.parse().ok()).collect())
        };
        for (from, sender, internal) in [
            (from(&["solarmora.com"]), "x@else.example", true),
            (from(&["else.example"]), "x@solarmora.com", false),
            (from(&["solarmora.com", "else.example"]), "x@solarmora.com", false),
            (from(&["solarmora.com", "sub.solarmora.com"]), "", true),
            (from(&["[unreadable]"]), "x@solarmora.com", false),
            (FromField::Missing, "x@solarmora.com", true),
            (FromField::Missing, "x@else.example", false),
            (FromField::Missing, "", false),
        ] {
            let sender = sender.parse().unwrap();
            assert_eq!(ours.is_internal_sender(&from, &sender), internal, "{from:?} {sender:?}");
        }
    }

    #[test]
    fn why_a_sender_is_internal_c3_c9() {
        let ours = InternalDomains::new(["mail.solarmora.com", "solarmora.fr"].map(domain));
        let from = |names: &[&str]| {
            FromField::Domains(names.iter().map(|name| name.parse().ok()).collect())
        };
        for (from, sender, want) in [
            (from(&["solarmora.fr"]), "", "From: names solarmora.fr, a verified domain"),
            (
                from(&["shop.solarmora.fr"]),
                "",
                "From: names shop.solarmora.fr, below the verified domain solarmora.fr",
            ),
            (
                from(&["solarmora.com"]),
                "",
                "From: names solarmora.com, above the verified domain mail.solarmora.com",
            ),
            (
                from(&["solarmora.fr", "com"]),
                "",
                "From: names com, which is no verified domain, nor below or above one; of 2 \
                 authors all must be internal",
            ),
            (from(&["[x]"]), "a@solarmora.fr", "From: names an address without a domain"),
            (
                FromField::Missing,
                "a@solarmora.fr",
                "no From: can be read, and the envelope sender is of solarmora.fr, a verified domain",
            ),
            (
                FromField::Missing,
                "",
                "no From: can be read, and the envelope sender names no domain",
            ),
        ] {
            assert_eq!(ours.because(&from, &sender.parse().unwrap()), want);
        }
    }
}
