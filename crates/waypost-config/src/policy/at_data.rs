//! The end of DATA: the header is known, and every recipient's fate is decided.

use waypost_inbound::{OwnLine, Source};
use waypost_rules::{FromField, Spam};
use waypost_types::{HeaderBlock, Recipient, Reply};

use super::decision::{DataReply, DecidedDelivery, Decision, OrganizationView, RuleLookedAt};
use super::evaluate::{Evaluation, Facts, FateOutcome};
use super::organization::{InternalSenders, Organization};
use super::{Policy, Transaction};

impl Policy {
    /// DATA: decides for every recipient that RCPT accepted, from the message's header.
    ///
    /// The header is that of a live session: our own `Received` line is not in it yet (E5). Cost is
    /// linear in the header and in the rules of the units concerned. Nothing is stored or sent.
    ///
    /// A message that looped (O3) is refused as a whole with `554 5.4.6`; one with a recipient whose
    /// directory cannot answer is deferred as a whole with `451 4.3.0`, so that nobody gets it twice;
    /// one whose recipients are all refused gets the first one's refusal.
    #[must_use]
    pub fn at_data(
        &self,
        transaction: &Transaction,
        recipients: &[Recipient],
        header: &HeaderBlock<'_>,
    ) -> Decision {
        let message = Message::read(header);
        let mut decision = Decision {
            organizations: Vec::new(),
            rules: Vec::new(),
            observed: Vec::new(),
            deliveries: Vec::new(),
            refusals: Vec::new(),
            quarantined: Vec::new(),
            reply: DataReply::Accept,
        };
        let mut views =
            Views { policy: self, transaction, message: &message, header, seen: vec![] };
        for recipient in recipients {
            let concerned = self.concerned(transaction, recipient);
            for organization in &concerned {
                views.of(organization);
            }
            let facts = |organization: &Organization| views.facts(organization);
            let fate = Evaluation { policy: self, transaction }.recipient(recipient, &facts);
            decision.rules.extend(fate.reports.into_iter().map(|report| RuleLookedAt {
                recipient: recipient.address.clone(),
                rule: report.rule,
                failed: report.failed,
            }));
            for rule in fate.observed {
                if !decision.observed.contains(&rule) {
                    decision.observed.push(rule);
                }
            }
            match fate.outcome {
                FateOutcome::Refused(refused) => decision.refusals.push(refused),
                FateOutcome::Quarantined(kept) => decision.quarantined.push(kept),
                FateOutcome::Delivered(deliveries) => {
                    deliveries.into_iter().for_each(|one| add_once(&mut decision.deliveries, one));
                }
            }
        }
        decision.organizations = views.seen;
        decision.reply = self.reply(&decision, &message);
        decision
    }

    /// The organizations whose view of the message may matter for a recipient; the one that owns the
    /// decision first.
    fn concerned(&self, transaction: &Transaction, recipient: &Recipient) -> Vec<&Organization> {
        let admission = transaction.admission.as_ref();
        let relaying = admission.and_then(|found| self.organization(&found.quota.organization));
        let receiving = self.receiving(&recipient.address);
        receiving.into_iter().chain(relaying).collect()
    }

    fn reply(&self, decision: &Decision, message: &Message) -> DataReply {
        let limit = self.server.limits.hops;
        if message.hops > limit {
            return DataReply::Refuse(Reply::new(
                554,
                (5, 4, 6),
                &format!(
                    "Routing loop: the message has {} Received lines, and {limit} are the limit",
                    message.hops
                ),
            ));
        }
        let transient = decision.refusals.iter().find(|refused| refused.reply.code() < 500);
        if let Some(refused) = transient {
            return DataReply::Refuse(refused.reply.clone());
        }
        match decision.refusals.first() {
            Some(first) if decision.deliveries.is_empty() && decision.quarantined.is_empty() => {
                DataReply::Refuse(first.reply.clone())
            }
            _ => DataReply::Accept,
        }
    }
}

/// The same mail for the same mailbox by the same way is owed once (O8).
fn add_once(deliveries: &mut Vec<DecidedDelivery>, one: DecidedDelivery) {
    let twin = deliveries.iter_mut().find(|other| {
        other.delivery.recipient == one.delivery.recipient
            && other.delivery.destination == one.delivery.destination
            && other.delivery.changes == one.delivery.changes
    });
    match twin {
        Some(twin) => twin.delivery.tls = twin.delivery.tls.max(one.delivery.tls),
        None => deliveries.push(one),
    }
}

/// What the header says, read once.
struct Message {
    from: FromField,
    hops: usize,
    signed: bool,
}

impl Message {
    fn read(header: &HeaderBlock<'_>) -> Self {
        let (mut hops, mut signed) = (0, false);
        for field in header.fields() {
            hops += usize::from(field.is("received"));
            signed |= field.is("dkim-signature");
        }
        Self { from: FromField::read(header), hops, signed }
    }
}

/// What each organization sees, found out once.
struct Views<'v> {
    policy: &'v Policy,
    transaction: &'v Transaction,
    message: &'v Message,
    header: &'v HeaderBlock<'v>,
    seen: Vec<OrganizationView>,
}

impl Views<'_> {
    fn of(&mut self, organization: &Organization) {
        if self.seen.iter().any(|view| view.organization == organization.name) {
            return;
        }
        let client_ip = self.transaction.session.client_ip;
        let gateway =
            organization.inbound_gateway.as_ref().filter(|_| self.transaction.admission.is_none());
        let (source, spam) = match gateway {
            None => (Source::of_client(client_ip), Spam::No),
            Some(gateway) => {
                let source = gateway.source(client_ip, OwnLine::Absent, self.header);
                let tagged =
                    gateway.tag_verdict(client_ip, self.header).is_some_and(|verdict| verdict.spam);
                (source, if tagged { Spam::ByTag } else { Spam::No })
            }
        };
        let claims =
            organization.internal.is_internal_sender(&self.message.from, &self.transaction.sender);
        let spoofed_internal = claims && !self.is_proven(organization);
        self.seen.push(OrganizationView {
            organization: organization.name.clone(),
            source,
            spam,
            spoofed_internal,
        });
    }

    fn is_proven(&self, organization: &Organization) -> bool {
        match organization.internal_senders {
            InternalSenders::FromHeader => true,
            InternalSenders::Authenticated => {
                self.transaction.session.auth.is_some() || self.transaction.admission.is_some()
            }
        }
    }

    fn facts(&self, organization: &Organization) -> Facts {
        let view = self.seen.iter().find(|view| view.organization == organization.name);
        let claims =
            organization.internal.is_internal_sender(&self.message.from, &self.transaction.sender);
        let client_ip = Some(self.transaction.session.client_ip);
        debug_assert!(self.policy.organization(&organization.name).is_some());
        Facts {
            internal_sender: claims && !view.is_some_and(|view| view.spoofed_internal),
            spam: view.map_or(Spam::No, |view| view.spam),
            source_ip: view.map_or(client_ip, |view| view.source.ip),
            signed: self.message.signed,
        }
    }
}
