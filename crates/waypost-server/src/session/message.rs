//! A message after its final dot, in steps. Each takes what the one before it made, or ends with a reply.
//!
//! | step | makes | may refuse for |
//! | --- | --- | --- |
//! | [`SmtpHandler::received`] | [`Received`] | a large header |
//! | [`SmtpHandler::judged`] | [`Judged`], with policy, DNS and filter asked | what the policy says |
//! | [`SmtpHandler::edited`] | [`Edited`], as it is stored | a full disk |
//! | [`SmtpHandler::owed`] | [`Owing`]: what the queue is to hold | |
//! | [`SmtpHandler::stored`] | the `250` | a store that fails |

use std::fmt::Display;
use std::sync::Arc;

use waypost_config::policy::{DataReply, Decision};
use waypost_inbound::Source;
use waypost_queue::{Body, Entry};
use waypost_smtp::end_of_data::Data;
use waypost_types::{HeaderBlock, QueueId, Reply, ReversePath, Session};

use super::{Open, SmtpHandler, authentication, filter, no_transaction, note, record};
use crate::asking::{Asking, Decided};
use crate::log;
use crate::metrics::{At, Reason};
use crate::spool::framed;

/// A message as it came, with a header of a size that we read.
struct Received {
    open: Open,
    body: Body,
}

/// One that is taken for at least one recipient.
struct Judged {
    open: Open,
    body: Body,
    decision: Decision,
    id: QueueId,
}

/// One with what we change of it, for which the disk has room; places of refused recipients are given
/// back.
struct Edited(Judged);

/// What is stored and what is said of it.
struct Owing {
    open: Open,
    body: Body,
    entry: Entry,
    source: Source,
    behind_gateway: bool,
}

impl SmtpHandler {
    /// Takes the message of the open transaction, or refuses it.
    pub(super) async fn take(
        &mut self,
        session: &Session,
        data: Data,
        record: &mut Option<record::Draft>,
    ) -> Reply {
        let Some(open) = self.open.take() else { return no_transaction() };
        let (Ok(reply) | Err(reply)) = self.step_by_step(session, open, data, record).await;
        reply
    }

    async fn step_by_step(
        &self,
        session: &Session,
        open: Open,
        data: Data,
        record: &mut Option<record::Draft>,
    ) -> Result<Reply, Reply> {
        let received = self.received(session, open, data)?;
        *record = self.draft_of(&received.open, &HeaderBlock::of(&received.body));
        let judged = self.judged(session, received, record).await?;
        record.iter_mut().for_each(|record| record.decided(&judged.decision));
        let edited = self.edited(session, judged).await?;
        let owing = self.owed(session, edited).await;
        self.stored(session, owing, record).await
    }

    /// The message takes no more memory than it has octets.
    fn received(&self, session: &Session, mut open: Open, data: Data) -> Result<Received, Reply> {
        let body = Body::from(data.stuffed);
        if let Some(share) = &mut open.share {
            share.shrink(octets(&body));
        }
        let header = HeaderBlock::of(&body);
        let limit = open.policy.server.limits.header_size;
        if u64::try_from(header.as_bytes().len()).unwrap_or(u64::MAX) > limit {
            let text = format!("The header is larger than {limit} octets");
            let reply = Reply::new(552, (5, 3, 4), &text);
            let why = (At::Data, Reason::HeaderTooLarge);
            let (seen, sender) = (self.seen(session), Some(&open.transaction.sender));
            note(&self.core, seen, sender, None, why, &reply, &text);
            return Err(reply);
        }
        Ok(Received { open, body })
    }

    /// What the policy decides, with DNS and filter asked where it may matter.
    async fn judged(
        &self,
        session: &Session,
        received: Received,
        record: &mut Option<record::Draft>,
    ) -> Result<Judged, Reply> {
        let Received { open, body } = received;
        let id = self.core.spool.next_id();
        let decided = self.asking(session, &open).decided(&body, id).await;
        let Decided { decision, authentication, filter } = decided;
        if let Some(record) = record {
            record.filtered(&filter, open.policy.server.filter.as_ref());
            record.authenticated(authentication.unwrap_or_default());
        }
        self.not_refused_as_a_whole(session, &open, &decision)?;
        Ok(Judged { open, body, decision, id })
    }

