//! Policy delegation: the requests about one message put to the policy and the quotas.
//!
//! | state | what is done |
//! | --- | --- |
//! | MAIL | relay admission (D2 to D8): a refusal, or nothing |
//! | RCPT | the same once a message, then the recipient (D9, D14, E7, E8, 5.1.1, rules), then a reservation (D10 to D13) |
//! | END-OF-MESSAGE | the reservation is counted and written to disk before the answer |
//! | any other | nothing |

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use waypost_config::policy::{Observation, Policy, RcptVerdict, Transaction, observed_at_mail};
use waypost_postfix::{Action, PolicyReader, PolicyRequest, ProtocolState, RequestError};
use waypost_relay::{OverLimit, QuotaRefusal, RefusalReason};
use waypost_types::{ListenerRole, Mailbox, MailboxError, Recipient, Reply, ReversePath, Session};

use super::connection::Conversation;
use super::messages::{Message, Messages, Open};
use super::{ForeignSenders, requests};
use crate::core::Core;
use crate::log;
use crate::metrics::{At, Reason};
use crate::quotas::{NoPlace, Reserved};
use crate::session::own_postmaster;

/// Messages that end uncounted before it is said that Postfix never asks at their end.
const SUSPICIOUS: u64 = 100;

/// All that connections share.
pub(super) struct PolicyService {
    core: Arc<Core>,
    foreign_senders: ForeignSenders,
    messages: Mutex<Messages>,
    /// Messages with reservations that ended without a request at their end.
    uncounted: AtomicU64,
    /// Whether there ever was one.
    any_counted: AtomicBool,
}

impl PolicyService {
    pub(super) fn new(core: Arc<Core>, foreign_senders: ForeignSenders) -> Self {
        Self {
            core,
            foreign_senders,
            messages: Mutex::default(),
            uncounted: AtomicU64::new(0),
            any_counted: AtomicBool::new(false),
        }
    }

    /// A new connection.
    pub(super) fn connection(self: &Arc<Self>) -> Connection {
        Connection { service: Arc::clone(self), reader: PolicyReader::default(), current: None }
    }

    /// Ends messages of which nothing is heard any more.
    pub(super) fn sweep(&self) {
        let ended = self.messages().sweep(self.core.clock.now());
        if ended > 0 {
            tracing::debug!(
                ended,
                "messages of which nothing was heard; what they reserved is given back"
            );
        }
    }

