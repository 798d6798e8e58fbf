//! What the outcomes of a work are, and what they say about its site.

use std::collections::BTreeMap;

use waypost_types::{EnhancedCode, Failure, FailureScope, Outcome, Reply};

use crate::Ended;
use crate::window::Verdict;

/// One outcome for each delivery, in their order.
pub(crate) fn complete(deliveries: &[u32], mut results: Vec<Ended>) -> Vec<Ended> {
    let in_order = results.iter().map(|ended| &ended.delivery).eq(deliveries);
    if in_order {
        return results;
    }
    results.reverse();
    let mut by_place: BTreeMap<u32, Ended> =
        results.into_iter().map(|ended| (ended.delivery, ended)).collect();
    let unsaid = || {
        Outcome::Deferred(Failure {
            scope: FailureScope::Message,
            host: None,
            reply: Reply::new(451, (4, 3, 0), "Local error: the attempt ended without an outcome"),
        })
    };
    let ended =
        |place: &u32| by_place.remove(place).unwrap_or_else(|| Ended::new(*place, unsaid()));
    deliveries.iter().map(ended).collect()
}

/// What the outcomes say about the site. A failure without a host is one of our own.
pub(crate) fn verdict(results: &[Ended]) -> Verdict {
    let failure = |ended: &Ended| match &ended.outcome {
        Outcome::Delivered { .. } => None,
        Outcome::Deferred(failure) | Outcome::Failed(failure) => Some(failure.clone()),
    };
    let failures: Vec<Failure> = results.iter().filter_map(failure).collect();
    let host = |failure: &Failure| failure.scope != FailureScope::Message;
    // 421, and what was cut off or timed out after the message was sent.
    let strain = |failure: &Failure| {
        let cut = failure.reply.enhanced() == Some(EnhancedCode(4, 4, 2));
        failure.reply.code() == 421 || (failure.reply.code() == 451 && cut)
    };
    if failures.len() == results.len() && failures.iter().all(host) {
        let ours = failures.iter().all(|failure| failure.host.is_none());
        return if ours { Verdict::Unknown } else { Verdict::Down };
    }
    let strained = failures.iter().any(|failure| host(failure) || strain(failure));
    if strained { Verdict::Strained } else { Verdict::Answered }
}
