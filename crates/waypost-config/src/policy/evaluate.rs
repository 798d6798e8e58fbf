//! One recipient's fate: which rules apply from which side, and what follows from them.
//!
//! Both entry points, at RCPT with the `From:` unknown and at the end of DATA with it known, call
//! [`Evaluation::recipient`]; nothing else in the project decides where mail goes.

use std::borrow::Cow;
use std::sync::Arc;

use waypost_rules::{
    Direction, Plan, Question, Reports, RuleChanges, Spam, Subject, Verdict, Walk, combine,
    rule_changes,
};
use waypost_types::{
    Account, Delivery, Destination, HeaderLine, Mailbox, Recipient, Reply, TlsDemand, Unavailable,
};

use super::decision::{
    DecidedDelivery, Quarantined, RefusalCause, Refused, SideView, SpamBy, SpamVerdict,
};
use super::making::Making;
use super::observed::{self, Observation, Watched};
use super::organization::{Organization, SpamAction};
use super::{Policy, Transaction};

/// What is known of the message, as far as one organization is concerned.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The sender counts as internal (C3).
    pub(super) internal_sender: bool,
    /// The verdict on spam.
    pub(super) spam: Spam,
    /// The source IP; `None` for an internal message.
    pub(super) source_ip: Option<std::net::IpAddr>,
    /// The message carries a DKIM signature.
    pub(super) signed: bool,
    /// Why it counts as spam, if it does.
    pub(super) harm: Option<Arc<Harm>>,
}

/// Why a message counts as spam.
#[derive(Debug)]
pub(super) struct Harm {
    /// The gravest first; never empty.
    pub(super) verdicts: Vec<SpamVerdict>,
    /// Lines of the filter that tell so.
    pub(super) lines: Vec<HeaderLine>,
}

/// One recipient's fate, and the rules looked at on the way.
pub(super) struct Fate {
    pub(super) outcome: FateOutcome,
    /// As far as it was asked for, see [`Evaluation::told`].
    pub(super) reports: Reports,
    pub(super) observed: Vec<Box<str>>,
    /// The organization whose policy decided.
    pub(super) organization: Option<Box<str>>,
    /// From which sides it was looked at.
    pub(super) sides: Vec<SideView>,
    /// What each matching rule changed, if that was asked for.
    pub(super) changed: Vec<RuleChanges>,
    /// The observed rules that match.
    pub(super) watched: Vec<Watched>,
    /// What they would have done; [`Evaluation::recipient`] fills it in.
    pub(super) observations: Vec<Observation>,
    /// What is kept of mail that is refused as spam, should the message be taken for another recipient.
    pub(super) instead: Option<Quarantined>,
}

/// Whether rules that are only observed act: they do where it is asked what would be (O6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ObservedRules {
    Told,
    Acting,
}

pub(super) enum FateOutcome {
    Refused(Refused),
    Quarantined(Quarantined),
    Delivered {
        /// The recipient's own: one, or one for each member of a group.
        own: Vec<DecidedDelivery>,
        /// Those that rules add.
        copies: Vec<DecidedDelivery>,
    },
}

impl FateOutcome {
    /// What would be delivered, now or when it is released.
    pub(super) fn deliveries(&self) -> impl Iterator<Item = &DecidedDelivery> {
        let (own, copies): (&[DecidedDelivery], &[DecidedDelivery]) = match self {
            FateOutcome::Refused(_) => (&[], &[]),
            FateOutcome::Quarantined(kept) => (&kept.deliveries, &[]),
            FateOutcome::Delivered { own, copies } => (own, copies),
        };
        own.iter().chain(copies)
    }
}

/// Which side of the message a walk is for.
pub(super) struct Side<'p> {
    pub(super) organization: &'p Organization,
    pub(super) direction: Direction,
    subject: Subject,
    pub(super) walk: Walk<'p>,
    reports: Reports,
}

pub(super) struct Evaluation<'p, 't> {
    pub(super) policy: &'p Policy,
    pub(super) transaction: &'t Transaction,
    pub(super) told: Told,
}

