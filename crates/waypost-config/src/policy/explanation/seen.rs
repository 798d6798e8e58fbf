//! What was seen and what each rule changed, as values to be printed and stored.

use waypost_relay::Admission;
use waypost_rules::{Changed, Direction, RuleChanges};
use waypost_types::Mailbox;

use super::super::decision::{Decision, RecipientView};
use super::super::relay_copy::Copied;
use super::{ExplainedAdmission, ExplainedRecipient, ExplainedRule, ExplainedSide};

/// Every rule looked at, with what it changed: of rules of one name, each gets its own.
pub(super) fn rules(decision: &Decision) -> Vec<ExplainedRule> {
    let mut changed: Vec<&(Mailbox, RuleChanges)> = decision.changed.iter().collect();
    let looked_at = decision.rules.iter().map(|looked| {
        let is_its = |(recipient, by): &&(Mailbox, RuleChanges)| {
            *recipient == looked.recipient && *by.rule == *looked.rule
        };
        // Those of a recipient stand together and in order, so the place is near the front.
        let place = match looked.failed {
            None => changed.iter().position(is_its),
            Some(_) => None,
        };
        let own = place.map(|place| &changed.remove(place).1);
        ExplainedRule {
            rule: (*looked.rule).into(),
            recipient: looked.recipient.to_string(),
            matched: looked.failed.is_none(),
            failed: looked.failed.as_ref().map(ToString::to_string),
            also_failed: looked.also_failed,
            org_unit: own.map(|own| own.org_unit.as_str().into()),
            changed: own.iter().flat_map(|own| &own.changed).map(Changed::to_string).collect(),
        }
    });
    looked_at.collect()
}

impl ExplainedAdmission {
    pub(super) fn of(admission: &Admission, copied: Option<&Copied>) -> Self {
        let is_rewritten = admission.sender != admission.original_sender;
        Self {
            organization: (*admission.quota.organization).into(),
            entry: (*admission.entry).into(),
            because: admission.because.to_string(),
            user: admission.quota.user.as_ref().map(ToString::to_string),
            rewritten: is_rewritten.then(|| admission.original_sender.to_string()),
            copy: copied.map(|copied| match copied {
                Copied::To(whom) => format!("one to {whom}"),
                Copied::AnyhowTo(whom) => {
                    format!("none: the same message goes to {whom} by the same way anyhow")
                }
                Copied::NoMailbox => {
                    "none: the sender is no registered user, so there is no mailbox for it".into()
                }
            }),
        }
    }
}

impl ExplainedRecipient {
    pub(super) fn of(decision: &Decision, seen: &RecipientView) -> Self {
        let mut before: Option<String> = None;
        let sides = seen.sides.iter().map(|side| {
            let view =
                decision.organizations.iter().find(|one| one.organization == side.organization);
            let because = match (&decision.admission, side.direction, view) {
                (Some(admission), Direction::Outbound, _) => format!(
                    "relay entry \"{}\" admits the client for {}, whose own the recipient is not",
                    admission.entry, side.organization
                ),
                (_, _, Some(view)) if view.spoofed_internal => format!(
                    "{}, but nothing proves it (internal_senders = \"authenticated\")",
                    view.sender_because
                ),
                (_, _, Some(view)) => view.sender_because.clone(),
                (_, _, None) => String::new(),
            };
            let is_new = !because.is_empty() && before.as_ref() != Some(&because);
            before = Some(because.clone());
            ExplainedSide {
                organization: side.organization.clone(),
                direction: side.direction.as_str().into(),
                because: is_new.then_some(because),
                account: side.account.as_str().into(),
                org_unit: side.org_unit.as_str().into(),
            }
        });
        Self { recipient: seen.recipient.to_string(), sides: sides.collect() }
    }
}
