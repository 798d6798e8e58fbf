//! The end of DATA: the header is known, and every recipient's fate is decided.

use std::collections::{HashMap, HashSet};

use std::sync::Arc;

use waypost_auth::{Authentication, Verdict};
use waypost_inbound::{Source, SpamEvaluation};
use waypost_rules::{FromField, Spam};
use waypost_types::{
    Changes, Delivery, Destination, HeaderBlock, Mailbox, Recipient, Reply, TlsDemand,
};

use super::decision::{
    DataReply, DecidedDelivery, Decision, FilterCleared, FilterView, GatewayView, OrganizationView,
    Quarantined, RecipientView, RefusalCause, Refused, RuleLookedAt, SpamBy,
};
use super::evaluate::{Evaluation, Facts, Fate, FateOutcome, Harm, Told};
use super::filter::{FilterAnswer, FilterFinding, FilterKind, FilterSaid};
use super::filtered::{filter_edits, filter_fields, refused_by_filter, verdicts};
use super::internal_sender::{Claim, undecided};
use super::known::{Answers, Known};
use super::mark::{Mark, TraceMarks, looped};
use super::organization::Organization;
use super::relay_copy::{NotCopied, RelayCopy, without_mailbox};
use super::{Policy, Transaction, authentication, signatures};

/// Of so many rules that were looked at a live decision tells, of those nearest to matching first; of more
/// where more match.
pub const RULES_TOLD: usize = 32;

impl Policy {
    /// DATA: decides for every recipient that RCPT accepted, from the message's header.
    ///
    /// The header is that of a live session: our own `Received` line is not in it yet (E5). Cost is
    /// linear in the header, and for each recipient in the rules that match. Nothing is stored or sent.
    ///
    /// A message that looped (O3) is refused as a whole with `554 5.4.6`; a recipient for whom it bears
    /// our own mark (O8) is refused so, and others stand; one with a recipient whose
    /// directory cannot answer is deferred as a whole with `451 4.3.0`, so that nobody gets it twice;
    /// one whose recipients are all refused gets the first one's refusal. Where the message is
    /// refused as a whole, nothing is delivered or kept. A recipient that is given twice is decided
    /// once.
    ///
    /// A message that is taken and whose relay entry asks for a copy has one more delivery (D16), however
    /// many recipients it has. It is refused as a whole where that copy has come back, and deferred
    /// where the directory cannot say who gets it.
    ///
    /// Of the rules looked at it tells those that match and others, [`RULES_TOLD`] in all.
    ///
    /// SPF and DMARC count as not checked: [`Policy::at_data_authenticated`] takes their results.
    #[must_use]
    pub fn at_data(
        &self,
        transaction: &Transaction,
        recipients: &[Recipient],
        header: &HeaderBlock<'_>,
    ) -> Decision {
        self.decide(transaction, recipients, header, Known::default(), Told::Most(RULES_TOLD))
    }

    /// The same with what SPF, DKIM and DMARC say: the answers to the questions of
    /// [`Policy::authentication_due`] (E2).
    ///
    /// A recipient whose organization refuses for that is refused, and the message with it, unless it
    /// is taken for another one: then it is kept under the quarantine name `authentication`, since a
    /// bounce would go to whom the message pretends to be from. What cannot be found out now, where
    /// that is enforced, defers the message as a whole.
    #[must_use]
    pub fn at_data_authenticated(
        &self,
        transaction: &Transaction,
        recipients: &[Recipient],
        header: &HeaderBlock<'_>,
        answers: &[Authentication],
    ) -> Decision {
        let known = Known { dns: Some(Answers::Given(answers)), ..Known::default() };
        self.decide(transaction, recipients, header, known, Told::Most(RULES_TOLD))
    }

