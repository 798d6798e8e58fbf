//! From a plan to deliveries: where each goes, by which setting or rule, and with what.

use waypost_rules::{Plan, PlannedCopy, SideRoute};
use waypost_types::{
    Account, Delivery, Destination, HeaderLine, Mailbox, Recipient, ReversePath, TlsDemand,
    Unavailable,
};

use super::Policy;
use super::decision::DecidedDelivery;
use super::evaluate::{Evaluation, Facts, Side};
use super::mark::Marked;
use super::organization::Organization;

/// Turns a plan into deliveries.
pub(super) struct Making<'m, 'p, 't> {
    pub(super) evaluation: &'m Evaluation<'p, 't>,
    pub(super) recipient: &'m Recipient,
    pub(super) sides: &'m [Side<'p>],
    pub(super) last: &'m Side<'p>,
    pub(super) facts: Facts,
    /// It is spam, and the mailbox system is to be told.
    pub(super) marked: bool,
    /// What the filter says of it, where that counts.
    pub(super) lines: &'m [HeaderLine],
}

/// A group, and its members each with the way that its mail takes.
type Members = (Mailbox, Vec<(Mailbox, Destination)>);

impl Policy {
    /// Who gets mail instead of a group, where the built-in Maildir would get it.
    pub(super) fn members_instead(
        &self,
        recipient: &Mailbox,
        destination: &Destination,
    ) -> Result<Option<Members>, Unavailable> {
        if let Destination::Mailbox { organization } = destination
            && let Some(owner) = self.organization(organization)
            && owner.has_maildir()
            && let Account::Group { address } = owner.directory.account(recipient)?
        {
            let members = owner.directory.members(&address)?.into_iter();
            let way = |member: Mailbox| {
                let destination = match self.receiving(&member) {
                    Some(other) => Destination::Mailbox { organization: other.name.clone() },
                    None => owner.default_destination(&member),
                };
                (member, destination)
            };
            return Ok(Some((address, members.map(way).collect())));
        }
        Ok(None)
    }
}

impl Making<'_, '_, '_> {
    /// The recipient's own deliveries: one, or one for each member of a group.
    pub(super) fn own(&self, plan: &Plan) -> Result<Vec<DecidedDelivery>, Unavailable> {
        let mut out = Vec::new();
        let (destination, reason) = self.destination(plan);
        self.add(&mut out, plan, plan.recipient.clone(), destination, reason)?;
        Ok(out)
    }

    /// Those that rules add.
    pub(super) fn copies(&self, plan: &Plan) -> Result<Vec<DecidedDelivery>, Unavailable> {
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
            tls_by: plan.tls_by.clone(),
            is_copy: false,
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
            tls_by: (copy.tls == TlsDemand::Required).then(|| copy.because.clone()),
            is_copy: true,
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
            let found = side.walk.matched.iter().find(|one| *one.description == **rule);
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
        let Delivery { recipient, destination, .. } = &decided.delivery;
        let Some((group, members)) =
            self.evaluation.policy.members_instead(recipient, destination)?
        else {
            out.push(self.marked(decided));
            return Ok(());
        };
        for (member, destination) in members {
            let mut one = decided.clone();
            one.reason = format!("{member} is a member of the group {group}");
            one.delivery.destination = destination;
            one.delivery.recipient = member;
            out.push(self.marked(one));
        }
        Ok(())
    }

    /// Spam that a mailbox system gets is marked (`spam_action = "mark"`).
    fn marked(&self, mut one: DecidedDelivery) -> DecidedDelivery {
        let delivery = &mut one.delivery;
        if self.marked && matches!(delivery.destination, Destination::Mailbox { .. }) {
            delivery.changes.added_headers.extend(HeaderLine::new("X-Spam-Flag", "YES").ok());
            delivery.spam = true;
        }
        for line in self.lines {
            let headers = &mut delivery.changes.added_headers;
            if !headers.contains(line) {
                headers.push(line.clone());
            }
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
