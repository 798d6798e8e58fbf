//! One SMTP session: the client's commands put to the policy, quotas and spool.

mod authentication;
mod filter;
mod intake;
mod limited;
mod observed;
mod recipient;
mod record;

use std::cell::RefCell;
use std::fmt::Display;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use waypost_config::policy::{
    Answers, DataReply, DecidedDelivery, Decision, Explanation, Known, Policy, RefusalCause,
    Refused, Transaction, observed_at_mail,
};
use waypost_inbound::Source;
use waypost_net::milter::MilterClient;
use waypost_net::server::{
    Handler, LoginRefusal, Mail, Peer, SharedLimits, TlsFacts, is_generic_hello,
};
use waypost_net::tls::TlsVersion;
use waypost_queue::{Body, Entry, Hold, Owed};
use waypost_route::Draw;
use waypost_smtp::end_of_data::Data;
use waypost_smtp::server::{
    CloseCause, Credentials, HelloKind, OwnRefusal, ResetCause, Told, Xclient,
};
use waypost_types::{
    Changes, Delivery, Destination, HeaderBlock, MailParameters, Mailbox, QueueId, Recipient,
    Reply, ReversePath, RouteName, Session, TlsDemand,
};

pub(crate) use recipient::own_postmaster;

use crate::core::Core;
use crate::log;
use crate::metrics::{self, At, Metrics, Reason, Side};
use crate::quotas::Reserved;
use crate::room::Share;
use crate::trace::Trace;

/// One client's commands, put to the policy, the quotas and the spool.
///
/// The policy is taken at MAIL and kept for the transaction, so a reload in between changes nothing
/// half-way (A12).
pub(crate) struct SmtpHandler {
    core: Arc<Core>,
    limits: SharedLimits,
    on: Arc<OnListener>,
    /// Who announced the client, if a proxy did.
    proxy: Option<IpAddr>,
    extended: bool,
    tls: Option<String>,
    /// The client tried AUTH since it came or TLS began, and failed.
    auth_failed: bool,
    open: Option<Open>,
}

/// Whose commands they are, for the log.
#[derive(Clone, Copy)]
struct Seen<'a> {
    session: &'a Session,
    proxy: Option<IpAddr>,
}

/// The listener that a client came to.
pub(crate) struct OnListener {
    name: Box<str>,
    accepted: Counter,
}

impl OnListener {
    pub(crate) fn new(name: &str, metrics: &Metrics) -> Self {
        Self { name: name.into(), accepted: metrics.listener(name) }
    }
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
    quota: Option<Reserved>,
    limited: limited::Limited,
    observed: observed::Before,
    /// What the recipients were told, if envelopes are recorded.
    noted: Option<record::Noted>,
    /// Who is asked about the message, if anybody is.
    filter: Option<MilterClient>,
}

impl Handler for SmtpHandler {
    async fn connected(&mut self, _session: &Session, peer: Peer) -> Result<(), Reply> {
        self.proxy = peer.proxy.map(|proxy| proxy.ip().to_canonical());
        Ok(())
    }

    async fn announced(
        &mut self,
        session: &Session,
        peer: Peer,
        said: &Xclient,
    ) -> Result<(), Reply> {
        self.forget();
        self.extended = false;
        self.auth_failed = false;
        self.proxy = peer.proxy.map(|proxy| proxy.ip().to_canonical());
        // What the proxy was told is not proved to us: it stands in the log, and gives no right.
        let shown = |told: &Option<Told<Box<str>>>| told.as_ref().and_then(Told::known).cloned();
        tracing::info!(
            client = %session.client_ip, proxy = self.proxy.map(tracing::field::display),
            name = shown(&said.name).map(tracing::field::debug),
            login = shown(&said.login).map(tracing::field::debug), "XCLIENT"
        );
        Ok(())
    }

    async fn tls(&mut self, _session: &Session, facts: TlsFacts) {
        self.forget();
        self.auth_failed = false;
        self.core.metrics.handshake(Side::Server, Some(TlsVersion::named(&facts.version)));
        self.tls = Some(format!("{} {}", facts.version, facts.cipher));
    }

    async fn tls_failed(&mut self, session: &Session, error: &io::Error) {
        self.core.metrics.handshake(Side::Server, None);
        tracing::debug!(client = %session.client_ip, %error, "TLS handshake failed");
    }

