//! A decision as a milter can carry it out: by the mail server that asks, which receives and delivers.
//!
//! **In:** a [`Policy`], what the mail server tells of its client and envelope, a [`Decision`]. **Out:** the
//! [`Session`] and addresses that the policy is asked with, and a [`MilterPlan`]: what the server is told,
//! and what it cannot be told. [`limits`] lists every setting that a milter cannot express, each with the
//! reason.
//!
//! **Bounds:** linear in recipients and deliveries. **Errors:** replies, as a session of `serve` gives
//! them. **Source:** the milter protocol as Postfix and Sendmail speak it; requirements C6 to C8, D8, D16,
//! E2 to E11, and `docs/MILTER.md`.
//!
//! **Not here:** the message's octets (`waypost-server` changes them), sockets, quotas.

mod limits;

use std::net::{IpAddr, Ipv4Addr};

use waypost_milter::{Actions, MailClient};
use waypost_types::{
    Changes, ListenerRole, Mailbox, MailboxError, Recipient, Reply, ReversePath, Session, TlsState,
};

use crate::policy::{DataReply, DecidedDelivery, Decision, Policy, Refused};
pub use limits::limits;

/// The client as a session of `serve` would know it.
///
/// The port's name (`{daemon_name}`) stands for the `[[listener]]` of that name, whose role then holds; any
/// other name is `role`. A login counts if it is the address or an alias of an active user. Mail that came
/// over no network is from this machine, 127.0.0.1.
///
/// # Errors
/// `451 4.3.0` where the directory cannot answer.
pub fn session(policy: &Policy, client: &MailClient, role: ListenerRole) -> Result<Session, Reply> {
    let named = client.port_name.as_deref();
    let listener = policy.server.listeners.iter().find(|one| Some(&*one.name) == named);
    // A name that is no address is nobody's: the relay entries then say what is missing.
    // In clear text no login counts (D6).
    let login = client.login.as_deref().filter(|_| client.tls.is_some());
    let login = login.and_then(|name| name.parse::<Mailbox>().ok());
    let auth = match login {
        None => None,
        Some(user) => policy.active_user(&user).map_err(|_| {
            Reply::new(451, (4, 3, 0), "The directory cannot answer now; try again later")
        })?,
    };
    Ok(Session {
        client_ip: client.ip.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |ip| ip.to_canonical()),
        role: listener.map_or(role, |listener| listener.role),
        helo: client.helo.clone(),
        auth,
        tls: if client.tls.is_some() { TlsState::Encrypted } else { TlsState::Clear },
    })
}

/// The sender as a mail server tells it.
///
/// # Errors
/// `501 5.1.7` for what is no address.
pub fn sender(text: &str) -> Result<ReversePath, Reply> {
    if text.is_empty() {
        return Ok(ReversePath::Null);
    }
    let read = text.parse::<Mailbox>();
    read.map(ReversePath::Mailbox).map_err(|error| Reply::new(501, (5, 1, 7), &error.to_string()))
}

/// The recipient as a mail server tells it; `postmaster` alone is that of the server itself (RFC 5321
/// section 4.5.1).
///
/// # Errors
/// `501 5.1.3` for what is no address.
pub fn recipient(policy: &Policy, text: &str) -> Result<Mailbox, Reply> {
    match text.parse::<Mailbox>() {
        Ok(mailbox) => Ok(mailbox),
        Err(MailboxError::Shape(text)) if text.eq_ignore_ascii_case("postmaster") => {
            Ok(Mailbox::postmaster(policy.server.hostname.clone()))
        }
        Err(error) => Err(Reply::new(501, (5, 1, 3), &error.to_string())),
    }
}

/// What a mail server may be asked to do for this policy, beside what every milter may: header fields
/// changed and mail held.
#[must_use]
pub fn wanted_actions(policy: &Policy) -> Actions {
    let mut wanted = Actions::ADD_HEADERS.and(Actions::CHANGE_HEADERS).and(Actions::QUARANTINE);
    wanted = wanted.and(Actions::ADD_RECIPIENT).and(Actions::DELETE_RECIPIENT);
    let any = policy.organizations().iter().any(|organization| {
        let mut entries = policy.relay().entries(&organization.name);
        entries.any(|one| one.allowed_senders() == waypost_relay::AllowedSenders::Any)
    });
    if any {
        wanted = wanted.and(Actions::CHANGE_SENDER);
    }
    if limits::removes_attachments(policy) {
        wanted = wanted.and(Actions::CHANGE_BODY);
    }
    wanted
}

