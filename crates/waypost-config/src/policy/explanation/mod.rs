//! The explanation of a decision, as a value that is printed and stored (C9).

mod text;

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use waypost_auth::{Action, Authentication};
use waypost_inbound::{SpamEvaluation, TagNote};
use waypost_relay::{ObservedRefusal, Refusal};
use waypost_rules::Spam;
use waypost_types::{Destination, Recipient, Reply, Session, TlsDemand};

use super::decision::{AuthenticationView, DataReply, DecidedDelivery, Decision, OrganizationView};
use super::{Policy, mail_accepted};

/// The answer of a dry run, in the form of the contract of `explain --batch`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// The source IP as the first accepted recipient's organization sees it; null when internal.
    pub source_ip: Option<IpAddr>,
    /// Whether the message counts as spam there.
    pub spam: bool,
    /// Whether it claims to be internal without proof.
    pub spoofed_internal: bool,
    /// That organization.
    pub organization: Option<Box<str>>,
    /// How its inbound gateway's settings found the source; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound_gateway: Option<ExplainedGateway>,
    /// What that organization makes of SPF, DKIM and DMARC; absent: they are not evaluated there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<ExplainedAuthentication>,
    /// What is observed only.
    pub observed: Vec<Box<str>>,
    /// The rules looked at: all of a dry run; of a live message those that match, and a few hundred others.
    pub rules: Vec<ExplainedRule>,
    /// How many rules that did not match are left out of `rules`; absent when none is.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rules_left_out: usize,
    /// The replies.
    pub replies: Replies,
    /// The deliveries.
    pub deliveries: Vec<ExplainedDelivery>,
    /// The refused recipients.
    pub refusals: Vec<ExplainedRefusal>,
    /// The kept ones.
    pub quarantined: Vec<ExplainedQuarantine>,
}

/// What an inbound gateway's settings say of a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainedGateway {
    /// Why the source IP is that one: `first-external` (E3-E5).
    pub because: Cow<'static, str>,
    /// Whether an SPF check of the source IP is due (E2).
    pub spf: bool,
    /// Whether the source IP is on the allow list (E11).
    pub allow_listed: bool,
    /// Whether the tag alone says what is spam (E10).
    pub only_spam_tag: bool,
    /// The line that the tag's verdict rests on (E9).
    pub tag_line: Option<String>,
    /// The number taken from it.
    pub tag_score: Option<f64>,
    /// What the tag's group held instead of a number.
    pub tag_not_a_number: Option<String>,
}

/// SPF, DKIM and DMARC (E2).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainedAuthentication {
    /// `report` or `enforce`.
    pub mode: Cow<'static, str>,
    /// The results; null where nobody asked, since a dry run asks no DNS.
    pub found: Option<Authentication>,
    /// What is done for them: `accept`, `spam` or `refuse`.
    pub verdict: Cow<'static, str>,
    /// Why.
    pub because: String,
}

/// One rule looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainedRule {
    /// Its description.
    pub rule: Box<str>,
    /// The recipient.
    pub recipient: String,
    /// Whether it matched.
    pub matched: bool,
    /// The first condition that failed.
    pub failed: Option<String>,
}

/// What the client would be told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Replies {
    /// To MAIL.
    pub mail: String,
    /// To each RCPT.
    pub rcpt: Vec<String>,
    /// To DATA; null when no recipient stood.
    pub data: Option<String>,
}

