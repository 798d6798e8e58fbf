//! One SMTP session: the client's commands put to the policy, quotas and spool.

use std::sync::{Arc, PoisonError};

use waypost_config::policy::{
    DataReply, Decision, Explanation, Policy, RcptVerdict, Transaction, mail_accepted,
    rcpt_accepted,
};
use waypost_queue::{Body, Entry, Hold, Owed};
use waypost_relay as relay;
use waypost_smtp::end_of_data::Data;
use waypost_types::{
    HeaderBlock, ListenerRole, MailParameters, Mailbox, QueueId, Recipient, Reply, ReversePath,
    Session, TlsState,
};

use crate::core::Core;
use crate::trace::Trace;

/// One client's session with the application behind it.
///
/// The policy is taken at MAIL and kept for the transaction, so a reload in between changes nothing
/// half-way (A12).
pub(crate) struct SessionState {
    core: Arc<Core>,
    session: Session,
    extended: bool,
    tls: Option<String>,
    open: Option<Open>,
}

/// A transaction between MAIL and its end.
struct Open {
    policy: Arc<Policy>,
    transaction: Transaction,
    parameters: MailParameters,
    recipients: Vec<Recipient>,
    /// Reservations; dropped, they are given back.
    quota: Option<relay::Transaction>,
}

impl SessionState {
    pub(crate) fn new(core: Arc<Core>, client_ip: std::net::IpAddr, role: ListenerRole) -> Self {
        let session = Session {
            client_ip: client_ip.to_canonical(),
            role,
            helo: None,
            auth: None,
            tls: TlsState::Clear,
        };
        Self { core, session, extended: false, tls: None, open: None }
    }

    /// TLS began: all that was said before is forgotten.
    pub(crate) fn encrypted(&mut self, description: Option<String>) {
        self.open = None;
        self.session.tls = TlsState::Encrypted;
        self.session.helo = None;
        self.session.auth = None;
        self.tls = description;
    }

    pub(crate) fn hello(&mut self, name: &str, extended: bool) {
        self.open = None;
        self.session.helo = Some(name.into());
        self.extended = extended;
    }

    pub(crate) fn authenticated(&mut self, user: &Mailbox) {
        self.session.auth = Some(user.clone());
    }