/// Whether a decision hangs on the body: attachments to be removed, a filter to be asked, DKIM.
#[must_use]
pub fn needs_body(policy: &Policy) -> bool {
    policy.server.filter.is_some()
        || limits::removes_attachments(policy)
        || policy.organizations().iter().any(|one| {
            one.authenticate != waypost_auth::Mode::Off
                || one.internal_senders == crate::policy::InternalSenders::Authenticated
        })
}

/// What becomes of the message as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MilterVerdict {
    /// The server delivers it.
    Accept,
    /// It is refused with this reply, for this reason.
    Refuse(Reply, Box<str>),
    /// The server holds it, for this reason.
    Quarantine(Box<str>),
    /// Nobody is to get it: taken, and thrown away.
    Discard,
}

/// A decision in the words of the protocol.
#[derive(Clone, Debug)]
pub struct MilterPlan {
    /// What becomes of the message as a whole; the rest holds where it is taken or held.
    pub verdict: MilterVerdict,
    /// Another sender (D8).
    pub sender: Option<ReversePath>,
    /// Recipients to be added: new names, copies, members.
    pub add: Vec<Mailbox>,
    /// Recipients to be taken out, as RCPT gave them: renamed, or refused.
    pub delete: Vec<Mailbox>,
    /// Changes to the message, beside the decision's own stamps and the filter's fields and edits.
    pub changes: Changes,
    /// Recipients that are refused while others get the message: the sender is to be told by mail.
    pub refused: Vec<Refused>,
    /// What the decision asks for and the server cannot be told, in words.
    pub unfollowed: Vec<Box<str>>,
}

impl MilterPlan {
    /// What a server that allows these actions is told for a decision about these recipients.
    ///
    /// A message is one for all of its recipients: changes are those that all of them are to get, and it is
    /// held as a whole if one of them is not to get it yet. Copies go as the others' message does.
    #[must_use]
    pub fn of(
        decision: &Decision,
        sender: &ReversePath,
        recipients: &[Recipient],
        may: Actions,
    ) -> Self {
        let kept = decision.quarantined.iter().flat_map(|kept| &kept.deliveries);
        let deliveries: Vec<&DecidedDelivery> = decision.deliveries.iter().chain(kept).collect();
        let mut plan = Self {
            verdict: MilterVerdict::Accept,
            sender: None,
            add: Vec::new(),
            delete: Vec::new(),
            changes: Changes::default(),
            refused: decision.refusals.clone(),
            unfollowed: Vec::new(),
        };
        if let DataReply::Refuse(reply) = &decision.reply {
            let because = decision.refusals.first().map_or("", |refused| &refused.because);
            plan.verdict = MilterVerdict::Refuse(reply.clone(), because.into());
            return plan;
        }
        plan.hold(decision, may);
        plan.readdress(&deliveries, recipients, may);
        if deliveries.is_empty() && plan.verdict == MilterVerdict::Accept {
            plan.verdict = MilterVerdict::Discard;
        }
        plan.rewrite_sender(&deliveries, sender, may);
        plan.change(&deliveries, may);
        plan
    }

    fn left(&mut self, what: String) {
        self.unfollowed.push(what.into());
    }

    fn hold(&mut self, decision: &Decision, may: Actions) {
        let Some(first) = decision.quarantined.first() else { return };
        let reason = format!("quarantine {}: {}", first.quarantine, first.because);
        if !may.has(Actions::QUARANTINE) {
            let reply = Reply::new(451, (4, 7, 1), "This mail would be kept for review; try again");
            let because = format!("{reason}; the mail server does not let a milter hold mail");
            self.verdict = MilterVerdict::Refuse(reply, because.into());
            return;
        }
        if !decision.deliveries.is_empty() {
            self.left("held for all recipients: a mail server holds a message as a whole".into());
        }
        self.verdict = MilterVerdict::Quarantine(reason.into());
    }