    /// The same with all that can be found out beside the header, the filter's answers too (D17).
    ///
    /// What a filter refuses for another reason than spam or malware, or for now, is refused for each
    /// recipient whose organization the answer is for, and so most often as a whole. What is refused as
    /// spam or malware for one recipient, and taken for another, is kept in quarantine instead: a bounce
    /// would go to whom the message pretends to be from.
    #[must_use]
    pub fn at_data_knowing(
        &self,
        transaction: &Transaction,
        recipients: &[Recipient],
        header: &HeaderBlock<'_>,
        known: Known<'_>,
    ) -> Decision {
        self.decide(transaction, recipients, header, known, Told::Most(RULES_TOLD))
    }

    pub(super) fn decide(
        &self,
        transaction: &Transaction,
        recipients: &[Recipient],
        header: &HeaderBlock<'_>,
        known: Known<'_>,
        told: Told,
    ) -> Decision {
        let authentication = known.authentication(self, transaction, recipients, header);
        let authentication = authentication.as_deref();
        let mut message = Message::read(header);
        let filter = self.server.filter.as_ref();
        let found: Vec<Option<Arc<FilterFinding>>> = known
            .filter
            .iter()
            .map(|answer| FilterFinding::of(&answer.said, filter, header).map(Arc::new))
            .collect();
        message.signed |= found.iter().flatten().any(|finding| finding.signs());
        let message = message;
        let mut decision = Decision {
            organizations: Vec::new(),
            rules: Vec::new(),
            rules_left_out: 0,
            observed: Vec::new(),
            observations: Vec::new(),
            recipients: Vec::new(),
            changed: Vec::new(),
            admission: transaction.admission.clone(),
            copied: None,
            deliveries: Vec::new(),
            refusals: Vec::new(),
            quarantined: Vec::new(),
            stamps: Vec::new(),
            filter_fields: Box::default(),
            filter_edits: Vec::new(),
            reply: DataReply::Accept,
        };
        let mut views = Views {
            policy: self,
            transaction,
            message: &message,
            header,
            authentication,
            answers: known.filter,
            found: &found,
            seen: vec![],
            harm: vec![],
            claims: vec![],
        };
        let mut instead = Vec::new();
        let mut owed = Owed::default();
        let mut decided = HashSet::new();
        let mut first = None;
        let marks = &message.marks;
        let copy = self.relay_copy(transaction);
        let loops = match marks.is_empty() {
            true => HashSet::new(),
            false => {
                let fates = recipients.iter().map(|recipient| views.fate(recipient, Told::Nothing));
                let again = fates.flat_map(|fate| marks_of(&fate.outcome));
                let again = again.chain(copy.as_ref().map(RelayCopy::mark)).collect();
                marks.loops(&again)
            }
        };
        for recipient in recipients {
            if !decided.insert(&recipient.address) {
                continue;
            }
            let fate = views.fate(recipient, told.after(decision.rules.len()));
            decision.rules_left_out += fate.reports.left_out;
            decision.rules.extend(fate.reports.listed.into_iter().map(|report| RuleLookedAt {
                recipient: recipient.address.clone(),
                rule: report.rule,
                failed: report.failed,
                also_failed: report.also_failed,
            }));
            for rule in fate.observed {
                if !decision.observed.contains(&rule) {
                    decision.observed.push(rule);
                }
            }
            decision.observations.extend(fate.observations);
            if !fate.sides.is_empty() {
                let recipient = recipient.address.clone();
                decision.recipients.push(RecipientView { recipient, sides: fate.sides });
            }
            let changed = fate.changed.into_iter();
            decision.changed.extend(changed.map(|one| (recipient.address.clone(), one)));
            if fate
                .organization
                .as_deref()
                .is_some_and(|name| views.claim(name) == Claim::Undecided)
            {
                decision.refusals.push(undecided(&recipient.address));
                first = first.or(fate.organization);
                continue;
            }
            if let Some(looped) = looped(&recipient.address, &fate.outcome, &loops) {
                decision.refusals.push(looped);
                first = first.or(fate.organization);
                continue;
            }
            let view = fate.organization.as_deref().and_then(|name| views.view(name));
            let verdict = view.and_then(|view| view.authentication.as_ref());
            let finding = view.and_then(|view| view.filter.as_ref()).map(|view| &view.finding);
            let refused = finding
                .and_then(|finding| refused_by_filter(recipient, finding))
                .or_else(|| verdict.and_then(|found| refused(recipient, &found.verdict)));
            first = first.or(fate.organization);
            match (fate.outcome, refused) {
                (FateOutcome::Refused(refused), _) => {
                    instead.extend(fate.instead);
                    decision.refusals.push(refused);
                }
                (taken, Some(refused)) => {
                    instead.push(kept(&refused, taken));
                    decision.refusals.push(refused);
                }
                (FateOutcome::Quarantined(kept), None) => decision.quarantined.push(kept),
                (FateOutcome::Delivered { own, copies }, None) => owed.add(own, copies),
            }
        }
        decision.deliveries = owed.once();
        keep_instead(&mut decision, instead);
        let copy = copy.map(|copy| {
            views.of(copy.organization());
            let facts = views.facts(copy.organization());
            (copy, facts)
        });
        decision.organizations = views.seen;
        for view in &decision.organizations {
            let found = view.authentication.as_ref();
            if let Some(would) =
                self.observed_authentication(transaction, &view.organization, found)
            {
                if !decision.observed.contains(&would.name) {
                    decision.observed.push(would.name.clone());
                }
                decision.observations.push(would);
            }
        }
        if let Some(first) = first {
            decision.organizations.sort_by_key(|view| view.organization != first);
        }
        decision.reply = self.reply(&decision, &message);
        let too_far = message.hops > self.server.limits.hops;
        let mut cause = if too_far { RefusalCause::Loop } else { RefusalCause::WithOthers };
        if decision.reply == DataReply::Accept {
            decision.copied = without_mailbox(transaction);
            if let Some((copy, facts)) = copy
                && let Err(not) = copy.join(&mut decision, facts, &loops)
            {
                let NotCopied { reply, cause: because } = not;
                (decision.reply, cause) = (DataReply::Refuse(reply), because);
            }
        }
        if let DataReply::Refuse(reply) = decision.reply.clone() {
            refuse_all(&mut decision, reply, cause, recipients);
        }
        filter_edits(&mut decision);
        if message.signed {
            signatures::warn_of_added_lines(&mut decision, header, &message.signatures);
            signatures::warn_of_changed_fields(&mut decision, header);
        }
        stamp(&mut decision);
        filter_fields(&mut decision);
        decision
    }

