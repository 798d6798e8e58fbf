//! RCPT: the policy's answer, and the quotas' for relayed mail.

use waypost_config::policy::{Observation, Policy, RcptVerdict};
use waypost_types::{Mailbox, Recipient, Reply, Session};

use super::{Open, SmtpHandler, no_transaction, note};
use crate::metrics::At;

impl SmtpHandler {
    /// Takes a recipient in, or refuses it; tells what is only observed either way.
    pub(super) async fn add(
        &mut self,
        session: &Session,
        recipient: Recipient,
    ) -> Result<(), Reply> {
        let Some(mut open) = self.open.take() else { return Err(no_transaction()) };
        let mut observations = Vec::new();
        let added = self.judge(session, &mut open, recipient, &mut observations).await;
        self.observe(self.seen(session), &open.transaction.sender, None, &observations);
        open.observed.extend(observations);
        self.open = Some(open);
        added
    }

    async fn judge(
        &self,
        session: &Session,
        open: &mut Open,
        mut recipient: Recipient,
        observations: &mut Vec<Observation>,
    ) -> Result<(), Reply> {
        let seen = self.seen(session);
        if let Some(postmaster) = own_postmaster(&open.policy, &recipient.address) {
            recipient.address = postmaster;
        }
        let standing = open.recipients.len();
        let (policy, transaction) = (&open.policy, &open.transaction);
        match policy.at_rcpt_observing(transaction, &recipient, standing, observations) {
            RcptVerdict::Accept { .. } => {}
            RcptVerdict::Refuse(refused) => {
                let sender = Some(&open.transaction.sender);
                let (recipient, why) = (Some(&refused.recipient), (At::Rcpt, refused.cause.into()));
                note(&self.core, seen, sender, recipient, why, &refused.reply, &refused.because);
                return Err(refused.reply);
            }
        }
        if let Some(quota) = &mut open.quota {
            let now = self.core.clock.now();
            match self.core.quotas.reserve(now, quota, &recipient.address).await {
                Ok(reservation) => {
                    let organization = &quota.subject().organization;
                    observations.extend(reservation.would_refuse.map(|would| {
                        Observation::of_limits(organization, &recipient.address, &would)
                    }));
                }
                Err(refusal) => {
                    let reply = refusal.reply();
                    let sender = Some(&open.transaction.sender);
                    let why = (At::Rcpt, refusal.limit.into());
                    note(&self.core, seen, sender, Some(&recipient.address), why, &reply, &refusal);
                    return Err(reply);
                }
            }
        }
        open.recipients.push(recipient);
        Ok(())
    }
}

/// The postmaster of this server, also meant by `<Postmaster>` alone (RFC 5321 section 4.5.1), where our
/// name is no domain that receives mail: the one of the verified domain that our name lies in, or else
/// of the first domain.
pub(crate) fn own_postmaster(policy: &Policy, recipient: &Mailbox) -> Option<Mailbox> {
    let hostname = &policy.server.hostname;
    let is_ours = recipient.local_part().eq_ignore_ascii_case("postmaster")
        && recipient.domain() == Some(hostname)
        && policy.receiving(recipient).is_none();
    let organizations = policy.organizations().iter();
    let mut domains = organizations.flat_map(|one| &one.domains).filter(|_| is_ours);
    let first = domains.clone().next();
    let domain = domains.find(|domain| hostname.is_at_or_below(domain)).or(first)?;
    Some(Mailbox::postmaster(domain.clone()))
}