/// How many of the rules looked at are told of (C9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// None: nobody reads it.
    Nothing,
    /// All that match, and others up to so many in all.
    Most(usize),
}

impl Told {
    /// Every rule.
    pub(super) const EVERYTHING: Told = Told::Most(usize::MAX);

    /// What is left when some have been told.
    pub(super) fn after(self, told: usize) -> Self {
        match self {
            Told::Nothing => Told::Nothing,
            Told::Most(most) => Told::Most(most.saturating_sub(told)),
        }
    }
}

impl<'p> Evaluation<'p, '_> {
    /// Decides for one recipient, and tells what observed rules would have done. `facts` says what an
    /// organization knows of the message.
    pub(super) fn recipient(
        &self,
        recipient: &Recipient,
        facts: &dyn Fn(&Organization) -> Facts,
    ) -> Fate {
        let mut fate = self.decide(recipient, facts, ObservedRules::Told);
        if !fate.watched.is_empty() {
            let (policy, transaction) = (self.policy, self.transaction);
            let would = Evaluation { policy, transaction, told: Told::Nothing };
            let would = would.decide(recipient, facts, ObservedRules::Acting);
            fate.observations = observed::of_rules(policy, &recipient.address, &fate, &would);
        }
        fate
    }

    /// Decides for one recipient.
    pub(super) fn decide(
        &self,
        recipient: &Recipient,
        facts: &dyn Fn(&Organization) -> Facts,
        observed: ObservedRules,
    ) -> Fate {
        match self.sides(&recipient.address, facts, observed) {
            Ok(Ok(sides)) => self.fate(recipient, sides, facts, observed),
            Ok(Err(refused)) => Fate::refused(refused),
            Err(unavailable) => Fate::refused(directory_failed(&recipient.address, &unavailable)),
        }
    }

    /// The walks that apply to a recipient, in the order in which they do.
    fn sides(
        &self,
        recipient: &Mailbox,
        facts: &dyn Fn(&Organization) -> Facts,
        observed: ObservedRules,
    ) -> Result<Result<Vec<Side<'p>>, Refused>, Unavailable> {
        let receiving = self.policy.receiving(recipient);
        let relaying = self
            .transaction
            .admission
            .as_ref()
            .and_then(|admission| self.policy.organization(&admission.quota.organization));
        let mut sides = Vec::with_capacity(2);
        let side = |organization, direction, before: &[Side<'p>]| {
            self.side(organization, direction, recipient, before, observed)
        };
        if let Some(relaying) = relaying
            && !receiving.is_some_and(|receiving| std::ptr::eq(receiving, relaying))
        {
            let side = side(relaying, Direction::Outbound, &sides)?;
            let rerouted = side.walk.matched.iter().any(|rule| {
                matches!(&rule.action, waypost_rules::Action::Modify(changes) if changes.route.is_some())
            });
            sides.push(side);
            if rerouted || receiving.is_none() {
                return Ok(Ok(sides));
            }
        }
        let Some(receiving) = receiving else {
            return Ok(Err(self.relaying_denied(recipient)));
        };
        if facts(receiving).internal_sender {
            sides.push(side(receiving, Direction::InternalSending, &sides)?);
            sides.push(side(receiving, Direction::InternalReceiving, &sides)?);
        } else {
            sides.push(side(receiving, Direction::Inbound, &sides)?);
        }
        Ok(Ok(sides))
    }

    fn side(
        &self,
        organization: &'p Organization,
        direction: Direction,
        recipient: &Mailbox,
        before: &[Side<'p>],
        observed: ObservedRules,
    ) -> Result<Side<'p>, Unavailable> {
        let directory = &*organization.directory;
        let sender = &self.transaction.sender;
        let subject = if direction.is_outgoing() {
            Subject::of_sender(sender, directory)?
        } else {
            Subject::of(recipient, directory)?
        };
        let question = Question { direction, subject, sender, recipient };
        let before = before.iter().map(|side| side.reports.listed.len()).sum();
        let (walk, reports) = match self.told.after(before) {
            Told::Nothing => (organization.rules.walk(&question, directory)?, Reports::default()),
            Told::Most(most) => organization.rules.walk_told(&question, directory, most)?,
        };
        let walk = match observed {
            ObservedRules::Told => walk,
            ObservedRules::Acting => walk.as_if_enforced(),
        };
        Ok(Side { organization, direction, subject: question.subject, walk, reports })
    }

    fn fate(
        &self,
        recipient: &Recipient,
        mut sides: Vec<Side<'p>>,
        facts: &dyn Fn(&Organization) -> Facts,
        rules: ObservedRules,
    ) -> Fate {
        let mut reports = Reports::default();
        for side in &mut sides {
            reports.listed.append(&mut side.reports.listed);
            reports.left_out += side.reports.left_out;
        }
        let observed = sides
            .iter()
            .flat_map(|side| side.walk.observed.iter().map(|rule| (*rule.description).into()))
            .collect();
        let watched = sides.iter().flat_map(|side| {
            side.walk.observed.iter().map(|rule| Watched {
                organization: side.organization.name.clone(),
                rule: (*rule.description).into(),
            })
        });
        let watched = watched.collect();
        let mut changed =
            (self.told != Told::Nothing || rules == ObservedRules::Acting).then(Vec::new);
        let (outcome, instead) = match sides.last() {
            None => (FateOutcome::Refused(self.relaying_denied(&recipient.address)), None),
            Some(last) => {
                let facts = facts(last.organization);
                let outcome = self.outcome(recipient, &sides, last, facts, changed.as_mut());
                outcome.unwrap_or_else(|unavailable| {
                    let failed = directory_failed(&recipient.address, &unavailable);
                    (FateOutcome::Refused(failed), None)
                })
            }
        };
        let organization = sides.last().map(|side| side.organization.name.clone());
        Fate {
            outcome,
            reports,
            observed,
            organization,
            sides: match self.told {
                Told::Nothing => Vec::new(),
                Told::Most(_) => sides.iter().map(Side::view).collect(),
            },
            changed: changed.unwrap_or_default(),
            watched,
            observations: Vec::new(),
            instead,
        }
    }

    fn outcome(
        &self,
        recipient: &Recipient,
        sides: &[Side<'p>],
        last: &Side<'p>,
        facts: Facts,
        changed: Option<&mut Vec<RuleChanges>>,
    ) -> Result<(FateOutcome, Option<Quarantined>), Unavailable> {
        let refused = |refused| Ok((FateOutcome::Refused(refused), None));
        let walks: Vec<&Walk<'_>> = sides.iter().map(|side| &side.walk).collect();
        let verdict = combine(&recipient.address, &walks, facts.spam);
        if let Some(changed) = changed {
            *changed = rule_changes(
                &walks,
                match &verdict {
                    Verdict::Reject { .. } => None,
                    Verdict::Quarantine { plan, .. } | Verdict::Deliver(plan) => Some(plan),
                },
            );
        }
        let (plan, kept) = match verdict {
            Verdict::Reject { rule, text } => {
                return refused(Refused {
                    recipient: recipient.address.clone(),
                    reply: Reply::new(550, (5, 7, 1), &text),
                    cause: RefusalCause::Rule,
                    because: format!("rule \"{rule}\" rejects"),
                });
            }
            Verdict::Quarantine { rule, name, plan } => (plan, Some((name, rule))),
            Verdict::Deliver(plan) => (plan, None),
        };
        let incoming = !last.direction.is_outgoing();
        if incoming && self.is_unknown(&recipient.address, last.organization, &plan)? {
            return refused(unknown(&recipient.address, last.organization));
        }
        let harm = facts.harm.clone();
        let verdicts = harm.iter().flat_map(|harm| &harm.verdicts);
        let bypassed = walks.iter().flat_map(|walk| &walk.matched).any(|rule| {
            matches!(&rule.action, waypost_rules::Action::Modify(changes) if changes.bypass_spam)
        });
        let standing: Vec<&SpamVerdict> =
            verdicts.filter(|verdict| !(bypassed && verdict.by.can_be_cleared())).collect();
        let verdict = standing.first().copied();
        let least = standing.iter().map(|verdict| verdict.least).max().unwrap_or_default();
        let action = last.organization.spam_action.max(least);
        let told = standing.iter().any(|one| matches!(one.by, SpamBy::Filter | SpamBy::Malware));
        let lines = harm.as_ref().filter(|_| told).map_or(&[][..], |harm| &harm.lines);
        let marked = verdict.is_some() && action == SpamAction::Mark;
        let made = Making { evaluation: self, recipient, sides, last, facts, marked, lines };
        let own = made.own(&plan)?;
        if own.is_empty() {
            return refused(nobody_in(&plan.recipient, &recipient.address));
        }
        let copies = made.copies(&plan)?;
        let all = |own: Vec<DecidedDelivery>, copies| own.into_iter().chain(copies).collect();
        let kept_as = |(quarantine, because), deliveries| Quarantined {
            recipient: recipient.address.clone(),
            quarantine,
            because,
            deliveries,
        };
        let spam = verdict.filter(|_| action != SpamAction::Mark).map(|verdict| {
            let because = spam_because(last.organization.spam_action, action, verdict);
            (verdict, (spam_quarantine(verdict), because))
        });
        Ok(match (spam, kept) {
            (Some((verdict, spam)), kept) if action == SpamAction::Reject => {
                let refused = refused_as_spam(&recipient.address, verdict, &spam.1);
                let instead = kept_as(kept.unwrap_or(spam), all(own, copies));
                (FateOutcome::Refused(refused), Some(instead))
            }
            (spam, kept) => match kept.or_else(|| spam.map(|(_, spam)| spam)) {
                Some(kept) => (FateOutcome::Quarantined(kept_as(kept, all(own, copies))), None),
                None => (FateOutcome::Delivered { own, copies }, None),
            },
        })
    }

    /// Whether a recipient of ours is nobody, and no rule routes or renames it. A rule that only
    /// adds a copy does not help.
    fn is_unknown(
        &self,
        recipient: &Mailbox,
        organization: &Organization,
        plan: &Plan,
    ) -> Result<bool, Unavailable> {
        let taken_care_of =
            plan.route.is_some() || plan.renamed_by.is_some() || plan.spam_kept_by.is_some();
        if taken_care_of {
            return Ok(false);
        }
        Ok(organization.directory.account(recipient)? == Account::Unrecognized)
    }

    fn relaying_denied(&self, recipient: &Mailbox) -> Refused {
        let refusal = self.transaction.relay_refusal.as_ref();
        Refused {
            recipient: recipient.clone(),
            reply: refusal.map_or_else(
                || {
                    Reply::new(
                        550,
                        (5, 7, 1),
                        "Relaying denied: this server takes mail for its own domains only; \
                         send through the relay listener",
                    )
                },
                |refusal| refusal.reply.clone(),
            ),
            cause: refusal.map_or(RefusalCause::RelayingDenied, |refusal| {
                RefusalCause::NotAdmitted(refusal.because)
            }),
            because: "the recipient is in no domain of this server, and no relay entry admits \
                      the client"
                .to_owned(),
        }
    }
}

