//! Policy delegation: the requests about one message put to the policy and the quotas.
//!
//! | state | what is done |
//! | --- | --- |
//! | MAIL | relay admission (D2 to D8): a refusal, or nothing |
//! | RCPT | the same once a message, then the recipient (D9, D14, E7, E8, 5.1.1, rules), then a reservation (D10 to D13) |
//! | END-OF-MESSAGE | the reservation is counted and written to disk before the answer |
//! | any other | nothing |

mod connection;
mod end_of_message;
mod recipient;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use waypost_config::policy::{Observation, Policy, Transaction, observed_at_mail};
use waypost_postfix::{Action, PolicyRequest, ProtocolState};
use waypost_relay::RefusalReason;
use waypost_types::{ListenerRole, Mailbox, Reply, ReversePath, Session};

use super::ForeignSenders;
use super::messages::{Message, Messages, Open};
use crate::core::Core;
use crate::log;
use crate::metrics::{At, Reason};
use connection::Connection;

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
        Connection::new(Arc::clone(self))
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
