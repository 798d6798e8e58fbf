//! One side of a change: for programs, and in words that are the same for the same change.

use serde::Serialize;
use waypost_types::{Destination, Mailbox, ReversePath, TlsDemand};

use super::fate::{Outcome, RecipientFate, Refusal, Sent};
use super::recorded::Recorded;
use super::ways;
use crate::policy::Policy;

/// What becomes of one recipient's mail, on one side of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The reply of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The refusal is told by a notice, since the message was accepted for others.
    #[serde(skip_serializing_if = "is_false")]
    pub by_notice: bool,
    /// The quarantine that keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Box<str>>,
    /// What is delivered, or would be on release.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deliveries: Vec<ShownDelivery>,
    /// Why, in words.
    pub because: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// One delivery on one side of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownDelivery {
    /// The recipient to name to the next hop.
    pub recipient: String,
    /// The sender to name; empty for the null sender.
    pub sender: String,
    /// `mailbox`, `route`, `mx` or `gateway`.
    pub via: &'static str,
    /// The route.
    pub route: Option<String>,
    /// Where it leads, where that differs though the name is the same, or where it is a host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<String>,
    /// `required` or `opportunistic`.
    pub tls: &'static str,
    /// Lines added on top.
    pub added_headers: Vec<(String, String)>,
    /// The subject's prefix.
    pub subject_prefix: Option<Box<str>>,
    /// Whether attachments are removed.
    pub remove_attachments: bool,
    /// Whether bounces are suppressed.
    pub suppress_bounces: bool,
    /// Whether it goes to the spam folder.
    pub spam: bool,
}

/// What a side is told with.
pub(super) struct Telling<'a> {
    pub(super) policy: &'a Policy,
    pub(super) ways: &'a ways::Ways,
    pub(super) sender: &'a ReversePath,
    pub(super) recipient: &'a Mailbox,
    pub(super) recorded: &'a Recorded,
}

