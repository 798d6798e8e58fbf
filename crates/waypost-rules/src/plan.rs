//! What the matching rules ask for together, for one recipient.

use std::fmt;

use waypost_types::{Changes, HeaderLine, Mailbox, OrgUnit, RouteName, TlsDemand};

use crate::{Action, CopyTo, Modification, Rule, Walk};

/// What is known of a message being spam.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spam {
    /// It is not.
    No,
    /// A filter says so; `bypass_spam` and the allow list clear it.
    ByFilter,
    /// A gateway's tag says so; nothing clears it.
    ByTag,
    /// A filter found malware, which is treated as spam at least; nothing clears it.
    Malware,
}

/// A route, and which side of the message named it: the place of its walk in the list given to
/// [`combine`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideRoute {
    /// The route.
    pub route: RouteName,
    /// The walk whose rule named it.
    pub side: usize,
}

impl SideRoute {
    /// The route's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.route.as_str()
    }
}

/// A single-valued part of a rule that a nearer rule or the other side overrode (C8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overridden {
    /// The rule that lost.
    pub rule: Box<str>,
    /// The rule that won.
    pub by: Box<str>,
    /// The part: `route`, `recipient` or `tls`.
    pub what: &'static str,
}

/// What one matching rule changed about a recipient's mail (C9).
#[derive(Clone, Debug, PartialEq)]
pub struct RuleChanges {
    /// The rule.
    pub rule: Box<str>,
    /// The unit that it is attached to.
    pub org_unit: OrgUnit,
    /// What it changed; empty when others overrode all of it.
    pub changed: Vec<Changed>,
}

/// One change. The text form is `what: value`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Changed {
    /// The route.
    Route(RouteName),
    /// It chose this route, but not for spam, and this is spam.
    RouteNotForSpam(RouteName),
    /// The envelope recipient.
    Recipient(Mailbox),
    /// What onward delivery demands of TLS.
    Tls(TlsDemand),
    /// A line on top of the header.
    Header(HeaderLine),
    /// The subject begins with it.
    SubjectPrefix(Box<str>),
    /// Attachments are replaced by a notice.
    Attachments,
    /// A failed delivery bounces to nobody.
    Bounces,
    /// The filter's verdict does not count.
    Spam,
    /// A copy.
    Copy(Mailbox),
    /// A copy that is not sent, since this is spam.
    CopyNotForSpam(Mailbox),
    /// It rejects with this text.
    Reject(Box<str>),
    /// It keeps the message in this quarantine.
    Quarantine(Box<str>),
    /// No later rule was looked at.
    Stop,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Changed::Route(route) => write!(f, "route: {route}"),
            Changed::RouteNotForSpam(route) => {
                write!(f, "route: {route}, but not for spam, which the mailbox system keeps")
            }
            Changed::Recipient(recipient) => write!(f, "recipient: {recipient}"),
            Changed::Tls(TlsDemand::Required) => f.write_str("TLS: required"),
            Changed::Tls(TlsDemand::Opportunistic) => f.write_str("TLS: not required"),
            Changed::Header(line) => write!(f, "header: {line}"),
            Changed::SubjectPrefix(prefix) => write!(f, "subject: {prefix}…"),
            Changed::Attachments => f.write_str("attachments: removed"),
            Changed::Bounces => f.write_str("bounces: suppressed"),
            Changed::Spam => f.write_str("spam: the filter's verdict does not count"),
            Changed::Copy(recipient) => write!(f, "copy: {recipient}"),
            Changed::CopyNotForSpam(recipient) => write!(f, "copy: none to {recipient} of spam"),
            Changed::Reject(text) => write!(f, "rejects: {text}"),
            Changed::Quarantine(name) => write!(f, "quarantine: {name}"),
            Changed::Stop => f.write_str("stop: no later rule is looked at"),
        }
    }
}

