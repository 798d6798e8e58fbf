//! What settings that are only observed would have done (O6).

use serde::{Deserialize, Serialize};
use waypost_auth::{Action, Client, Mode};
use waypost_inbound::Refusal as GatewayRefusal;
use waypost_relay::{ObservedRefusal, OverLimit, QuotaRefusal, Refusal};
use waypost_rules::{Changed, RuleChanges};
use waypost_types::{Delivery, Destination, HeaderLine, Mailbox, Recipient, TlsDemand};

use super::decision::{AuthenticationView, DecidedDelivery};
use super::evaluate::{Fate, FateOutcome};
use super::organization::Organization;
use super::{Policy, Transaction};

/// What one setting in mode observe would have done to one recipient or transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The organization whose setting it is.
    pub organization: Box<str>,
    /// The kind of setting.
    pub kind: ObservedKind,
    /// Its name, as the decision's list of what is observed has it: never text from outside.
    pub name: Box<str>,
    /// The recipient of RCPT; none for what concerns the whole transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// What would have been done: `would have refused with 550 5.7.1 …`.
    pub would: String,
}

/// The kinds of settings that can be observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ObservedKind {
    /// `mode = "observe"` of a rule.
    Rule,
    /// `mode = "observe"` of a relay entry.
    Relay,
    /// `mode = "observe"` of `[organization.limits]`.
    Limits,
    /// A switch of the inbound gateway that is `"observe"`.
    Gateway,
    /// `authenticate = "report"`.
    Authentication,
}

impl ObservedKind {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Relay => "relay",
            Self::Limits => "limits",
            Self::Gateway => "gateway",
            Self::Authentication => "authentication",
        }
    }
}

impl Observation {
    /// What limits that are only observed would have refused, or held.
    #[must_use]
    pub fn of_limits(
        organization: &str,
        recipient: &Mailbox,
        would: &QuotaRefusal,
        over_limit: OverLimit,
    ) -> Self {
        Self {
            organization: organization.into(),
            kind: ObservedKind::Limits,
            name: format!("limits: {}", would.limit).into(),
            recipient: Some(recipient.to_string()),
            would: match would.reply_as(over_limit) {
                Some(reply) => format!("would have refused with {reply}"),
                None => format!("would have held, over the limit: {would}"),
            },
        }
    }

    pub(super) fn of_gateway(
        organization: &Organization,
        recipient: &Recipient,
        would: &GatewayRefusal,
    ) -> Self {
        Self {
            organization: organization.name.clone(),
            kind: ObservedKind::Gateway,
            name: format!("inbound_gateway: {}", would.because.as_str()).into(),
            recipient: Some(recipient.address.to_string()),
            would: format!("would have refused with {}", would.reply),
        }
    }
}

/// What observed relay entries would have refused at MAIL, whether another entry admits or not.
#[must_use]
pub fn observed_at_mail(tried: Result<&Transaction, &Refusal>) -> Vec<Observation> {
    let (observed, instead): (&[ObservedRefusal], String) = match tried {
        Err(refusal) => (&refusal.observed, String::new()),
        Ok(Transaction { admission: Some(admission), .. }) => {
            (&admission.observed, format!("; \"{}\" admits it", admission.entry))
        }
        Ok(Transaction { relay_refusal: Some(refusal), .. }) => {
            (&refusal.observed, "; it is taken as mail for our own domains".to_owned())
        }
        Ok(_) => (&[], String::new()),
    };
    let told = observed.iter().map(|refusal| Observation {
        organization: (*refusal.organization).into(),
        kind: ObservedKind::Relay,
        name: (*refusal.entry).into(),
        recipient: None,
        would: format!("would have refused with {}{instead}", refusal.because.reply()),
    });
    told.collect()
}

/// What `authenticate = "enforce"` would do where it is `"report"`; `None`: the same.
pub(super) fn of_authentication(
    organization: &Organization,
    transaction: &Transaction,
    view: &AuthenticationView,
) -> Option<Observation> {
    let found = view.found.as_ref().filter(|_| view.mode == Mode::Report)?;
    let gateway = organization.inbound_gateway.as_ref();
    if gateway.is_some_and(|gateway| gateway.lists(transaction.session.client_ip)) {
        // Never refused, enforced or not (E2).
        return None;
    }
    let enforced = found.verdict(Mode::Enforce, Client::Direct);
    let would = match &enforced.action {
        Action::Accept => return None,
        Action::Spam => format!("would have counted as spam: {}", enforced.because),
        Action::Refuse(refusal) => format!("would have refused with {}", refusal.reply),
    };
    Some(Observation {
        organization: organization.name.clone(),
        kind: ObservedKind::Authentication,
        name: "authenticate".into(),
        recipient: None,
        would,
    })
}

