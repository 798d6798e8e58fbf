//! What a filter's answer does to a decision: verdicts, refusals, and the fields of the message.

use waypost_inbound::TagVerdict;
use waypost_types::Recipient;

use super::decision::{
    AuthenticationView, DecidedDelivery, Decision, FilterView, RefusalCause, Refused, SpamBy,
    SpamVerdict,
};
use super::filter::{FilterFinding, FilterKind};
use super::organization::SpamAction;

/// Why a message counts as spam, the gravest first.
pub(super) fn verdicts(
    tag: Option<&TagVerdict>,
    filter: Option<&FilterView>,
    dmarc: Option<&AuthenticationView>,
) -> Vec<SpamVerdict> {
    let mut all = Vec::new();
    let by_filter = filter.filter(|view| view.cleared.is_none()).map(|view| &view.finding);
    all.extend(by_filter.and_then(|finding| {
        let (by, least) = match finding.kind {
            FilterKind::Malware => (SpamBy::Malware, SpamAction::Quarantine),
            FilterKind::Spam { least } => (SpamBy::Filter, least),
            _ => return None,
        };
        Some(SpamVerdict {
            by,
            least,
            because: finding.because.clone(),
            text: finding.text.clone(),
        })
    }));
    let mark = |by, because: &str| SpamVerdict {
        by,
        because: because.into(),
        least: SpamAction::Mark,
        text: None,
    };
    all.extend(tag.map(|tag| mark(SpamBy::Tag, tag.line.as_deref().unwrap_or_default())));
    all.extend(dmarc.map(|found| mark(SpamBy::Dmarc, &found.verdict.because)));
    all.sort_by_key(|verdict| verdict.by);
    all
}

/// The refusal of a recipient by the filter itself, whatever the organization says.
pub(super) fn refused_by_filter(recipient: &Recipient, finding: &FilterFinding) -> Option<Refused> {
    let reply = finding.refusal()?;
    let (cause, because) = match finding.kind {
        FilterKind::Unanswered(_) => {
            let because = format!(
                "on_failure = \"defer\", and the filter gave no answer: {}",
                finding.because
            );
            (RefusalCause::FilterUnanswered, because)
        }
        _ => (RefusalCause::Filter, format!("the filter refuses: {}", finding.because)),
    };
    Some(Refused { recipient: recipient.address.clone(), reply, cause, because })
}

/// Puts the filter's fields where they belong: below our trace line if all agree, else to each
/// delivery.
pub(super) fn filter_fields(decision: &mut Decision) {
    let Decision { organizations, deliveries, quarantined, filter_fields, .. } = decision;
    let finding = |one: &DecidedDelivery| {
        let view = organizations.iter().find(|view| view.organization == one.organization);
        view.and_then(|view| view.filter.as_ref()).map(|view| &view.finding)
    };
    let top = |one: &DecidedDelivery| finding(one).map(|one| one.top()).unwrap_or_default();
    let kept = || quarantined.iter().flat_map(|kept| &kept.deliveries);
    let Some(first) = deliveries.iter().chain(kept()).next() else { return };
    let shared = top(first);
    // One answer for all is the rule.
    let same = |one: &DecidedDelivery| {
        one.organization == first.organization
            || finding(one) == finding(first)
            || top(one) == shared
    };
    if deliveries.iter().chain(kept()).all(same) {
        *filter_fields = shared.into();
        return;
    }
    let kept = quarantined.iter_mut().flat_map(|kept| &mut kept.deliveries);
    for one in deliveries.iter_mut().chain(kept) {
        let own = finding(one).map(|one| one.lines()).unwrap_or_default();
        one.delivery.changes.added_headers.extend(own);
    }
}

/// The filter's changes to fields of the message: only what it wants for all organizations, since they
/// are made once.
pub(super) fn filter_edits(decision: &mut Decision) {
    let mut findings =
        decision.organizations.iter().map(|view| view.filter.as_ref().map(|view| &view.finding));
    let Some(first) = findings.next() else { return };
    let edits = first.map_or(&[][..], |finding| &finding.edits);
    if findings.all(|other| other.map_or(&[][..], |finding| &finding.edits) == edits) {
        decision.filter_edits = edits.to_vec();
    }
}
