//! What a session writes down of a transaction for the record of envelopes.
//!
//! A line is written for each message that reached DATA and that no rule of SMTP itself refused, for
//! each MAIL that the policy refuses, and for each transaction that ends without a message after a
//! recipient was refused.

use std::sync::Arc;

use waypost_auth::Authentication;
use waypost_config::policy::{Decision, FilterAnswer, Policy, mail_accepted, rcpt_accepted};
use waypost_config::replay::{LocalPartKey, Recorded, RecordedFate, RecordedGoing, kept_header};
use waypost_config::settings::FilterSettings;
use waypost_types::{
    Destination, HeaderBlock, Mailbox, QueueId, Reply, ReversePath, Session, TlsState,
};

use super::{Open, SmtpHandler};
use crate::core::Core;

/// Recipients of one line.
const RECIPIENTS: usize = 2000;
/// Deliveries that are told in one line.
const DELIVERIES: usize = 2000;

/// The recipients of a transaction and what each was told.
#[derive(Default)]
pub(super) struct Noted {
    recipients: Vec<(Mailbox, Option<Reply>)>,
    refused: bool,
    cut: bool,
}

/// A line that is written when it is dropped: also when the client goes away while its message is
/// stored.
pub(super) struct Draft {
    core: Arc<Core>,
    key: Option<LocalPartKey>,
    recorded: Recorded,
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.recorded.id.is_null() {
            self.recorded.id = self.core.spool.next_id().to_string().into();
        }
        self.core.recorder.write(&self.recorded);
    }
}

impl SmtpHandler {
    /// What to note recipients in, if anything is recorded.
    pub(super) fn noting(&self) -> Option<Noted> {
        self.core.recorder.is_on().then(Noted::default)
    }

    /// The recipient to be noted, if anything is.
    pub(super) fn to_note(&self, recipient: &Mailbox) -> Option<Mailbox> {
        let open = self.open.as_ref()?;
        open.noted.is_some().then(|| recipient.clone())
    }

    /// Notes what a recipient was told.
    pub(super) fn note_recipient(&mut self, given: Option<Mailbox>, told: &Result<(), Reply>) {
        let (Some(given), Some(open)) = (given, &mut self.open) else { return };
        let Some(noted) = &mut open.noted else { return };
        if noted.recipients.len() >= RECIPIENTS {
            noted.cut = true;
            return;
        }
        match told {
            // Our own postmaster is taken under another address.
            Ok(()) => {
                let taken = open.recipients.last().map(|one| one.address.clone());
                noted.recipients.push((taken.unwrap_or(given), None));
            }
            Err(reply) => {
                noted.refused = true;
                noted.recipients.push((given, Some(reply.clone())));
            }
        }
    }

    /// Writes down a MAIL that the policy refuses.
    pub(super) fn record_refused_mail(
        &self,
        session: &Session,
        sender: &ReversePath,
        reply: &Reply,
        policy: &Policy,
    ) {
        if let Some(mut draft) = self.draft(session, sender, policy) {
            draft.recorded.fate = Some(RecordedFate {
                mail: draft.hidden(&reply.to_string()),
                ..RecordedFate::default()
            });
        }
    }

    /// The open transaction, if there is one, ends without a message.
    pub(super) fn forget(&mut self) {
        let Some(open) = self.open.take() else { return };
        if open.noted.as_ref().is_some_and(|noted| noted.refused) {
            let none = HeaderBlock::of(b"");
            drop(self.draft_of(&open, &none));
        }
    }

    /// A line for a transaction with this header, without what becomes of it.
    pub(super) fn draft_of(&self, open: &Open, header: &HeaderBlock<'_>) -> Option<Draft> {
        let noted = open.noted.as_ref()?;
        let transaction = &open.transaction;
        let mut draft = self.draft(&transaction.session, &transaction.sender, &open.policy)?;
        let kept = kept_header(header, &open.policy, draft.key.as_ref());
        let shown = |address: &Mailbox| draft.address(address).into();
        draft.recorded.rcpt_to = noted.recipients.iter().map(|(one, _)| shown(one)).collect();
        let accepted = rcpt_accepted();
        let told =
            |reply: &Option<Reply>| draft.hidden(&reply.as_ref().unwrap_or(&accepted).to_string());
        draft.recorded.fate = Some(RecordedFate {
            mail: mail_accepted().to_string(),
            rcpt: noted.recipients.iter().map(|(_, reply)| told(reply)).collect(),
            ..RecordedFate::default()
        });
        draft.recorded.message = kept.text;
        draft.recorded.cut = kept.cut || noted.cut;
        Some(draft)
    }