impl Side<'_> {
    fn view(&self) -> SideView {
        SideView {
            organization: self.organization.name.clone(),
            direction: self.direction,
            account: self.subject.kind,
            org_unit: self.subject.org_unit.clone(),
        }
    }
}

impl Fate {
    fn refused(refused: Refused) -> Self {
        Self {
            outcome: FateOutcome::Refused(refused),
            reports: Reports::default(),
            observed: Vec::new(),
            organization: None,
            sides: Vec::new(),
            changed: Vec::new(),
            watched: Vec::new(),
            observations: Vec::new(),
            instead: None,
        }
    }
}

/// The quarantine for spam of a kind.
fn spam_quarantine(verdict: &SpamVerdict) -> Box<str> {
    match verdict.by {
        SpamBy::Malware => "malware".into(),
        SpamBy::Tag | SpamBy::Filter | SpamBy::Dmarc => "spam".into(),
    }
}

/// Why spam is refused or kept: the setting, or the verdict where it is graver.
fn spam_because(setting: SpamAction, action: SpamAction, verdict: &SpamVerdict) -> Box<str> {
    let words = verdict.in_words();
    match (action, verdict.by) {
        (SpamAction::Quarantine, SpamBy::Tag | SpamBy::Dmarc) if setting == action => {
            "spam_action = \"quarantine\"".into()
        }
        (SpamAction::Quarantine, _) if setting == action => {
            format!("spam_action = \"quarantine\", and {words}").into()
        }
        (SpamAction::Reject, _) => format!("spam_action = \"reject\", and {words}").into(),
        (_, SpamBy::Malware) => format!("{words}, which is never only marked").into(),
        _ => format!("{words}, and wants it held").into(),
    }
}