/// A rule that is only observed and that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    pub(super) organization: Box<str>,
    pub(super) rule: Box<str>,
}

/// What the observed rules of a fate would have done: `would` is the fate with all of them in force.
/// Each is told what is its own; where there are several, what all of them lead to stands behind it.
pub(super) fn of_rules(
    policy: &Policy,
    recipient: &Mailbox,
    fate: &Fate,
    would: &Fate,
) -> Vec<Observation> {
    let mut seen: Vec<&Watched> = Vec::new();
    for watched in &fate.watched {
        if !seen.contains(&watched) {
            seen.push(watched);
        }
    }
    let difference = difference(policy, &fate.outcome, &would.outcome);
    let told = seen.iter().map(|watched| {
        let text = match (seen.len(), &difference) {
            (_, None) => "would have changed nothing".to_owned(),
            (1, Some(difference)) => difference.clone(),
            (_, Some(difference)) => {
                let own = own(watched, &would.changed);
                format!("{own}; with all observed rules, it {difference}")
            }
        };
        Observation {
            organization: watched.organization.clone(),
            kind: ObservedKind::Rule,
            name: watched.rule.clone(),
            recipient: Some(recipient.to_string()),
            would: text,
        }
    });
    told.collect()
}

/// What is observed of a recipient whose message is not known yet: its sender may be external or internal.
pub(super) fn either(external: Vec<Observation>, internal: Vec<Observation>) -> Vec<Observation> {
    let only = |of: &[Observation], other: &[Observation], whose: &str| -> Vec<Observation> {
        let told = of.iter().filter(|one| !other.contains(one)).cloned();
        told.map(|one| Observation { would: format!("{}, {whose}", one.would), ..one }).collect()
    };
    let outside = only(&external, &internal, "if the message comes from outside");
    let inside = only(&internal, &external, "if the message is internal");
    let both = external.into_iter().filter(|one| internal.contains(one));
    both.chain(outside).chain(inside).collect()
}

/// One observed rule's part in what would have been.
fn own(watched: &Watched, changed: &[RuleChanges]) -> String {
    let Some(own) = changed.iter().find(|one| one.rule == watched.rule) else {
        return "would not have been looked at".to_owned();
    };
    let parts: Vec<String> = own
        .changed
        .iter()
        .map(|change| match change {
            Changed::Reject(text) => format!("have rejected with \"{text}\""),
            Changed::Quarantine(name) => format!("have kept it in quarantine \"{name}\""),
            Changed::Stop => "have stopped here".to_owned(),
            other => format!("have set {other}"),
        })
        .collect();
    match parts.is_empty() {
        true => "would have changed nothing itself".to_owned(),
        false => format!("would {}", parts.join(", ")),
    }
}

/// In words, what would have been different; `None`: nothing.
fn difference(policy: &Policy, is: &FateOutcome, would: &FateOutcome) -> Option<String> {
    match (is, would) {
        (FateOutcome::Refused(is), FateOutcome::Refused(would)) if is.reply == would.reply => None,
        (FateOutcome::Refused(is), FateOutcome::Refused(would)) => {
            Some(format!("would have refused with {} instead of {}", would.reply, is.reply))
        }
        (_, FateOutcome::Refused(would)) => {
            Some(format!("would have refused with {}", would.reply))
        }
        (FateOutcome::Quarantined(is), FateOutcome::Quarantined(would))
            if is.quarantine == would.quarantine =>
        {
            changes(policy, &is.deliveries, &would.deliveries)
        }
        (is, FateOutcome::Quarantined(would)) => Some(format!(
            "would have kept it in quarantine \"{}\" instead of {}",
            would.quarantine,
            told(is)
        )),
        (
            FateOutcome::Delivered { own, copies },
            FateOutcome::Delivered { own: to, copies: more },
        ) => {
            let all = |own: &[DecidedDelivery], copies: &[DecidedDelivery]| {
                own.iter().chain(copies).cloned().collect::<Vec<_>>()
            };
            changes(policy, &all(own, copies), &all(to, more))
        }
        (is, FateOutcome::Delivered { own, .. }) => {
            let to = own.first().map(|one| whereto(&one.delivery)).unwrap_or_default();
            Some(format!("would have gone to {to} instead of {}", told(is)))
        }
    }
}

