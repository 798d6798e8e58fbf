//! RCPT: the policy's answer, and the quotas' for relayed mail.

use waypost_config::policy::{Observation, Policy, RcptVerdict};
use waypost_types::{Mailbox, Recipient, Reply, Session};

use super::{Open, SmtpHandler, no_transaction, note};
use crate::metrics::At;
use crate::quotas::NoPlace;

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

    /// Reserves places for recipients whose RCPTs wait behind one another, with one question.
    pub(super) async fn reserve_ahead(&mut self, first: &Recipient, ahead: Vec<Mailbox>) {
        let Some(open) = &mut self.open else { return };
        let Open { policy, transaction, recipients, quota: Some(quota), .. } = open else { return };
        let all = std::iter::once(first.address.clone()).chain(ahead);
        let mut asked = Vec::new();
        for address in all {
            let address = own_postmaster(policy, &address).unwrap_or(address);
            let recipient = Recipient { address, ..first.clone() };
            let standing = recipients.len() + asked.len();
            // Who is refused anyway takes nobody's place.
            let verdict =
                policy.at_rcpt_observing(transaction, &recipient, standing, &mut Vec::new());
            if matches!(verdict, RcptVerdict::Accept { .. }) {
                asked.push(recipient.address);
            }
        }
        self.core.quotas.reserve_ahead(quota, asked).await;
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
        if let Err((reply, no_place)) = self.reserve(open, &recipient.address, observations).await {
            let sender = Some(&open.transaction.sender);
            let (to, why) = (Some(&recipient.address), (At::Rcpt, no_place.reason()));
            note(&self.core, seen, sender, to, why, &reply, &no_place);
            return Err(reply);
        }
        open.recipients.push(recipient);
        Ok(())
    }

    /// A place for a recipient that counts for somebody, or its mail is held.
    async fn reserve(
        &self,
        open: &mut Open,
        recipient: &Mailbox,
        observations: &mut Vec<Observation>,
    ) -> Result<(), (Reply, NoPlace)> {
        let Open { policy, recipients, quota: Some(quota), .. } = open else { return Ok(()) };
        let (now, quotas) = (self.core.clock.now(), &self.core.quotas);
        let reserved = quotas.reserve_observing(now, quota, recipient, policy, observations).await;
        let refusal = match reserved {
            Ok(()) => return Ok(()),
            Err(unknown @ NoPlace::Unknown { .. }) => return Err((unknown.reply(), unknown)),
            Err(NoPlace::Beyond(refusal)) => refusal,
        };
        if let Some(reply) = refusal.reply_as(quota.over_limit(policy)) {
            return Err((reply, refusal.into()));
        }
        // Given again, it stands already; it is delivered once.
        let stands = recipients.iter().any(|standing| standing.address == *recipient);
        let waiting = self.core.held.recipients(&quota.subject().organization);
        match stands || quota.hold(recipient, &refusal, waiting) {
            true => Ok(()),
            false => Err((refusal.reply(), refusal.into())),
        }
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
