//! A dry run of one transaction (C9).

use std::net::IpAddr;

use waypost_types::{
    HeaderBlock, ListenerRole, Mailbox, Recipient, Reply, ReversePath, Session, TlsState,
};

use super::at_data::refuse_all;
use super::evaluate::Told;
use super::explanation::{ExplainedFilter, ExplainedRefusal, explained_gateway};
use super::known::Known;
use super::{
    Decision, Explanation, ObservedKind, Policy, RcptVerdict, RefusalCause, Transaction,
    observed_at_mail, rcpt_accepted,
};

/// A transaction to be tried without sending anything.
#[derive(Clone, Debug)]
pub struct DryRun<'a> {
    /// The client's address.
    pub client_ip: IpAddr,
    /// The listener's name; `None`: the first `mx` one, or with `auth` the first relay one.
    pub listener: Option<&'a str>,
    /// HELO's argument.
    pub helo: Option<&'a str>,
    /// The user that AUTH proved; counts only inside TLS (D6).
    pub auth: Option<&'a str>,
    /// Whether the session is inside TLS.
    pub tls: TlsState,
    /// The envelope sender; empty or `<>` is the null sender.
    pub mail_from: &'a str,
    /// The recipients.
    pub rcpt_to: Vec<&'a str>,
    /// The message, or its header alone. Of the rest only the size counts and, where attachments go, the
    /// parts. A line may end in LF alone, as in files; it counts as CR LF.
    pub message: &'a [u8],
}

