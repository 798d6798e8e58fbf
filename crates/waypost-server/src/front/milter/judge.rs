//! One session of a mail server, put to the policy as a session of `serve` is.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use waypost_config::milter::{MilterPlan, MilterVerdict, needs_body, recipient, sender, session};
use waypost_config::policy::{
    Decision, Observation, Policy, RcptVerdict, RefusalCause, Refused, Transaction,
    observed_at_mail,
};
use waypost_inbound::Source;
use waypost_milter::{Actions, Gathered, MailClient, Modification, Response, TooLarge};
use waypost_mime::HeaderText;
use waypost_net::milter::MilterClient;
use waypost_queue::Body;
use waypost_smtp::end_of_data::stuff;
use waypost_types::{
    Changes, HeaderBlock, ListenerRole, Mailbox, QueueId, Recipient, Reply, ReversePath,
};

use super::changed::{Changed, changed};
use super::notice::notice;
use super::{MilterSettings, RecipientsAtOnce};
use crate::asking::{Asking, Decided};
use crate::core::Core;
use crate::front::requests;
use crate::in_force::InForce;
use crate::log;
use crate::metrics::{At, Reason};
use crate::senders_told::digests;
use crate::session::{Draft, Noted, Of, edited, own_postmaster, without_forged_results};

/// One connection.
pub(super) struct Judge {
    core: Arc<Core>,
    settings: Arc<MilterSettings>,
    /// Whether bodies are sent.
    has_bodies: bool,
    open: Option<Open>,
}

/// A transaction between MAIL and its end.
pub(super) struct Open {
    /// The policy that was in force at MAIL (A12).
    pub(super) policy: Arc<InForce>,
    pub(super) transaction: Transaction,
    text: HeaderText,
    tls: Option<String>,
    recipients: Vec<Recipient>,
    /// The recipients as the mail server writes them, in the same order.
    written: Vec<Box<str>>,
    observed: Vec<Observation>,
    filter: Option<MilterClient>,
    /// The listener that the client came to, as far as it is known.
    listener: Option<Box<str>>,
    /// What the recipients were told, if envelopes are recorded.
    noted: Option<Noted>,
}

/// Who wants what of whom, as far as it is known when something is refused.
#[derive(Clone, Copy, Debug, Default)]
struct Who<'a> {
    client: Option<IpAddr>,
    sender: Option<&'a ReversePath>,
    recipient: Option<&'a Mailbox>,
}

/// Details that are kept for the explanation of a message.
const OBSERVED: usize = 64;

impl Judge {
    pub(super) fn new(core: Arc<Core>, settings: Arc<MilterSettings>, has_bodies: bool) -> Self {
        Self { core, settings, has_bodies, open: None }
    }