    fn messages(&self) -> MutexGuard<'_, Messages> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: PolicyRequest) -> Action {
        match request.state {
            ProtocolState::Mail | ProtocolState::Rcpt => {
                let mut open = match self.begun(&request) {
                    Ok(open) => open,
                    Err(action) => return action,
                };
                let action = match (&open.admitted, request.state) {
                    (Err(reply), _) => Action::from(reply.clone()),
                    (Ok(_), ProtocolState::Rcpt) => self.recipient(&mut open, &request).await,
                    (Ok(_), _) => Action::Dunno,
                };
                let now = self.core.clock.now();
                self.messages().put(request.instance, Message::Open(open), now);
                action
            }
            ProtocolState::EndOfMessage => self.end_of_message(request).await,
            _ => Action::Dunno,
        }
    }

    /// Takes the request's message out, or begins it.
    fn begun(&self, request: &PolicyRequest) -> Result<Box<Open>, Action> {
        let (found, has_room) = {
            let mut messages = self.messages();
            (messages.take(&request.instance), messages.has_room())
        };
        match found {
            Some(Message::Open(open)) => Ok(open),
            // A new message bears a new name; this can only be the old one.
            Some(Message::Counted) => {
                Err(self.put_back(request.instance.clone(), Message::Counted))
            }
            None if !has_room => Err(self.turn_down(
                request,
                At::Mail,
                Reason::QueueFull,
                Reply::new(451, (4, 3, 2), "Too many messages are under way; try again later"),
                "20,000 messages are under way, or Postfix does not end them",
            )),
            None => Ok(Box::new(self.begin(request))),
        }
    }

    fn put_back(&self, instance: Box<str>, message: Message) -> Action {
        self.messages().put(instance, message, self.core.clock.now());
        Action::Dunno
    }

    /// What MAIL settles.
    fn begin(&self, request: &PolicyRequest) -> Open {
        let policy = self.core.policy();
        let admitted = self.admit(&policy, request);
        let admission = admitted.as_ref().ok().and_then(|one| one.admission.as_ref());
        let quota = admission.map(|one| self.core.quotas.begin(one.quota.clone()));
        Open { policy, admitted, recipients: Vec::new(), quota }
    }

    fn admit(&self, policy: &Policy, request: &PolicyRequest) -> Result<Transaction, Reply> {
        let session = self.session(policy, request)?;
        let sender = request.sender.clone().map_err(|error| {
            let reply = Reply::new(501, (5, 1, 7), &error.to_string());
            self.turned_down(request, (At::Mail, Reason::Other), reply, &error)
        })?;
        let tried = policy.at_mail(&session, &sender);
        self.observe(session.client_ip, &sender, &observed_at_mail(tried.as_ref()));
        let transaction = tried.map_err(|refusal| {
            let why = (At::Mail, refusal.because.into());
            self.turned_down(request, why, refusal.reply.clone(), &refusal)
        })?;
        match &transaction.admission {
            Some(one)
                if one.sender != one.original_sender
                    && self.foreign_senders == ForeignSenders::Refused =>
            {
                let text = "A foreign envelope sender cannot be rewritten here; send as a user of the \
                            organization that relays (D8)";
                let reply = Reply::new(550, (5, 7, 1), text);
                let why = (At::Mail, RefusalReason::SenderNotInDomains.into());
                let because = "serve would rewrite this sender, and Postfix cannot be told to; \
                               --keep-foreign-senders takes it as it is";
                Err(self.turned_down(request, why, reply, &because))
            }
            _ => Ok(transaction),
        }
    }

    /// The client as a session of `serve` would know it.
    fn session(&self, policy: &Policy, request: &PolicyRequest) -> Result<Session, Reply> {
        let role = match &request.context {
            None => ListenerRole::Both,
            Some(name) => {
                let listener = policy.server.listeners.iter().find(|one| one.name == *name);
                let role = listener.map(|listener| listener.role);
                role.ok_or_else(|| {
                    let reply = Reply::new(451, (4, 3, 5), "Server configuration error");
                    let because = format!(
                        "policy_context = {name} in main.cf names no [[listener]] of the configuration"
                    );
                    self.turned_down(request, (At::Mail, Reason::Other), reply, &because)
                })?
            }
        };
        let auth = match &request.sasl_username {
            None => None,
            // A name that is no address is nobody's: the relay entries then say what is missing.
            Some(name) => match name.parse::<Mailbox>() {
                Err(_) => None,
                Ok(user) => policy.active_user(&user).map_err(|error| {
                    let text = "The directory cannot answer now; try again later";
                    let reply = Reply::new(451, (4, 3, 0), text);
                    self.turned_down(
                        request,
                        (At::Mail, Reason::DirectoryUnavailable),
                        reply,
                        &error,
                    )
                })?,
            },
        };
        let PolicyRequest { client, helo, tls, .. } = request;
        Ok(Session { client_ip: *client, role, helo: helo.clone(), auth, tls: *tls })
    }

    /// One recipient, as at RCPT of `serve`.
    async fn recipient(&self, open: &mut Open, request: &PolicyRequest) -> Action {
        let transaction = match &open.admitted {
            Ok(transaction) => transaction,
            Err(reply) => return Action::from(reply.clone()),
        };
        let recipient = match &request.recipient {
            Some(Ok(recipient)) => recipient.clone(),
            Some(Err(error)) => match self.without_domain(error, &open.policy) {
                Some(postmaster) => postmaster,
                None => {
                    let reply = Reply::new(501, (5, 1, 3), &error.to_string());
                    let why = (At::Rcpt, Reason::Other);
                    return self.turned_down(request, why, reply, error).into();
                }
            },
            // Postfix has one at RCPT.
            None => return Action::Dunno,
        };
        let address = own_postmaster(&open.policy, &recipient).unwrap_or(recipient);
        let recipient = Recipient::from(address.clone());
        let mut observations = Vec::new();
        let standing = open.recipients.len();
        let verdict =
            open.policy.at_rcpt_observing(transaction, &recipient, standing, &mut observations);
        let mut action = match verdict {
            RcptVerdict::Accept { .. } => Action::Dunno,
            RcptVerdict::Refuse(refused) => {
                let why = (At::Rcpt, refused.cause.into());
                self.turned_down(request, why, refused.reply, &refused.because).into()
            }
        };
        if action == Action::Dunno
            && let Some(quota) = &mut open.quota
        {
            let now = self.core.clock.now();
            let (quotas, policy) = (&self.core.quotas, &open.policy);
            let reserved =
                quotas.reserve_observing(now, quota, &address, policy, &mut observations).await;
            match reserved {
                Ok(()) => {}
                Err(unknown @ NoPlace::Unknown { .. }) => {
                    let why = (At::Rcpt, unknown.reason());
                    action = self.turned_down(request, why, unknown.reply(), &unknown).into();
                }
                Err(NoPlace::Beyond(refusal)) => {
                    let why = (At::Rcpt, refusal.limit.into());
                    let reply = match quota.over_limit(policy) {
                        OverLimit::Reject => refused_by_quota(&refusal, quota.recipients().len()),
                        // With `hold`, deferred too. Postfix's HOLD would keep the whole message in a
                        // queue that is not ours, also for the recipients who have room, and nobody
                        // would let it go when there is some: neither we, who do not learn its fate,
                        // nor Postfix, which knows no limits. A client that comes again finds room.
                        over_limit => {
                            refusal.reply_as(over_limit).unwrap_or_else(|| refusal.deferral())
                        }
                    };
                    action = self.turned_down(request, why, reply, &refusal).into();
                }
            }
        }
        self.observe(request.client, &transaction.sender, &observations);
        if action == Action::Dunno {
            let relayed = transaction.admission.is_some();
            match open.policy.quarantine_at_rcpt(transaction, &recipient) {
                None if relayed => action = Action::Permit,
                None => {}
                // Postfix would refuse it in its own words: HOLD permits nothing.
                Some(quarantine) if relayed && open.policy.receiving(&address).is_none() => {
                    let text = "This mail would be kept for review, which is not possible here";
                    let reply = Reply::new(550, (5, 7, 1), text);
                    let because =
                        format!("quarantine {quarantine}: Postfix cannot hold what it relays");
                    if let Some(quota) = &mut open.quota {
                        let now = self.core.clock.now();
                        self.core.quotas.release_recipient(now, quota, &address).await;
                    }
                    let why = (At::Rcpt, Reason::Rule);
                    return self.turned_down(request, why, reply, &because).into();
                }
                Some(quarantine) => {
                    action = Action::Hold(format!("quarantine {quarantine}").into())
                }
            }
            open.recipients.push(address);
        }
        action
    }

    /// `<postmaster>` alone is this server's (RFC 5321 section 4.5.1).
    fn without_domain(&self, error: &MailboxError, policy: &Policy) -> Option<Mailbox> {
        match error {
            MailboxError::Shape(text) if text.eq_ignore_ascii_case("postmaster") => {
                Some(Mailbox::postmaster(policy.server.hostname.clone()))
            }
            _ => None,
        }
    }

    /// The message came: it is counted, if it was relayed.
    async fn end_of_message(&self, request: PolicyRequest) -> Action {
        self.any_counted.store(true, Ordering::Relaxed);
        let found = self.messages().take(&request.instance);
        let mut action = Action::Dunno;
        let mut open = match found {
            Some(Message::Open(open)) => open,
            Some(Message::Counted) => return self.put_back(request.instance, Message::Counted),
            // Nothing was asked at RCPT, or this program was started since.
            None => match self.unseen(&request).await {
                Ok(Some((open, said))) => {
                    action = said;
                    open
                }
                Ok(None) => return Action::Dunno,
                Err(action) => return action,
            },
        };
        let counted = match open.quota.take() {
            None => Ok(()),
            Some(mut quota) => {
                let recipients = self.reconcile(&request, &mut quota).await;
                tracing::info!(
                    client = %request.client, sender = %open.admitted.as_ref().map_or_else(
                        |_| String::new(), |one| one.sender.to_string()),
                    queue_id = request.queue_id.as_deref(), recipients, size = request.size, "counted"
                );
                let core = Arc::clone(&self.core);
                // A task of its own: what is written must be counted, whoever goes away.
                let counting = tokio::spawn(async move { core.count(quota).await });
                match counting.await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(error) => Err(error.to_string()),
                }
            }
        };
        match counted {
            Ok(()) => {
                let _ = self.put_back(request.instance, Message::Counted);
                action
            }
            Err(because) => {
                let text = "The message cannot be counted now; try again later";
                let reply = Reply::new(451, (4, 3, 0), text);
                self.turned_down(&request, (At::Data, Reason::StoreFailed), reply, &because).into()
            }
        }
    }

    /// A message at whose end we hear of it first. With its only recipient it is judged now; mail that is
    /// relayed for several recipients comes again, so that nobody gets past the quotas.
    async fn unseen(&self, request: &PolicyRequest) -> Result<Option<(Box<Open>, Action)>, Action> {
        let mut open = Box::new(self.begin(request));
        if request.recipient.is_some() {
            return match self.recipient(&mut open, request).await {
                Action::Refuse(reply) => Err(Action::Refuse(reply)),
                Action::Hold(why) => Ok(Some((open, Action::Hold(why)))),
                _ => Ok(Some((open, Action::Dunno))),
            };
        }
        match (&open.admitted, &open.quota) {
            (Ok(_), Some(_)) => {
                let text = "The recipients of this message were not counted; try again later";
                let reply = Reply::new(451, (4, 3, 0), text);
                let because = "its recipients were never asked about: the policy server was started while it \
                               was sent, or something in main.cf permits it before check_policy_service";
                Err(self.turned_down(request, (At::Data, Reason::Other), reply, &because).into())
            }
            // No quota counts for mail to our own, and what is not admitted was not asked about.
            _ => Ok(None),
        }
    }

    /// Brings the reservation to the number of recipients that Postfix accepted: others may have been
    /// refused by a restriction behind ours, or asked about twice.
    async fn reconcile(&self, request: &PolicyRequest, quota: &mut Reserved) -> usize {
        let now = self.core.clock.now();
        let accepted = usize::try_from(request.recipient_count).unwrap_or(usize::MAX);
        let reserved = quota.counted(now).map(|counted| counted.recipients).unwrap_or_default();
        let asked = reserved.len();
        if accepted == 0 || accepted == asked {
            return asked;
        }
        tracing::warn!(
            client = %request.client, instance = &*request.instance, accepted, asked,
            "Postfix accepted another number of recipients than were asked about; let \
             check_policy_service stand once, and last (docs/POSTFIX.md)"
        );
        for excess in excess(&reserved, accepted) {
            self.core.quotas.release_recipient(now, quota, &excess).await;
        }
        accepted.min(asked)
    }

    /// Another message came over the same connection.
    fn ended(&self, instance: &str) {
        let Some(Message::Open(open)) = self.messages().end(instance) else { return };
        let now = self.core.clock.now();
        if !self.any_counted.load(Ordering::Relaxed)
            && open.quota.is_some_and(|quota| quota.counted(now).is_some())
            && self.uncounted.fetch_add(1, Ordering::Relaxed) + 1 == SUSPICIOUS
        {
            tracing::error!(
                "{SUSPICIOUS} messages were relayed, and Postfix never asked at the end of one: no quota \
                 counts. Add check_policy_service to smtpd_end_of_data_restrictions (docs/POSTFIX.md)"
            );
        }
    }

    fn observe(&self, client: IpAddr, sender: &ReversePath, observations: &[Observation]) {
        for what in observations {
            self.core.metrics.observed.count(what);
            log::Observed { client, proxy: None, id: None, sender, what }.write();
        }
    }

    fn turn_down(
        &self,
        request: &PolicyRequest,
        at: At,
        reason: Reason,
        reply: Reply,
        because: &str,
    ) -> Action {
        self.turned_down(request, (at, reason), reply, &because).into()
    }

    /// Counts and logs a refusal; hands its reply back.
    fn turned_down(
        &self,
        request: &PolicyRequest,
        (at, reason): (At, Reason),
        reply: Reply,
        because: &dyn std::fmt::Display,
    ) -> Reply {
        self.core.metrics.refused(at, &reply, reason);
        let sender = request.sender.as_ref().ok();
        let recipient = request.recipient.as_ref().and_then(|one| one.as_ref().ok());
        let (client, reply_) = (request.client, &reply);
        let because = &because;
        log::Refused { at, reason, client, proxy: None, sender, recipient, reply: reply_, because }
            .write();
        reply
    }
}

