//! SPF, DKIM and DMARC of a message, and lines that forge our results (E2).

use waypost_auth::{Authentication, folded, without_forged};
use waypost_config::policy::{Decision, Policy, Transaction};
use waypost_queue::Body;
use waypost_types::{Recipient, Session};

use super::{Open, SmtpHandler};

impl SmtpHandler {
    /// What the DNS says of a message; `None` where no organization concerned asks.
    pub(super) async fn authentication(
        &self,
        session: &Session,
        open: &Open,
        body: &Body,
    ) -> Option<Vec<Authentication>> {
        self.asking(session, open).authentication(body).await
    }

    /// Logs what SPF, DKIM and DMARC say, and what each organization makes of it.
    pub(super) fn tell_authentication(&self, session: &Session, open: &Open, decision: &Decision) {
        self.asking(session, open).tell_authentication(decision);
    }
}

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
