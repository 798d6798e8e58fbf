//! One recipient's fate: which rules apply from which side, and what follows from them.
//!
//! Both entry points, at RCPT with the `From:` unknown and at the end of DATA with it known, call
//! [`Evaluation::recipient`]; nothing else in the project decides where mail goes.

use waypost_rules::{
    Direction, Plan, PlannedCopy, Question, SideRoute, Spam, Subject, Verdict, Walk, combine,
};
use waypost_types::{
    Account, Delivery, Destination, HeaderLine, Mailbox, Recipient, Reply, ReversePath, TlsDemand,
    Unavailable,
};

use super::decision::{DecidedDelivery, Quarantined, RefusalCause, Refused};
use super::mark::Marked;
use super::organization::{Organization, SpamAction};
use super::{Policy, Transaction};

/// What is known of the message, as far as one organization is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// The sender counts as internal (C3).
    pub(super) internal_sender: bool,
    /// The verdict on spam.
    pub(super) spam: Spam,
    /// The source IP; `None` for an internal message.
    pub(super) source_ip: Option<std::net::IpAddr>,
    /// The message carries a DKIM signature.
    pub(super) signed: bool,
}

/// One recipient's fate, and the rules looked at on the way.
pub(super) struct Fate {
    pub(super) outcome: FateOutcome,
    pub(super) reports: Vec<waypost_rules::RuleReport>,
    pub(super) observed: Vec<Box<str>>,
    /// The organization whose policy decided.
    pub(super) organization: Option<Box<str>>,
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
struct Side<'p> {
    organization: &'p Organization,
    direction: Direction,
    walk: Walk<'p>,
}

pub(super) struct Evaluation<'p, 't> {
    pub(super) policy: &'p Policy,
    pub(super) transaction: &'t Transaction,
}