/// One delivery.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainedDelivery {
    /// The recipient after all changes.
    pub recipient: String,
    /// The recipient of RCPT.
    pub original_recipient: String,
    /// The sender after D8; empty for the null sender.
    pub sender: String,
    /// `mailbox`, `route`, `mx` or `gateway`.
    pub via: Cow<'static, str>,
    /// The route.
    pub route: Option<String>,
    /// `required` or `opportunistic`.
    pub tls: Cow<'static, str>,
    /// Lines added on top.
    pub added_headers: Vec<(String, String)>,
    /// The subject's prefix.
    pub subject_prefix: Option<Box<str>>,
    /// Whether bounces are suppressed.
    pub suppress_bounces: bool,
    /// The rules that changed something.
    pub because: Vec<Box<str>>,
    /// In words, why it goes there.
    pub reason: String,
    /// The parts that lost.
    pub overridden: Vec<ExplainedOverride>,
    /// What an administrator should know.
    pub warnings: Vec<String>,
    /// The direction.
    pub direction: Cow<'static, str>,
    /// The organization whose policy decided.
    pub organization: Box<str>,
    /// The source IP as that organization sees it.
    pub source_ip: Option<IpAddr>,
    /// Whether the message counts as spam there.
    pub spam: bool,
}

/// A part of a rule that lost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainedOverride {
    /// The rule that lost.
    pub rule: Box<str>,
    /// The rule that won.
    pub by: Box<str>,
    /// The part.
    pub what: Cow<'static, str>,
}

/// A refused recipient.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainedRefusal {
    /// The recipient.
    pub recipient: String,
    /// The reply.
    pub reply: String,
    /// Why.
    pub because: String,
}

/// A kept recipient.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainedQuarantine {
    /// The recipient.
    pub recipient: String,
    /// The quarantine's name.
    pub quarantine: Box<str>,
    /// The rule or setting.
    pub because: Box<str>,
}

impl Explanation {
    /// The explanation of a decision that was taken: what `serve` keeps under the queue id.
    #[must_use]
    pub fn of(policy: &Policy, decision: &Decision) -> Self {
        let first = decision.organizations.first();
        let data = match &decision.reply {
            DataReply::Accept => Reply::new(250, (2, 0, 0), "Accepted").to_string(),
            DataReply::Refuse(reply) => reply.to_string(),
        };
        Self {
            source_ip: first.and_then(|view| view.source.ip),
            spam: first.is_some_and(|view| view.spam != Spam::No),
            spoofed_internal: first.is_some_and(|view| view.spoofed_internal),
            organization: first.map(|view| view.organization.clone()),
            inbound_gateway: first.and_then(explained_gateway),
            authentication: first.and_then(|view| view.authentication.as_ref()).map(told),
            observed: decision.observed.clone(),
            rules: decision
                .rules
                .iter()
                .map(|looked| ExplainedRule {
                    rule: looked.rule.clone(),
                    recipient: looked.recipient.to_string(),
                    matched: looked.failed.is_none(),
                    failed: looked.failed.clone(),
                })
                .collect(),
            rules_left_out: decision.rules_left_out,
            replies: Replies {
                mail: mail_accepted().to_string(),
                rcpt: Vec::new(),
                data: Some(data),
            },
            deliveries: decision.deliveries.iter().map(|one| explained(policy, one)).collect(),
            refusals: decision
                .refusals
                .iter()
                .map(|refused| ExplainedRefusal {
                    recipient: refused.recipient.to_string(),
                    reply: refused.reply.to_string(),
                    because: refused.because.clone(),
                })
                .collect(),
            quarantined: decision
                .quarantined
                .iter()
                .map(|kept| ExplainedQuarantine {
                    recipient: kept.recipient.to_string(),
                    quarantine: kept.quarantine.clone(),
                    because: kept.because.clone(),
                })
                .collect(),
        }
    }

    pub(super) fn of_refused_mail(
        session: &Session,
        recipients: &[Recipient],
        refusal: &Refusal,
    ) -> Self {
        let reply = &refusal.reply;
        Self {
            source_ip: Some(session.client_ip),
            spam: false,
            spoofed_internal: false,
            organization: refusal.organization.as_deref().map(Into::into),
            inbound_gateway: None,
            authentication: None,
            observed: observed_entries(&refusal.observed),
            rules: Vec::new(),
            rules_left_out: 0,
            replies: Replies { mail: reply.to_string(), rcpt: Vec::new(), data: None },
            deliveries: Vec::new(),
            refusals: recipients
                .iter()
                .map(|recipient| ExplainedRefusal {
                    recipient: recipient.address.to_string(),
                    reply: reply.to_string(),
                    because: refusal.because.to_string(),
                })
                .collect(),
            quarantined: Vec::new(),
        }
    }

