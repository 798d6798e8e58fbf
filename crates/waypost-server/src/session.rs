//! One SMTP session: the client's commands put to the policy, quotas and spool.

use std::io;
use std::sync::Arc;

use waypost_config::policy::{
    DataReply, Decision, Explanation, Policy, RcptVerdict, Refused, Transaction,
};
use waypost_net::server::{Handler, Mail, SharedLimits, TlsFacts, is_generic_hello};
use waypost_queue::{Body, Entry, Hold, Owed};
use waypost_relay as relay;
use waypost_smtp::end_of_data::Data;
use waypost_smtp::server::{CloseCause, Credentials, HelloKind, ResetCause};
use waypost_types::{
    Changes, Delivery, Destination, HeaderBlock, MailParameters, Mailbox, QueueId, Recipient,
    Reply, Session, TlsDemand,
};

use crate::core::Core;
use crate::room::{SMALL, Share};
use crate::spool::NoRoom;
use crate::trace::Trace;

/// One client's commands, put to the policy, the quotas and the spool.
///
/// The policy is taken at MAIL and kept for the transaction, so a reload in between changes nothing
/// half-way (A12).
pub(crate) struct SmtpHandler {
    core: Arc<Core>,
    limits: SharedLimits,
    extended: bool,
    tls: Option<String>,
    open: Option<Open>,
}

/// A transaction between MAIL and its end.
struct Open {
    policy: Arc<Policy>,
    transaction: Transaction,
    parameters: MailParameters,
    /// `SIZE=` of MAIL.
    size: Option<u64>,
    /// Its room in memory, from DATA until it is committed.
    share: Option<Share>,
    recipients: Vec<Recipient>,
    /// Reservations; dropped, they are given back.
    quota: Option<relay::Transaction>,
}

impl Handler for SmtpHandler {
    async fn tls(&mut self, _session: &Session, facts: TlsFacts) {
        self.open = None;
        self.tls = Some(format!("{} {}", facts.version, facts.cipher));
    }

    async fn tls_failed(&mut self, session: &Session, error: &io::Error) {
        tracing::debug!(client = %session.client_ip, %error, "TLS handshake failed");
    }

    async fn hello(&mut self, session: &Session, kind: HelloKind, name: &str) -> Result<(), Reply> {
        self.open = None;
        self.extended = kind == HelloKind::Ehlo;
        let policy = self.core.policy();
        if is_generic_hello(name, &policy.server.hostname) {
            tracing::info!(client = %session.client_ip, name, "generic HELO name (D15)");
            let now = self.core.clock.now();
            let counted = self.limits.lock().generic_hello(now, session.client_ip);
            counted.map_err(|refusal| refusal.reply())?;
        }
        Ok(())
    }

    async fn auth(
        &mut self,
        session: &Session,
        credentials: Credentials,
    ) -> Result<Mailbox, Reply> {
        let found = self.core.authenticate(credentials).await;
        if let Err(reply) = &found {
            self.core.counters.refused(reply);
            tracing::info!(client = %session.client_ip, %reply, "AUTH refused");
        }
        found
    }

    async fn mail(&mut self, session: &Session, mail: Mail) -> Result<(), Reply> {
        self.begin(session, mail)
    }

    async fn rcpt(&mut self, session: &Session, recipient: Recipient) -> Result<(), Reply> {
        self.add(session, recipient)
    }

    async fn data(&mut self, session: &Session) -> Result<(), Reply> {
        self.make_room(session).await
    }

    async fn room(&mut self, session: &Session, octets: u64) -> Option<u64> {
        self.more_room(session, octets).await
    }

    async fn message(&mut self, session: &Session, data: Data) -> Reply {
        self.take(session, data).await
    }

    async fn reset(&mut self, _session: &Session, _cause: ResetCause) {
        self.open = None;
    }

    async fn closed(&mut self, _session: &Session, _cause: CloseCause) {
        self.open = None;
    }
}

impl SmtpHandler {
    pub(crate) fn new(core: Arc<Core>, limits: SharedLimits) -> Self {
        Self { core, limits, extended: false, tls: None, open: None }
    }

    fn begin(&mut self, session: &Session, mail: Mail) -> Result<(), Reply> {
        let Mail { sender, parameters, size } = mail;
        let policy = self.core.policy();
        if let Some(refusal) = self.no_room(session, &policy) {
            return Err(refusal);
        }
        let transaction = match policy.at_mail(session, &sender) {
            Ok(transaction) => transaction,
            Err(refusal) => {
                self.core.counters.refused(&refusal.reply);
                tracing::info!(
                    client = %session.client_ip, %sender, reply = %refusal.reply,
                    because = ?refusal.because, "MAIL refused"
                );
                return Err(refusal.reply);
            }
        };
        let quota = transaction
            .admission
            .as_ref()
            .map(|admission| self.core.ledger().begin(admission.quota.clone()));
        self.open = Some(Open {
            policy,
            transaction,
            parameters,
            size,
            share: None,
            recipients: Vec::new(),
            quota,
        });
        Ok(())
    }

    fn no_room(&self, session: &Session, policy: &Policy) -> Option<Reply> {
        let error = self.core.spool.room(policy.server.limits.message_size).err()?;
        Some(self.full(session, &error))
    }

    fn full(&self, session: &Session, error: &NoRoom) -> Reply {
        tracing::warn!(client = %session.client_ip, %error, "intake waits");
        let text = match error {
            NoRoom::Queue(_) => "The queue is full; try again later",
            NoRoom::Disk { .. } => "The disk of the queue is full; try again later",
            NoRoom::Store => "The disk of the queue failed; try again later",
        };
        Reply::new(452, (4, 3, 1), text)
    }

