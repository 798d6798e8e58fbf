//! What settings in mode observe would have done (O6).

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use waypost_config::policy::{Observation, ObservedKind, Policy};

use super::registration::Registration;

/// Settings that have series of their own; the others share one for each organization and kind.
pub(crate) const MOST_OBSERVED: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    organization: Box<str>,
    kind: &'static str,
    name: Box<str>,
}

/// Counters by organization, kind and name of a setting.
///
/// At most [`MOST_OBSERVED`] names have series of their own: those first seen since the start.
#[derive(Debug)]
pub(crate) struct Observed {
    family: Family<Labels, Counter>,
    named: Mutex<HashSet<Labels>>,
}

impl Observed {
    pub(super) fn new(r: &mut Registration) -> Self {
        let family = r.add(
            "waypost_observed",
            "organization, kind, name",
            "What settings in mode observe would have refused or changed; at most 1000 names, the rest \
             as other.",
            Family::default(),
        );
        Self { family, named: Mutex::default() }
    }

    /// The observed rules of a policy that takes effect stand in the page at 0.
    pub(super) fn prepare(&self, policy: &Policy) {
        for (organization, rule) in policy.observed_rules().take(MOST_OBSERVED) {
            let labels = self.labels(organization, ObservedKind::Rule, rule);
            let _ = self.family.get_or_create(&labels);
        }
    }

    /// A setting would have done something.
    pub(crate) fn count(&self, observation: &Observation) {
        let Observation { organization, kind, name, .. } = observation;
        self.family.get_or_create(&self.labels(organization, *kind, name)).inc();
    }

    fn labels(&self, organization: &str, kind: ObservedKind, name: &str) -> Labels {
        let labels =
            Labels { organization: organization.into(), kind: kind.as_str(), name: name.into() };
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.contains(&labels) || (named.len() < MOST_OBSERVED && named.insert(labels.clone()))
        {
            return labels;
        }
        Labels { name: "other".into(), ..labels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o6_names_are_bounded() {
        let mut registration = Registration::default();
        let observed = Observed::new(&mut registration);
        let one = |name: &str| Observation {
            organization: "Solarmora".into(),
            kind: ObservedKind::Rule,
            name: name.into(),
            recipient: None,
            would: String::new(),
        };
        for n in 0..MOST_OBSERVED + 7 {
            observed.count(&one(&format!("rule {n}")));
        }
        observed.count(&one("rule 3"));
        let count = |name: &str| {
            let labels =
                Labels { organization: "Solarmora".into(), kind: "rule", name: name.into() };
            observed.family.get(&labels).map(|found| found.get())
        };
        assert_eq!((count("rule 3"), count("rule 1000"), count("other")), (Some(2), None, Some(7)));
    }
}