/// What each matching rule of the walks changed, in order, each rule once. `plan` is the one of the
/// verdict; without one a rule rejects, and what others would change does not come about.
#[must_use]
pub fn rule_changes(sides: &[&Walk<'_>], plan: Option<&Plan>) -> Vec<RuleChanges> {
    let mut out: Vec<RuleChanges> = Vec::new();
    let mut seen: Vec<&Rule> = Vec::new();
    let mut acts = plan.map(|plan| plan.acts.iter()).unwrap_or_default();
    for rule in sides.iter().flat_map(|walk| walk.matched.iter().copied()) {
        if seen.iter().any(|other| std::ptr::eq(*other, rule)) {
            continue;
        }
        seen.push(rule);
        let mut changed = match &rule.action {
            Action::Reject { text } => vec![Changed::Reject(text.clone())],
            Action::Quarantine { name } => vec![Changed::Quarantine(name.clone())],
            Action::Modify(_) => acts.next().map(|acts| acts.changed.clone()).unwrap_or_default(),
        };
        changed.extend(rule.stop.then_some(Changed::Stop));
        out.push(RuleChanges {
            rule: (*rule.description).into(),
            org_unit: rule.org_unit.clone(),
            changed,
        });
    }
    out
}

/// A copy that a rule adds (C6, dual delivery).
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedCopy {
    /// Who gets it.
    pub recipient: Mailbox,
    /// Its own route, if it has one.
    pub route: Option<SideRoute>,
    /// The walk whose rule asked for it.
    pub side: usize,
    /// TLS demanded for it.
    pub tls: TlsDemand,
    /// Its changes to the message.
    pub changes: Changes,
    /// Nobody is told when it fails.
    pub suppress_bounces: bool,
    /// The rule that asked for it first.
    pub because: Box<str>,
}

/// One delivery and its copies, as the rules want them.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The recipient after all changes.
    pub recipient: Mailbox,
    /// The rule that changed the recipient.
    pub renamed_by: Option<Box<str>>,
    /// The walk of that rule.
    pub renamed_side: Option<usize>,
    /// The route that a rule chose.
    pub route: Option<SideRoute>,
    /// The rule that chose it.
    pub routed_by: Option<Box<str>>,
    /// A rule chose a route, but not for spam, and this is spam: the mailbox system keeps it.
    pub spam_kept_by: Option<Box<str>>,
    /// TLS demanded by rules.
    pub tls: TlsDemand,
    /// The rule that settled it.
    pub tls_by: Option<Box<str>>,
    /// Changes to the message.
    pub changes: Changes,
    /// Nobody is told when the delivery fails.
    pub suppress_bounces: bool,
    /// The spam verdict after `bypass_spam`.
    pub spam: Spam,
    /// The copies, each once (O8).
    pub copies: Vec<PlannedCopy>,
    /// The rules that changed something about this delivery, in order.
    pub because: Vec<Box<str>>,
    /// The parts of rules that lost.
    pub overridden: Vec<Overridden>,
    /// What each modifying rule changed, its copies included, in order, each rule once.
    pub acts: Vec<RuleChanges>,
}

/// What the rules decide for one recipient: reject beats quarantine beats deliver (C8).
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Refused.
    Reject {
        /// The first rule that rejects.
        rule: Box<str>,
        /// Its text for the 550.
        text: Box<str>,
    },
    /// Kept until released; then delivered by the plan.
    Quarantine {
        /// The first rule that quarantines.
        rule: Box<str>,
        /// The quarantine's name.
        name: Box<str>,
        /// What a release delivers.
        plan: Box<Plan>,
    },
    /// Delivered.
    Deliver(Box<Plan>),
}

/// Joins what the matching rules of one or more walks ask for.
///
/// `sides` are the walks in the order in which they apply: for mail between internal addresses the
/// sender's, then the recipient's. Additive parts (header lines, copies, prefixes) add up in that
/// order; what a rule adds that matches on both sides is added once. Of single-valued parts the last
/// side that sets one wins, and within a side the first rule; every rule that lost is named. `recipient` is the one of RCPT; copies are made from it, and are not
/// evaluated again.
#[must_use]
pub fn combine(recipient: &Mailbox, sides: &[&Walk<'_>], spam: Spam) -> Verdict {
    let matched = || {
        let numbered = sides.iter().enumerate();
        numbered.flat_map(|(side, walk)| walk.matched.iter().map(move |rule| (side, *rule)))
    };
    let reject = matched().find_map(|(_, rule)| match &rule.action {
        Action::Reject { text } => Some((rule, text)),
        _ => None,
    });
    if let Some((rule, text)) = reject {
        return Verdict::Reject { rule: (*rule.description).into(), text: text.clone() };
    }
    let modifying: Vec<Modifying<'_>> = matched()
        .filter_map(|(side, rule)| match &rule.action {
            Action::Modify(changes) => Some(Modifying { side, rule, changes }),
            _ => None,
        })
        .collect();
    let plan = Box::new(plan(recipient, &modifying, spam));
    let quarantine = matched().find_map(|(_, rule)| match &rule.action {
        Action::Quarantine { name } => Some((rule, name)),
        _ => None,
    });
    match quarantine {
        Some((rule, name)) => {
            Verdict::Quarantine { rule: (*rule.description).into(), name: name.clone(), plan }
        }
        None => Verdict::Deliver(plan),
    }
}

#[derive(Clone, Copy)]
struct Modifying<'r> {
    side: usize,
    rule: &'r Rule,
    changes: &'r Modification,
}