    /// Whether a transaction is open that has a recipient.
    pub(super) fn is_in_message(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.recipients.is_empty())
    }

    pub(super) fn mail(
        &mut self,
        client: &MailClient,
        from: &str,
        parameters: &[Box<str>],
    ) -> Response {
        self.forget();
        match self.begin(client, from, parameters) {
            Ok(open) => {
                self.open = Some(open);
                Response::Continue
            }
            Err(reply) => self.refused(reply),
        }
    }

    fn begin(
        &self,
        client: &MailClient,
        from: &str,
        parameters: &[Box<str>],
    ) -> Result<Open, Reply> {
        let policy = self.core.policy();
        if needs_body(&policy) && !self.has_bodies {
            // Agreed upon before a reload: the next connection is asked for bodies.
            tracing::info!("the configuration in force needs bodies; this session has none");
            let text = "The configuration has changed; try again in a new session";
            return Err(Reply::new(421, (4, 3, 2), text));
        }
        let from = sender(from);
        let role = self.role(&policy)?;
        let session = session(&policy, client, role).map_err(|reply| {
            let known = Who { client: client.ip, sender: from.as_ref().ok(), recipient: None };
            let why = (At::Mail, Reason::DirectoryUnavailable);
            self.note(known, why, reply, "the directory cannot answer")
        })?;
        let known = Who { client: Some(session.client_ip), ..Who::default() };
        let from = from.map_err(|reply| {
            let because = reply.text().to_owned();
            self.note(known, (At::Mail, Reason::Other), reply, &because)
        })?;
        let listener = self.listener(&policy, client);
        let tried = policy.at_mail(&session, &from);
        let observed = observed_at_mail(tried.as_ref());
        self.observe(session.client_ip, &from, &observed);
        let transaction = tried.map_err(|refusal| {
            let (known, why) =
                (Who { sender: Some(&from), ..known }, (At::Mail, refusal.because.into()));
            let of = Of {
                session: &session,
                listener: listener.as_deref(),
                sender: &from,
                policy: &policy,
            };
            Draft::refused_mail(&self.core, of, &refusal.reply);
            self.note(known, why, refusal.reply.clone(), &refusal.to_string())
        })?;
        let utf8 = parameters.iter().any(|one| one.eq_ignore_ascii_case("SMTPUTF8"));
        let tls = client.tls.as_deref();
        Ok(Open {
            policy,
            transaction,
            text: if utf8 { HeaderText::Utf8 } else { HeaderText::Ascii },
            tls: tls.map(|tls| format!("{tls} {}", client.cipher.as_deref().unwrap_or_default())),
            recipients: Vec::new(),
            written: Vec::new(),
            observed,
            filter: self.core.filter.client(),
            listener,
            noted: Noted::of(&self.core),
        })
    }

    /// The name of the listener that a client came to: that of its port, or that of `--listener`.
    fn listener(&self, policy: &Policy, client: &MailClient) -> Option<Box<str>> {
        let is_one = |name: &str| policy.server.listeners.iter().any(|one| *one.name == *name);
        let port = client.port_name.as_ref().filter(|name| is_one(name));
        port.or(self.settings.listener.as_ref()).cloned()
    }

    /// The open transaction, if there is one, ends without a message.
    fn forget(&mut self) {
        let Some(open) = self.open.take() else { return };
        if open.noted.as_ref().is_some_and(Noted::has_refused) {
            drop(open.draft(&self.core, &HeaderBlock::of(b"")));
        }
    }

    /// The role of a port whose name is that of no listener.
    fn role(&self, policy: &Policy) -> Result<ListenerRole, Reply> {
        let Some(name) = &self.settings.listener else { return Ok(ListenerRole::Both) };
        let found = policy.server.listeners.iter().find(|one| one.name == *name);
        found.map(|listener| listener.role).ok_or_else(|| {
            let reply = Reply::new(451, (4, 3, 5), "Server configuration error");
            let because = format!("--listener {name} names no [[listener]] of the configuration");
            self.note(Who::default(), (At::Mail, Reason::Other), reply, &because)
        })
    }

    pub(super) fn rcpt(&mut self, to: &str) -> Response {
        let Some(mut open) = self.open.take() else {
            // MAIL was refused, and the mail server goes on all the same.
            return self.refused(Reply::new(
                503,
                (5, 5, 1),
                "There is no transaction; send MAIL first",
            ));
        };
        let judged = self.recipient(&mut open, to);
        self.open = Some(open);
        match judged {
            Ok(()) => Response::Continue,
            Err(reply) => self.refused(reply),
        }
    }

    fn recipient(&self, open: &mut Open, to: &str) -> Result<(), Reply> {
        let known = Who::of(&open.transaction);
        let address = recipient(&open.policy, to).map_err(|reply| {
            let because = reply.text().to_owned();
            self.note(known, (At::Rcpt, Reason::Other), reply, &because)
        })?;
        let address = own_postmaster(&open.policy, &address).unwrap_or(address);
        let taken = self.taken(open, &address, to);
        if let Some(noted) = &mut open.noted {
            noted.note(address, taken.as_ref().err().cloned());
        }
        taken
    }

    fn taken(&self, open: &mut Open, address: &Mailbox, to: &str) -> Result<(), Reply> {
        let known = Who::of(&open.transaction).to(address);
        let standing = open.recipients.len();
        if self.settings.recipients_at_once == RecipientsAtOnce::One && standing > 0 {
            let reply =
                Reply::new(452, (4, 5, 3), "One recipient at a time; send to the others next");
            let why = (At::Rcpt, RefusalCause::RecipientLimit.into());
            return Err(self.note(known, why, reply, "--one-recipient"));
        }
        let one = Recipient::from(address.clone());
        let mut observed = Vec::new();
        let verdict =
            open.policy.at_rcpt_observing(&open.transaction, &one, standing, &mut observed);
        let Transaction { session, sender, .. } = &open.transaction;
        self.observe(session.client_ip, sender, &observed);
        let room = OBSERVED.saturating_sub(open.observed.len());
        open.observed.extend(observed.into_iter().take(room));
        match verdict {
            RcptVerdict::Accept { .. } => {
                open.recipients.push(one);
                open.written.push(to.into());
                Ok(())
            }
            RcptVerdict::Refuse(refused) => {
                let why = (At::Rcpt, refused.cause.into());
                Err(self.note(known, why, refused.reply, &refused.because))
            }
        }
    }

    /// What becomes of a message: changes, and last what is done with it.
    pub(super) async fn message(&mut self, message: Gathered, may: Actions) -> Vec<Response> {
        let Some(open) = self.open.take() else {
            let reply = Reply::new(503, (5, 5, 1), "There is no transaction; send MAIL first");
            return vec![self.refused(reply)];
        };
        let mut record = None;
        let (reply, answers) = match self.judged(&open, message, may, &mut record).await {
            Ok(answers) => (Reply::new(250, (2, 0, 0), "The mail server takes it"), answers),
            Err(reply) => (reply.clone(), vec![self.refused(reply)]),
        };
        if let Some(record) = &mut record {
            record.answered(&reply);
        }
        answers
    }

    async fn judged(
        &self,
        open: &Open,
        message: Gathered,
        may: Actions,
        record: &mut Option<Draft>,
    ) -> Result<Vec<Response>, Reply> {
        let Open { policy, transaction, recipients, .. } = open;
        let (client, from) = (transaction.session.client_ip, &transaction.sender);
        let known = Who::of(transaction);
        if let Some(too_large) = message.too_large {
            let limits = &policy.server.limits;
            let (text, reason) = match too_large {
                TooLarge::Header => {
                    let text = format!("The header is larger than {} octets", limits.header_size);
                    (text, Reason::HeaderTooLarge)
                }
                TooLarge::Body => {
                    let text = format!("The message is larger than {} octets", limits.message_size);
                    (text, Reason::MessageTooLarge)
                }
            };
            let reply = Reply::new(552, (5, 3, 4), &text);
            return Err(self.note(known, (At::Data, reason), reply, &text));
        }
        let queue_id = message.queue_id.clone();
        let body = whole(message);
        let id = self.core.spool.next_id();
        *record = open.draft(&self.core, &HeaderBlock::of(&body));
        let asking = Asking {
            core: &self.core,
            session: &transaction.session,
            tls: open.tls.as_deref(),
            policy,
            transaction,
            recipients,
            filter: open.filter.as_ref(),
        };
        let Decided { decision, authentication, filter } = asking.decided(&body, id).await;
        if let Some(record) = record {
            record.filtered(&filter, policy.server.filter.as_ref());
            record.authenticated(authentication.unwrap_or_default());
            record.decided(&decision);
        }
        self.observe(client, from, &decision.observations);
        let plan = MilterPlan::of(&decision, from, recipients, may);
        if let MilterVerdict::Refuse(reply, because) = &plan.verdict {
            let why = (At::Data, decision.refused_for().map_or(Reason::Rule, Reason::from));
            return Err(self.note(known, why, reply.clone(), because));
        }
        let Changed { mut answers, left, removed } =
            self.changed(open, body.clone(), &decision, plan.changes.clone(), may).await?;
        // Last of all that may end in a 4yz: who is told is told for good.
        self.tell_refused(open, &decision, &plan.refused, &body, id).await?;
        for attachment in removed.iter().take(20) {
            tracing::info!(
                queue_id = queue_id.as_deref(),
                name = attachment.name.as_deref(),
                r#type = attachment.media,
                size = attachment.size,
                "attachment removed"
            );
        }
        let edits = answers.len();
        answers.extend(self.envelope(open, &plan));
        let view = decision.organizations.first();
        let source = view.map_or_else(|| Source::of_client(client), |view| view.source);
        if view.is_some_and(|view| view.gateway.is_some()) {
            self.core.metrics.source(source.because);
        }
        let (last, answer, because) = match &plan.verdict {
            MilterVerdict::Discard => (Response::Discard, "discarded", ""),
            MilterVerdict::Quarantine(reason) => {
                answers.push(Response::Modify(Modification::Quarantine(reason.clone())));
                (Response::Continue, "held", &**reason)
            }
            _ => (Response::Continue, "accepted", ""),
        };
        answers.push(last);
        if let Some(record) = record {
            record.queued_elsewhere(id, queue_id.as_deref());
        }
        requests::count(&self.core.metrics.front, "milter", answer);
        tracing::info!(
            queue_id = queue_id.as_deref(), %client, source = source.ip.as_ref().map(tracing::field::display),
            source_because = source.because.as_str(), sender = %from, recipients = recipients.len(),
            edits, added = plan.add.len(), deleted = plan.delete.len(), because, answer, "judged"
        );
        for what in left.iter().chain(&plan.unfollowed) {
            tracing::warn!(queue_id = queue_id.as_deref(), %what, "not followed as serve does");
        }
        Ok(answers)
    }

    /// Changes to the message. Looking for attachments takes time by its size, so it is done off the async
    /// workers.
    async fn changed(
        &self,
        open: &Open,
        body: Body,
        decision: &Decision,
        changes: Changes,
        may: Actions,
    ) -> Result<Changed, Reply> {
        let Open { policy, transaction, recipients, text, .. } = open;
        let after = edited(decision, body.clone());
        let after = without_forged_results(policy, transaction, recipients, after);
        let (text, decision) = (*text, decision.clone());
        let work = move || changed(&body, &after, &decision, &changes, text, may);
        tokio::task::spawn_blocking(work).await.map_err(|error| {
            tracing::error!(%error, "changing a message failed");
            Reply::new(451, (4, 3, 0), "The message cannot be changed now; try again later")
        })
    }

    /// Sender and recipients. Those to be taken out are named as the mail server names them.
    fn envelope(&self, open: &Open, plan: &MilterPlan) -> Vec<Response> {
        let mut answers = Vec::new();
        if let Some(sender) = &plan.sender {
            let address = match sender {
                ReversePath::Null => "<>".into(),
                ReversePath::Mailbox(mailbox) => format!("<{mailbox}>").into(),
            };
            let modification = Modification::ChangeSender { address, parameters: Box::default() };
            answers.push(Response::Modify(modification));
        }
        for to in &plan.add {
            let address = format!("<{to}>").into();
            let modification = Modification::AddRecipient { address, parameters: None };
            answers.push(Response::Modify(modification));
        }
        let named = open.recipients.iter().zip(&open.written);
        for (_, written) in named.filter(|(one, _)| plan.delete.contains(&one.address)) {
            let address = format!("<{written}>").into();
            answers.push(Response::Modify(Modification::DeleteRecipient(address)));
        }
        answers
    }

    /// Recipients refused while others are not: the mail server can only leave them out, so the sender's
    /// notice goes out from here. It is in the queue before the mail server has its answer, so that none is lost; where
    /// the same message is told again, since its client or the mail server did not hear of that, there is no second
    /// one.
    async fn tell_refused(
        &self,
        open: &Open,
        decision: &Decision,
        refused: &[Refused],
        body: &Body,
        id: QueueId,
    ) -> Result<(), Reply> {
        let transaction = &open.transaction;
        for one in refused {
            let known = Who::of(transaction).to(&one.recipient);
            self.note(known, (At::Data, one.cause.into()), one.reply.clone(), &one.because);
        }
        let sender = match &transaction.admission {
            Some(admission) => &admission.sender,
            None => &transaction.sender,
        };
        if refused.is_empty() || sender.is_null() {
            return Ok(());
        }
        let entry = notice(&self.core, open, decision, (sender, refused), (body, id));
        let stored = if self.is_known_again(body) {
            let to = refused.iter().map(|one| &one.recipient);
            let about = digests(&self.core.draw_key, sender, body, to);
            let told = self.core.tell_sender(entry, body.clone(), about).await;
            told.map(|told| {
                if told < refused.len() {
                    let before = refused.len() - told;
                    tracing::info!(%id, %sender, before, "the sender was told before");
                }
            })
        } else {
            self.core.store(entry, body.clone(), None).await
        };
        stored.map_err(|error| {
            let text = "The sender cannot be told of a refused recipient now; try again later";
            let reply = Reply::new(451, (4, 3, 0), text);
            let why = (At::Data, Reason::StoreFailed);
            self.note(Who::of(transaction), why, reply, &error.to_string())
        })
    }

    /// Whether another message cannot be mistaken for this one. Without bodies, and without a field that
    /// tells it apart, one header may be that of many.
    fn is_known_again(&self, message: &Body) -> bool {
        self.has_bodies || HeaderBlock::of(message).first("Message-ID").is_some()
    }

    /// The answer that refuses.
    fn refused(&self, reply: Reply) -> Response {
        let answer = if reply.code() < 500 { "later" } else { "refused" };
        requests::count(&self.core.metrics.front, "milter", answer);
        Response::Reply(reply)
    }

    fn observe(&self, client: IpAddr, sender: &ReversePath, observations: &[Observation]) {
        for what in observations {
            self.core.metrics.observed.count(what);
            log::Observed { client, proxy: None, id: None, sender, what }.write();
        }
    }

    /// Counts and logs a refusal; hands its reply back.
    fn note(
        &self,
        Who { client, sender, recipient }: Who<'_>,
        (at, reason): (At, Reason),
        reply: Reply,
        because: &str,
    ) -> Reply {
        self.core.metrics.refused(at, &reply, reason);
        let client = client.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let (proxy, answer, because) = (None, &reply, &because);
        log::Refused { at, reason, client, proxy, sender, recipient, reply: answer, because }
            .write();
        reply
    }
}

