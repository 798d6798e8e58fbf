//! What becomes of a recorded message under a policy.

use std::collections::HashMap;

use waypost_types::{
    Changes, Destination, HeaderBlock, ListenerRole, Mailbox, Recipient, Reply, ReversePath,
    TlsDemand, TlsState,
};

use super::local_parts::{KnownAddresses, token_in};
use super::recorded::Recorded;
use crate::policy::{
    DataReply, DecidedDelivery, Decision, DryRun, DryRunError, Policy, RcptVerdict, Refused,
};

/// Why a policy cannot take a recorded message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// Listener or addresses are unusable.
    #[error(transparent)]
    Envelope(#[from] DryRunError),
    /// Local parts are hashed, and there is no key.
    #[error(
        "the local parts are hashed; give the key, which is `record.key` in the spool of the server \
         that wrote the line, by --key FILE"
    )]
    NoKey,
    /// Local parts are hashed with another key.
    #[error(
        "the local parts are hashed with the key {0}, and that of --key or of the spool is {1}; give \
         the key of the server that wrote the line"
    )]
    OtherKey(Box<str>, Box<str>),
}

/// What becomes of a message: of each recipient, once, in the order of RCPT.
#[derive(Clone, Debug, PartialEq)]
pub struct Fate {
    /// The refusal of MAIL.
    pub mail: Option<Refusal>,
    /// The recipients.
    pub recipients: Vec<RecipientFate>,
    /// SPF and DMARC are asked for, and what they said was not recorded.
    pub unauthenticated: bool,
}

/// A refusal, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The reply, or that of the notice.
    pub reply: Reply,
    /// The message was accepted for others, so a notice tells the sender.
    pub by_notice: bool,
    /// In words.
    pub because: String,
    /// The rule that refuses.
    pub rule: Option<Box<str>>,
}

/// What becomes of one recipient's mail.
#[derive(Clone, Debug, PartialEq)]
pub struct RecipientFate {
    /// The recipient.
    pub recipient: Mailbox,
    /// What becomes of it.
    pub outcome: Outcome,
}

/// Refused, or taken.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Refused.
    Refused(Refusal),
    /// Taken.
    Taken {
        /// The quarantine that keeps it, with the rule or setting.
        kept: Option<(Box<str>, Box<str>)>,
        /// What is delivered, or would be on release.
        sent: Vec<Sent>,
    },
}

/// One delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// The recipient to name to the next hop.
    pub recipient: Mailbox,
    /// The sender to name.
    pub sender: ReversePath,
    /// The next hop.
    pub destination: Destination,
    /// The TLS that the delivery gets.
    pub tls: TlsDemand,
    /// The changes, without lines that tell of SPF, DKIM and DMARC.
    pub changes: Changes,
    /// No bounce is sent.
    pub suppress_bounces: bool,
    /// It goes to the spam folder.
    pub spam: bool,
    /// The rules that changed something.
    pub because: Vec<Box<str>>,
    /// In words.
    pub reason: String,
}

impl Sent {
    /// Whether both are the same mail by the same way, whatever the reasons.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.goes_the_same_way(other)
            && self.sender == other.sender
            && self.tls == other.tls
            && self.changes == other.changes
            && self.suppress_bounces == other.suppress_bounces
            && self.spam == other.spam
    }

    pub(super) fn goes_the_same_way(&self, other: &Self) -> bool {
        self.recipient == other.recipient
            // Equal mailboxes may differ in the case of their local part, which the next hop sees.
            && self.recipient.local_part() == other.recipient.local_part()
            && self.destination == other.destination
    }
}

/// A recorded message, its addresses read.
#[derive(Debug)]
pub(super) struct Envelope<'r> {
    recorded: &'r Recorded,
    sender: ReversePath,
    recipients: Vec<Recipient>,
    auth: Option<String>,
    /// An address is hashed and known to nobody.
    pub(super) unresolved: bool,
}