    /// Room in memory for the message that DATA announces: for its `SIZE` and the dots of stuffing, or for a
    /// small one.
    async fn make_room(&mut self, session: &Session) -> Result<(), Reply> {
        let Some(open) = &mut self.open else { return Err(no_transaction()) };
        let octets = open.size.map_or(SMALL, |size| size.saturating_add(size / 64).max(1 << 10));
        open.share = self.core.spool.intake().share(octets).await;
        if open.share.is_some() {
            return Ok(());
        }
        tracing::warn!(client = %session.client_ip, octets, "no room in memory for a message");
        let text = "Too many large messages are on their way; try again in a minute";
        Err(Reply::new(452, (4, 3, 1), text))
    }

    /// A message of unknown size that is not small, or one that is larger than it said, gets the room of
    /// the largest.
    async fn more_room(&mut self, session: &Session, octets: u64) -> Option<u64> {
        let open = self.open.as_mut()?;
        let share = open.share.as_mut()?;
        if octets <= share.octets() {
            return Some(share.octets());
        }
        let limit = open.policy.server.limits.message_size;
        if self.core.spool.intake().grow(share, limit).await {
            return Some(u64::MAX);
        }
        open.share = None;
        tracing::warn!(client = %session.client_ip, octets, "no room in memory for a message");
        None
    }

    fn add(&mut self, session: &Session, mut recipient: Recipient) -> Result<(), Reply> {
        let Some(open) = &mut self.open else { return Err(no_transaction()) };
        if let Some(postmaster) = own_postmaster(&open.policy, &recipient.address) {
            recipient.address = postmaster;
        }
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
                    client = %session.client_ip, recipient = %refused.recipient,
                    reply = %refused.reply, because = %refused.because, "RCPT refused"
                );
                return Err(refused.reply);
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
                        client = %session.client_ip, recipient = %recipient.address,
                        %reply, because = %refusal, "RCPT over the limit"
                    );
                    return Err(reply);
                }
            }
        }
        open.recipients.push(recipient);
        Ok(())
    }

    async fn take(&mut self, session: &Session, data: Data) -> Reply {
        let Some(mut open) = self.open.take() else { return no_transaction() };
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
                client = %session.client_ip, sender = %open.transaction.sender, %reply,
                "message refused"
            );
            return reply.clone();
        }
        if let Err(error) = self.core.spool.space(u64::try_from(body.len()).unwrap_or(u64::MAX)) {
            return self.full(session, &error);
        }
        if let Some(quota) = &mut open.quota {
            // Refused mail never counts (D13).
            let now = self.core.clock.now();
            for refused in &decision.refusals {
                self.core.ledger().release_recipient(now, quota, &refused.recipient);
            }
        }
        let id = self.core.spool.next_id();
        let entry = self.entry(id, session, &open, &decision, &body);
        let core = Arc::clone(&self.core);
        // A task of its own: a client that goes away must not leave a message half accepted.
        let (share, quota) = (open.share.take(), open.quota);
        let stored = tokio::spawn(async move {
            let stored = core.store(entry, body, quota).await;
            drop(share);
            stored
        });
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
        session: &Session,
        open: &Open,
        decision: &Decision,
        body: &Body,
    ) -> Entry {
        let header_size = HeaderBlock::of(body).body_offset();
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
        let told = decision.refusals.iter().filter_map(|refused| refused_after_data(open, refused));
        let explanation = Explanation::of(&open.policy, decision);
        Entry {
            id,
            accepted_at: now,
            sender: open.transaction.sender.clone(),
            parameters: open.parameters.clone(),
            client: format!("{} [{}]", session.helo.as_deref().unwrap_or("?"), session.client_ip)
                .into(),
            trace: trace.line().into(),
            deliveries: delivered.chain(kept).chain(told).collect(),
            decision: serde_json::to_string(&explanation).unwrap_or_default().into(),
            size: u64::try_from(body.len()).unwrap_or(u64::MAX),
            header_size: u64::try_from(header_size).unwrap_or(u64::MAX),
        }
    }
}

/// The postmaster of this server, also meant by `<Postmaster>` alone (RFC 5321 section 4.5.1), where our
/// name is no domain that receives mail: the one of the verified domain that our name lies in, or else
/// of the first domain.
fn own_postmaster(policy: &Policy, recipient: &Mailbox) -> Option<Mailbox> {
    let hostname = &policy.server.hostname;
    let is_ours = recipient.local_part().eq_ignore_ascii_case("postmaster")
        && recipient.domain() == Some(hostname)
        && policy.receiving(recipient).is_none();
    let organizations = policy.organizations().iter();
    let mut domains = organizations.flat_map(|one| &one.domains).filter(|_| is_ours);
    let first = domains.clone().next();
    let domain = domains.find(|domain| hostname.is_at_or_below(domain)).or(first)?;
    Some(Mailbox::postmaster(domain.clone()))
}

/// A recipient that was refused while others were accepted: nothing is sent, the sender is told.
fn refused_after_data(open: &Open, refused: &Refused) -> Option<Owed> {
    let recipient = open.recipients.iter().find(|one| one.address == refused.recipient)?;
    let admission = open.transaction.admission.as_ref();
    let sender = admission.map_or(&open.transaction.sender, |admission| &admission.sender);
    Some(Owed::from(Delivery {
        recipient: recipient.address.clone(),
        original_recipient: recipient.address.clone(),
        sender: sender.clone(),
        destination: Destination::Refused { reply: refused.reply.clone() },
        tls: TlsDemand::default(),
        changes: Changes::default(),
        suppress_bounces: false,
        spam: false,
        notify: recipient.notify,
        orcpt: recipient.orcpt.clone(),
    }))
}

fn no_transaction() -> Reply {
    Reply::new(503, (5, 5, 1), "There is no transaction; send MAIL first")
}