    pub(crate) fn client_ip(&self) -> std::net::IpAddr {
        self.session.client_ip
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn reset(&mut self) {
        self.open = None;
    }

    pub(crate) fn mail(
        &mut self,
        sender: &ReversePath,
        parameters: MailParameters,
        size: Option<u64>,
    ) -> Reply {
        if let Some(refusal) = self.no_room(size) {
            return refusal;
        }
        let policy = self.core.policy();
        let transaction = match policy.at_mail(&self.session, sender) {
            Ok(transaction) => transaction,
            Err(refusal) => {
                self.core.counters.refused(&refusal.reply);
                tracing::info!(
                    client = %self.session.client_ip, %sender, reply = %refusal.reply,
                    because = %refusal.because, "MAIL refused"
                );
                return refusal.reply;
            }
        };
        let quota = transaction.admission.as_ref().map(|admission| {
            self.core.ledger().begin(admission.quota.clone())
        });
        self.open = Some(Open { policy, transaction, parameters, recipients: Vec::new(), quota });
        mail_accepted()
    }

    fn no_room(&self, size: Option<u64>) -> Option<Reply> {
        let error = self.core.spool.room().err()?;
        tracing::warn!(%error, ?size, "intake waits");
        Some(Reply::new(452, (4, 3, 1), "The queue is full; try again later"))
    }

    pub(crate) fn rcpt(&mut self, recipient: Recipient) -> Reply {
        let Some(open) = &mut self.open else { return no_transaction() };
        let verdict = open.policy.at_rcpt(&open.transaction, &recipient, open.recipients.len());
        match verdict {
            RcptVerdict::Accept { observed } => {
                if let Some(would) = observed {
                    tracing::info!(recipient = %recipient.address, %would, "only observed");
                }
            }
            RcptVerdict::Refuse(refused) => {
                self.core.counters.refused(&refused.reply);
                tracing::info!(
                    client = %self.session.client_ip, recipient = %refused.recipient,
                    reply = %refused.reply, because = %refused.because, "RCPT refused"
                );
                return refused.reply;
            }
        }
        if let Some(quota) = &mut open.quota {
            let now = self.core.clock.now();
            match self.core.ledger().reserve(now, quota, &recipient.address) {
                Ok(reservation) => {
                    if let Some(would) = reservation.would_refuse {
                        tracing::info!(recipient = %recipient.address, %would, "only observed");
                    }
                }
                Err(refusal) => {
                    let reply = refusal.reply();
                    self.core.counters.refused(&reply);
                    tracing::info!(
                        client = %self.session.client_ip, recipient = %recipient.address,
                        %reply, because = %refusal, "RCPT over the limit"
                    );
                    return reply;
                }
            }
        }
        open.recipients.push(recipient);
        rcpt_accepted()
    }

    pub(crate) async fn message(&mut self, data: Data) -> Reply {
        let Some(open) = self.open.take() else { return no_transaction() };
        let body = Body::from(data.stuffed);
        let header = HeaderBlock::of(&body);
        let limit = open.policy.server.limits.header_size;
        if u64::try_from(header.as_bytes().len()).unwrap_or(u64::MAX) > limit {
            let text = format!("The header is larger than {limit} octets");
            return Reply::new(552, (5, 3, 4), &text);
        }
        let decision = open.policy.at_data(&open.transaction, &open.recipients, &header);
        if let DataReply::Refuse(reply) = &decision.reply {
            self.core.counters.refused(reply);
            tracing::info!(
                client = %self.session.client_ip, sender = %open.transaction.sender, %reply,
                "message refused"
            );
            return reply.clone();
        }
        let id = self.core.spool.next_id();
        let entry = self.entry(id, &open, &decision, &body, header.body_offset());
        let core = Arc::clone(&self.core);
        // A task of its own: a client that goes away must not leave a message half accepted.
        let stored = tokio::spawn(async move { core.store(entry, body, open.quota).await });
        match stored.await {
            Ok(Ok(())) => {
                self.core.counters.accepted();
                Reply::new(250, (2, 0, 0), &format!("Accepted as {id}"))
            }
            Ok(Err(error)) => {
                tracing::error!(%id, %error, "a message cannot be stored");
                Reply::new(451, (4, 3, 0), "The message cannot be stored now; try again later")
            }
            Err(error) => {
                tracing::error!(%id, %error, "storing a message failed");
                Reply::new(451, (4, 3, 0), "The message cannot be stored now; try again later")
            }
        }
    }

    fn entry(
        &self,
        id: QueueId,
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
            session: &self.session,
            extended: self.extended,
            smtputf8: open.parameters.smtputf8,
            tls: self.tls.as_deref(),
            by: &open.policy.server.hostname,
            id,
            only_recipient,
            at: now,
        };
        let delivered = decision.deliveries.iter().map(|one| Owed::from(one.delivery.clone()));
        let kept = decision.quarantined.iter().flat_map(|kept| {
            kept.deliveries.iter().map(|one| Owed {
                delivery: one.delivery.clone(),
                hold: Some(Hold::Quarantine {
                    name: kept.quarantine.clone(),
                    because: kept.because.clone(),
                }),
            })
        });
        let explanation = Explanation::of(&open.policy, decision);
        Entry {
            id,
            accepted_at: now,
            sender: open.transaction.sender.clone(),
            parameters: open.parameters.clone(),
            client: format!(
                "{} [{}]",
                self.session.helo.as_deref().unwrap_or("?"),
                self.session.client_ip
            )
            .into(),
            trace: trace.line().into(),
            deliveries: delivered.chain(kept).collect(),
            decision: serde_json::to_string(&explanation).unwrap_or_default().into(),
            size: u64::try_from(body.len()).unwrap_or(u64::MAX),
            header_size: u64::try_from(header_size).unwrap_or(u64::MAX),
        }
    }
}

fn no_transaction() -> Reply {
    Reply::new(503, (5, 5, 1), "There is no transaction; send MAIL first")
}

impl Core {
    /// Stores a message and what it counts for, in one record; the ledger follows when it is safe.
    async fn store(
        &self,
        entry: Entry,
        body: Body,
        quota: Option<relay::Transaction>,
    ) -> Result<(), waypost_store::CommitError> {
        let at = self.clock.now();
        let counted = quota.as_ref().filter(|quota| !quota.recipients().is_empty()).map(|quota| {
            waypost_queue::QuotaCommit {
                at,
                organization: (*quota.subject().organization).into(),
                user: quota.subject().user.clone(),
                recipients: quota.recipients().to_vec(),
            }
        });
        self.spool.accept(entry, body, counted.into_iter().collect()).await?;
        if let Some(quota) = quota {
            let _ = self.ledger.lock().unwrap_or_else(PoisonError::into_inner).commit(at, quota);
        }
        Ok(())
    }
}
