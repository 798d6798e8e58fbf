//! Deliveries that come twice, and mail that is kept or lost without a word.

use waypost_rules::{Action, CopyTo, RecipientChange};

use super::{Linted, WrittenRule};
use crate::diagnostics::{Diagnostic, Report};

pub(super) fn lint(at: &Linted<'_>, report: &mut Report) {
    for one in at.enforced() {
        quarantined_outgoing(one, report);
        copies(at, one, report);
        lost_silently(one, report);
    }
}

/// What users send is kept back, and nobody tells them (C6).
fn quarantined_outgoing(one: &WrittenRule<'_>, report: &mut Report) {
    let Action::Quarantine { name } = &one.rule.action else { return };
    if let Some(outgoing) = one.raw.affects.iter().find(|affects| affects.is_outgoing()) {
        report.push(Diagnostic::warning(
            "quarantine-outgoing",
            outgoing.place,
            "C6",
            format!(
                "the rule `{}` keeps what users send in the quarantine `{name}`, and they are told \
                 that it was accepted",
                one.rule.description
            ),
            "let it `reject` with a text that says why, or see to it that somebody releases",
        ));
    }
}

fn copies(at: &Linted<'_>, one: &WrittenRule<'_>, report: &mut Report) {
    let Some(modification) = one.modification() else { return };
    let Some(raw) = one.raw.then.as_ref().and_then(|then| then.modify.as_ref()) else { return };
    let (copies, written) = (&modification.also_deliver_to, &raw.also_deliver_to.items);
    if copies.len() != written.len() {
        return;
    }
    let mailbox = at.compiled.mailbox_route.as_ref();
    for (nth, (copy, place)) in copies.iter().zip(written).enumerate() {
        if copies.iter().take(nth).any(|other| is_same(other, copy)) {
            report.push(Diagnostic::warning(
                "duplicate-copy",
                place.place,
                "O8",
                format!("the rule `{}` asks for this copy twice", one.rule.description),
                "remove one of the two: the same copy is delivered once",
            ));
        }
        let own = modification.route.as_ref();
        let same_way = copy.route.as_ref() == own
            || (own.is_none() && copy.route.is_some() && copy.route.as_ref() == mailbox);
        let same = copy.recipient == RecipientChange::SAME;
        if same && same_way && modification.replace_recipient.is_none() {
            let way = match &copy.route {
                Some(route) => format!("by the route `{route}`"),
                None => "where its mail goes anyway".to_owned(),
            };
            report.push(Diagnostic::warning(
                "copy-to-itself",
                place.place,
                "O8",
                format!(
                    "the rule `{}` sends the recipient a second copy {way}",
                    one.rule.description
                ),
                "give the copy a `route`, an `address`, a `local_part` or a `domain` of its own, or \
                 remove it",
            ));
        }
    }
}

/// What makes two copies one: demands and tolerances aside, as [`waypost_rules::combine`] has it.
fn is_same(one: &CopyTo, other: &CopyTo) -> bool {
    let essence = |copy: &CopyTo| CopyTo {
        tls: CopyTo::default().tls,
        no_spam: false,
        suppress_bounces: false,
        ..copy.clone()
    };
    essence(one) == essence(other)
}

/// Anybody's mail may fail, and nobody hears of it (C6). Where the senders are chosen, it is meant.
fn lost_silently(one: &WrittenRule<'_>, report: &mut Report) {
    let Some(raw) = one.raw.then.as_ref().and_then(|then| then.modify.as_ref()) else { return };
    if raw.suppress_bounces.value && one.rule.envelope.senders.is_empty() {
        report.push(Diagnostic::warning(
            "loses-mail-silently",
            raw.suppress_bounces.place,
            "C6",
            format!(
                "when mail that the rule `{}` matches cannot be delivered, no sender hears of it",
                one.rule.description
            ),
            "write it into the copy of `also_deliver_to` that it is for, or name the senders in \
             `envelope`",
        ));
    }
}
