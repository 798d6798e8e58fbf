//! What a session, of SMTP or of a milter, writes down of a transaction for the record of envelopes.
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
pub(crate) struct Noted {
    recipients: Vec<(Mailbox, Option<Reply>)>,
    refused: bool,
    cut: bool,
}

impl Noted {
    /// What to note recipients in, if anything is recorded.
    pub(crate) fn of(core: &Core) -> Option<Self> {
        core.recorder.is_on().then(Self::default)
    }

    /// Notes what a recipient was told; `None`: he was taken.
    pub(crate) fn note(&mut self, recipient: Mailbox, refused: Option<Reply>) {
        if self.recipients.len() >= RECIPIENTS {
            self.cut = true;
            return;
        }
        self.refused |= refused.is_some();
        self.recipients.push((recipient, refused));
    }

    /// Whether a recipient was refused.
    pub(crate) fn has_refused(&self) -> bool {
        self.refused
    }
}

/// Whose line it is.
#[derive(Clone, Copy)]
pub(crate) struct Of<'a> {
    pub(crate) session: &'a Session,
    /// The listener that the client came to.
    pub(crate) listener: Option<&'a str>,
    pub(crate) sender: &'a ReversePath,
    pub(crate) policy: &'a Policy,
}

/// A line that is written when it is dropped: also when the client goes away while its message is
/// stored.
pub(crate) struct Draft {
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
        Noted::of(&self.core)
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
        match told {
            // Our own postmaster is taken under another address.
            Ok(()) => {
                let taken = open.recipients.last().map(|one| one.address.clone());
                noted.note(taken.unwrap_or(given), None);
            }
            Err(reply) => noted.note(given, Some(reply.clone())),
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
        let of = Of { session, listener: Some(&self.on.name), sender, policy };
        Draft::refused_mail(&self.core, of, reply);
    }

    /// The open transaction, if there is one, ends without a message.
    pub(super) fn forget(&mut self) {
        let Some(open) = self.open.take() else { return };
        if open.noted.as_ref().is_some_and(Noted::has_refused) {
            let none = HeaderBlock::of(b"");
            drop(self.draft_of(&open, &none));
        }
    }

    /// A line for a transaction with this header, without what becomes of it.
    pub(super) fn draft_of(&self, open: &Open, header: &HeaderBlock<'_>) -> Option<Draft> {
        let transaction = &open.transaction;
        let of = Of {
            session: &transaction.session,
            listener: Some(&self.on.name),
            sender: &transaction.sender,
            policy: &open.policy,
        };
        Draft::of_transaction(&self.core, of, open.noted.as_ref()?, header)
    }
}

impl Draft {
    /// A line of which nothing is known but who sends, if anything is recorded.
    fn new(core: &Arc<Core>, Of { session, listener, sender, policy }: Of<'_>) -> Option<Self> {
        let key = core.recorder.key()?;
        let hidden = |text: &str| match &key {
            Some(key) => key.hide(text).into(),
            None => text.into(),
        };
        let address = |address: &Mailbox| match &key {
            Some(key) => key.hashed(address).to_string().into(),
            None => address.to_string().into(),
        };
        let recorded = Recorded {
            time: Some(core.clock.now().to_string().into()),
            client_ip: session.client_ip,
            listener: listener.map(Box::from),
            helo: session.helo.as_deref().map(hidden),
            auth: session.auth.as_ref().map(address),
            tls: Some(session.tls == TlsState::Encrypted),
            mail_from: Some(sender.mailbox().map(address).unwrap_or_default()),
            hashed: key.as_ref().map(|key| key.fingerprint().into()),
            version: Some(policy.version().into()),
            ..Recorded::default()
        };
        Some(Self { core: Arc::clone(core), key, recorded })
    }

    /// Writes down a MAIL that the policy refuses.
    pub(crate) fn refused_mail(core: &Arc<Core>, of: Of<'_>, reply: &Reply) {
        if let Some(mut draft) = Self::new(core, of) {
            draft.recorded.fate = Some(RecordedFate {
                mail: draft.hidden(&reply.to_string()),
                ..RecordedFate::default()
            });
        }
    }

    /// A line for a transaction with this header, without what becomes of it.
    pub(crate) fn of_transaction(
        core: &Arc<Core>,
        of: Of<'_>,
        noted: &Noted,
        header: &HeaderBlock<'_>,
    ) -> Option<Self> {
        let mut draft = Self::new(core, of)?;
        let kept = kept_header(header, of.policy, draft.key.as_ref());
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
    pub(crate) fn authenticated(&mut self, answers: Vec<Authentication>) {
        self.recorded.authentication = answers;
    }

    /// What the filter said.
    pub(crate) fn filtered(&mut self, answers: &[FilterAnswer], settings: Option<&FilterSettings>) {
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
    pub(crate) fn decided(&mut self, decision: &Decision) {
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

    /// The mail server that asks has the message in its queue under this name.
    pub(crate) fn queued_elsewhere(&mut self, id: QueueId, name: Option<&str>) {
        self.recorded.id = id.to_string().into();
        self.recorded.queue_id = name.map(Box::from);
    }

    /// The message was answered.
    pub(crate) fn answered(&mut self, reply: &Reply) {
        let text = self.hidden(&reply.to_string());
        if let Some(fate) = &mut self.recorded.fate {
            fate.data = Some(text);
            if !reply.is_positive() {
                fate.deliveries.clear();
            }
        }
    }
}