    fn draft(&self, session: &Session, sender: &ReversePath, policy: &Policy) -> Option<Draft> {
        let key = self.core.recorder.key()?;
        let hidden = |text: &str| match &key {
            Some(key) => key.hide(text).into(),
            None => text.into(),
        };
        let address = |address: &Mailbox| match &key {
            Some(key) => key.hashed(address).to_string().into(),
            None => address.to_string().into(),
        };
        let recorded = Recorded {
            time: Some(self.core.clock.now().to_string().into()),
            client_ip: session.client_ip,
            listener: Some(self.on.name.clone()),
            helo: session.helo.as_deref().map(hidden),
            auth: session.auth.as_ref().map(address),
            tls: Some(session.tls == TlsState::Encrypted),
            mail_from: Some(sender.mailbox().map(address).unwrap_or_default()),
            hashed: key.as_ref().map(|key| key.fingerprint().into()),
            version: Some(policy.version().into()),
            ..Recorded::default()
        };
        Some(Draft { core: Arc::clone(&self.core), key, recorded })
    }
}

impl Draft {
    fn address(&self, address: &Mailbox) -> String {
        match &self.key {
            Some(key) => key.hashed(address).to_string(),
            None => address.to_string(),
        }
    }

    fn hidden(&self, text: &str) -> String {
        match &self.key {
            Some(key) => key.hide(text),
            None => text.to_owned(),
        }
    }

    /// What SPF, DKIM and DMARC said.
    pub(super) fn authenticated(&mut self, answers: Vec<Authentication>) {
        self.recorded.authentication = answers;
    }

    /// What the filter said.
    pub(super) fn filtered(&mut self, answers: &[FilterAnswer], settings: Option<&FilterSettings>) {
        let kept = answers.iter().map(|answer| answer.deciding(settings));
        self.recorded.filter = match &self.key {
            None => kept.collect(),
            // Its words may name addresses.
            Some(key) => kept
                .filter_map(|answer| {
                    let hidden = key.hide(&serde_json::to_string(&answer).ok()?);
                    serde_json::from_str(&hidden).ok()
                })
                .collect(),
        };
    }

    /// Where the message goes.
    pub(super) fn decided(&mut self, decision: &Decision) {
        let kept = decision.quarantined.iter().flat_map(|kept| {
            kept.deliveries.iter().map(|one| (one, Some(kept.quarantine.clone())))
        });
        let going = decision.deliveries.iter().map(|one| (one, None)).chain(kept);
        let told: Vec<RecordedGoing> = going
            .take(DELIVERIES)
            .map(|(one, quarantine)| {
                let (via, route) = match &one.delivery.destination {
                    Destination::Mailbox { .. } => ("mailbox", None),
                    Destination::Route { route, .. } => ("route", Some(route.to_string().into())),
                    Destination::Gateway(_) => ("gateway", None),
                    _ => ("mx", None),
                };
                let recipient = self.address(&one.delivery.recipient).into();
                RecordedGoing { recipient, via, route, quarantine }
            })
            .collect();
        if let Some(fate) = &mut self.recorded.fate {
            fate.deliveries = told;
        }
    }

    /// The message is in the queue under this id.
    pub(super) fn queued(&mut self, id: QueueId) {
        self.recorded.id = id.to_string().into();
        self.recorded.queue_id = Some(id.to_string().into());
    }

    /// The message was answered.
    pub(super) fn answered(&mut self, reply: &Reply) {
        let text = self.hidden(&reply.to_string());
        if let Some(fate) = &mut self.recorded.fate {
            fate.data = Some(text);
            if !reply.is_positive() {
                fate.deliveries.clear();
            }
        }
    }
}
