//! One rule as configured.

use std::sync::Arc;

use waypost_types::{OrgUnit, RouteName};

use crate::{AccountKinds, Directions, EnvelopeFilter, Modification};

/// Whether a rule acts (O6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It acts.
    #[default]
    Enforce,
    /// It is evaluated and reported, and changes nothing; its `stop` does not stop.
    Observe,
    /// It is passed over.
    Off,
}

/// What a matching rule does (C6).
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Delivers with changes.
    Modify(Box<Modification>),
    /// Refuses with `550 5.7.1` and this text.
    Reject {
        /// The text of the reply; without control characters.
        text: Box<str>,
    },
    /// Keeps the message in the spool until someone releases or removes it.
    Quarantine {
        /// The quarantine's name.
        name: Box<str>,
    },
}

/// A routing rule (C1 to C8).
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name in explanations; unique in its unit (C1).
    pub description: Arc<str>,
    /// The unit that it is attached to; it holds for the units below too (C8).
    pub org_unit: OrgUnit,
    /// The directions that it affects; not empty (C2).
    pub affects: Directions,
    /// The kinds of account that it affects; not empty (C4).
    pub accounts: AccountKinds,
    /// The envelope filter (C5).
    pub envelope: EnvelopeFilter,
    /// Whether it acts (O6).
    pub mode: Mode,
    /// When it matches, no later rule is looked at (C8).
    pub stop: bool,
    /// What it does.
    pub action: Action,
}

impl Rule {
    /// A rule of the root unit with the defaults: users (all three kinds for outgoing directions
    /// alone, B2), no filter, enforced.
    #[must_use]
    pub fn new(description: &str, affects: Directions, action: Action) -> Self {
        let accounts =
            if affects.is_outgoing_only() { AccountKinds::ALL } else { AccountKinds::USERS };
        Self {
            description: description.into(),
            org_unit: OrgUnit::root(),
            affects,
            accounts,
            envelope: EnvelopeFilter::default(),
            mode: Mode::Enforce,
            stop: false,
            action,
        }
    }

    /// The routes that the rule names, its copies' included.
    pub fn routes(&self) -> impl Iterator<Item = &RouteName> {
        let modification = match &self.action {
            Action::Modify(modification) => Some(&**modification),
            Action::Reject { .. } | Action::Quarantine { .. } => None,
        };
        modification.into_iter().flat_map(|modification| {
            let copies = modification.also_deliver_to.iter().filter_map(|copy| copy.route.as_ref());
            modification.route.iter().chain(copies)
        })
    }
}

/// A unit that switches an inherited rule off, for itself and the units below (C8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchedOff {
    /// The unit.
    pub org_unit: OrgUnit,
    /// The description of the rule, as the unit above has it.
    pub rule: Box<str>,
}
