//! The settings that a mail server with Waypost's milter cannot follow.

use waypost_relay::RelayMode;
use waypost_rules::{AccountKinds, Action, Mode, Modification, Rule};

use crate::policy::{Organization, Policy};
use crate::postfix::Limit;

/// Everything in a policy that a milter cannot express, in the order of the file.
///
/// What is not listed is decided and done as `serve` does it, for a message with one recipient. Rules and
/// entries that are off or only observed are not listed. Time: linear in the settings.
#[must_use]
pub fn limits(policy: &Policy) -> Vec<Limit> {
    let mut found = Vec::new();
    for organization in policy.organizations() {
        let mut see = |kind, name: &str, because: Vec<&str>| {
            found.extend(because.into_iter().map(|because| Limit {
                organization: organization.name.clone(),
                kind,
                name: name.into(),
                because: because.to_owned(),
            }));
        };
        see("organization", &organization.name, of_organization(organization));
        for rule in organization.rules.rules().iter().filter(|rule| rule.mode == Mode::Enforce) {
            see("rule", &rule.description, of_rule(rule));
        }
        for entry in policy.relay().entries(&organization.name) {
            if entry.mode() != RelayMode::Off {
                let because = "recipients are not counted, so no quota refuses (D10 to D12): \
                               policy delegation of `waypost policy-server` does that";
                see("relay", entry.description(), vec![because]);
            }
        }
    }
    found
}

/// Whether a rule of the policy removes attachments.
pub(super) fn removes_attachments(policy: &Policy) -> bool {
    let of_rule = |rule: &Rule| match &rule.action {
        Action::Modify(changes) => {
            rule.mode == Mode::Enforce
                && (changes.remove_attachments
                    || changes.also_deliver_to.iter().any(|copy| copy.remove_attachments))
        }
        _ => false,
    };
    policy.organizations().iter().any(|one| one.rules.rules().iter().any(of_rule))
}

fn of_organization(organization: &Organization) -> Vec<&'static str> {
    let mut because = Vec::new();
    if organization.has_maildir() {
        because.push(
            "mailbox_route is missing: mail for users is left to the mail server's own delivery",
        );
    } else {
        because.push(
            "mailbox_route: the way is the mail server's; the tables of `waypost policy-server` tell it",
        );
    }
    if organization.outbound_gateway.is_some() {
        because.push(
            "outbound_gateway: the way is the mail server's; the tables of `waypost policy-server` tell it",
        );
    }
    because
}

fn of_rule(rule: &Rule) -> Vec<&'static str> {
    let mut because = Vec::new();
    // Who is nobody is refused, so a rule for all accounts that are somebody is one for all.
    let usual = Rule::new("", rule.affects, rule.action.clone()).accounts;
    let by_account = rule.accounts != AccountKinds::ALL && rule.accounts != usual;
    let by_recipient = !rule.envelope.recipients.is_empty() || by_account;
    match &rule.action {
        Action::Modify(changes) => {
            of_changes(changes, &mut because);
            let changes_message = changes.original_to_header
                || changes.spam_headers
                || !changes.add_headers.is_empty()
                || changes.subject_prefix.is_some()
                || changes.remove_attachments;
            if changes_message && by_recipient {
                because.push(
                    "it changes the message for some recipients: of a message for several only what all \
                     are to get is changed, unless --one-recipient makes each a message of its own",
                );
            }
        }
        Action::Quarantine { .. } if by_recipient => because.push(
            "a mail server holds a message for all of its recipients, unless --one-recipient makes each a \
             message of its own",
        ),
        Action::Reject { .. } | Action::Quarantine { .. } => {}
    }
    because
}

fn of_changes(changes: &Modification, because: &mut Vec<&'static str>) {
    if changes.route.is_some() {
        because.push(
            "route: the way is the mail server's; the table `transport` of `waypost policy-server` tells it",
        );
    }
    if changes.tls.is_some() {
        because.push("require_tls: the table `tls` of `waypost policy-server` tells it");
    }
    if changes.suppress_bounces {
        because.push("suppress_bounces: the mail server sends its notices");
    }
    for copy in &changes.also_deliver_to {
        if copy.route.is_some() {
            because.push(
                "also_deliver_to: the copy's way is the mail server's; the same recipient by another route \
                 gets no second copy",
            );
        }
        let changed = copy.suppress_bounces
            || !copy.add_headers.is_empty()
            || copy.subject_prefix.is_some()
            || copy.original_to_header
            || copy.spam_headers
            || copy.remove_attachments;
        if changed {
            because.push("also_deliver_to: the copy's own changes are not made");
        }
    }
}
