//! The copy of a relayed message that its relay entry asks for (D16).
//!
//! A copy is one delivery for the message, not one for each recipient. It goes where mail for its
//! address goes when no rule says otherwise, as the message was sent: no rule is asked (C8: what is
//! added is not evaluated again), nothing is changed, and nothing that becomes of it is told to the
//! sender, since its own envelope sender is empty. What a rule lets out by TLS only, is copied by TLS
//! only. It bears a mark of its own, and a message that comes back with it is refused as a loop (O8).

use std::collections::HashSet;

use waypost_relay::{Admission, CopyTo};
use waypost_rules::Direction;
use waypost_types::{
    Changes, Delivery, Destination, Mailbox, Notify, OrgUnit, Reply, ReversePath, TlsDemand,
    Unavailable,
};

use super::at_data::sameness;
use super::decision::{DecidedDelivery, Decision, RefusalCause};
use super::evaluate::Facts;
use super::mark::{Mark, Marked};
use super::organization::Organization;
use super::{Policy, Transaction};

/// What becomes of the copy that a relay entry asks for (D16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copied {
    /// One more delivery goes to this address, or to the members of this group.
    To(Mailbox),
    /// None: the same message goes there by the same way anyhow.
    AnyhowTo(Mailbox),
    /// None: the sender is no registered user, so there is no mailbox.
    NoMailbox,
}

/// A copy that is owed if the message is taken.
pub(super) struct RelayCopy<'p> {
    policy: &'p Policy,
    organization: &'p Organization,
    entry: String,
    recipient: Mailbox,
    destination: Destination,
    mark: Mark,
}

/// Why a message cannot be taken with its copy.
pub(super) struct NotCopied {
    pub(super) reply: Reply,
    pub(super) cause: RefusalCause,
}

impl Policy {
    /// The copy that the transaction's relay entry asks for.
    pub(super) fn relay_copy(&self, transaction: &Transaction) -> Option<RelayCopy<'_>> {
        let admission = transaction.admission.as_ref()?;
        let recipient = copy_recipient(admission)?.clone();
        let organization = self.organization(&admission.quota.organization)?;
        let destination = match self.receiving(&recipient) {
            Some(other) => Destination::Mailbox { organization: other.name.clone() },
            None => organization.default_destination(&recipient),
        };
        let entry = format!("relay entry \"{}\"", admission.entry);
        let chooser = (&OrgUnit::root(), &*format!("copy_to of {entry}"));
        let mark = self.mark(&organization.name, Some(chooser), &recipient, &destination);
        Some(RelayCopy { policy: self, organization, entry, recipient, destination, mark })
    }
}

/// The address that gets the copy of a message that is admitted so; `None`: nobody does.
fn copy_recipient(admission: &Admission) -> Option<&Mailbox> {
    match admission.copy_to.as_ref()? {
        CopyTo::SenderMailbox => admission.quota.user.as_ref(),
        CopyTo::Address(archive) => Some(archive),
    }
}

impl RelayCopy<'_> {
    /// The mark of the copy.
    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    /// The organization that asks for it.
    pub(super) fn organization(&self) -> &Organization {
        self.organization
    }

    /// Adds the copy to a decision that takes the message.
    pub(super) fn join(
        &self,
        decision: &mut Decision,
        facts: Facts,
        loops: &HashSet<Mark>,
    ) -> Result<(), NotCopied> {
        let Self { entry, recipient, .. } = self;
        if loops.contains(&self.mark) {
            let text = format!(
                "Routing loop: {entry} of this server has sent {recipient} a copy of this message \
                 before, and it came back (O8)"
            );
            return Err(NotCopied {
                reply: Reply::new(554, (5, 4, 6), &text),
                cause: RefusalCause::Loop,
            });
        }
        let recipients = self.recipients().map_err(|Unavailable { .. }| NotCopied {
            reply: Reply::new(451, (4, 3, 0), "The directory cannot answer now; try again later"),
            cause: RefusalCause::DirectoryUnavailable,
        })?;
        let kept = decision.quarantined.iter().flat_map(|kept| &kept.deliveries);
        let tls = decision.deliveries.iter().chain(kept).map(|one| one.delivery.tls).max();
        let anyhow: HashSet<_> = decision.deliveries.iter().map(sameness).collect();
        let copies: Vec<DecidedDelivery> = recipients
            .into_iter()
            .map(|(recipient, destination, reason)| {
                self.delivery(
                    recipient,
                    destination,
                    reason,
                    facts.clone(),
                    tls.unwrap_or_default(),
                )
            })
            .filter(|copy| !anyhow.contains(&sameness(copy)))
            .collect();
        decision.copied = Some(match copies.is_empty() {
            true => Copied::AnyhowTo(self.recipient.clone()),
            false => Copied::To(self.recipient.clone()),
        });
        decision.deliveries.extend(copies);
        Ok(())
    }

    /// Who gets the copy, by which way and why: one, or where the built-in Maildir would get a group's
    /// mail, its members.
    fn recipients(&self) -> Result<Vec<(Mailbox, Destination, String)>, Unavailable> {
        let Self { policy, entry, recipient, destination, .. } = self;
        let reason = format!("{entry} asks for a copy of what it relays (D16)");
        let Some((group, members)) = policy.members_instead(recipient, destination)? else {
            return Ok(vec![(recipient.clone(), destination.clone(), reason)]);
        };
        let told = members.into_iter().map(|(member, destination)| {
            let reason = format!("{reason}: {member} is a member of the group {group}");
            (member, destination, reason)
        });
        Ok(told.collect())
    }

    fn delivery(
        &self,
        recipient: Mailbox,
        destination: Destination,
        reason: String,
        facts: Facts,
        tls: TlsDemand,
    ) -> DecidedDelivery {
        DecidedDelivery {
            delivery: Delivery {
                recipient,
                original_recipient: self.recipient.clone(),
                // Whoever takes the copy has nobody to tell of its fate.
                sender: ReversePath::Null,
                destination,
                tls,
                changes: Changes::default(),
                suppress_bounces: true,
                spam: false,
                notify: Notify::Never,
                orcpt: None,
            },
            organization: self.organization.name.clone(),
            direction: Direction::Outbound,
            source_ip: facts.source_ip,
            spam: facts.spam,
            because: Vec::new(),
            chosen_by: None,
            tls_by: None,
            is_copy: true,
            reason,
            overridden: Vec::new(),
            warnings: Vec::new(),
            marks: vec![Marked { mark: self.mark, rule: None }],
        }
    }
}

/// What is said of a copy where the entry asks for one and none can be made.
pub(super) fn without_mailbox(transaction: &Transaction) -> Option<Copied> {
    let admission = transaction.admission.as_ref()?;
    (admission.copy_to.is_some() && copy_recipient(admission).is_none())
        .then_some(Copied::NoMailbox)
}