    async fn hello(&mut self, session: &Session, kind: HelloKind, name: &str) -> Result<(), Reply> {
        self.forget();
        self.extended = kind == HelloKind::Ehlo;
        let policy = self.core.policy();
        if is_generic_hello(name, &policy.server.hostname) {
            tracing::info!(client = %session.client_ip, proxy = self.proxy.map(tracing::field::display), name, "generic HELO name (D15)");
            let now = self.core.clock.now();
            let counted = self.limits.lock().generic_hello(now, session.client_ip);
            if let Err(refusal) = counted {
                let reply = refusal.reply();
                return Err(self.turn_down(session, At::Hello, refusal.into(), reply, &refusal));
            }
        }
        Ok(())
    }

    async fn auth(
        &mut self,
        session: &Session,
        credentials: Credentials,
    ) -> Result<Mailbox, Reply> {
        let client = session.client_ip;
        let begun = self.limits.lock().attempt_login(self.core.clock.now(), client);
        let found = match begun {
            Ok(()) => self.core.authenticate(credentials).await,
            Err(refusal) => Err(refusal),
        };
        if begun.is_ok() && found != Err(LoginRefusal::WrongCredentials) {
            self.limits.lock().login_does_not_count(self.core.clock.now(), client);
        }
        self.auth_failed = found.is_err();
        found.map_err(|refusal| {
            self.turn_down(session, At::Auth, refusal.into(), refusal.reply(), &refusal)
        })
    }

    async fn mail(&mut self, session: &Session, mail: Mail) -> Result<(), Reply> {
        self.begin(session, mail)
    }

    fn looks_ahead(&self) -> bool {
        let quota = self.open.as_ref().and_then(|open| open.quota.as_ref());
        quota.is_some_and(Reserved::looks_ahead)
    }

    async fn recipients_ahead(
        &mut self,
        _session: &Session,
        first: &Recipient,
        ahead: Vec<Mailbox>,
    ) {
        self.reserve_ahead(first, ahead).await;
    }

    async fn rcpt(&mut self, session: &Session, recipient: Recipient) -> Result<(), Reply> {
        let given = self.to_note(&recipient.address);
        let told = self.add(session, recipient).await;
        self.note_recipient(given, &told);
        told
    }

    async fn data(&mut self, session: &Session) -> Result<(), Reply> {
        self.make_room(session).await
    }

    async fn room(&mut self, session: &Session, octets: u64) -> Option<u64> {
        self.more_room(session, octets).await
    }

    async fn message(&mut self, session: &Session, data: Data) -> Reply {
        let mut record = None;
        let reply = self.take(session, data, &mut record).await;
        if let Some(record) = &mut record {
            record.answered(&reply);
        }
        reply
    }

    async fn refused(&mut self, session: &Session, refusal: OwnRefusal) {
        let (at, reason) = metrics::of_own(refusal);
        self.refused_by_protocol(session, at, reason, refusal);
    }

    async fn reset(&mut self, session: &Session, cause: ResetCause) {
        if let ResetCause::Message(fault) = &cause {
            let reply = fault.reply();
            let refusal = OwnRefusal { code: reply.code(), enhanced: reply.enhanced() };
            self.refused_by_protocol(session, At::Data, fault.into(), refusal);
        }
        self.forget();
    }

    async fn closed(&mut self, session: &Session, cause: CloseCause) {
        if let Some((at, reason, refusal)) = metrics::of_close(cause) {
            self.refused_by_protocol(session, at, reason, refusal);
        }
        self.forget();
    }
}

impl SmtpHandler {
    pub(crate) fn new(core: Arc<Core>, limits: SharedLimits, on: Arc<OnListener>) -> Self {
        Self {
            core,
            limits,
            on,
            proxy: None,
            extended: false,
            tls: None,
            auth_failed: false,
            open: None,
        }
    }

    /// What relaying is refused for, told to a client that may have tried AUTH before.
    fn in_view_of_auth(
        &self,
        session: &Session,
        refusal: waypost_relay::Refusal,
    ) -> waypost_relay::Refusal {
        let has_failed = self.auth_failed && session.auth.is_none();
        if has_failed { refusal.after_failed_auth() } else { refusal }
    }

