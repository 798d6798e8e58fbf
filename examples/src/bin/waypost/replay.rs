//! `waypost quota --replay`: transactions played against the quotas of a configuration (D10-D14).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use waypost_config::policy::{Policy, RcptVerdict, Transaction};
use waypost_relay::Ledger;
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
}

/// Plays the lines of stdin on a relay listener with simulated time.
pub(crate) fn run(policy: Arc<Policy>) -> Result<Answer, Failure> {
    let mut replay = Replay { policy, ledger: Ledger::new([0; 16]), at: 0.0 };
    batch::run(move |question: Question| replay.play(&question))
}

/// A server that only counts.
struct Replay {
    policy: Arc<Policy>,
    ledger: Ledger,
    at: f64,
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
        Ok(match self.policy.at_mail(&session, &sender) {
            Err(refusal) => Replies { mail: code(&refusal.reply), rcpt: Vec::new() },
            Ok(transaction) => {
                let accepted = question.accepted.unwrap_or(true);
                let rcpt = self.recipients(now, &transaction, &recipients, accepted);
                Replies { mail: "250".to_owned(), rcpt }
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
    ) -> Vec<String> {
        let mut quota = transaction
            .admission
            .as_ref()
            .map(|admission| self.ledger.begin(admission.quota.clone()));
        let mut standing = 0;
        let mut replies = Vec::with_capacity(recipients.len());
        for recipient in recipients {
            let reply = match self.policy.at_rcpt(transaction, recipient, standing) {
                RcptVerdict::Refuse(refused) => Some(refused.reply),
                RcptVerdict::Accept { .. } => quota.as_mut().and_then(|quota| {
                    let reserved = self.ledger.reserve(now, quota, &recipient.address);
                    reserved.err().map(|refusal| refusal.reply())
                }),
            };
            standing += usize::from(reply.is_none());
            replies.push(reply.map_or_else(|| "250".to_owned(), |reply| code(&reply)));
        }
        match quota {
            Some(quota) if accepted => drop(self.ledger.commit(now, quota)),
            Some(quota) => self.ledger.release(quota),
            None => {}
        }
        replies
    }
}

/// The code, and the enhanced one of a refusal.
fn code(reply: &Reply) -> String {
    match reply.enhanced().filter(|_| !reply.is_positive()) {
        Some(enhanced) => format!("{} {enhanced}", reply.code()),
        None => reply.code().to_string(),
    }
}
