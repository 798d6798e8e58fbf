//! A dry run of one transaction, and its answer for people and machines (C9).

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use waypost_auth::{Action, Authentication};
use waypost_inbound::{SpamEvaluation, TagNote};
use waypost_relay::{ObservedRefusal, Refusal};
use waypost_rules::Spam;
use waypost_types::{
    Destination, HeaderBlock, ListenerRole, Mailbox, Recipient, Reply, ReversePath, Session,
    TlsDemand, TlsState,
};

use super::decision::{AuthenticationView, DataReply, DecidedDelivery, Decision, OrganizationView};
use super::{Policy, RcptVerdict, mail_accepted, rcpt_accepted};

/// A transaction to be tried without sending anything.
#[derive(Clone, Debug)]
pub struct DryRun<'a> {
    /// The client's address.
    pub client_ip: IpAddr,
    /// The listener's name; `None`: the first `mx` one, or with `auth` the first relay one.
    pub listener: Option<&'a str>,
    /// HELO's argument.
    pub helo: Option<&'a str>,
    /// The user that AUTH proved; counts only inside TLS (D6).
    pub auth: Option<&'a str>,
    /// Whether the session is inside TLS.
    pub tls: TlsState,
    /// The envelope sender; empty or `<>` is the null sender.
    pub mail_from: &'a str,
    /// The recipients.
    pub rcpt_to: Vec<&'a str>,
    /// The message; only its header is looked at.
    pub message: &'a [u8],
}