fn plan(recipient: &Mailbox, rules: &[Modifying<'_>], spam: Spam) -> Plan {
    let bypassed = rules.iter().any(|rule| rule.changes.bypass_spam);
    let spam = if spam == Spam::ByFilter && bypassed { Spam::No } else { spam };
    let is_spam = spam != Spam::No;
    let mut overridden = Vec::new();
    let route = winner(rules, "route", &mut overridden, |rule| rule.changes.route.as_ref());
    let renamed =
        winner(rules, "recipient", &mut overridden, |rule| rule.changes.replace_recipient.as_ref());
    let tls = winner(rules, "tls", &mut overridden, |rule| rule.changes.tls.as_ref());
    let kept = route.filter(|(rule, _)| is_spam && !rule.changes.also_reroute_spam);
    let mut plan = Plan {
        recipient: renamed.map_or_else(|| recipient.clone(), |(_, to)| to.apply(recipient)),
        renamed_by: renamed.map(|(rule, _)| (*rule.rule.description).into()),
        renamed_side: renamed.map(|(rule, _)| rule.side),
        route: route
            .filter(|_| kept.is_none())
            .map(|(rule, route)| SideRoute { route: route.clone(), side: rule.side }),
        routed_by: route
            .filter(|_| kept.is_none())
            .map(|(rule, _)| (*rule.rule.description).into()),
        spam_kept_by: kept.map(|(rule, _)| (*rule.rule.description).into()),
        tls: tls.map(|(_, tls)| *tls).unwrap_or_default(),
        tls_by: tls.map(|(rule, _)| (*rule.rule.description).into()),
        changes: Changes::default(),
        suppress_bounces: false,
        spam,
        copies: Vec::new(),
        because: Vec::new(),
        overridden,
        acts: Vec::new(),
    };
    let mut prefix = String::new();
    for (place, modifying) in rules.iter().enumerate() {
        let Modifying { rule, changes, .. } = *modifying;
        let is_this = |other: &Modifying<'_>| std::ptr::eq(other.rule, rule);
        if rules.iter().take(place).any(is_this) {
            continue;
        }
        let won = |winner: Option<&Modifying<'_>>| winner.is_some_and(is_this);
        let headers = added_headers(
            &changes.add_headers,
            changes.original_to_header.then_some(recipient),
            changes.spam_headers.then_some(is_spam),
        );
        let acts = won(route.map(|(rule, _)| rule))
            || won(renamed.map(|(rule, _)| rule))
            || won(tls.map(|(rule, _)| rule))
            || !headers.is_empty()
            || changes.subject_prefix.is_some()
            || changes.remove_attachments
            || changes.suppress_bounces
            || changes.bypass_spam;
        if acts {
            plan.because.push((*rule.description).into());
        }
        let mut changed = Vec::new();
        if let Some((_, name)) = route.filter(|(rule, _)| is_this(rule)) {
            changed.push(match kept {
                None => Changed::Route(name.clone()),
                Some(_) => Changed::RouteNotForSpam(name.clone()),
            });
        }
        changed.extend(
            won(renamed.map(|(rule, _)| rule)).then(|| Changed::Recipient(plan.recipient.clone())),
        );
        changed.extend(tls.filter(|(rule, _)| is_this(rule)).map(|(_, tls)| Changed::Tls(*tls)));
        changed.extend(headers.iter().cloned().map(Changed::Header));
        changed.extend(changes.subject_prefix.clone().map(Changed::SubjectPrefix));
        changed.extend(changes.remove_attachments.then_some(Changed::Attachments));
        changed.extend(changes.suppress_bounces.then_some(Changed::Bounces));
        changed.extend(changes.bypass_spam.then_some(Changed::Spam));
        changed.extend(changes.also_deliver_to.iter().map(|copy| {
            let recipient = copy.recipient.apply(recipient);
            if is_spam && copy.no_spam {
                Changed::CopyNotForSpam(recipient)
            } else {
                Changed::Copy(recipient)
            }
        }));
        plan.acts.push(RuleChanges {
            rule: (*rule.description).into(),
            org_unit: rule.org_unit.clone(),
            changed,
        });
        plan.changes.added_headers.extend(headers);
        prefix.push_str(changes.subject_prefix.as_deref().unwrap_or_default());
        plan.changes.remove_attachments |= changes.remove_attachments;
        plan.suppress_bounces |= changes.suppress_bounces;
        for copy in &changes.also_deliver_to {
            add_copy(&mut plan.copies, copy, modifying, recipient, is_spam);
        }
    }
    plan.changes.subject_prefix = (!prefix.is_empty()).then(|| prefix.into());
    plan
}

/// The rule that sets a single-valued part, and its value: of the last side that sets it, the first
/// rule. All others that set it are noted, those that set the same value too: whoever takes the
/// winner away wants to know who is next.
fn winner<'a, 'r, T>(
    rules: &'a [Modifying<'r>],
    what: &'static str,
    overridden: &mut Vec<Overridden>,
    part: impl Fn(&'a Modifying<'r>) -> Option<&'r T>,
) -> Option<(&'a Modifying<'r>, &'r T)> {
    let setters: Vec<_> = rules.iter().filter_map(|rule| Some((rule, part(rule)?))).collect();
    let last_side = setters.iter().map(|(rule, _)| rule.side).max()?;
    let (winner, value) = *setters.iter().find(|(rule, _)| rule.side == last_side)?;
    for (place, (loser, _)) in setters.iter().enumerate() {
        let is_loser = |other: &Modifying<'_>| std::ptr::eq(other.rule, loser.rule);
        if is_loser(winner) || setters.iter().take(place).any(|(other, _)| is_loser(other)) {
            continue;
        }
        overridden.push(Overridden {
            rule: (*loser.rule.description).into(),
            by: (*winner.rule.description).into(),
            what,
        });
    }
    Some((winner, value))
}

