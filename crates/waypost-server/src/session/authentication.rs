//! SPF, DKIM and DMARC of a message, and lines that forge our results (E2).

use waypost_auth::{Authentication, folded, without_forged};
use waypost_config::policy::Decision;
use waypost_queue::Body;
use waypost_smtp::client::SharedBytes;
use waypost_types::{HeaderBlock, Session};

use super::{Open, SmtpHandler};
use crate::log;

impl SmtpHandler {
    /// What the DNS says of a message; `None` where no organization concerned asks.
    pub(super) async fn authentication(
        &self,
        open: &Open,
        body: &Body,
    ) -> Option<Vec<Authentication>> {
        let header = HeaderBlock::of(body);
        let (policy, transaction) = (&open.policy, &open.transaction);
        let questions = policy.authentication_due(transaction, &open.recipients, &header);
        if questions.is_empty() {
            return None;
        }
        let message = SharedBytes::new(body.clone());
        let answers: Vec<Authentication> = match &self.core.authenticator {
            Some(authenticator) => authenticator.authenticate(message, questions).await,
            // A policy that asks is refused at start and reload then.
            None => questions.iter().map(waypost_auth::Question::unanswered).collect(),
        };
        for answer in &answers {
            self.core.metrics.authenticated(answer);
        }
        Some(answers)
    }

    /// Logs what SPF, DKIM and DMARC say, and what each organization makes of it.
    pub(super) fn tell_authentication(&self, session: &Session, open: &Open, decision: &Decision) {
        for view in &decision.organizations {
            if let Some(found) = &view.authentication {
                let (client, sender) = (session.client_ip, &open.transaction.sender);
                log::Authenticated { client, sender, organization: &view.organization, found }
                    .write();
            }
        }
    }
}

/// The message without lines that forge results of ours, where somebody may believe them. What is
/// signed has been verified before.
pub(super) fn without_forged_results(session: &Session, open: &Open, body: Body) -> Body {
    if !open.policy.vouches_for_results(&open.recipients) {
        return body;
    }
    let (bytes, removed) = without_forged(body.into(), &open.policy.server.hostname);
    if removed > 0 {
        tracing::info!(
            client = %session.client_ip, sender = %open.transaction.sender, removed,
            "lines removed that claim to be results of this server (RFC 8601)"
        );
    }
    Body::from(bytes)
}

/// The lines for the very top of a message.
pub(super) fn stamps(decision: &Decision) -> String {
    decision.stamps.iter().map(folded).collect()
}
