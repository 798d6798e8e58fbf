//! RCPT, as at RCPT of `serve`, in steps: the address, the policy, the quotas, quarantine.

use waypost_config::policy::{Observation, Policy, RcptVerdict, Transaction};
use waypost_postfix::{Action, PolicyRequest};
use waypost_relay::{OverLimit, QuotaRefusal};
use waypost_types::{Mailbox, MailboxError, Recipient, Reply};

use super::PolicyService;
use crate::front::messages::Open;
use crate::metrics::{At, Reason};
use crate::quotas::{NoPlace, Reserved};
use crate::session::own_postmaster;

impl PolicyService {
    /// One recipient of a message.
    pub(super) async fn recipient(&self, open: &mut Open, request: &PolicyRequest) -> Action {
        let Open { policy, admitted, recipients, quota } = open;
        let transaction = match admitted {
            Ok(transaction) => transaction,
            Err(reply) => return Action::from(reply.clone()),
        };
        let address = match self.address(policy, request) {
            Ok(Some(address)) => address,
            // Postfix has one at RCPT.
            Ok(None) => return Action::Dunno,
            Err(reply) => return reply.into(),
        };
        let mut observations = Vec::new();
        let judged = async {
            let (recipient, standing) = (Recipient::from(address.clone()), recipients.len());
            match policy.at_rcpt_observing(transaction, &recipient, standing, &mut observations) {
                RcptVerdict::Accept { .. } => {}
                RcptVerdict::Refuse(refused) => {
                    let why = (At::Rcpt, refused.cause.into());
                    return Err(self.turned_down(request, why, refused.reply, &refused.because));
                }
            }
            match quota.as_mut() {
                None => Ok(recipient),
                Some(quota) => {
                    let reserved = self.reserve(policy, quota, &address, &mut observations).await;
                    let refused = |(reply, because): (Reply, NoPlace)| {
                        self.turned_down(request, (At::Rcpt, because.reason()), reply, &because)
                    };
                    reserved.map(|()| recipient).map_err(refused)
                }
            }
        };
        let judged = judged.await;
        self.observe(request.client, &transaction.sender, &observations);
        let recipient = match judged {
            Ok(recipient) => recipient,
            Err(reply) => return reply.into(),
        };
        let action = match taken(policy, transaction, &recipient) {
            Ok(action) => action,
            Err(because) => {
                if let Some(quota) = quota {
                    let now = self.core.clock.now();
                    self.core.quotas.release_recipient(now, quota, &address).await;
                }
                let text = "This mail would be kept for review, which is not possible here";
                let reply = Reply::new(550, (5, 7, 1), text);
                let why = (At::Rcpt, Reason::Rule);
                return self.turned_down(request, why, reply, &because).into();
            }
        };
        recipients.push(address);
        action
    }

    /// Who is asked about; `None`: nobody.
    fn address(&self, policy: &Policy, request: &PolicyRequest) -> Result<Option<Mailbox>, Reply> {
        let address = match &request.recipient {
            Some(Ok(recipient)) => recipient.clone(),
            Some(Err(error)) => without_domain(error, policy).ok_or_else(|| {
                let reply = Reply::new(501, (5, 1, 3), &error.to_string());
                self.turned_down(request, (At::Rcpt, Reason::Other), reply, error)
            })?,
            None => return Ok(None),
        };
        Ok(Some(own_postmaster(policy, &address).unwrap_or(address)))
    }

    /// A place in the limits.
    async fn reserve(
        &self,
        policy: &Policy,
        quota: &mut Reserved,
        address: &Mailbox,
        observations: &mut Vec<Observation>,
    ) -> Result<(), (Reply, NoPlace)> {
        let (now, quotas) = (self.core.clock.now(), &self.core.quotas);
        let refusal =
            match quotas.reserve_observing(now, quota, address, policy, observations).await {
                Ok(()) => return Ok(()),
                Err(unknown @ NoPlace::Unknown { .. }) => return Err((unknown.reply(), unknown)),
                Err(NoPlace::Beyond(refusal)) => refusal,
            };
        let reply = match quota.over_limit(policy) {
            OverLimit::Reject => refused_by_quota(&refusal, quota.recipients().len()),
            // With `hold`, deferred too. Postfix's HOLD would keep the whole message in a queue that is
            // not ours, also for the recipients who have room, and nobody would let it go when there is
            // some: neither we, who do not learn its fate, nor Postfix, which knows no limits. A client
            // that comes again finds room.
            over_limit => refusal.reply_as(over_limit).unwrap_or_else(|| refusal.deferral()),
        };
        Err((reply, refusal.into()))
    }
}

/// What Postfix is to do with a recipient that is taken.
///
/// # Errors
/// Why it cannot do that.
fn taken(
    policy: &Policy,
    transaction: &Transaction,
    recipient: &Recipient,
) -> Result<Action, String> {
    let relayed = transaction.admission.is_some();
    match policy.quarantine_at_rcpt(transaction, recipient) {
        None if relayed => Ok(Action::Permit),
        None => Ok(Action::Dunno),
        // Postfix would refuse it in its own words: HOLD permits nothing.
        Some(quarantine) if relayed && policy.receiving(&recipient.address).is_none() => {
            Err(format!("quarantine {quarantine}: Postfix cannot hold what it relays"))
        }
        Some(quarantine) => Ok(Action::Hold(format!("quarantine {quarantine}").into())),
    }
}

/// `<postmaster>` alone is this server's (RFC 5321 section 4.5.1).
fn without_domain(error: &MailboxError, policy: &Policy) -> Option<Mailbox> {
    match error {
        MailboxError::Shape(text) if text.eq_ignore_ascii_case("postmaster") => {
            Some(Mailbox::postmaster(policy.server.hostname.clone()))
        }
        _ => None,
    }
}

/// The reply to a recipient beyond a limit, of a message that has `own` reservations. Where those of other
/// messages fill the limit, it is not for good: they may have been given up without our being told.
fn refused_by_quota(refusal: &QuotaRefusal, own: usize) -> Reply {
    let own = u32::try_from(own).unwrap_or(u32::MAX);
    match refusal.used.saturating_add(own) < refusal.allowed {
        true => refusal.deferral(),
        false => refusal.reply(),
    }
}