    fn seen<'a>(&self, session: &'a Session) -> Seen<'a> {
        Seen { session, proxy: self.proxy }
    }

    /// Counts and logs a refusal; hands its reply back.
    fn turn_down(
        &self,
        session: &Session,
        at: At,
        reason: Reason,
        reply: Reply,
        because: &dyn Display,
    ) -> Reply {
        note(&self.core, self.seen(session), None, None, (at, reason), &reply, because);
        reply
    }

    /// Counts what the SMTP machine refused by itself. Clients that do not know SMTP are many, so
    /// these lines are for whoever looks for them.
    fn refused_by_protocol(&self, session: &Session, at: At, reason: Reason, refusal: OwnRefusal) {
        let OwnRefusal { code, enhanced } = refusal;
        self.core.metrics.refused_by(at, code, enhanced, reason, 1);
        tracing::debug!(
            at = at.as_str(), reason = reason.as_str(), client = %session.client_ip,
            proxy = self.proxy.map(tracing::field::display), code, "refused"
        );
    }

    fn begin(&mut self, session: &Session, mail: Mail) -> Result<(), Reply> {
        let seen = self.seen(session);
        let Mail { sender, parameters, size } = mail;
        let policy = self.core.policy();
        if let Some(refusal) = self.no_room(session, &sender, &policy) {
            return Err(refusal);
        }
        let tried = policy.at_mail(session, &sender);
        let observations = observed_at_mail(tried.as_ref());
        self.observe(seen, &sender, None, &observations);
        let transaction = match tried {
            Ok(mut transaction) => {
                let refused = transaction.relay_refusal.take();
                transaction.relay_refusal =
                    refused.map(|refusal| self.in_view_of_auth(session, refusal));
                transaction
            }
            Err(refusal) => {
                let refusal = self.in_view_of_auth(session, refusal);
                let why = (At::Mail, refusal.because.into());
                note(&self.core, seen, Some(&sender), None, why, &refusal.reply, &refusal);
                self.record_refused_mail(session, &sender, &refusal.reply, &policy);
                return Err(refusal.reply);
            }
        };
        let mut observed = observed::Before::default();
        observed.extend(observations);
        let quota = transaction
            .admission
            .as_ref()
            .map(|admission| self.core.quotas.begin(admission.quota.clone()));
        self.open = Some(Open {
            policy,
            transaction,
            parameters,
            size,
            share: None,
            recipients: Vec::new(),
            quota,
            limited: limited::Limited::default(),
            observed,
            noted: self.noting(),
            filter: self.core.filter.client(),
        });
        Ok(())
    }

    async fn take(
        &mut self,
        session: &Session,
        data: Data,
        record: &mut Option<record::Draft>,
    ) -> Reply {
        let seen = self.seen(session);
        let Some(mut open) = self.open.take() else { return no_transaction() };
        let body = Body::from(data.stuffed);
        if let Some(share) = &mut open.share {
            share.shrink(u64::try_from(body.len()).unwrap_or(u64::MAX));
        }
        let header = HeaderBlock::of(&body);
        let limit = open.policy.server.limits.header_size;
        if u64::try_from(header.as_bytes().len()).unwrap_or(u64::MAX) > limit {
            let text = format!("The header is larger than {limit} octets");
            let reply = Reply::new(552, (5, 3, 4), &text);
            let why = (At::Data, Reason::HeaderTooLarge);
            note(&self.core, seen, Some(&open.transaction.sender), None, why, &reply, &text);
            return reply;
        }
        *record = self.draft_of(&open, &header);
        let mut decision = open.policy.at_data(&open.transaction, &open.recipients, &header);
        // A message that the DNS may yet prove to be internal takes another way then (C3).
        let may_yet_be_taken = decision.refused_for() != Some(RefusalCause::Loop)
            && open.policy.direction_hangs_on_answers(&open.transaction, &open.recipients, &header);
        if !may_yet_be_taken && let Some(reply) = self.refused_as_a_whole(session, &open, &decision)
        {
            return reply;
        }
        let id = self.core.spool.next_id();
        // Only now: what is refused anyway costs no question to DNS and filter.
        let (authentication, filter) = tokio::join!(
            self.authentication(&open, &body),
            self.asked_filter(session, &open, &body, id)
        );
        if authentication.is_some() || !filter.is_empty() {
            let dns = authentication.as_deref().map(Answers::Given);
            let known = Known { dns, filter: &filter };
            let (transaction, recipients) = (&open.transaction, &open.recipients);
            let header = HeaderBlock::of(&body);
            decision = open.policy.at_data_knowing(transaction, recipients, &header, known);
            self.tell_authentication(session, &open, &decision);
            self.tell_filter(session, &open, &decision, id).await;
            let settings = open.policy.server.filter.as_ref();
            for record in record.iter_mut() {
                record.authenticated(authentication.clone().unwrap_or_default());
                record.filtered(&filter, settings);
            }
            if let Some(reply) = self.refused_as_a_whole(session, &open, &decision) {
                return reply;
            }
        }
        record.iter_mut().for_each(|record| record.decided(&decision));
        let body = filter::edited(&decision, body);
        let body = authentication::without_forged_results(session, &open, body);
        let header_size = HeaderBlock::of(&body).body_offset();
        if let Err(error) = self.core.spool.space(u64::try_from(body.len()).unwrap_or(u64::MAX)) {
            return self.full(session, At::Data, &open.transaction.sender, &error);
        }
        if let Some(quota) = &mut open.quota {
            // Refused mail never counts (D13).
            let now = self.core.clock.now();
            for refused in &decision.refusals {
                self.core.quotas.release_recipient(now, quota, &refused.recipient).await;
            }
        }
        self.observe(seen, &open.transaction.sender, Some(id), &decision.observations);
        let entry = self.entry(id, session, &open, &decision, &body, header_size);
        self.core.spool.wait_for_room(&entry).await;
        let (size, deliveries) = (body.len(), entry.deliveries.len());
        let sender = open.transaction.sender.clone();
        let recipients = open.recipients.len();
        let seen = decision.organizations.first();
        let source = seen.map_or_else(|| Source::of_client(session.client_ip), |view| view.source);
        let behind_gateway = seen.is_some_and(|view| view.gateway.is_some());
        let core = Arc::clone(&self.core);
        // A task of its own: a client that goes away must not leave a message half accepted.
        let (share, quota) = (open.share.take(), open.quota);
        let subject = quota.as_ref().map(|quota| quota.subject().clone());
        let limited = open.limited;
        let stored = tokio::spawn(async move {
            let stored = core.store(entry, body, quota).await;
            drop(share);
            if let (Ok(()), Some(subject)) = (&stored, subject) {
                limited::accepted(&core, limited, &subject, id);
            }
            stored
        });
        match stored.await {
            Ok(Ok(())) => {
                record.iter_mut().for_each(|record| record.queued(id));
                self.on.accepted.inc();
                self.core.metrics.received(u64::try_from(size).unwrap_or(u64::MAX));
                if behind_gateway {
                    self.core.metrics.source(source.because);
                }
                let (listener, client, proxy) = (&*self.on.name, session.client_ip, self.proxy);
                let sender = &sender;
                log::Accepted {
                    id,
                    listener,
                    client,
                    proxy,
                    source,
                    sender,
                    recipients,
                    deliveries,
                    size,
                }
                .write();
                Reply::new(250, (2, 0, 0), &format!("Accepted as {id}"))
            }
            Ok(Err(error)) => {
                tracing::error!(%id, %error, "a message cannot be stored");
                self.not_stored(session, &sender, &error)
            }
            Err(error) => {
                tracing::error!(%id, %error, "storing a message failed");
                self.not_stored(session, &sender, &error)
            }
        }
    }

    /// The reply to a message that the policy refuses as a whole, counted and logged.
    fn refused_as_a_whole(
        &self,
        session: &Session,
        open: &Open,
        decision: &Decision,
    ) -> Option<Reply> {
        let DataReply::Refuse(reply) = &decision.reply else { return None };
        let observations = &decision.observations;
        self.observe(self.seen(session), &open.transaction.sender, None, observations);
        let reason = decision.refused_for().map_or(Reason::Other, Reason::from);
        let because = decision.refusals.first().map_or("", |refused| &refused.because);
        let sender = Some(&open.transaction.sender);
        note(&self.core, self.seen(session), sender, None, (At::Data, reason), reply, &because);
        Some(reply.clone())
    }

    fn not_stored(&self, session: &Session, sender: &ReversePath, error: &dyn Display) -> Reply {
        let text = "The message cannot be stored now; try again later";
        let reply = Reply::new(451, (4, 3, 0), text);
        note(
            &self.core,
            self.seen(session),
            Some(sender),
            None,
            (At::Data, Reason::StoreFailed),
            &reply,
            error,
        );
        reply
    }

    fn entry(
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
        let delivered = decision.deliveries.iter().map(|one| Owed {
            delivery: one.delivery.clone(),
            hold: open.limited.hold_of(&one.delivery.original_recipient),
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

/// Counts and logs a refusal.
fn note(
    core: &Core,
    seen: Seen<'_>,
    sender: Option<&ReversePath>,
    recipient: Option<&Mailbox>,
    (at, reason): (At, Reason),
    reply: &Reply,
    because: &dyn Display,
) {
    core.metrics.refused(at, reply, reason);
    let (client, proxy) = (seen.session.client_ip, seen.proxy);
    log::Refused { at, reason, client, proxy, sender, recipient, reply, because: &because }.write();
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