impl<'p> Evaluation<'p, '_> {
    /// Decides for one recipient. `facts` says what an organization knows of the message.
    pub(super) fn recipient(
        &self,
        recipient: &Recipient,
        facts: &dyn Fn(&Organization) -> Facts,
    ) -> Fate {
        match self.sides(&recipient.address, facts) {
            Ok(Ok(sides)) => self.fate(recipient, &sides, facts),
            Ok(Err(refused)) => Fate::refused(refused),
            Err(unavailable) => Fate::refused(directory_failed(&recipient.address, &unavailable)),
        }
    }

    /// The walks that apply to a recipient, in the order in which they do.
    fn sides(
        &self,
        recipient: &Mailbox,
        facts: &dyn Fn(&Organization) -> Facts,
    ) -> Result<Result<Vec<Side<'p>>, Refused>, Unavailable> {
        let receiving = self.policy.receiving(recipient);
        let relaying = self
            .transaction
            .admission
            .as_ref()
            .and_then(|admission| self.policy.organization(&admission.quota.organization));
        let mut sides = Vec::with_capacity(2);
        if let Some(relaying) = relaying
            && !receiving.is_some_and(|receiving| std::ptr::eq(receiving, relaying))
        {
            let side = self.side(relaying, Direction::Outbound, recipient)?;
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
            sides.push(self.side(receiving, Direction::InternalSending, recipient)?);
            sides.push(self.side(receiving, Direction::InternalReceiving, recipient)?);
        } else {
            sides.push(self.side(receiving, Direction::Inbound, recipient)?);
        }
        Ok(Ok(sides))
    }

    fn side(
        &self,
        organization: &'p Organization,
        direction: Direction,
        recipient: &Mailbox,
    ) -> Result<Side<'p>, Unavailable> {
        let directory = &*organization.directory;
        let sender = &self.transaction.sender;
        let subject = if direction.is_outgoing() {
            Subject::of_sender(sender, directory)?
        } else {
            Subject::of(recipient, directory)?
        };
        let question = Question { direction, subject, sender, recipient };
        let walk = organization.rules.walk(&question, directory)?;
        Ok(Side { organization, direction, walk })
    }

    fn fate(
        &self,
        recipient: &Recipient,
        sides: &[Side<'p>],
        facts: &dyn Fn(&Organization) -> Facts,
    ) -> Fate {
        let reports = sides.iter().flat_map(|side| side.walk.reports.iter().cloned()).collect();
        let observed = sides
            .iter()
            .flat_map(|side| side.walk.observed.iter().map(|rule| rule.description.clone()))
            .collect();
        let outcome = match sides.last() {
            None => FateOutcome::Refused(self.relaying_denied(&recipient.address)),
            Some(last) => {
                let facts = facts(last.organization);
                self.outcome(recipient, sides, last, facts).unwrap_or_else(|unavailable| {
                    FateOutcome::Refused(directory_failed(&recipient.address, &unavailable))
                })
            }
        };
        let organization = sides.last().map(|side| side.organization.name.clone());
        Fate { outcome, reports, observed, organization }
    }

    fn outcome(
        &self,
        recipient: &Recipient,
        sides: &[Side<'p>],
        last: &Side<'p>,
        facts: Facts,
    ) -> Result<FateOutcome, Unavailable> {
        let walks: Vec<&Walk<'_>> = sides.iter().map(|side| &side.walk).collect();
        let (plan, kept) = match combine(&recipient.address, &walks, facts.spam) {
            Verdict::Reject { rule, text } => {
                return Ok(FateOutcome::Refused(Refused {
                    recipient: recipient.address.clone(),
                    reply: Reply::new(550, (5, 7, 1), &text),
                    cause: RefusalCause::Rule,
                    because: format!("rule \"{rule}\" rejects"),
                }));
            }
            Verdict::Quarantine { rule, name, plan } => (plan, Some((name, rule))),
            Verdict::Deliver(plan) => (plan, None),
        };
        let incoming = !last.direction.is_outgoing();
        if incoming && self.is_unknown(&recipient.address, last.organization, &plan)? {
            return Ok(FateOutcome::Refused(unknown(&recipient.address, last.organization)));
        }
        let spam = plan.spam != Spam::No;
        let action = last.organization.spam_action;
        if spam && action == SpamAction::Reject {
            return Ok(FateOutcome::Refused(Refused {
                recipient: recipient.address.clone(),
                reply: Reply::new(
                    550,
                    (5, 7, 1),
                    match plan.spam {
                        Spam::ByTag => "Message refused as spam: a trusted gateway tagged it so",
                        _ => {
                            "Message refused as spam: its author's domain asks to quarantine it (DMARC)"
                        }
                    },
                ),
                cause: RefusalCause::Spam,
                because: match plan.spam {
                    Spam::ByTag => "spam_action = \"reject\", and the gateway's tag says spam",
                    _ => "spam_action = \"reject\", and DMARC says quarantine (E2)",
                }
                .to_owned(),
            }));
        }
        let marked = spam && action == SpamAction::Mark;
        let made = Making { evaluation: self, recipient, sides, last, facts, marked };
        let own = made.own(&plan)?;
        if own.is_empty() {
            return Ok(FateOutcome::Refused(nobody_in(&plan.recipient, &recipient.address)));
        }
        let copies = made.copies(&plan)?;
        let kept = kept.or_else(|| {
            let by_tag = spam && action == SpamAction::Quarantine;
            by_tag.then(|| ("spam".into(), "spam_action = \"quarantine\"".into()))
        });
        Ok(match kept {
            Some((quarantine, because)) => FateOutcome::Quarantined(Quarantined {
                recipient: recipient.address.clone(),
                quarantine,
                because,
                deliveries: own.into_iter().chain(copies).collect(),
            }),
            None => FateOutcome::Delivered { own, copies },
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

impl Fate {
    fn refused(refused: Refused) -> Self {
        let outcome = FateOutcome::Refused(refused);
        Self { outcome, reports: Vec::new(), observed: Vec::new(), organization: None }
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

/// Turns a plan into deliveries.
struct Making<'m, 'p, 't> {
    evaluation: &'m Evaluation<'p, 't>,
    recipient: &'m Recipient,
    sides: &'m [Side<'p>],
    last: &'m Side<'p>,
    facts: Facts,
    /// It is spam, and the mailbox system is to be told.
    marked: bool,
}

impl Making<'_, '_, '_> {
    fn own(&self, plan: &Plan) -> Result<Vec<DecidedDelivery>, Unavailable> {
        let mut out = Vec::new();
        let (destination, reason) = self.destination(plan);
        self.add(&mut out, plan, plan.recipient.clone(), destination, reason)?;
        Ok(out)
    }

    fn copies(&self, plan: &Plan) -> Result<Vec<DecidedDelivery>, Unavailable> {
        let mut out = Vec::new();
        for copy in &plan.copies {
            self.add_copy(&mut out, copy)?;
        }
        Ok(out)
    }

    /// Where the original goes, and why in words.
    fn destination(&self, plan: &Plan) -> (Destination, String) {
        let organization = self.last.organization;
        if let Some(route) = &plan.route {
            let rule = plan.routed_by.as_deref().unwrap_or_default();
            return (self.route(route), format!("rule \"{rule}\" changes the route"));
        }
        if let Some(rule) = &plan.spam_kept_by {
            let organization = organization.name.clone();
            let reason =
                format!("rule \"{rule}\" does not reroute spam; the mailbox system keeps it");
            return (Destination::Mailbox { organization }, reason);
        }
        let destination = match self.evaluation.policy.receiving(&plan.recipient) {
            Some(other) => Destination::Mailbox { organization: other.name.clone() },
            None => self.renaming(plan).default_destination(&plan.recipient),
        };
        let reason = match (&destination, &plan.renamed_by) {
            (Destination::Mailbox { organization }, None) => {
                format!("{} has a mailbox in {organization}", plan.recipient)
            }
            (Destination::Mailbox { organization }, Some(rule)) => {
                format!("rule \"{rule}\" renames the recipient into {organization}")
            }
            (Destination::Gateway(_), _) => "the setting outbound_gateway".to_owned(),
            _ => "the recipient is outside and no rule or gateway says otherwise".to_owned(),
        };
        (destination, reason)
    }

    /// The organization whose rule renamed the recipient: mail to the outside takes its way.
    fn renaming(&self, plan: &Plan) -> &Organization {
        let side = plan.renamed_side.and_then(|side| self.sides.get(side));
        side.unwrap_or(self.last).organization
    }

    fn route(&self, route: &SideRoute) -> Destination {
        let side = self.sides.get(route.side).unwrap_or(self.last);
        Destination::Route {
            organization: side.organization.name.clone(),
            route: route.route.clone(),
        }
    }

    fn add(
        &self,
        out: &mut Vec<DecidedDelivery>,
        plan: &Plan,
        recipient: Mailbox,
        destination: Destination,
        reason: String,
    ) -> Result<(), Unavailable> {
        let base = DecidedDelivery {
            delivery: Delivery {
                recipient,
                original_recipient: self.recipient.address.clone(),
                sender: self.sender(),
                destination,
                tls: plan.tls,
                changes: plan.changes.clone(),
                suppress_bounces: plan.suppress_bounces,
                spam: false,
                notify: self.recipient.notify,
                orcpt: self.recipient.orcpt.clone(),
            },
            organization: self.last.organization.name.clone(),
            direction: self.last.direction,
            source_ip: self.facts.source_ip,
            spam: self.facts.spam,
            because: plan.because.clone(),
            chosen_by: [&plan.routed_by, &plan.spam_kept_by, &plan.renamed_by]
                .into_iter()
                .find_map(Clone::clone),
            reason,
            overridden: plan.overridden.clone(),
            warnings: Vec::new(),
            marks: Vec::new(),
        };
        let choosers = [
            (plan.route.as_ref().map(|route| route.side), &plan.routed_by),
            (plan.renamed_side, &plan.renamed_by),
        ];
        let marks = self.marks(&base.delivery, &base.organization, &choosers);
        self.push(out, DecidedDelivery { marks, ..base })
    }

    fn add_copy(
        &self,
        out: &mut Vec<DecidedDelivery>,
        copy: &PlannedCopy,
    ) -> Result<(), Unavailable> {
        let asking = self.sides.get(copy.side).unwrap_or(self.last).organization;
        let destination = match &copy.route {
            Some(route) => self.route(route),
            None => match self.evaluation.policy.receiving(&copy.recipient) {
                Some(other) => Destination::Mailbox { organization: other.name.clone() },
                None => asking.default_destination(&copy.recipient),
            },
        };
        let base = DecidedDelivery {
            delivery: Delivery {
                recipient: copy.recipient.clone(),
                original_recipient: self.recipient.address.clone(),
                sender: self.sender(),
                destination,
                tls: copy.tls,
                changes: copy.changes.clone(),
                suppress_bounces: copy.suppress_bounces,
                spam: false,
                notify: self.recipient.notify,
                orcpt: self.recipient.orcpt.clone(),
            },
            organization: asking.name.clone(),
            direction: self.last.direction,
            source_ip: self.facts.source_ip,
            spam: self.facts.spam,
            because: vec![copy.because.clone()],
            chosen_by: Some(copy.because.clone()),
            reason: format!("rule \"{}\" adds this recipient", copy.because),
            overridden: Vec::new(),
            warnings: Vec::new(),
            marks: Vec::new(),
        };
        let marks =
            self.marks(&base.delivery, &base.organization, &[(Some(copy.side), &base.chosen_by)]);
        self.push(out, DecidedDelivery { marks, ..base })
    }

    /// The marks of a delivery: of the rules that chose where it goes, each with the side that it
    /// matched on; where none did, of the mailbox system (O3, O8).
    fn marks(
        &self,
        delivery: &Delivery,
        organization: &str,
        choosers: &[(Option<usize>, &Option<Box<str>>)],
    ) -> Vec<Marked> {
        let policy = self.evaluation.policy;
        let (recipient, to) = (&delivery.original_recipient, &delivery.destination);
        let mut marks = Vec::new();
        for (side, rule) in choosers {
            let (Some(side), Some(rule)) = (side.and_then(|side| self.sides.get(side)), rule)
            else {
                continue;
            };
            let found = side.walk.matched.iter().find(|one| one.description == *rule);
            let unit = found.map(|one| &one.org_unit);
            let Some(unit) = unit else { continue };
            let mark = policy.mark(&side.organization.name, Some((unit, rule)), recipient, to);
            marks.push(Marked { mark, rule: Some(rule.clone()) });
        }
        if marks.is_empty() && matches!(to, Destination::Mailbox { .. }) {
            marks.push(Marked { mark: policy.mark(organization, None, recipient, to), rule: None });
        }
        marks
    }

    /// Adds a delivery, or one for each member where the built-in Maildir would get a group's mail.
    fn push(
        &self,
        out: &mut Vec<DecidedDelivery>,
        mut decided: DecidedDelivery,
    ) -> Result<(), Unavailable> {
        if self.facts.signed && !decided.delivery.changes.keep_signatures() {
            decided.warnings.push(
                "the message is DKIM-signed, and this change breaks the signature (B3)".to_owned(),
            );
        }
        if let Destination::Mailbox { organization } = &decided.delivery.destination
            && let Some(owner) = self.evaluation.policy.organization(organization)
            && owner.has_maildir()
            && let Account::Group { address } =
                owner.directory.account(&decided.delivery.recipient)?
        {
            for member in owner.directory.members(&address)? {
                let mut one = decided.clone();
                one.delivery.destination = match self.evaluation.policy.receiving(&member) {
                    Some(other) => Destination::Mailbox { organization: other.name.clone() },
                    None => owner.default_destination(&member),
                };
                one.reason = format!("{member} is a member of the group {address}");
                one.delivery.recipient = member;
                out.push(self.marked(one));
            }
            return Ok(());
        }
        out.push(self.marked(decided));
        Ok(())
    }

    /// Spam that a mailbox system gets is marked (`spam_action = "mark"`).
    fn marked(&self, mut one: DecidedDelivery) -> DecidedDelivery {
        let delivery = &mut one.delivery;
        if self.marked && matches!(delivery.destination, Destination::Mailbox { .. }) {
            delivery.changes.added_headers.extend(HeaderLine::new("X-Spam-Flag", "YES").ok());
            delivery.spam = true;
        }
        self.with_source(delivery);
        one
    }

    /// Whoever is told about spam is told the source IP too, where a gateway hides it (E2).
    fn with_source(&self, delivery: &mut Delivery) {
        let client_ip = self.evaluation.transaction.session.client_ip;
        let headers = &mut delivery.changes.added_headers;
        let told = ["X-Gm-Spam", "X-Spam-Flag"];
        let is_told = headers.iter().any(|line| told.contains(&line.name()));
        if is_told && self.facts.source_ip != Some(client_ip) {
            let source = self.facts.source_ip.map_or("internal".to_owned(), |ip| ip.to_string());
            headers.extend(HeaderLine::new("X-Gm-Source-IP", &source).ok());
        }
    }

    fn sender(&self) -> ReversePath {
        let transaction = self.evaluation.transaction;
        match &transaction.admission {
            Some(admission) => admission.sender.clone(),
            None => transaction.sender.clone(),
        }
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
