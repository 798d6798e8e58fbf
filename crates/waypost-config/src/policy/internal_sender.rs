//! Whether a sender who claims to be internal is one (C3).

use waypost_auth::{Authentication, DkimResult, SpfResult};
use waypost_rules::FromField;
use waypost_types::{Domain, Mailbox, Reply};

use super::decision::{RefusalCause, Refused};
use super::organization::{InternalSenders, Organization};
use super::{Policy, Transaction};

/// What becomes of the claim that a message makes in its `From:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It makes none.
    Absent,
    /// It holds.
    Holds,
    /// Proof is asked for, and there is none: the message is inbound, and `spoofed_internal`.
    Unproved,
    /// Proof is asked for, and the DNS cannot tell now: whichever way the message would take might be
    /// the wrong one, so it is deferred.
    Undecided,
}

impl Policy {
    /// Whether a sender who will claim to be internal can be believed, as far as RCPT can know: what
    /// SPF and DKIM say comes behind DATA.
    pub(super) fn may_be_internal(
        &self,
        transaction: &Transaction,
        organization: &Organization,
    ) -> bool {
        match organization.internal_senders {
            InternalSenders::FromHeader => true,
            InternalSenders::Authenticated => {
                self.vouches_for_client(transaction, organization)
                    || self.is_from_outside(transaction, organization)
            }
        }
    }

    /// Whether the DNS is to be asked for the proof of a claim: where it is asked for and the client
    /// gave none. What another organization vouches for proves nothing here, and mail that is relayed
    /// for it is not checked.
    pub(super) fn proof_is_due(
        &self,
        transaction: &Transaction,
        organization: &Organization,
        from: &FromField,
    ) -> bool {
        organization.internal_senders == InternalSenders::Authenticated
            && self.is_from_outside(transaction, organization)
            && organization.internal.is_internal_sender(from, &transaction.sender)
    }

    /// The claim that a message makes towards an organization. `found`: what SPF and DKIM say, if
    /// somebody asked; `signed`: it carries a DKIM signature.
    pub(super) fn claim(
        &self,
        transaction: &Transaction,
        organization: &Organization,
        from: &FromField,
        found: Option<&Authentication>,
        signed: bool,
    ) -> Claim {
        if !organization.internal.is_internal_sender(from, &transaction.sender) {
            return Claim::Absent;
        }
        if organization.internal_senders == InternalSenders::FromHeader
            || self.vouches_for_client(transaction, organization)
        {
            return Claim::Holds;
        }
        let Some(found) = found.filter(|_| self.is_from_outside(transaction, organization)) else {
            return Claim::Unproved;
        };
        let authors: Vec<&Domain> = match from {
            FromField::Domains(domains) => domains.iter().flatten().collect(),
            FromField::Missing => transaction.sender.domain().into_iter().collect(),
        };
        let proved = |vouching: &[Domain]| {
            let is_vouched_for = |author: &&Domain| {
                vouching.iter().any(|domain| organization.internal.is_aligned(domain, author))
            };
            !authors.is_empty() && authors.iter().all(is_vouched_for)
        };
        let (vouching, undecided) = vouching(found);
        if proved(&vouching) {
            return Claim::Holds;
        }
        // A gateway's mail is never refused for SPF or DKIM (E2).
        let gateway = organization.inbound_gateway.as_ref();
        if gateway.is_some_and(|gateway| gateway.lists(transaction.session.client_ip)) {
            return Claim::Unproved;
        }
        let unread = signed && found.dkim.is_empty();
        let all: Vec<Domain> = vouching.into_iter().chain(undecided).collect();
        if unread || proved(&all) { Claim::Undecided } else { Claim::Unproved }
    }

    /// Whether the client itself proves that its mail is the organization's: it authenticated as a
    /// user, or is relayed for it, or sits at a relay address of it.
    fn vouches_for_client(&self, transaction: &Transaction, organization: &Organization) -> bool {
        let own = |user: &Mailbox| {
            self.receiving(user).is_some_and(|owner| owner.name == organization.name)
        };
        let admission = transaction.admission.as_ref();
        transaction.session.auth.as_ref().is_some_and(own)
            || admission.is_some_and(|one| *one.quota.organization == *organization.name)
            || self.relays_by_address(transaction, organization)
    }
}

/// The domains that SPF and DKIM vouch for, and those of which they cannot tell now.
fn vouching(found: &Authentication) -> (Vec<Domain>, Vec<Domain>) {
    let spf = match found.spf.result {
        SpfResult::Pass => Some(true),
        SpfResult::TempError => Some(false),
        _ => None,
    };
    let spf = spf.and_then(|passed| Some((passed, found.spf.domain.as_deref()?)));
    let dkim = found.dkim.iter().filter_map(|one| match one.result {
        DkimResult::Pass => Some((true, &*one.domain)),
        DkimResult::TempError => Some((false, &*one.domain)),
        _ => None,
    });
    let (mut passed, mut undecided) = (Vec::new(), Vec::new());
    for (has_passed, name) in spf.into_iter().chain(dkim) {
        let Ok(domain) = name.parse() else { continue };
        if has_passed { passed.push(domain) } else { undecided.push(domain) }
    }
    (passed, undecided)
}

/// The refusal of a recipient while it cannot be told whether the sender is internal.
pub(super) fn undecided(recipient: &Mailbox) -> Refused {
    Refused {
        recipient: recipient.clone(),
        reply: Reply::new(
            451,
            (4, 4, 3),
            "The sender claims to be internal, and the DNS cannot tell now whether SPF or DKIM \
             prove it; try again later",
        ),
        cause: RefusalCause::SenderUndecided,
        because: "internal_senders = \"authenticated\": the DNS cannot answer now".to_owned(),
    }
}