/// Why a dry run cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DryRunError {
    /// No listener of that name.
    #[error("there is no listener `{0}`; the configuration has {1}")]
    Listener(String, String),
    /// No listener of the role that is needed.
    #[error("the configuration has no listener for {0}; name one with `listener`")]
    NoListener(&'static str),
    /// An address is no mailbox.
    #[error("{0}: {1}")]
    Address(&'static str, String),
    /// No recipient.
    #[error("there is no recipient; give at least one in `rcpt_to`")]
    NoRecipient,
}

impl Policy {
    /// Tries a transaction: what would be replied, decided and delivered, and why.
    ///
    /// Quotas and connection limits are not looked at. A recipient that RCPT refuses is listed among
    /// the refusals, with the rules looked at.
    ///
    /// # Errors
    /// [`DryRunError`] when listener or addresses are unusable.
    pub fn explain(&self, run: &DryRun<'_>) -> Result<Explanation, DryRunError> {
        self.explained(run, Known::default(), Told::EVERYTHING)
    }

    /// The same without the rules looked at, for whoever does not read them.
    pub(crate) fn explain_briefly(
        &self,
        run: &DryRun<'_>,
        known: Known<'_>,
    ) -> Result<Explanation, DryRunError> {
        self.explained(run, known, Told::Nothing)
    }

    /// The same with what is known of the message, most often supposed: what a DNS might answer (E2, C3),
    /// what a filter might say (D17).
    ///
    /// # Errors
    /// [`DryRunError`] when listener or addresses are unusable.
    pub fn explain_knowing(
        &self,
        run: &DryRun<'_>,
        known: Known<'_>,
    ) -> Result<Explanation, DryRunError> {
        self.explained(run, known, Told::EVERYTHING)
    }

    fn explained(
        &self,
        run: &DryRun<'_>,
        known: Known<'_>,
        told: Told,
    ) -> Result<Explanation, DryRunError> {
        let session = self.session(run)?;
        let sender: ReversePath = run
            .mail_from
            .parse()
            .map_err(|error| DryRunError::Address("mail_from", format!("{error}")))?;
        let mut recipients = Vec::with_capacity(run.rcpt_to.len());
        for text in &run.rcpt_to {
            let address: Mailbox = text
                .parse()
                .map_err(|error| DryRunError::Address("rcpt_to", format!("{error}")))?;
            recipients.push(Recipient::from(address));
        }
        if recipients.is_empty() {
            return Err(DryRunError::NoRecipient);
        }
        Ok(self.try_transaction(&session, &sender, &recipients, run.message, known, told))
    }

    /// DATA for a replay, which reads no rules looked at.
    pub(crate) fn at_data_briefly(
        &self,
        transaction: &Transaction,
        recipients: &[Recipient],
        header: &HeaderBlock<'_>,
        known: Known<'_>,
    ) -> Decision {
        self.decide(transaction, recipients, header, known, Told::Nothing)
    }

    pub(crate) fn session(&self, run: &DryRun<'_>) -> Result<Session, DryRunError> {
        let listeners = &self.server.listeners;
        let role = match run.listener {
            Some(name) => {
                let found = listeners.iter().find(|listener| &*listener.name == name);
                found.map(|listener| listener.role).ok_or_else(|| {
                    let names: Vec<&str> = listeners.iter().map(|one| &*one.name).collect();
                    DryRunError::Listener(name.to_owned(), names.join(", "))
                })?
            }
            None => {
                let (wanted, what) = match run.auth {
                    Some(_) => (ListenerRole::Relay, "relaying"),
                    None => (ListenerRole::Mx, "inbound mail"),
                };
                let fits = |role| role == wanted || role == ListenerRole::Both;
                let found = listeners.iter().find(|listener| listener.role == wanted);
                let found = found.or_else(|| listeners.iter().find(|one| fits(one.role)));
                found.map(|one| one.role).ok_or(DryRunError::NoListener(what))?
            }
        };
        let auth = match run.auth.filter(|_| run.tls == TlsState::Encrypted) {
            None => None,
            Some(text) => {
                let name: Mailbox = text
                    .parse()
                    .map_err(|error| DryRunError::Address("auth", format!("{error}")))?;
                self.active_user(&name).unwrap_or_default()
            }
        };
        Ok(Session {
            client_ip: run.client_ip.to_canonical(),
            role,
            helo: run.helo.map(Into::into),
            auth,
            tls: run.tls,
        })
    }

    fn try_transaction(
        &self,
        session: &Session,
        sender: &ReversePath,
        recipients: &[Recipient],
        message: &[u8],
        known: Known<'_>,
        told: Told,
    ) -> Explanation {
        let header = HeaderBlock::of(message);
        let transaction = match self.at_mail(session, sender) {
            Ok(transaction) => transaction,
            Err(refusal) => {
                let refused = Explanation::of_refused_mail(self, session, recipients, &refusal);
                let observed_details = observed_at_mail(Err(&refusal));
                return Explanation { observed_details, ..refused };
            }
        };
        let mut standing: Vec<Recipient> = Vec::new();
        let mut refused = Vec::new();
        let mut replies = Vec::new();
        let mut observed = observed_at_mail(Ok(&transaction));
        for recipient in recipients {
            let verdict =
                self.at_rcpt_observing(&transaction, recipient, standing.len(), &mut observed);
            match verdict {
                RcptVerdict::Accept { .. } => {
                    replies.push(rcpt_accepted().to_string());
                    standing.push(recipient.clone());
                }
                RcptVerdict::Refuse(refusal) => {
                    replies.push(refusal.reply.to_string());
                    refused.push(ExplainedRefusal::of(&refusal));
                }
            }
        }
        let too_large = self.too_large(message, &header);
        let at_data = |recipients: &[Recipient]| {
            let mut decision = self.decide(&transaction, recipients, &header, known, told);
            if let Some(reply) = too_large.clone() {
                refuse_all(&mut decision, reply, RefusalCause::TooLarge, recipients);
            }
            decision
        };
        let decision = at_data(&standing);
        let looked_at =
            if standing.len() == recipients.len() { None } else { Some(at_data(recipients)) };
        let mut explanation = Explanation::of(self, &decision);
        super::attachments::explain(message, &decision, &mut explanation);
        if self.server.filter.is_some() && known.filter.is_empty() && !standing.is_empty() {
            explanation.filter = Some(ExplainedFilter::not_asked());
        }
        if let Some(all) = looked_at {
            // The message is known here: no ifs.
            observed.retain(|one| one.kind != ObservedKind::Rule);
            let stands = |of: &str| standing.iter().any(|one| one.address.to_string() == of);
            let of_refused = all.observations.iter().filter(|one| {
                one.kind == ObservedKind::Rule
                    && one.recipient.as_deref().is_some_and(|of| !stands(of))
            });
            observed.extend(of_refused.cloned());
            let all_explained = Explanation::of(self, &all);
            explanation.rules = all_explained.rules;
            explanation.recipients = all_explained.recipients;
            if standing.is_empty() {
                explanation.organization =
                    all.organizations.first().map(|view| view.organization.clone());
                explanation.source_ip = all.organizations.first().and_then(|view| view.source.ip);
                explanation.inbound_gateway = all.organizations.first().and_then(explained_gateway);
            }
        }
        refused.append(&mut explanation.refusals);
        explanation.refusals = refused;
        explanation.observe_first(&observed);
        explanation.replies.rcpt = replies;
        if standing.is_empty() {
            explanation.replies.data = None;
        }
        explanation
    }
    /// What a server says of a message or header that is larger than it takes, before anything is
    /// decided.
    fn too_large(&self, message: &[u8], header: &HeaderBlock<'_>) -> Option<Reply> {
        let limits = &self.server.limits;
        let refused = |text: &str| Some(Reply::new(552, (5, 3, 4), text));
        if received_size(message) > limits.message_size {
            let limit = limits.message_size;
            return refused(&format!(
                "The message has more than {limit} octets; send a smaller one"
            ));
        }
        if received_size(header.as_bytes()) > limits.header_size {
            return refused(&format!("The header is larger than {} octets", limits.header_size));
        }
        None
    }
}

/// The octets of what is received when `text` is sent: each line ends in CR LF.
fn received_size(text: &[u8]) -> u64 {
    let bare = memchr::memchr_iter(b'\n', text)
        .filter(|at| at.checked_sub(1).and_then(|before| text.get(before)) != Some(&b'\r'));
    u64::try_from(text.len().saturating_add(bare.count())).unwrap_or(u64::MAX)
}