impl<'r> Envelope<'r> {
    /// Reads the addresses; hashed ones that are known are found.
    pub(super) fn of(
        recorded: &'r Recorded,
        known: Option<&KnownAddresses>,
    ) -> Result<Self, ReplayError> {
        let wrong =
            |what, error: &dyn std::fmt::Display| DryRunError::Address(what, error.to_string());
        let mut unresolved = false;
        let mut found = |address: Mailbox| match known {
            None => address,
            Some(known) => {
                let found = known.found(address);
                unresolved |= token_in(&found).is_some();
                found
            }
        };
        let sender = recorded.mail_from.as_deref().unwrap_or_default();
        let sender = match sender.parse().map_err(|error| wrong("mail_from", &error))? {
            ReversePath::Mailbox(address) => ReversePath::Mailbox(found(address)),
            ReversePath::Null => ReversePath::Null,
        };
        let mut recipients = Vec::with_capacity(recorded.rcpt_to.len());
        for text in &recorded.rcpt_to {
            let address: Mailbox = text.parse().map_err(|error| wrong("rcpt_to", &error))?;
            recipients.push(Recipient::from(found(address)));
        }
        let auth = match recorded.auth.as_deref() {
            None => None,
            Some(text) => {
                let address: Mailbox = text.parse().map_err(|error| wrong("auth", &error))?;
                Some(found(address).to_string())
            }
        };
        Ok(Self { recorded, sender, recipients, auth, unresolved })
    }

    pub(super) fn sender(&self) -> &ReversePath {
        &self.sender
    }
}

impl Policy {
    /// What becomes of a recorded message: as `serve` decides, without quotas, limits of connections
    /// and room. Of hashed local parts those are found that are `known`.
    ///
    /// # Errors
    /// [`ReplayError`] when listener or addresses are unusable.
    pub fn replay(
        &self,
        recorded: &Recorded,
        known: Option<&KnownAddresses>,
    ) -> Result<Fate, ReplayError> {
        let envelope = Envelope::of(recorded, known)?;
        self.fate(&envelope, recorded.listener.as_deref())
    }

    /// The role of a listener.
    pub(super) fn role(&self, listener: &str) -> Option<ListenerRole> {
        let mut listeners = self.server.listeners.iter();
        listeners.find(|one| &*one.name == listener).map(|one| one.role)
    }

    /// A recorded message's fate, come in by this listener.
    pub(super) fn fate(
        &self,
        envelope: &Envelope<'_>,
        listener: Option<&str>,
    ) -> Result<Fate, ReplayError> {
        let recorded = envelope.recorded;
        let tls = if recorded.tls == Some(true) { TlsState::Encrypted } else { TlsState::Clear };
        let session = self.session(&DryRun {
            client_ip: recorded.client_ip,
            listener,
            helo: recorded.helo.as_deref(),
            auth: envelope.auth.as_deref(),
            tls,
            mail_from: "",
            rcpt_to: Vec::new(),
            message: &[],
        })?;
        let transaction = match self.at_mail(&session, &envelope.sender) {
            Ok(transaction) => transaction,
            Err(refusal) => {
                let refusal = Refusal {
                    because: refusal.to_string(),
                    reply: refusal.reply,
                    by_notice: false,
                    rule: None,
                };
                return Ok(Fate::refused(&envelope.recipients, &refusal));
            }
        };
        let mut fate = Fates::default();
        let mut standing: Vec<Recipient> = Vec::with_capacity(envelope.recipients.len());
        for recipient in &envelope.recipients {
            match self.at_rcpt(&transaction, recipient, standing.len()) {
                RcptVerdict::Refuse(refused) => fate.refuse(self.refusal(&refused, false)),
                RcptVerdict::Accept { .. } => {
                    standing.push(recipient.clone());
                    fate.take(&recipient.address);
                }
            }
        }
        if standing.is_empty() {
            return Ok(fate.done(false));
        }
        let header = HeaderBlock::of(recorded.message.as_bytes());
        // What is refused anyway is refused with answers too, so one decision is enough.
        let due = self.authentication_due(&transaction, &standing, &header);
        let answers = &recorded.authentication;
        let mut known = recorded.known();
        known.dns = known.dns.filter(|_| !due.is_empty());
        let decision = self.at_data_briefly(&transaction, &standing, &header, known);
        let is_answered = |checked| answers.iter().any(|one| one.checked == checked);
        let unauthenticated = decision.reply == DataReply::Accept
            && !due.iter().all(|question| is_answered(question.checked));
        self.decided(&mut fate, decision);
        Ok(fate.done(unauthenticated))
    }

    fn refusal(&self, refused: &Refused, by_notice: bool) -> (Mailbox, Refusal) {
        let rule = self.rule_named_in(&refused.because, refused.cause);
        let refusal = Refusal {
            reply: refused.reply.clone(),
            by_notice,
            because: refused.because.clone(),
            rule,
        };
        (refused.recipient.clone(), refusal)
    }

    /// The rule that a refusal names.
    fn rule_named_in(&self, because: &str, cause: crate::policy::RefusalCause) -> Option<Box<str>> {
        if cause != crate::policy::RefusalCause::Rule {
            return None;
        }
        let rules = self.organizations().iter().flat_map(|one| one.rules.rules());
        let mut names = rules.map(|rule| &rule.description);
        let name = names.find(|name| because.contains(&format!("\"{name}\"")));
        name.map(|name| (**name).into())
    }