    /// The organizations whose view of the message may matter for a recipient; the one that owns the
    /// decision first.
    pub(super) fn concerned(
        &self,
        transaction: &Transaction,
        recipient: &Recipient,
    ) -> Vec<&Organization> {
        let admission = transaction.admission.as_ref();
        let relaying = admission.and_then(|found| self.organization(&found.quota.organization));
        let receiving = self.receiving(&recipient.address);
        receiving.into_iter().chain(relaying).collect()
    }

    fn reply(&self, decision: &Decision, message: &Message<'_>) -> DataReply {
        let limit = self.server.limits.hops;
        if message.hops > limit {
            return DataReply::Refuse(Reply::new(
                554,
                (5, 4, 6),
                &format!(
                    "Routing loop: the message has {} Received lines, and {limit} are the limit",
                    message.hops
                ),
            ));
        }
        let transient = decision.refusals.iter().find(|refused| refused.reply.code() < 500);
        if let Some(refused) = transient {
            return DataReply::Refuse(refused.reply.clone());
        }
        match decision.refusals.first() {
            Some(first) if decision.deliveries.is_empty() && decision.quarantined.is_empty() => {
                DataReply::Refuse(first.reply.clone())
            }
            _ => DataReply::Accept,
        }
    }
}

fn marks_of(outcome: &FateOutcome) -> Vec<Mark> {
    outcome.deliveries().flat_map(|one| &one.marks).map(|marked| marked.mark).collect()
}