fn refused_as_spam(recipient: &Mailbox, verdict: &SpamVerdict, because: &str) -> Refused {
    let text: Cow<'_, str> = match (verdict.by, &verdict.text) {
        (SpamBy::Tag, _) => "Message refused as spam: a trusted gateway tagged it so".into(),
        (SpamBy::Dmarc, _) => {
            "Message refused as spam: its author's domain asks to quarantine it (DMARC)".into()
        }
        (SpamBy::Malware, None) => "Message refused: it holds malware, as a filter says".into(),
        (SpamBy::Malware, Some(text)) => {
            format!("Message refused: it holds malware, as a filter says: {text}").into()
        }
        (SpamBy::Filter, None) => "Message refused as spam: a filter says so".into(),
        (SpamBy::Filter, Some(text)) => {
            format!("Message refused as spam: a filter says so: {text}").into()
        }
    };
    Refused {
        recipient: recipient.clone(),
        reply: Reply::new(550, (5, 7, 1), &text),
        cause: match verdict.by {
            SpamBy::Malware => RefusalCause::Malware,
            SpamBy::Tag | SpamBy::Filter | SpamBy::Dmarc => RefusalCause::Spam,
        },
        because: because.to_owned(),
    }
}

fn unknown(recipient: &Mailbox, organization: &Organization) -> Refused {
    Refused {
        recipient: recipient.clone(),
        reply: Reply::new(550, (5, 1, 1), "No such user here"),
        cause: RefusalCause::UnknownRecipient,
        because: format!(
            "{recipient} is neither a user nor a group of {}, and no rule routes or renames it",
            organization.name
        ),
    }
}