    fn decided(&self, fate: &mut Fates, decision: Decision) {
        let Decision { organizations, deliveries, refusals, quarantined, stamps, reply, .. } =
            decision;
        let sent = |one: DecidedDelivery| {
            let tls = self.effective_tls(&one.delivery);
            let mut changes = one.delivery.changes;
            if stamps.is_empty() {
                // Where organizations differ, each delivery has its own lines of SPF and DMARC.
                let view = organizations.iter().find(|view| view.organization == one.organization);
                let own = view.and_then(|view| view.authentication.as_ref());
                let own = own.map_or(&[][..], |found| &found.lines);
                if !own.is_empty() && changes.added_headers.starts_with(own) {
                    changes.added_headers.drain(..own.len());
                }
            }
            let original = one.delivery.original_recipient;
            let sent = Sent {
                recipient: one.delivery.recipient,
                sender: one.delivery.sender,
                destination: one.delivery.destination,
                tls,
                changes,
                suppress_bounces: one.delivery.suppress_bounces,
                spam: one.delivery.spam,
                because: one.because,
                reason: one.reason,
            };
            (original, sent)
        };
        // The copy of a relayed message is told with its first recipient who is taken (D16).
        let first = deliveries.iter().find(|one| !one.is_relay_copy());
        let first = first.map(|one| &one.delivery.original_recipient);
        let first = first.or(quarantined.first().map(|kept| &kept.recipient)).cloned();
        for kept in quarantined {
            let sent = kept.deliveries.into_iter().map(|one| sent(one).1).collect();
            fate.settle(&kept.recipient, Some((kept.quarantine, kept.because)), sent);
        }
        for one in deliveries {
            let told_with = first.clone().filter(|_| one.is_relay_copy());
            let (original, sent) = sent(one);
            fate.settle(&told_with.unwrap_or(original), None, vec![sent]);
        }
        let by_notice = reply == DataReply::Accept;
        for refused in &refusals {
            fate.refuse(self.refusal(refused, by_notice));
        }
    }
}

impl Fate {
    fn refused(recipients: &[Recipient], refusal: &Refusal) -> Self {
        let mut fates = Fates::default();
        for recipient in recipients {
            fates.refuse((recipient.address.clone(), refusal.clone()));
        }
        Self { mail: Some(refusal.clone()), ..fates.done(false) }
    }
}

/// Fates as they become known, each recipient once.
#[derive(Default)]
struct Fates {
    recipients: Vec<RecipientFate>,
    places: HashMap<Mailbox, usize>,
}

impl Fates {
    fn of(&mut self, recipient: &Mailbox) -> &mut RecipientFate {
        // The first is most often the only one.
        let place = match self.recipients.first() {
            Some(first) if first.recipient == *recipient => 0,
            _ => *self.places.get(recipient).unwrap_or(&self.recipients.len()),
        };
        if place == self.recipients.len() {
            if place > 0 {
                self.places.insert(recipient.clone(), place);
            }
            let outcome = Outcome::Taken { kept: None, sent: Vec::new() };
            self.recipients.push(RecipientFate { recipient: recipient.clone(), outcome });
        }
        #[expect(clippy::indexing_slicing, reason = "the place was found or made just now")]
        &mut self.recipients[place]
    }

    fn take(&mut self, recipient: &Mailbox) {
        let _ = self.of(recipient);
    }

    fn refuse(&mut self, (recipient, refusal): (Mailbox, Refusal)) {
        let fate = self.of(&recipient);
        // What was given twice and stands once stands.
        if matches!(&fate.outcome, Outcome::Taken { sent, .. } if sent.is_empty()) {
            fate.outcome = Outcome::Refused(refusal);
        }
    }

    fn settle(
        &mut self,
        recipient: &Mailbox,
        quarantine: Option<(Box<str>, Box<str>)>,
        mut more: Vec<Sent>,
    ) {
        let fate = self.of(recipient);
        match &mut fate.outcome {
            Outcome::Taken { kept, sent } => {
                if quarantine.is_some() {
                    *kept = quarantine;
                }
                sent.append(&mut more);
            }
            refused @ Outcome::Refused(_) => {
                *refused = Outcome::Taken { kept: quarantine, sent: more };
            }
        }
    }

    fn done(self, unauthenticated: bool) -> Fate {
        Fate { mail: None, recipients: self.recipients, unauthenticated }
    }
}