/// The reply to a recipient beyond a limit, of a message that has `own` reservations. Where those of other
/// messages fill the limit, it is not for good: they may have been given up without our being told.
fn refused_by_quota(refusal: &QuotaRefusal, own: usize) -> Reply {
    let own = u32::try_from(own).unwrap_or(u32::MAX);
    match refusal.used.saturating_add(own) < refusal.allowed {
        true => refusal.deferral(),
        false => refusal.reply(),
    }
}

/// Which of the recipients to give back so that so many are left: those given again, then the latest.
fn excess(recipients: &[Mailbox], left: usize) -> Vec<Mailbox> {
    let too_many = recipients.len().saturating_sub(left);
    let is_repeated = |place: &usize| {
        let this = recipients.get(*place);
        recipients.iter().take(*place).any(|other| Some(other) == this)
    };
    let (repeated, single): (Vec<usize>, Vec<usize>) =
        (0..recipients.len()).rev().partition(is_repeated);
    let places = repeated.into_iter().chain(single).take(too_many);
    places.filter_map(|place| recipients.get(place).cloned()).collect()
}

/// One connection of Postfix, over which the requests about one message come in a row.
pub(super) struct Connection {
    service: Arc<PolicyService>,
    reader: PolicyReader,
    /// The message that was last asked about.
    current: Option<Box<str>>,
}