/// A group that the built-in Maildir would expand into nothing: accepted, its mail would be lost.
fn nobody_in(group: &Mailbox, recipient: &Mailbox) -> Refused {
    Refused {
        recipient: recipient.clone(),
        reply: Reply::new(550, (5, 2, 4), "The group has no member to deliver to"),
        cause: RefusalCause::EmptyGroup,
        because: format!("the group {group} has no member, and Maildir is the mailbox system"),
    }
}

fn directory_failed(recipient: &Mailbox, unavailable: &Unavailable) -> Refused {
    Refused {
        recipient: recipient.clone(),
        reply: Reply::new(451, (4, 3, 0), "The directory cannot answer now; try again later"),
        cause: RefusalCause::DirectoryUnavailable,
        because: unavailable.to_string(),
    }
}

/// The TLS that a delivery gets: the rules' demand and that of the route that it takes.
pub(super) fn effective_tls(policy: &Policy, delivery: &Delivery) -> TlsDemand {
    let of_route = |organization: &str, name: &waypost_types::RouteName| {
        let route = policy.organization(organization)?.routes.get(name)?;
        // All hosts of a route share its demand.
        route.hosts().first().map(|host| host.tls().requirement)
    };
    let route = match &delivery.destination {
        Destination::Route { organization, route } => of_route(organization, route),
        Destination::Mailbox { organization } => policy
            .organization(organization)
            .and_then(|owner| owner.mailbox_route.as_ref())
            .and_then(|name| of_route(organization, name)),
        _ => None,
    };
    delivery.tls.max(route.unwrap_or_default())
}
