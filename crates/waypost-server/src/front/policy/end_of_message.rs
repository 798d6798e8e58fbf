//! The end of a message: what Postfix took of it is counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use waypost_postfix::{Action, PolicyRequest};
use waypost_types::{Mailbox, Reply};

use super::{PolicyService, SUSPICIOUS};
use crate::front::messages::{Message, Open};
use crate::metrics::{At, Reason};
use crate::quotas::Reserved;

impl PolicyService {
    /// The message came: it is counted, if it was relayed.
    pub(super) async fn end_of_message(&self, request: PolicyRequest) -> Action {
        self.any_counted.store(true, Ordering::Relaxed);
        let found = self.messages().take(&request.instance);
        let mut action = Action::Dunno;
        let mut open = match found {
            Some(Message::Open(open)) => open,
            Some(Message::Counted) => return self.put_back(request.instance, Message::Counted),
            // Nothing was asked at RCPT, or this program was started since.
            None => match self.unseen(&request).await {
                Ok(Some((open, said))) => {
                    action = said;
                    open
                }
                Ok(None) => return Action::Dunno,
                Err(action) => return action,
            },
        };
        let counted = match open.quota.take() {
            None => Ok(()),
            Some(mut quota) => {
                let recipients = self.reconcile(&request, &mut quota).await;
                tracing::info!(
                    client = %request.client, sender = %open.admitted.as_ref().map_or_else(
                        |_| String::new(), |one| one.sender.to_string()),
                    queue_id = request.queue_id.as_deref(), recipients, size = request.size, "counted"
                );
                let core = Arc::clone(&self.core);
                // A task of its own: what is written must be counted, whoever goes away.
                let counting = tokio::spawn(async move { core.count(quota).await });
                match counting.await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(error) => Err(error.to_string()),
                }
            }
        };
        match counted {
            Ok(()) => {
                let _ = self.put_back(request.instance, Message::Counted);
                action
            }
            Err(because) => {
                let text = "The message cannot be counted now; try again later";
                let reply = Reply::new(451, (4, 3, 0), text);
                self.turned_down(&request, (At::Data, Reason::StoreFailed), reply, &because).into()
            }
        }
    }

    /// A message at whose end we hear of it first. With its only recipient it is judged now; mail that is
    /// relayed for several recipients comes again, so that nobody gets past the quotas.
    async fn unseen(&self, request: &PolicyRequest) -> Result<Option<(Box<Open>, Action)>, Action> {
        let mut open = Box::new(self.begin(request));
        if request.recipient.is_some() {
            return match self.recipient(&mut open, request).await {
                Action::Refuse(reply) => Err(Action::Refuse(reply)),
                Action::Hold(why) => Ok(Some((open, Action::Hold(why)))),
                _ => Ok(Some((open, Action::Dunno))),
            };
        }
        match (&open.admitted, &open.quota) {
            (Ok(_), Some(_)) => {
                let text = "The recipients of this message were not counted; try again later";
                let reply = Reply::new(451, (4, 3, 0), text);
                let because = "its recipients were never asked about: the policy server was started while it \
                               was sent, or something in main.cf permits it before check_policy_service";
                Err(self.turned_down(request, (At::Data, Reason::Other), reply, &because).into())
            }
            // No quota counts for mail to our own, and what is not admitted was not asked about.
            _ => Ok(None),
        }
    }

    /// Brings the reservation to the number of recipients that Postfix accepted: others may have been
    /// refused by a restriction behind ours, or asked about twice.
    async fn reconcile(&self, request: &PolicyRequest, quota: &mut Reserved) -> usize {
        let now = self.core.clock.now();
        let accepted = usize::try_from(request.recipient_count).unwrap_or(usize::MAX);
        let asked = quota.recipients().len();
        if accepted == 0 || accepted == asked {
            return asked;
        }
        tracing::warn!(
            client = %request.client, instance = &*request.instance, accepted, asked,
            "Postfix accepted another number of recipients than were asked about; let \
             check_policy_service stand once, and last (docs/POSTFIX.md)"
        );
        let excess = excess(&quota.recipients(), accepted);
        for excess in excess {
            self.core.quotas.release_recipient(now, quota, &excess).await;
        }
        accepted.min(asked)
    }

    /// Another message came over the same connection.
    pub(super) fn ended(&self, instance: &str) {
        let Some(Message::Open(open)) = self.messages().end(instance) else { return };
        if !self.any_counted.load(Ordering::Relaxed)
            && open.quota.is_some_and(|quota| !quota.recipients().is_empty())
            && self.uncounted.fetch_add(1, Ordering::Relaxed) + 1 == SUSPICIOUS
        {
            tracing::error!(
                "{SUSPICIOUS} messages were relayed, and Postfix never asked at the end of one: no quota \
                 counts. Add check_policy_service to smtpd_end_of_data_restrictions (docs/POSTFIX.md)"
            );
        }
    }
}

/// Which of the recipients to give back so that so many are left: those given again, then the latest.
fn excess(recipients: &[Mailbox], left: usize) -> Vec<Mailbox> {
    let too_many = recipients.len().saturating_sub(left);
    let is_repeated = |place: &usize| {
        let this = recipients.get(*place);
        recipients.iter().take(*place).any(|other| Some(other) == this)
    };
    let (repeated, single): (Vec<usize>, Vec<usize>) =
        (0..recipients.len()).rev().partition(is_repeated);
    let places = repeated.into_iter().chain(single).take(too_many);
    places.filter_map(|place| recipients.get(place).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_that_postfix_refused_after_us_are_given_back() {
        for (recipients, left, want) in [
            ("a b c", 3, ""),
            ("a b c", 4, ""),
            ("a b c", 1, "c b"),
            ("a b a c", 3, "a"),
            ("a a b b", 2, "b a"),
            ("a a b b", 1, "b a b"),
        ] {
            let boxes = |text: &str| -> Vec<Mailbox> {
                text.split_whitespace()
                    .map(|one| format!("{one}@x.example").parse().unwrap())
                    .collect()
            };
            assert_eq!(excess(&boxes(recipients), left), boxes(want), "{recipients} {left}");
        }
    }
}