/// The message is refused as a whole: every recipient shares the reply, but keeps a refusal of its
/// own, and nothing is owed.
pub(super) fn refuse_all(
    decision: &mut Decision,
    reply: Reply,
    cause: RefusalCause,
    recipients: &[Recipient],
) {
    decision.deliveries.clear();
    decision.quarantined.clear();
    let mut refused = std::mem::take(&mut decision.refusals).into_iter().peekable();
    let mut decided = HashSet::new();
    for recipient in recipients.iter().filter(|one| decided.insert(&one.address)) {
        let own = refused.next_if(|refused| refused.recipient == recipient.address);
        decision.refusals.push(own.unwrap_or_else(|| Refused {
            recipient: recipient.address.clone(),
            reply: reply.clone(),
            cause,
            because: format!("the message is refused as a whole: {}", reply.text()),
        }));
    }
    decision.reply = DataReply::Refuse(reply);
}

/// The refusal of a recipient for SPF or DMARC.
fn refused(recipient: &Recipient, verdict: &Verdict) -> Option<Refused> {
    let refusal = verdict.refusal()?;
    Some(Refused {
        recipient: recipient.address.clone(),
        reply: refusal.reply.clone(),
        cause: RefusalCause::Authentication(refusal.cause),
        because: format!("authenticate = \"enforce\": {}", verdict.because),
    })
}

/// What is kept of a recipient's mail, should the message be taken for another one.
fn kept(refused: &Refused, taken: FateOutcome) -> Quarantined {
    let deliveries = match taken {
        FateOutcome::Delivered { own, copies } => own.into_iter().chain(copies).collect(),
        FateOutcome::Quarantined(kept) => kept.deliveries,
        FateOutcome::Refused(_) => Vec::new(),
    };
    Quarantined {
        recipient: refused.recipient.clone(),
        quarantine: match refused.cause {
            RefusalCause::Filter | RefusalCause::FilterUnanswered => "filter".into(),
            _ => "authentication".into(),
        },
        because: refused.because.as_str().into(),
        deliveries,
    }
}

/// Where the message is taken for somebody, those who refuse it as spam, as malware, or for SPF or
/// DMARC have it kept.
fn keep_instead(decision: &mut Decision, instead: Vec<Quarantined>) {
    let is_taken = !decision.deliveries.is_empty() || !decision.quarantined.is_empty();
    let is_deferred = decision.refusals.iter().any(|refused| refused.reply.code() < 500);
    if is_taken && !is_deferred {
        let is_kept = |one: &Refused| instead.iter().any(|kept| kept.recipient == one.recipient);
        decision.refusals.retain(|refused| !is_kept(refused));
        decision.quarantined.extend(instead);
    }
}

/// Puts the lines of the organizations where they belong: above our trace line if all agree, else to
/// each delivery.
fn stamp(decision: &mut Decision) {
    let Decision { organizations, deliveries, quarantined, stamps, .. } = decision;
    let lines = |one: &DecidedDelivery| {
        let view = organizations.iter().find(|view| view.organization == one.organization);
        view.and_then(|view| view.authentication.as_ref()).map_or(&[][..], |found| &found.lines)
    };
    let kept = || quarantined.iter().flat_map(|kept| &kept.deliveries);
    let Some(first) = deliveries.iter().chain(kept()).next() else { return };
    let shared = lines(first);
    if deliveries.iter().chain(kept()).all(|one| lines(one) == shared) {
        *stamps = shared.to_vec();
        return;
    }
    let kept = quarantined.iter_mut().flat_map(|kept| &mut kept.deliveries);
    for one in deliveries.iter_mut().chain(kept) {
        let own = lines(one).to_vec();
        one.delivery.changes.added_headers.splice(0..0, own);
    }
}

/// What is owed to each recipient: its own deliveries, and the copies that rules add.
#[derive(Default)]
struct Owed {
    recipients: Vec<(Vec<DecidedDelivery>, Vec<DecidedDelivery>)>,
}

impl Owed {
    fn add(&mut self, own: Vec<DecidedDelivery>, copies: Vec<DecidedDelivery>) {
        self.recipients.push((own, copies));
    }