impl Conversation for Connection {
    fn feed(&mut self, octets: &[u8]) {
        self.reader.feed(octets);
    }

    async fn answer(&mut self) -> Result<Option<Vec<u8>>, RequestError> {
        let Some(request) = self.reader.next_request()? else { return Ok(None) };
        if self.current.as_ref() != Some(&request.instance) {
            // Over one connection of Postfix a message is over when the next one is asked about.
            let before = self.current.replace(request.instance.clone());
            before.iter().for_each(|before| self.service.ended(before));
        }
        let action = self.service.answer(request).await;
        let answer = match &action {
            Action::Dunno => "dunno",
            Action::Permit => "permitted",
            Action::Refuse(reply) if reply.code() < 500 => "later",
            Action::Refuse(_) => "refused",
            _ => "held",
        };
        requests::count(&self.service.core.metrics.front, "policy", answer);
        Ok(Some(action.to_string().into_bytes()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(current) = &self.current {
            self.service.messages().closed(current, self.service.core.clock.now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_that_postfix_refused_after_us_are_given_back() {
        for (recipients, left, want) in [
            ("a b c", 3, ""),
            ("a b c", 4, ""),
            ("a b c", 1, "c b"),
            ("a b a c", 3, "a"),
            ("a a b b", 2, "b a"),
            ("a a b b", 1, "b a b"),
        ] {
            let boxes = |text: &str| -> Vec<Mailbox> {
                text.split_whitespace()
                    .map(|one| format!("{one}@x.example").parse().unwrap())
                    .collect()
            };
            assert_eq!(excess(&boxes(recipients), left), boxes(want), "{recipients} {left}");
        }
    }
}