    /// Who is to get it, against who is in the envelope.
    fn readdress(
        &mut self,
        deliveries: &[&DecidedDelivery],
        recipients: &[Recipient],
        may: Actions,
    ) {
        let mut wanted: Vec<&Mailbox> = Vec::new();
        for one in deliveries {
            let to = &one.delivery.recipient;
            if !wanted.contains(&to) {
                wanted.push(to);
            }
        }
        let twice = deliveries.iter().enumerate().find(|(place, one)| {
            let (this, before) = (&one.delivery, deliveries.iter().take(*place));
            before.map(|one| &one.delivery).any(|other| {
                this.recipient == other.recipient && this.destination != other.destination
            })
        });
        if let Some((_, twice)) = twice {
            let to = &twice.delivery.recipient;
            self.left(format!("{to} is to get it by two ways, and a mail server has one"));
        }
        let is_in = |address: &Mailbox| recipients.iter().any(|one| one.address == *address);
        let add: Vec<Mailbox> =
            wanted.iter().filter(|to| !is_in(to)).map(|to| (*to).clone()).collect();
        let mut delete: Vec<Mailbox> = Vec::new();
        for one in recipients {
            if !wanted.contains(&&one.address) && !delete.contains(&one.address) {
                delete.push(one.address.clone());
            }
        }
        let (may_add, may_delete) =
            (may.has(Actions::ADD_RECIPIENT), may.has(Actions::DELETE_RECIPIENT));
        let refused = self.refused.iter().find(|one| delete.contains(&one.recipient));
        if let (Some(refused), false) = (refused, may_delete) {
            // Nobody who is refused may get it; so nobody gets it, and all are told.
            let because = format!("{}; no recipient can be taken out", refused.because);
            self.verdict = MilterVerdict::Refuse(refused.reply.clone(), because.into());
            return;
        }
        match may_add {
            true => self.add = add,
            false => add.iter().for_each(|to| self.left(format!("recipient {to} not added"))),
        }
        // A renamed recipient whose new name cannot be added keeps the old one.
        if may_delete && (may_add || self.add.len() == add_count(&wanted, recipients)) {
            self.delete = delete;
        } else if may_delete {
            self.delete = delete
                .into_iter()
                .filter(|to| self.refused.iter().any(|one| one.recipient == *to))
                .collect();
        } else {
            delete.iter().for_each(|to| self.left(format!("recipient {to} not taken out")));
        }
    }

    fn rewrite_sender(
        &mut self,
        deliveries: &[&DecidedDelivery],
        sender: &ReversePath,
        may: Actions,
    ) {
        let Some(first) = deliveries.first() else { return };
        let wanted = &first.delivery.sender;
        if wanted == sender {
            return;
        }
        if may.has(Actions::CHANGE_SENDER) {
            self.sender = Some(wanted.clone());
        } else {
            self.left(format!("the sender is not rewritten to {wanted} (D8)"));
        }
    }

    /// Changes that all recipients get; those of copies do not count, since they go along.
    fn change(&mut self, deliveries: &[&DecidedDelivery], may: Actions) {
        let own = || deliveries.iter().filter(|one| !one.is_copy);
        let mut all = own().map(|one| &one.delivery.changes);
        let Some(first) = all.next().or(deliveries.first().map(|one| &one.delivery.changes)) else {
            return;
        };
        let rest: Vec<&Changes> = all.collect();
        let mut shared = first.clone();
        shared.added_headers.retain(|line| rest.iter().all(|one| one.added_headers.contains(line)));
        if rest.iter().any(|one| one.subject_prefix != shared.subject_prefix) {
            shared.subject_prefix = None;
        }
        shared.remove_attachments &= rest.iter().all(|one| one.remove_attachments);
        if shared.remove_attachments && !may.has(Actions::CHANGE_BODY) {
            shared.remove_attachments = false;
            self.left("attachments are not removed: no milter may change a body here".into());
        }
        for one in deliveries {
            let changes = &one.delivery.changes;
            let missing =
                changes.added_headers.iter().any(|line| !shared.added_headers.contains(line))
                    || changes.subject_prefix != shared.subject_prefix
                    || changes.remove_attachments && !shared.remove_attachments;
            let extra =
                shared.added_headers.iter().any(|line| !changes.added_headers.contains(line));
            if missing || extra {
                let to = &one.delivery.recipient;
                self.left(format!("{to} is to get it changed otherwise than others"));
                break;
            }
        }
        self.changes = shared;
    }
}

fn add_count(wanted: &[&Mailbox], recipients: &[Recipient]) -> usize {
    wanted.iter().filter(|to| !recipients.iter().any(|one| one.address == ***to)).count()
}