    /// All deliveries, in the order of the recipients. The same copy is owed once (O8), and not at
    /// all to somebody who gets the same as a recipient; a recipient's own delivery always stays. The
    /// strictest demand of TLS holds.
    fn once(self) -> Vec<DecidedDelivery> {
        let own: HashSet<Sameness> =
            match self.recipients.iter().any(|(_, copies)| !copies.is_empty()) {
                true => self.recipients.iter().flat_map(|(own, _)| own).map(sameness).collect(),
                false => HashSet::new(),
            };
        let mut demanded: HashMap<Sameness, TlsDemand> = HashMap::new();
        let mut out = Vec::new();
        for (own_deliveries, copies) in self.recipients {
            out.extend(own_deliveries);
            for copy in copies {
                let same = sameness(&copy);
                let is_new = !own.contains(&same) && !demanded.contains_key(&same);
                let tls = demanded.entry(same).or_default();
                *tls = copy.delivery.tls.max(*tls);
                out.extend(is_new.then_some(copy));
            }
        }
        if !demanded.is_empty() {
            for one in &mut out {
                let tls = demanded.get(&sameness(one)).copied().unwrap_or_default();
                one.delivery.tls = one.delivery.tls.max(tls);
            }
        }
        out
    }
}

/// What makes two deliveries the same mail for the same mailbox by the same way.
pub(super) type Sameness = (Mailbox, Destination, Changes);

pub(super) fn sameness(one: &DecidedDelivery) -> Sameness {
    let Delivery { recipient, destination, changes, .. } = &one.delivery;
    (recipient.clone(), destination.clone(), changes.clone())
}

/// What the header says, read in one pass.
struct Message<'h> {
    from: FromField,
    hops: usize,
    /// By whomever; the filter may do so too.
    signed: bool,
    /// The DKIM signatures that it came with.
    signatures: Vec<&'h [u8]>,
    marks: TraceMarks,
}

impl<'h> Message<'h> {
    fn read(header: &HeaderBlock<'h>) -> Self {
        let (from, marks) = (FromField::Missing, TraceMarks::default());
        let mut read = Self { from, hops: 0, signed: false, signatures: Vec::new(), marks };
        for field in header.fields() {
            if field.is("received") {
                read.hops += 1;
                read.marks.add(&field);
            }
            if field.is("dkim-signature") {
                read.signed = true;
                read.signatures.push(field.raw);
            }
            read.from.add(&field);
        }
        read
    }
}

/// What each organization sees, found out once.
struct Views<'v> {
    policy: &'v Policy,
    transaction: &'v Transaction,
    message: &'v Message<'v>,
    header: &'v HeaderBlock<'v>,
    /// What SPF, DKIM and DMARC say; `None`: nobody asked.
    authentication: Option<&'v [Authentication]>,
    /// The filter's answers.
    answers: &'v [FilterAnswer],
    /// What the filter's answers amount to, one for each.
    found: &'v [Option<Arc<FilterFinding>>],
    seen: Vec<OrganizationView>,
    /// Why it counts as spam, for each of those seen.
    harm: Vec<Option<Arc<Harm>>>,
    /// Of the sender to be internal, for each of those seen.
    claims: Vec<Claim>,
}