impl Open {
    /// A line of the record for this transaction, if envelopes are recorded.
    fn draft(&self, core: &Arc<Core>, header: &HeaderBlock<'_>) -> Option<Draft> {
        let of = Of {
            session: &self.transaction.session,
            listener: self.listener.as_deref(),
            sender: &self.transaction.sender,
            policy: &self.policy,
        };
        Draft::of_transaction(core, of, self.noted.as_ref()?, header)
    }
}

impl Drop for Judge {
    /// The mail server has gone away.
    fn drop(&mut self) {
        self.forget();
    }
}

impl<'a> Who<'a> {
    fn of(transaction: &'a Transaction) -> Self {
        let (client, sender) = (transaction.session.client_ip, &transaction.sender);
        Self { client: Some(client), sender: Some(sender), recipient: None }
    }

    fn to(self, recipient: &'a Mailbox) -> Self {
        Self { recipient: Some(recipient), ..self }
    }
}

/// The message as a session of `serve` has it: whole lines, dot-stuffed.
fn whole(message: Gathered) -> Body {
    let Gathered { mut header, body, .. } = message;
    header.extend_from_slice(b"\r\n");
    header.extend_from_slice(&body);
    if !header.ends_with(b"\n") {
        header.extend_from_slice(b"\r\n");
    }
    // A field's name may begin with a dot.
    Body::from(stuff(&header).into_owned())
}
