//! The entry of the queue that a decided message becomes.

use std::cell::RefCell;
use std::sync::Arc;

use waypost_config::policy::{DecidedDelivery, Decision, Explanation, Refused};
use waypost_queue::{Body, Entry, Hold, Owed};
use waypost_route::Draw;
use waypost_types::{
    Changes, Delivery, Destination, QueueId, Recipient, Reply, ReversePath, RouteName, Session,
    TlsDemand,
};

use super::{Open, SmtpHandler, authentication};
use crate::quotas::Reserved;
use crate::trace::Trace;

impl SmtpHandler {
    /// What is owed of a message, to whom, and how it was decided.
    pub(super) fn entry(
        &self,
        id: QueueId,
        session: &Session,
        open: &Open,
        decision: &Decision,
        body: &Body,
        header_size: usize,
    ) -> Entry {
        let now = self.core.clock.now();
        let only_recipient = match open.recipients.as_slice() {
            [only] => Some(&only.address),
            _ => None,
        };
        let trace = Trace {
            session,
            extended: self.extended,
            smtputf8: open.parameters.smtputf8,
            tls: self.tls.as_deref(),
            by: &open.policy.server.hostname,
            id,
            only_recipient,
            at: now,
        };
        let rules = Shared::default();
        let findings = open.quota.as_ref().map(Reserved::findings);
        let delivered = decision.deliveries.iter().map(|one| Owed {
            delivery: one.delivery.clone(),
            hold: findings.and_then(|found| found.hold_of(&one.delivery.original_recipient)),
            rule: rules.of(one.chosen_by.as_deref()),
            marks: marks_of(one),
        });
        let rules = &rules;
        let kept = decision.quarantined.iter().flat_map(|kept| {
            kept.deliveries.iter().map(|one| Owed {
                delivery: one.delivery.clone(),
                rule: rules.of(one.chosen_by.as_deref()),
                marks: marks_of(one),
                hold: Some(Hold::Quarantine {
                    name: kept.quarantine.clone(),
                    because: kept.because.clone(),
                }),
            })
        });
        let told = decision.refusals.iter().filter_map(|refused| refused_after_data(open, refused));
        let draw = |route: &RouteName| Draw::new(self.core.draw_key, id, route);
        let mut explanation = Explanation::of_taken(&open.policy, decision, &draw);
        explanation.observe_first(open.observed.as_slice());
        Entry {
            id,
            accepted_at: now,
            sender: open.transaction.sender.clone(),
            parameters: open.parameters.clone(),
            client: format!("{} [{}]", session.helo.as_deref().unwrap_or("?"), session.client_ip)
                .into(),
            trace: (authentication::stamps(decision) + &trace.line() + &decision.filter_fields)
                .into(),
            deliveries: delivered.chain(kept).chain(told).collect(),
            decision: serde_json::to_string(&explanation).unwrap_or_default().into(),
            size: u64::try_from(body.len()).unwrap_or(u64::MAX),
            header_size: u64::try_from(header_size).unwrap_or(u64::MAX),
        }
    }
}

/// Names of rules, one copy for neighbours that have the same.
#[derive(Default)]
struct Shared(RefCell<Option<Arc<str>>>);

impl Shared {
    fn of(&self, rule: Option<&str>) -> Option<Arc<str>> {
        let rule = rule?;
        let mut last = self.0.borrow_mut();
        if last.as_deref() != Some(rule) {
            *last = Some(rule.into());
        }
        last.clone()
    }
}

/// Our marks for the trace line of a delivery (O8).
fn marks_of(decided: &DecidedDelivery) -> Vec<u64> {
    decided.marks.iter().map(|marked| marked.mark.value()).collect()
}

/// A recipient that was refused while others were accepted: nothing is sent, the sender is told.
fn refused_after_data(open: &Open, refused: &Refused) -> Option<Owed> {
    let recipient = open.recipients.iter().find(|one| one.address == refused.recipient)?;
    let admission = open.transaction.admission.as_ref();
    let sender = admission.map_or(&open.transaction.sender, |admission| &admission.sender);
    Some(owed_notice(recipient, sender, &refused.reply))
}

/// A recipient whose mail nobody gets: its sender is told of the refusal.
pub(crate) fn owed_notice(recipient: &Recipient, sender: &ReversePath, reply: &Reply) -> Owed {
    Owed::from(Delivery {
        recipient: recipient.address.clone(),
        original_recipient: recipient.address.clone(),
        sender: sender.clone(),
        destination: Destination::Refused { reply: reply.clone() },
        tls: TlsDemand::default(),
        changes: Changes::default(),
        suppress_bounces: false,
        spam: false,
        notify: recipient.notify,
        orcpt: recipient.orcpt.clone(),
    })
}