fn told(outcome: &FateOutcome) -> String {
    match outcome {
        FateOutcome::Refused(refused) => format!("being refused with {}", refused.reply),
        FateOutcome::Quarantined(kept) => format!("quarantine \"{}\"", kept.quarantine),
        FateOutcome::Delivered { own, .. } => {
            let to = own.first().map(|one| whereto(&one.delivery)).unwrap_or_default();
            format!("going to {to}")
        }
    }
}

/// How deliveries differ: the recipient's own first, then copies that would come or go.
fn changes(policy: &Policy, is: &[DecidedDelivery], would: &[DecidedDelivery]) -> Option<String> {
    let mut parts = Vec::new();
    if let (Some(is), Some(would)) = (is.first(), would.first()) {
        let (is, would) = (&is.delivery, &would.delivery);
        if is.destination != would.destination || is.recipient != would.recipient {
            let (from, mut to) = (whereto(is), whereto(would));
            if is.recipient != would.recipient {
                to = format!("{} by {to}", would.recipient);
            }
            parts.push(format!("would have gone to {to} instead of {from}"));
        }
        match (policy.effective_tls(is), policy.effective_tls(would)) {
            (TlsDemand::Opportunistic, TlsDemand::Required) => {
                parts.push("would have required TLS".to_owned());
            }
            (TlsDemand::Required, TlsDemand::Opportunistic) => {
                parts.push("would not have required TLS".to_owned());
            }
            _ => {}
        }
        let (lines, others) = (&would.changes.added_headers, &is.changes.added_headers);
        for line in beyond(lines, others) {
            parts.push(format!("would have added \"{line}\""));
        }
        for line in beyond(others, lines) {
            parts.push(format!("would not have added \"{line}\""));
        }
        if is.changes.subject_prefix != would.changes.subject_prefix {
            parts.push(match &would.changes.subject_prefix {
                Some(prefix) => format!("would have put \"{prefix}\" before the subject"),
                None => "would have left the subject as it is".to_owned(),
            });
        }
        if is.changes.remove_attachments != would.changes.remove_attachments {
            parts.push("would have removed attachments".to_owned());
        }
        if is.suppress_bounces != would.suppress_bounces {
            parts.push("would have suppressed bounces".to_owned());
        }
        if is.spam != would.spam {
            parts.push("would have been marked otherwise as spam".to_owned());
        }
    }
    let has = |all: &[DecidedDelivery], one: &DecidedDelivery| {
        let same = |other: &DecidedDelivery| {
            other.delivery.recipient == one.delivery.recipient
                && other.delivery.destination == one.delivery.destination
                && other.delivery.changes == one.delivery.changes
        };
        all.iter().any(same)
    };
    for copy in would.iter().skip(1).filter(|one| !has(is, one)) {
        let Delivery { recipient, .. } = &copy.delivery;
        parts.push(format!("would have sent a copy to {recipient} by {}", whereto(&copy.delivery)));
    }
    for copy in is.iter().skip(1).filter(|one| !has(would, one)) {
        parts.push(format!("would have sent no copy to {}", copy.delivery.recipient));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The lines that stand oftener in one list than in another.
fn beyond<'l>(lines: &'l [HeaderLine], others: &[HeaderLine]) -> Vec<&'l HeaderLine> {
    let mut left: Vec<&HeaderLine> = others.iter().collect();
    let is_new = |line: &&HeaderLine| match left.iter().position(|other| *other == *line) {
        Some(place) => {
            left.remove(place);
            false
        }
        None => true,
    };
    lines.iter().filter(is_new).collect()
}

fn whereto(delivery: &Delivery) -> String {
    match &delivery.destination {
        Destination::Route { route, .. } => format!("route \"{route}\""),
        other => other.to_string(),
    }
}

impl Policy {
    /// The rules that are only observed: organization and description of each.
    pub fn observed_rules(&self) -> impl Iterator<Item = (&str, &str)> {
        self.organizations.iter().flat_map(|organization| {
            let rules = organization.rules.rules().iter();
            let observed = rules.filter(|rule| rule.mode == waypost_rules::Mode::Observe);
            observed.map(|rule| (&*organization.name, &*rule.description))
        })
    }

    /// What `authenticate = "report"` would have refused in the organizations of a decision.
    pub(super) fn observed_authentication(
        &self,
        transaction: &Transaction,
        organization: &str,
        view: Option<&AuthenticationView>,
    ) -> Option<Observation> {
        of_authentication(self.organization(organization)?, transaction, view?)
    }
}
