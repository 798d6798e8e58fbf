//! One SMTP session: the client's commands put to the policy, quotas and spool.

mod authentication;
mod entry;
mod filter;
mod intake;
mod message;
mod observed;
mod recipient;
mod record;

use std::fmt::Display;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use waypost_config::policy::{Transaction, observed_at_mail};
use waypost_net::milter::MilterClient;
use waypost_net::server::{
    Handler, LoginRefusal, Mail, Peer, SharedLimits, TlsFacts, is_generic_hello,
};
use waypost_net::tls::TlsVersion;
use waypost_smtp::end_of_data::Data;
use waypost_smtp::server::{
    CloseCause, Credentials, HelloKind, OwnRefusal, ResetCause, Told, Xclient,
};
use waypost_types::{MailParameters, Mailbox, Recipient, Reply, ReversePath, Session};

pub(crate) use authentication::{stamps, without_forged_results};
pub(crate) use entry::owed_notice;
pub(crate) use filter::edited;
pub(crate) use recipient::own_postmaster;
pub(crate) use record::{Draft, Noted, Of};

use crate::core::Core;
use crate::in_force::InForce;
use crate::log;
use crate::metrics::{self, At, Metrics, Reason, Side};
use crate::quotas::Reserved;
use crate::room::Share;

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
    /// The client gave a generic name before: its connection counts once, however often it says EHLO (D15).
    generic_counted: bool,
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
    policy: Arc<InForce>,
    transaction: Transaction,
    parameters: MailParameters,
    /// `SIZE=` of MAIL.
    size: Option<u64>,
    /// Its room in memory, from DATA until it is committed.
    share: Option<Share>,
    recipients: Vec<Recipient>,
    /// Reservations; dropped, they are given back.
    quota: Option<Reserved>,
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
        self.generic_counted = false;
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
        if !self.generic_counted && is_generic_hello(name, &policy.server.hostname) {
            self.generic_counted = true;
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
            generic_counted: false,
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
            observed,
            noted: self.noting(),
            filter: self.core.filter.client(),
        });
        Ok(())
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

fn no_transaction() -> Reply {
    Reply::new(503, (5, 5, 1), "There is no transaction; send MAIL first")
}
