//! The explanation of a decision, as a value that is printed and stored (C9).

mod cure;
mod delivery_text;
mod page;
mod seen;
mod text;
mod way;

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use waypost_auth::{Action, Authentication};
use waypost_inbound::{SpamEvaluation, TagNote};
use waypost_relay::{ObservedRefusal, Refusal};
use waypost_route::Draw;
use waypost_rules::Spam;
use waypost_types::{Destination, Recipient, Reply, RouteName, Session, TlsDemand};

use super::decision::{
    AuthenticationView, DataReply, DecidedDelivery, Decision, FilterView, OrganizationView, Refused,
};
use super::observed::Observation;
use super::{Policy, mail_accepted};

pub use page::{Layout, RulesShown};
pub use way::{Drawing, ExplainedHost, ExplainedHosts, ExplainedTls};

/// What was observed is told in full of so many; the names are all told.
const OBSERVATIONS: usize = 64;

/// The answer of a dry run, in the form of the contract of `explain --batch`, and what `serve` stores.
///
/// What is stored tells what was decided and why, as it was then. What the configuration says of a
/// route at the moment of asking ([`Policy::hosts_of`], [`Policy::tls_of`]) is not stored: only the
/// draw and the order of its hosts are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Explanation {
    /// The configuration's version.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub version: Box<str>,
    /// The source IP as the first accepted recipient's organization sees it; null when internal.
    pub source_ip: Option<IpAddr>,
    /// Whether the message counts as spam there.
    pub spam: bool,
    /// Why it does, the gravest first; absent where it does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spam_because: Vec<ExplainedSpam>,
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
    /// What the filter said to that organization; absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<ExplainedFilter>,
    /// The relay entry that admits the client, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<ExplainedAdmission>,
    /// What is observed only.
    pub observed: Vec<Box<str>>,
    /// The same, with what each would have done (O6).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observed_details: Vec<Observation>,
    /// How each recipient was looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<ExplainedRecipient>,
    /// The rules looked at: all of a dry run; of a live message those that match, and a few dozen others
    /// that came nearest.
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

/// Why the client is relayed, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedAdmission {
    /// The organization.
    pub organization: Box<str>,
    /// The relay entry.
    pub entry: Box<str>,
    /// The proofs that it found.
    pub because: String,
    /// The registered user that the mail counts for, by primary address; absent: the organization alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The sender of MAIL, where it is rewritten (D8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewritten: Option<String>,
    /// What becomes of the copy that the entry asks for (D16); absent where it asks for none, or the
    /// message is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<String>,
}

/// How a recipient was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedRecipient {
    /// The recipient of RCPT.
    pub recipient: String,
    /// The directions; of two, the sender's first.
    pub sides: Vec<ExplainedSide>,
}

/// One direction that the message has for a recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedSide {
    /// The organization whose rules were asked.
    pub organization: Box<str>,
    /// The direction.
    pub direction: Cow<'static, str>,
    /// Why it is that one; absent where the side before says it, and of a message that was taken also
    /// where an earlier recipient's side says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// The kind of account: the sender's in outgoing directions, else the recipient's.
    pub account: Cow<'static, str>,
    /// Its unit.
    pub org_unit: Box<str>,
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

/// Why a message counts as spam (D17).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedSpam {
    /// What says so: `malware`, `tag`, `filter` or `dmarc`.
    pub by: Cow<'static, str>,
    /// The line, answer or result that says so.
    pub because: Box<str>,
}

/// What a filter said (D17).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedFilter {
    /// `clean`, `spam`, `malware`, `refuse`, `defer` or `unanswered`; `not-asked` of a dry run.
    pub finding: Cow<'static, str>,
    /// The line or the answer that says so.
    pub because: Box<str>,
    /// The number taken from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Why its verdict on spam does not count there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleared: Option<Cow<'static, str>>,
    /// The names of the fields that it adds to every delivery.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adds: Vec<String>,
    /// Its changes to fields of the message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// What it wanted and does not get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
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
    /// How many conditions failed beside the first one: the fewer, the nearer it came to matching; absent
    /// where none did.
    #[serde(default, skip_serializing_if = "is_none_of_them")]
    pub also_failed: u8,
    /// The unit of a rule that acted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_unit: Option<Box<str>>,
    /// What it changed: `route: edge`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
}

