//! Lines of a message that tell, or claim to tell, what SPF, DKIM and DMARC say (E2).

use waypost_auth::{folded, without_forged};
use waypost_config::policy::{Decision, Policy, Transaction};
use waypost_queue::Body;
use waypost_types::Recipient;

/// The message without lines that forge results of ours, where somebody may believe them. What is
/// signed has been verified before.
pub(crate) fn without_forged_results(
    policy: &Policy,
    transaction: &Transaction,
    recipients: &[Recipient],
    body: Body,
) -> Body {
    if !policy.vouches_for_results(recipients) {
        return body;
    }
    let (bytes, removed) = without_forged(body.into(), &policy.server.hostname);
    if removed > 0 {
        tracing::info!(
            client = %transaction.session.client_ip, sender = %transaction.sender, removed,
            "lines removed that claim to be results of this server (RFC 8601)"
        );
    }
    Body::from(bytes)
}

/// The lines for the very top of a message.
pub(crate) fn stamps(decision: &Decision) -> String {
    decision.stamps.iter().map(folded).collect()
}