    /// The explanation that [`Entry::decision`](waypost_queue::Entry::decision) holds: `serve` stores it
    /// as JSON text. `None` for a text that is none, such as that of a notice of the server's own.
    #[must_use]
    pub fn stored(decision: &str) -> Option<Self> {
        serde_json::from_str(decision).ok()
    }

    /// Whether anything is accepted: deliveries or quarantine.
    #[must_use]
    pub fn accepts(&self) -> bool {
        !self.deliveries.is_empty() || !self.quarantined.is_empty()
    }
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The observed relay entries that would have refused, by description (O6).
pub(super) fn observed_entries(observed: &[ObservedRefusal]) -> Vec<Box<str>> {
    observed.iter().map(|refusal| (*refusal.entry).into()).collect()
}

pub(super) fn explained_gateway(view: &OrganizationView) -> Option<ExplainedGateway> {
    let gateway = view.gateway.as_ref()?;
    let tag = gateway.tag.as_ref();
    let note = tag.and_then(|tag| tag.note.as_ref());
    Some(ExplainedGateway {
        because: view.source.because.as_str().into(),
        spf: view.source.spf,
        allow_listed: gateway.allow_listed,
        only_spam_tag: gateway.spam_evaluation == SpamEvaluation::OnlyTag,
        tag_line: tag.and_then(|tag| tag.line.clone()),
        tag_score: tag.and_then(|tag| tag.score),
        tag_not_a_number: note.and_then(|note| match note {
            TagNote::NotANumber(text) => Some(text.clone()),
            _ => None,
        }),
    })
}

fn told(view: &AuthenticationView) -> ExplainedAuthentication {
    ExplainedAuthentication {
        mode: view.mode.as_str().into(),
        found: view.found.clone(),
        verdict: match &view.verdict.action {
            Action::Accept => "accept".into(),
            Action::Spam => "spam".into(),
            Action::Refuse(_) => "refuse".into(),
        },
        because: view.verdict.because.clone(),
    }
}

fn explained(policy: &Policy, decided: &DecidedDelivery) -> ExplainedDelivery {
    let delivery = &decided.delivery;
    let (via, route) = match &delivery.destination {
        Destination::Mailbox { .. } => ("mailbox", None),
        Destination::Route { route, .. } => ("route", Some(route.to_string())),
        Destination::Gateway(_) => ("gateway", None),
        _ => ("mx", None),
    };
    ExplainedDelivery {
        recipient: delivery.recipient.to_string(),
        original_recipient: delivery.original_recipient.to_string(),
        sender: delivery.sender.to_string(),
        via: via.into(),
        route,
        tls: match policy.effective_tls(delivery) {
            TlsDemand::Required => "required".into(),
            TlsDemand::Opportunistic => "opportunistic".into(),
        },
        added_headers: delivery
            .changes
            .added_headers
            .iter()
            .map(|line| (line.name().to_owned(), line.value().to_owned()))
            .collect(),
        subject_prefix: delivery.changes.subject_prefix.clone(),
        suppress_bounces: delivery.suppress_bounces,
        because: decided.because.clone(),
        reason: decided.reason.clone(),
        overridden: decided
            .overridden
            .iter()
            .map(|lost| ExplainedOverride {
                rule: lost.rule.clone(),
                by: lost.by.clone(),
                what: lost.what.into(),
            })
            .collect(),
        warnings: decided.warnings.clone(),
        direction: decided.direction.as_str().into(),
        organization: decided.organization.clone(),
        source_ip: decided.source_ip,
        spam: decided.spam != Spam::No,
    }
}