/// What the client would be told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
    /// The attachments that a rule takes out (C6); absent where none asks for it, or nobody looked: a
    /// dry run does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_attachments: Option<Vec<ExplainedAttachment>>,
    /// Whether bounces are suppressed.
    pub suppress_bounces: bool,
    /// The rules that changed something.
    pub because: Vec<Box<str>>,
    /// In words, why it goes there.
    pub reason: String,
    /// It is a copy that a rule adds, or, where no rule chose it, a relay entry (D16).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub copy: bool,
    /// The rule that chose where it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_by: Option<Box<str>>,
    /// The rule that settled what is demanded of TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_by: Option<Box<str>>,
    /// The hosts of the route in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<ExplainedHosts>,
    /// What is asked of TLS; not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_policy: Option<ExplainedTls>,
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

/// An attachment that a delivery does not get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedAttachment {
    /// Its file name.
    pub name: Option<String>,
    /// Its media type.
    pub r#type: String,
    /// Its size in octets, decoded.
    pub size: u64,
    /// Why it counts as one.
    pub because: String,
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
    /// What can be done about it; absent where the reply says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cure: Option<Cow<'static, str>>,
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
    /// The explanation of a decision without a queue id, as of a dry run: hosts with their shares, and
    /// what is asked of TLS.
    #[must_use]
    pub fn of(policy: &Policy, decision: &Decision) -> Self {
        let explained = |one: &DecidedDelivery| {
            let hosts = policy.hosts_of(&one.delivery, &Drawing::Shares);
            let tls_policy = policy.tls_of(&one.delivery, one.tls_by.as_deref());
            ExplainedDelivery { hosts, tls_policy, ..explained(policy, one) }
        };
        Self::told(policy, decision, &explained)
    }

    /// The explanation of a decision that was taken: what `serve` keeps under the queue id, whose draws
    /// are given.
    #[must_use]
    pub fn of_taken(
        policy: &Policy,
        decision: &Decision,
        draw: &dyn Fn(&RouteName) -> Draw,
    ) -> Self {
        let explained = |one: &DecidedDelivery| {
            let hosts = policy.hosts_of(&one.delivery, &Drawing::Drawn(draw));
            ExplainedDelivery { hosts, ..explained(policy, one) }
        };
        let mut taken = Self::told(policy, decision, &explained);
        taken.observed_details.truncate(OBSERVATIONS);
        let mut said: Vec<(Box<str>, Cow<'static, str>, String)> = Vec::new();
        for side in taken.recipients.iter_mut().flat_map(|one| &mut one.sides) {
            let Some(because) = side.because.take() else { continue };
            let this = (side.organization.clone(), side.direction.clone(), because);
            if !said.contains(&this) {
                side.because = Some(this.2.clone());
                said.push(this);
            }
        }
        taken
    }

    fn told(
        policy: &Policy,
        decision: &Decision,
        explained: &dyn Fn(&DecidedDelivery) -> ExplainedDelivery,
    ) -> Self {
        let first = decision.organizations.first();
        let data = match &decision.reply {
            DataReply::Accept => Reply::new(250, (2, 0, 0), "Accepted").to_string(),
            DataReply::Refuse(reply) => reply.to_string(),
        };
        Self {
            version: policy.version().into(),
            source_ip: first.and_then(|view| view.source.ip),
            spam: first.is_some_and(|view| view.spam != Spam::No),
            spam_because: first.map(spam_because).unwrap_or_default(),
            filter: first
                .and_then(|view| view.filter.as_ref())
                .map(|view| filtered(decision, view)),
            spoofed_internal: first.is_some_and(|view| view.spoofed_internal),
            organization: first.map(|view| view.organization.clone()),
            inbound_gateway: first.and_then(explained_gateway),
            authentication: first.and_then(|view| view.authentication.as_ref()).map(told),
            admission: decision
                .admission
                .as_ref()
                .map(|admission| ExplainedAdmission::of(admission, decision.copied.as_ref())),
            observed: decision.observed.clone(),
            observed_details: decision.observations.clone(),
            recipients: decision
                .recipients
                .iter()
                .map(|one| ExplainedRecipient::of(decision, one))
                .collect(),
            rules: seen::rules(decision),
            rules_left_out: decision.rules_left_out,
            replies: Replies {
                mail: mail_accepted().to_string(),
                rcpt: Vec::new(),
                data: Some(data),
            },
            deliveries: decision.deliveries.iter().map(explained).collect(),
            refusals: decision.refusals.iter().map(ExplainedRefusal::of).collect(),
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
        policy: &Policy,
        session: &Session,
        recipients: &[Recipient],
        refusal: &Refusal,
    ) -> Self {
        let reply = &refusal.reply;
        Self {
            version: policy.version().into(),
            source_ip: Some(session.client_ip),
            organization: refusal.organization.as_deref().map(Into::into),
            observed: observed_entries(&refusal.observed),
            replies: Replies { mail: reply.to_string(), rcpt: Vec::new(), data: None },
            refusals: recipients
                .iter()
                .map(|recipient| ExplainedRefusal {
                    recipient: recipient.address.to_string(),
                    reply: reply.to_string(),
                    because: match &refusal.entry {
                        Some(entry) => {
                            format!("{}, by relay entry \"{entry}\"", refusal.because)
                        }
                        None => refusal.because.to_string(),
                    },
                    cure: None,
                })
                .collect(),
            ..Self::default()
        }
    }

    /// Adds what was observed before the decision: at MAIL and RCPT, and by limits. Of what does not fit
    /// into 64 details, only the names are told.
    pub fn observe_first(&mut self, observations: &[Observation]) {
        let mut names: Vec<Box<str>> = Vec::new();
        for one in observations {
            if !names.contains(&one.name) && !self.observed.contains(&one.name) {
                names.push(one.name.clone());
            }
        }
        self.observed.splice(0..0, names);
        self.observed_details.splice(0..0, observations.iter().cloned());
        self.observed_details.truncate(OBSERVATIONS);
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none_of_them(count: &u8) -> bool {
    *count == 0
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

impl ExplainedRefusal {
    pub(super) fn of(refused: &Refused) -> Self {
        Self {
            recipient: refused.recipient.to_string(),
            reply: refused.reply.to_string(),
            because: refused.because.clone(),
            cure: cure::cure(refused.cause).map(Into::into),
        }
    }
}

impl ExplainedFilter {
    /// Of a dry run of which nothing was supposed.
    pub(super) fn not_asked() -> Self {
        Self {
            finding: "not-asked".into(),
            because: "a dry run asks no filter; this is as if it had found nothing".into(),
            score: None,
            cleared: None,
            adds: Vec::new(),
            changes: Vec::new(),
            ignored: Vec::new(),
        }
    }
}

fn spam_because(view: &OrganizationView) -> Vec<ExplainedSpam> {
    let verdicts = view.verdicts.iter();
    verdicts
        .map(|one| ExplainedSpam { by: one.by.as_str().into(), because: one.because.clone() })
        .collect()
}

fn filtered(decision: &Decision, view: &FilterView) -> ExplainedFilter {
    let FilterView { finding, cleared } = view;
    ExplainedFilter {
        finding: finding.kind.as_str().into(),
        because: finding.because.clone(),
        score: finding.score,
        cleared: cleared.map(|cleared| cleared.as_str().into()),
        adds: finding.added_names(),
        changes: decision.filter_edits.iter().map(ToString::to_string).collect(),
        ignored: finding.ignored.clone(),
    }
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
        removed_attachments: None,
        suppress_bounces: delivery.suppress_bounces,
        because: decided.because.clone(),
        reason: decided.reason.clone(),
        copy: decided.is_copy,
        chosen_by: decided.chosen_by.clone(),
        tls_by: decided.tls_by.clone(),
        hosts: None,
        tls_policy: None,
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
