//! `waypost quota --replay`: transactions played against the quotas of a configuration (D10-D14).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use waypost_config::policy::{Policy, RcptVerdict, Transaction};
use waypost_relay::{Ledger, QuotaSubject};
use waypost_types::{
    ListenerRole, Mailbox, Recipient, Reply, ReversePath, Session, Timestamp, TlsState,
};

use crate::answer::{Answer, Failure};
use crate::batch;

/// When second 0 of a replay is: the beginning of a day.
const BEGINNING: Timestamp = Timestamp::from_millis(20_000 * 86_400_000);

/// The latest second of a replay: a thousand years.
const LATEST: f64 = 3.2e10;

#[derive(Deserialize)]
struct Question {
    at: f64,
    client_ip: IpAddr,
    #[serde(default)]
    helo: Option<String>,
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    tls: Option<bool>,
    mail_from: Option<String>,
    rcpt_to: Vec<String>,
    #[serde(default)]
    accepted: Option<bool>,
}

#[derive(Serialize)]
struct Replies {
    mail: String,
    rcpt: Vec<String>,
    /// Recipients of this message that are accepted and held.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    held: Vec<String>,
    /// Recipients of messages before that were let go since the last line, with the second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    let_go: Vec<LetGo>,
}

/// A held recipient for whom there was room.
#[derive(Serialize)]
struct LetGo {
    recipient: String,
    at: f64,
}

/// Recipients of one message that wait for room.
struct Waiting {
    subject: QuotaSubject,
    recipients: Vec<Mailbox>,
    /// When they are looked at again.
    look: Timestamp,
}

/// Plays the lines of stdin on a relay listener with simulated time.
pub(crate) fn run(policy: Arc<Policy>) -> Result<Answer, Failure> {
    let mut replay = Replay { policy, ledger: Ledger::new([0; 16]), at: 0.0, waiting: Vec::new() };
    batch::run(move |question: Question| replay.play(&question))
}

/// A server that only counts.
struct Replay {
    policy: Arc<Policy>,
    ledger: Ledger,
    at: f64,
    /// What is held, oldest first.
    waiting: Vec<Waiting>,
}

impl Replay {
    fn play(&mut self, question: &Question) -> Result<Replies, String> {
        let now = self.advance(question.at)?;
        let sender: ReversePath = question
            .mail_from
            .as_deref()
            .unwrap_or("")
            .parse()
            .map_err(|error| format!("mail_from: {error}"))?;
        let mut recipients = Vec::with_capacity(question.rcpt_to.len());
        for text in &question.rcpt_to {
            let address: Mailbox = text.parse().map_err(|error| format!("rcpt_to: {error}"))?;
            recipients.push(Recipient::from(address));
        }
        let session = self.session(question)?;
        let let_go = self.let_go(now);
        Ok(match self.policy.at_mail(&session, &sender) {
            Err(refusal) => {
                Replies { mail: code(&refusal.reply), rcpt: Vec::new(), held: Vec::new(), let_go }
            }
            Ok(transaction) => {
                let accepted = question.accepted.unwrap_or(true);
                let (rcpt, held) = self.recipients(now, &transaction, &recipients, accepted);
                Replies { mail: "250".to_owned(), rcpt, held, let_go }
            }
        })
    }

    fn advance(&mut self, at: f64) -> Result<Timestamp, String> {
        if !(0.0..=LATEST).contains(&at) {
            return Err(format!("at: {at} is no time; write seconds from 0 to {LATEST}"));
        }
        if at < self.at {
            return Err(format!("at: {at} is before {}; sort the lines by time", self.at));
        }
        self.at = at;
        Ok(BEGINNING + Duration::from_secs_f64(at))
    }

    /// A session on a relay listener. AUTH counts inside TLS only, for an active user (D6).
    fn session(&self, question: &Question) -> Result<Session, String> {
        let tls = match question.tls {
            Some(true) => TlsState::Encrypted,
            Some(false) | None => TlsState::Clear,
        };
        let auth = match question.auth.as_deref().filter(|_| tls == TlsState::Encrypted) {
            None => None,
            Some(user) => {
                let user: Mailbox = user.parse().map_err(|error| format!("auth: {error}"))?;
                self.policy.active_user(&user).map_err(|error| error.to_string())?
            }
        };
        Ok(Session {
            client_ip: question.client_ip.to_canonical(),
            role: ListenerRole::Relay,
            helo: question.helo.as_deref().map(Into::into),
            auth,
            tls,
        })
    }