fn add_copy(
    copies: &mut Vec<PlannedCopy>,
    copy: &CopyTo,
    by: &Modifying<'_>,
    recipient: &Mailbox,
    is_spam: bool,
) {
    if is_spam && copy.no_spam {
        return;
    }
    let planned = PlannedCopy {
        recipient: copy.recipient.apply(recipient),
        route: copy.route.clone().map(|route| SideRoute { route, side: by.side }),
        side: by.side,
        tls: copy.tls,
        changes: Changes {
            added_headers: added_headers(
                &copy.add_headers,
                copy.original_to_header.then_some(recipient),
                copy.spam_headers.then_some(is_spam),
            ),
            subject_prefix: copy.subject_prefix.clone().filter(|prefix| !prefix.is_empty()),
            remove_attachments: copy.remove_attachments,
        },
        suppress_bounces: copy.suppress_bounces,
        because: (*by.rule.description).into(),
    };
    let same = |other: &&mut PlannedCopy| {
        other.recipient == planned.recipient
            && other.route == planned.route
            && other.changes == planned.changes
    };
    match copies.iter_mut().find(same) {
        Some(other) => other.tls = other.tls.max(planned.tls),
        None => copies.push(planned),
    }
}

fn added_headers(
    configured: &[HeaderLine],
    original: Option<&Mailbox>,
    is_spam: Option<bool>,
) -> Vec<HeaderLine> {
    let original = original.map(|mailbox| ("X-Gm-Original-To", mailbox.to_string()));
    let spam = is_spam.map(|spam| ("X-Gm-Spam", u8::from(spam).to_string()));
    let made = [original, spam].into_iter().flatten();
    let made = made.filter_map(|(name, value)| HeaderLine::new(name, &value).ok());
    configured.iter().cloned().chain(made).collect()
}