/// Why a dry run cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DryRunError {
    /// No listener of that name.
    #[error("there is no listener `{0}`; the configuration has {1}")]
    Listener(String, String),
    /// No listener of the role that is needed.
    #[error("the configuration has no listener for {0}; name one with `listener`")]
    NoListener(&'static str),
    /// An address is no mailbox.
    #[error("{0}: {1}")]
    Address(&'static str, String),
    /// No recipient.
    #[error("there is no recipient; give at least one in `rcpt_to`")]
    NoRecipient,
}

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
    /// Every rule looked at.
    pub rules: Vec<ExplainedRule>,
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

impl Policy {
    /// Tries a transaction: what would be replied, decided and delivered, and why.
    ///
    /// Quotas and connection limits are not looked at. A recipient that RCPT refuses is listed among
    /// the refusals, with the rules looked at.
    ///
    /// # Errors
    /// [`DryRunError`] when listener or addresses are unusable.
    pub fn explain(&self, run: &DryRun<'_>) -> Result<Explanation, DryRunError> {
        let session = self.session(run)?;
        let sender: ReversePath = run
            .mail_from
            .parse()
            .map_err(|error| DryRunError::Address("mail_from", format!("{error}")))?;
        let mut recipients = Vec::with_capacity(run.rcpt_to.len());
        for text in &run.rcpt_to {
            let address: Mailbox = text
                .parse()
                .map_err(|error| DryRunError::Address("rcpt_to", format!("{error}")))?;
            recipients.push(Recipient::from(address));
        }
        if recipients.is_empty() {
            return Err(DryRunError::NoRecipient);
        }
        Ok(self.try_transaction(&session, &sender, &recipients, run.message))
    }

    fn session(&self, run: &DryRun<'_>) -> Result<Session, DryRunError> {
        let listeners = &self.server.listeners;
        let role = match run.listener {
            Some(name) => {
                let found = listeners.iter().find(|listener| &*listener.name == name);
                found.map(|listener| listener.role).ok_or_else(|| {
                    let names: Vec<&str> = listeners.iter().map(|one| &*one.name).collect();
                    DryRunError::Listener(name.to_owned(), names.join(", "))
                })?
            }
            None => {
                let (wanted, what) = match run.auth {
                    Some(_) => (ListenerRole::Relay, "relaying"),
                    None => (ListenerRole::Mx, "inbound mail"),
                };
                let fits = |role| role == wanted || role == ListenerRole::Both;
                let found = listeners.iter().find(|listener| listener.role == wanted);
                let found = found.or_else(|| listeners.iter().find(|one| fits(one.role)));
                found.map(|one| one.role).ok_or(DryRunError::NoListener(what))?
            }
        };
        let auth = match run.auth.filter(|_| run.tls == TlsState::Encrypted) {
            None => None,
            Some(text) => {
                let name: Mailbox = text
                    .parse()
                    .map_err(|error| DryRunError::Address("auth", format!("{error}")))?;
                self.active_user(&name).unwrap_or_default()
            }
        };
        Ok(Session {
            client_ip: run.client_ip.to_canonical(),
            role,
            helo: run.helo.map(Into::into),
            auth,
            tls: run.tls,
        })
    }

    fn try_transaction(
        &self,
        session: &Session,
        sender: &ReversePath,
        recipients: &[Recipient],
        message: &[u8],
    ) -> Explanation {
        let header = HeaderBlock::of(message);
        let transaction = match self.at_mail(session, sender) {
            Ok(transaction) => transaction,
            Err(refusal) => {
                return Explanation::of_refused_mail(session, recipients, &refusal);
            }
        };
        let mut standing: Vec<Recipient> = Vec::new();
        let mut refused = Vec::new();
        let mut replies = Vec::new();
        let relay = match (&transaction.admission, &transaction.relay_refusal) {
            (Some(admission), _) => observed_entries(&admission.observed),
            (None, Some(refusal)) => observed_entries(&refusal.observed),
            (None, None) => Vec::new(),
        };
        let mut observed = relay;
        for recipient in recipients {
            match self.at_rcpt(&transaction, recipient, standing.len()) {
                RcptVerdict::Accept { observed: switch } => {
                    observed.extend(switch.filter(|switch| !observed.contains(switch)));
                    replies.push(rcpt_accepted().to_string());
                    standing.push(recipient.clone());
                }
                RcptVerdict::Refuse(refusal) => {
                    replies.push(refusal.reply.to_string());
                    refused.push(ExplainedRefusal {
                        recipient: refusal.recipient.to_string(),
                        reply: refusal.reply.to_string(),
                        because: refusal.because,
                    });
                }
            }
        }
        let decision = self.at_data(&transaction, &standing, &header);
        let looked_at = if standing.len() == recipients.len() {
            None
        } else {
            Some(self.at_data(&transaction, recipients, &header))
        };
        let mut explanation = Explanation::of(self, &decision);
        if let Some(all) = looked_at {
            explanation.rules = Explanation::of(self, &all).rules;
            if standing.is_empty() {
                explanation.organization =
                    all.organizations.first().map(|view| view.organization.clone());
                explanation.source_ip = all.organizations.first().and_then(|view| view.source.ip);
                explanation.inbound_gateway = all.organizations.first().and_then(explained_gateway);
            }
        }
        refused.append(&mut explanation.refusals);
        explanation.refusals = refused;
        observed.append(&mut explanation.observed);
        explanation.observed = observed;
        explanation.replies.rcpt = replies;
        if standing.is_empty() {
            explanation.replies.data = None;
        }
        explanation
    }
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

    fn of_refused_mail(session: &Session, recipients: &[Recipient], refusal: &Refusal) -> Self {
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

    /// The answer for people: what happens to each recipient, then which rules were looked at.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut out);
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let source = self.source_ip.map_or("none (internal)".to_owned(), |ip| ip.to_string());
        let organization = self.organization.as_deref().unwrap_or("none");
        writeln!(out, "organization  {organization}")?;
        writeln!(out, "source IP     {source}")?;
        let spam = if self.spam { "yes" } else { "no" };
        match &self.inbound_gateway {
            None => writeln!(out, "spam          {spam}")?,
            Some(gateway) => gateway.write_text(out, spam)?,
        }
        if let Some(authentication) = &self.authentication {
            authentication.write_text(out)?;
        }
        writeln!(out, "MAIL          {}", self.replies.mail)?;
        for reply in &self.replies.rcpt {
            writeln!(out, "RCPT          {reply}")?;
        }
        writeln!(out, "DATA          {}", self.replies.data.as_deref().unwrap_or("not reached"))?;
        for delivery in &self.deliveries {
            delivery.write_text(out)?;
        }
        for refusal in &self.refusals {
            writeln!(out, "\n{}", refusal.recipient)?;
            writeln!(out, "  refused     {}", refusal.reply)?;
            writeln!(out, "  because     {}", refusal.because)?;
        }
        for kept in &self.quarantined {
            writeln!(out, "\n{}", kept.recipient)?;
            writeln!(out, "  quarantine  {}", kept.quarantine)?;
            writeln!(out, "  because     {}", kept.because)?;
        }
        if !self.rules.is_empty() {
            writeln!(out, "\nrules looked at")?;
        }
        for rule in &self.rules {
            let verdict = rule.failed.as_deref().unwrap_or("matched");
            writeln!(out, "  {}: \"{}\": {verdict}", rule.recipient, rule.rule)?;
        }
        if !self.observed.is_empty() {
            writeln!(out, "\nobserved only  {}", self.observed.join(", "))?;
        }
        Ok(())
    }
}

impl ExplainedGateway {
    fn write_text(&self, out: &mut String, spam: &str) -> std::fmt::Result {
        let spf = if self.spf { "due" } else { "not due" };
        writeln!(out, "  because     {}, SPF check {spf}", self.because)?;
        if self.allow_listed {
            writeln!(out, "  allow list  the source IP is on it")?;
        }
        writeln!(out, "spam          {spam}")?;
        if self.only_spam_tag {
            writeln!(out, "  by          the gateway's tag alone")?;
        }
        if let Some(line) = &self.tag_line {
            let score = self.tag_score.map(|score| format!(", number {score}")).unwrap_or_default();
            writeln!(out, "  tag         {}{score}", printable(line))?;
        }
        if let Some(text) = &self.tag_not_a_number {
            writeln!(
                out,
                "  tag         `{}` is no number, so its line is no match",
                printable(text)
            )?;
        }
        Ok(())
    }
}

/// Text of a message that cannot steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl ExplainedAuthentication {
    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let Some(found) = &self.found else {
            return writeln!(out, "SPF, DMARC    {} ({})", self.because, self.mode);
        };
        let domain = found.spf.domain.as_deref().unwrap_or("no domain");
        writeln!(
            out,
            "SPF           {} for {domain}, by {}",
            found.spf.result, found.spf.identity
        )?;
        for dkim in &found.dkim {
            writeln!(out, "DKIM          {} for {} {}", dkim.result, dkim.domain, dkim.because)?;
        }
        let author = found.dmarc.author.as_ref().map_or("no author", |domain| domain.as_str());
        let policy = found.dmarc.policy.map(|policy| format!(", p={policy}")).unwrap_or_default();
        writeln!(out, "DMARC         {} for {author}{policy}", found.dmarc.result)?;
        writeln!(out, "  verdict     {} ({}): {}", self.verdict, self.mode, self.because)
    }
}