impl Telling<'_> {
    pub(super) fn shown(&self, fate: &RecipientFate) -> Shown {
        let because = self.because(fate);
        match &fate.outcome {
            Outcome::Refused(refusal) => Self::refused(refusal, because),
            Outcome::Taken { kept, sent } => Shown {
                refused: None,
                by_notice: false,
                quarantine: kept.as_ref().map(|(name, _)| name.clone()),
                deliveries: sent.iter().map(|one| self.delivery(one)).collect(),
                because,
            },
        }
    }

    pub(super) fn refused(refusal: &Refusal, because: Vec<String>) -> Shown {
        Shown {
            refused: Some(refusal.reply.to_string()),
            by_notice: refusal.by_notice,
            quarantine: None,
            deliveries: Vec::new(),
            because,
        }
    }

    /// The rules that led to it, or the setting where none did.
    pub(super) fn because(&self, fate: &RecipientFate) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        let mut add = |text: String| {
            if !out.contains(&text) {
                out.push(text);
            }
        };
        match &fate.outcome {
            Outcome::Refused(refusal) => add(refusal.because.clone()),
            Outcome::Taken { kept, sent } => {
                if let Some((_, because)) = kept {
                    add(match self.is_rule(because) {
                        true => format!("rule \"{because}\""),
                        false => because.to_string(),
                    });
                }
                for one in sent {
                    match one.because.is_empty() {
                        true => add(one.reason.clone()),
                        false => {
                            one.because.iter().for_each(|rule| add(format!("rule \"{rule}\"")))
                        }
                    }
                }
            }
        }
        out
    }

    fn is_rule(&self, name: &str) -> bool {
        let mut rules = self.policy.organizations().iter().flat_map(|one| one.rules.rules());
        rules.any(|rule| &*rule.description == name)
    }

    /// The rules that led to it.
    pub(super) fn rules(&self, fate: &RecipientFate) -> Vec<Box<str>> {
        let mut out: Vec<Box<str>> = Vec::new();
        let mut add = |rule: &str| {
            if !out.iter().any(|known| **known == *rule) {
                out.push(rule.into());
            }
        };
        match &fate.outcome {
            Outcome::Refused(refusal) => refusal.rule.iter().for_each(|rule| add(rule)),
            Outcome::Taken { kept, sent } => {
                let keeper = kept.iter().map(|kept| &kept.1).filter(|name| self.is_rule(name));
                keeper.for_each(|rule| add(rule));
                sent.iter().flat_map(|one| &one.because).for_each(|rule| add(rule));
            }
        }
        out
    }

    fn delivery(&self, sent: &Sent) -> ShownDelivery {
        let (via, route) = match &sent.destination {
            Destination::Mailbox { .. } => ("mailbox", None),
            Destination::Route { route, .. } => ("route", Some(route.to_string())),
            Destination::Gateway(_) => ("gateway", None),
            _ => ("mx", None),
        };
        let hosts = match &sent.destination {
            Destination::Gateway(host) => Some(host.to_string()),
            other if self.ways.differ(other) => ways::hosts(self.policy, other),
            _ => None,
        };
        let changes = &sent.changes;
        let lines = changes.added_headers.iter();
        ShownDelivery {
            recipient: sent.recipient.to_string(),
            sender: sent.sender.to_string(),
            via,
            route,
            hosts,
            tls: match sent.tls {
                TlsDemand::Required => "required",
                TlsDemand::Opportunistic => "opportunistic",
            },
            added_headers: lines.map(|line| (line.name().into(), line.value().into())).collect(),
            subject_prefix: changes.subject_prefix.clone(),
            remove_attachments: changes.remove_attachments,
            suppress_bounces: sent.suppress_bounces,
            spam: sent.spam,
        }
    }

    /// The side in words that do not name the message's own addresses, so that identical changes of
    /// many messages read the same.
    pub(super) fn words(&self, shown: &Shown) -> Vec<String> {
        let mut out = Vec::new();
        if let Some(reply) = &shown.refused {
            let how = if shown.by_notice { "refused after DATA, by a notice" } else { "refused" };
            out.push(format!("{how}: {}", self.general(reply)));
        }
        if let Some(quarantine) = &shown.quarantine {
            out.push(format!("kept in quarantine \"{quarantine}\""));
        }
        let when = if shown.quarantine.is_some() { "on release: " } else { "" };
        for one in &shown.deliveries {
            out.push(format!("{when}{}", self.delivery_in_words(one)));
        }
        out
    }

    fn delivery_in_words(&self, one: &ShownDelivery) -> String {
        let mut text = match (one.via, &one.route) {
            ("mailbox", _) => "the mailbox system".to_owned(),
            ("gateway", _) => "the outbound gateway".to_owned(),
            (_, Some(route)) => format!("route \"{route}\""),
            _ => "the MX hosts of the domain".to_owned(),
        };
        if let Some(hosts) = &one.hosts {
            text.push_str(&format!(" ({hosts})"));
        }
        if one.recipient != self.recipient.to_string() {
            text.push_str(&format!(", to {}", self.other(&one.recipient)));
        }
        if one.sender != self.sender.to_string() {
            text.push_str(&format!(", from <{}>", one.sender));
        }
        if one.tls == "required" {
            text.push_str(", TLS required");
        }
        for (name, value) in &one.added_headers {
            let value = match name.as_str() {
                "X-Gm-Source-IP" => "(the source IP)".to_owned(),
                _ => self.general(value),
            };
            text.push_str(&format!(", with {name}: {value}"));
        }
        if let Some(prefix) = &one.subject_prefix {
            text.push_str(&format!(", subject prefix \"{prefix}\""));
        }
        for (is_so, words) in [
            (one.remove_attachments, ", attachments removed"),
            (one.suppress_bounces, ", no bounces"),
            (one.spam, ", as spam"),
        ] {
            if is_so {
                text.push_str(words);
            }
        }
        text
    }

    /// Another recipient than the one of RCPT.
    fn other(&self, address: &str) -> String {
        let same = address
            .parse::<Mailbox>()
            .ok()
            .filter(|other| other.local_part().eq_ignore_ascii_case(self.recipient.local_part()));
        match same {
            Some(other) if other.host() != self.recipient.host() => {
                format!("the same name at {}", other.host())
            }
            _ => address.to_owned(),
        }
    }

    /// A text without the addresses and the domain of its message.
    pub(super) fn general(&self, text: &str) -> String {
        let mut text = text.replace(&self.recipient.to_string(), "(the recipient)");
        if let Some(sender) = self.sender.mailbox() {
            text = text.replace(&sender.to_string(), "(the sender)");
        }
        for found in &self.recorded.authentication {
            // What is refused for SPF or DMARC is so in the name of whoever it claims to be from.
            if let Some(domain) = &found.spf.domain {
                text = text.replace(&**domain, "(the sender's domain)");
            }
            if let Some(author) = &found.dmarc.author {
                text = text.replace(author.as_str(), "(the author's domain)");
            }
            if let Some(source) = found.checked {
                text = text.replace(&source.to_string(), "(the source IP)");
            }
        }
        text
    }
}