    /// RCPT for each recipient, as a server does it, and then the end of the message.
    fn recipients(
        &mut self,
        now: Timestamp,
        transaction: &Transaction,
        recipients: &[Recipient],
        accepted: bool,
    ) -> (Vec<String>, Vec<String>) {
        let mut quota = transaction
            .admission
            .as_ref()
            .map(|admission| self.ledger.begin(admission.quota.clone()));
        let owner = transaction.admission.as_ref();
        let owner =
            owner.and_then(|admission| self.policy.organization(&admission.quota.organization));
        let over_limit = owner.map(|owner| owner.over_limit).unwrap_or_default();
        let waiting = |organization: &str| {
            let same = self.waiting.iter().filter(|one| &*one.subject.organization == organization);
            same.map(|one| one.recipients.len()).sum::<usize>()
        };
        let mut held: Vec<Mailbox> = Vec::new();
        let mut look = None;
        let mut standing = 0;
        let mut replies = Vec::with_capacity(recipients.len());
        for recipient in recipients {
            let reply = match self.policy.at_rcpt(transaction, recipient, standing) {
                RcptVerdict::Refuse(refused) => Some(refused.reply),
                RcptVerdict::Accept { .. } => quota.as_mut().and_then(|quota| {
                    let address = &recipient.address;
                    let refusal = self.ledger.reserve(now, quota, address).err()?;
                    if let Some(reply) = refusal.reply_as(over_limit) {
                        return Some(reply);
                    }
                    let QuotaSubject { organization, limits, .. } = quota.subject();
                    if quota.recipients().contains(address) || held.contains(address) {
                        return None;
                    }
                    let most = usize::try_from(limits.recipients_per_day).unwrap_or(usize::MAX);
                    if waiting(organization) + held.len() >= most {
                        return Some(refusal.reply());
                    }
                    held.push(address.clone());
                    look = refusal.room_at;
                    None
                }),
            };
            standing += usize::from(reply.is_none());
            replies.push(reply.map_or_else(|| "250".to_owned(), |reply| code(&reply)));
        }
        if !accepted {
            held.clear();
        }
        let shown = held.iter().map(ToString::to_string).collect();
        if let (Some(look), Some(quota), false) = (look, &quota, held.is_empty()) {
            let subject = quota.subject().clone();
            self.waiting.push(Waiting { subject, recipients: held, look });
        }
        match quota {
            Some(quota) if accepted => drop(self.ledger.commit(now, quota)),
            Some(quota) => self.ledger.release(quota),
            None => {}
        }
        (replies, shown)
    }

    /// Lets go what was held and has room by `until`, each recipient at the moment when there is.
    fn let_go(&mut self, until: Timestamp) -> Vec<LetGo> {
        let mut gone = Vec::new();
        loop {
            let due = self.waiting.iter().enumerate().filter(|(_, one)| one.look <= until);
            let Some((place, now)) =
                due.map(|(place, one)| (one.look, place)).min().map(|(at, place)| (place, at))
            else {
                return gone;
            };
            let Some(one) = self.waiting.get_mut(place) else { return gone };
            let mut quota = self.ledger.begin(one.subject.clone());
            let mut next = None;
            one.recipients.retain(|recipient| {
                match self.ledger.reserve(now, &mut quota, recipient) {
                    Ok(_) => {
                        let at = now.since(BEGINNING).as_secs_f64();
                        gone.push(LetGo { recipient: recipient.to_string(), at });
                        false
                    }
                    Err(refusal) => {
                        next = next.or(refusal.room_at);
                        true
                    }
                }
            });
            let second = Duration::from_secs(1);
            let never = Timestamp::from_millis(u64::MAX);
            one.look = next.map_or(never, |at| at.max(now + second));
            if one.recipients.is_empty() {
                self.waiting.remove(place);
            }
            drop(self.ledger.commit(now, quota));
        }
    }
}

/// The code, and the enhanced one of a refusal.
fn code(reply: &Reply) -> String {
    match reply.enhanced().filter(|_| !reply.is_positive()) {
        Some(enhanced) => format!("{} {enhanced}", reply.code()),
        None => reply.code().to_string(),
    }
}