    /// The message of a transaction, for others to be asked about.
    fn asking<'a>(&'a self, session: &'a Session, open: &'a Open) -> Asking<'a> {
        Asking {
            core: &self.core,
            session,
            tls: self.tls.as_deref(),
            policy: &open.policy,
            transaction: &open.transaction,
            recipients: &open.recipients,
            filter: open.filter.as_ref(),
        }
    }

    /// The message with the fields that the filter and we change.
    async fn edited(&self, session: &Session, judged: Judged) -> Result<Edited, Reply> {
        let Judged { mut open, body, decision, id } = judged;
        let body = filter::edited(&decision, body);
        let (policy, transaction) = (&open.policy, &open.transaction);
        let body =
            authentication::without_forged_results(policy, transaction, &open.recipients, body);
        if let Err(error) = self.core.spool.space(octets(&body)) {
            return Err(self.full(session, At::Data, &open.transaction.sender, &error));
        }
        if let Some(quota) = &mut open.quota {
            // Refused mail never counts (D13).
            let now = self.core.clock.now();
            for refused in &decision.refusals {
                self.core.quotas.release_recipient(now, quota, &refused.recipient).await;
            }
        }
        Ok(Edited(Judged { open, body, decision, id }))
    }

    /// What the queue is to hold; waits, not for long, while mail comes faster than it leaves.
    async fn owed(&self, session: &Session, edited: Edited) -> Owing {
        let Edited(Judged { open, body, decision, id }) = edited;
        let (seen, sender) = (self.seen(session), &open.transaction.sender);
        self.observe(seen, sender, Some(id), &decision.observations);
        let header_size = HeaderBlock::of(&body).body_offset();
        let entry = self.entry(id, session, &open, &decision, &body, header_size);
        // What waits takes no more than its octets: the buffer it was received into may be twice as large.
        let body = framed(body).await;
        self.core.spool.wait_for_room(&entry).await;
        let view = decision.organizations.first();
        let source = view.map_or_else(|| Source::of_client(session.client_ip), |view| view.source);
        let behind_gateway = view.is_some_and(|view| view.gateway.is_some());
        Owing { open, body, entry, source, behind_gateway }
    }

    /// The message is on disk, and ours, when this returns `Ok`.
    async fn stored(
        &self,
        session: &Session,
        owing: Owing,
        record: &mut Option<record::Draft>,
    ) -> Result<Reply, Reply> {
        let Owing { open, body, entry, source, behind_gateway } = owing;
        let Open { transaction, share, recipients, quota, .. } = open;
        let (id, size, deliveries) = (entry.id, octets(&body), entry.deliveries.len());
        let core = Arc::clone(&self.core);
        // A task of its own: a client that goes away must not leave a message half accepted.
        let storing = tokio::spawn(async move {
            let stored = core.store(entry, body, quota).await;
            drop(share);
            stored
        });
        let sender = &transaction.sender;
        match storing.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%id, %error, "a message cannot be stored");
                return Err(self.not_stored(session, sender, &error));
            }
            Err(error) => {
                tracing::error!(%id, %error, "storing a message failed");
                return Err(self.not_stored(session, sender, &error));
            }
        }
        record.iter_mut().for_each(|record| record.queued(id));
        self.on.accepted.inc();
        self.core.metrics.received(size);
        if behind_gateway {
            self.core.metrics.source(source.because);
        }
        log::Accepted {
            id,
            listener: &self.on.name,
            client: session.client_ip,
            proxy: self.proxy,
            source,
            sender,
            recipients: recipients.len(),
            deliveries,
            size: usize::try_from(size).unwrap_or(usize::MAX),
        }
        .write();
        Ok(Reply::new(250, (2, 0, 0), &format!("Accepted as {id}")))
    }

    /// # Errors
    /// The reply to a message that the policy refuses as a whole, counted and logged.
    fn not_refused_as_a_whole(
        &self,
        session: &Session,
        open: &Open,
        decision: &Decision,
    ) -> Result<(), Reply> {
        let DataReply::Refuse(reply) = &decision.reply else { return Ok(()) };
        let observations = &decision.observations;
        self.observe(self.seen(session), &open.transaction.sender, None, observations);
        let reason = decision.refused_for().map_or(Reason::Other, Reason::from);
        let because = decision.refusals.first().map_or("", |refused| &refused.because);
        let sender = Some(&open.transaction.sender);
        note(&self.core, self.seen(session), sender, None, (At::Data, reason), reply, &because);
        Err(reply.clone())
    }

    fn not_stored(&self, session: &Session, sender: &ReversePath, error: &dyn Display) -> Reply {
        let text = "The message cannot be stored now; try again later";
        let reply = Reply::new(451, (4, 3, 0), text);
        let (seen, why) = (self.seen(session), (At::Data, Reason::StoreFailed));
        note(&self.core, seen, Some(sender), None, why, &reply, error);
        reply
    }
}

fn octets(body: &Body) -> u64 {
    u64::try_from(body.len()).unwrap_or(u64::MAX)
}