impl ExplainedDelivery {
    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\n{}", self.recipient)?;
        if self.recipient != self.original_recipient {
            writeln!(out, "  was         {}", self.original_recipient)?;
        }
        let route = self.route.as_deref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
        writeln!(out, "  goes to     {}{route}, TLS {}", self.via, self.tls)?;
        writeln!(out, "  because     {}", self.reason)?;
        writeln!(out, "  direction   {}", self.direction)?;
        let sender = if self.sender.is_empty() { "<>" } else { &self.sender };
        writeln!(out, "  sender      {sender}")?;
        if !self.because.is_empty() {
            writeln!(out, "  changed by  {}", self.because.join(", "))?;
        }
        for (name, value) in &self.added_headers {
            writeln!(out, "  adds        {name}: {value}")?;
        }
        if let Some(prefix) = &self.subject_prefix {
            writeln!(out, "  subject     {prefix}…")?;
        }
        if self.suppress_bounces {
            writeln!(out, "  bounces     suppressed")?;
        }
        for lost in &self.overridden {
            writeln!(out, "  overridden  {} of \"{}\" by \"{}\"", lost.what, lost.rule, lost.by)?;
        }
        for warning in &self.warnings {
            writeln!(out, "  warning     {warning}")?;
        }
        Ok(())
    }
}

/// The observed relay entries that would have refused, by description (O6).
fn observed_entries(observed: &[ObservedRefusal]) -> Vec<Box<str>> {
    observed.iter().map(|refusal| (*refusal.entry).into()).collect()
}

fn explained_gateway(view: &OrganizationView) -> Option<ExplainedGateway> {
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