impl Views<'_> {
    /// What becomes of a recipient's mail, with all that is known of the message.
    fn fate(&mut self, recipient: &Recipient, told: Told) -> Fate {
        let (policy, transaction) = (self.policy, self.transaction);
        for organization in policy.concerned(transaction, recipient) {
            self.of(organization);
        }
        let facts = |organization: &Organization| self.facts(organization);
        Evaluation { policy, transaction, told }.recipient(recipient, &facts)
    }

    fn of(&mut self, organization: &Organization) {
        if self.seen.iter().any(|view| view.organization == organization.name) {
            return;
        }
        let client_ip = self.transaction.session.client_ip;
        let gateway =
            organization.inbound_gateway.as_ref().filter(|_| self.transaction.admission.is_none());
        let source = authentication::source(organization, self.transaction, self.header);
        let gateway = gateway.map(|gateway| GatewayView {
            allow_listed: gateway.allows(&source),
            spam_evaluation: gateway.spam_evaluation(client_ip),
            tag: gateway.tag_verdict(client_ip, self.header),
        });
        let authentication = self.policy.authentication_view(
            organization,
            self.transaction,
            &source,
            self.authentication,
        );
        let view = gateway.as_ref();
        let tagged = view.and_then(|view| view.tag.as_ref()).is_some_and(|verdict| verdict.spam);
        let only_tag = view.is_some_and(|view| view.spam_evaluation == SpamEvaluation::OnlyTag);
        let filter = self.finding(&source).map(|finding| FilterView {
            cleared: match (only_tag, view.is_some_and(|view| view.allow_listed)) {
                (true, _) => Some(FilterCleared::OnlySpamTag),
                (false, true) => Some(FilterCleared::AllowList),
                (false, false) => None,
            }
            .filter(|_| matches!(finding.kind, FilterKind::Spam { .. })),
            finding: FilterFinding::clone(finding),
        });
        let by_dmarc = authentication.as_ref().filter(|found| found.verdict.is_spam() && !only_tag);
        let tag = view.and_then(|view| view.tag.as_ref()).filter(|_| tagged);
        let verdicts = verdicts(tag, filter.as_ref(), by_dmarc);
        let spam = match verdicts.first().map(|first| first.by) {
            None => Spam::No,
            Some(SpamBy::Malware) => Spam::Malware,
            Some(SpamBy::Tag) => Spam::ByTag,
            Some(SpamBy::Filter | SpamBy::Dmarc) => Spam::ByFilter,
        };
        let harm = (!verdicts.is_empty()).then(|| {
            let lines = filter.as_ref().map(|view| view.finding.telling.clone());
            Arc::new(Harm { verdicts: verdicts.clone(), lines: lines.unwrap_or_default() })
        });
        self.harm.push(harm);
        let found = authentication::answer(&source, self.authentication);
        let Message { from, signed, .. } = self.message;
        let claim = self.policy.claim(self.transaction, organization, from, found, *signed);
        self.claims.push(claim);
        self.seen.push(OrganizationView {
            organization: organization.name.clone(),
            source,
            spam,
            verdicts,
            filter,
            spoofed_internal: matches!(claim, Claim::Unproved | Claim::Undecided),
            sender_because: organization
                .internal
                .because(&self.message.from, &self.transaction.sender),
            gateway,
            authentication,
        });
    }

    /// What an organization sees.
    fn view(&self, organization: &str) -> Option<&OrganizationView> {
        self.seen.iter().find(|view| &*view.organization == organization)
    }

    /// What the filter's answer for a source amounts to.
    fn finding(&self, source: &Source) -> Option<&'_ Arc<FilterFinding>> {
        let supposed = |answer: &FilterAnswer| {
            matches!(answer.said, FilterSaid::Spam(_) | FilterSaid::Malware(_))
        };
        let is_its = |answer: &FilterAnswer| answer.source == source.ip || supposed(answer);
        let place = self.answers.iter().position(is_its)?;
        self.found.get(place)?.as_ref()
    }

    /// What becomes of the sender's claim to be internal in an organization.
    fn claim(&self, organization: &str) -> Claim {
        let mut seen = self.seen.iter().zip(&self.claims);
        let found = seen.find(|(view, _)| &*view.organization == organization);
        found.map_or(Claim::Absent, |(_, claim)| *claim)
    }

    fn facts(&self, organization: &Organization) -> Facts {
        let place = self.seen.iter().position(|view| view.organization == organization.name);
        let view = place.and_then(|place| self.seen.get(place));
        let client_ip = Some(self.transaction.session.client_ip);
        Facts {
            internal_sender: self.claim(&organization.name) == Claim::Holds,
            spam: view.map_or(Spam::No, |view| view.spam),
            source_ip: view.map_or(client_ip, |view| view.source.ip),
            signed: self.message.signed,
            harm: place.and_then(|place| self.harm.get(place)).cloned().flatten(),
        }
    }
}
