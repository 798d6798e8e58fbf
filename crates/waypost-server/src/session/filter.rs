//! The filter asked about a message, and what its answer does beside the decision (D17).

use waypost_config::policy::{Decision, FilterAnswer, with_edits};
use waypost_queue::Body;
use waypost_types::{QueueId, Session};

use super::{Open, SmtpHandler};
use crate::asking::Asking;

impl SmtpHandler {
    /// The message of a transaction, for others to be asked about.
    pub(super) fn asking<'a>(&'a self, session: &'a Session, open: &'a Open) -> Asking<'a> {
        Asking {
            core: &self.core,
            session,
            tls: self.tls.as_deref(),
            policy: &open.policy,
            transaction: &open.transaction,
            recipients: &open.recipients,
            filter: open.filter.as_ref(),
        }
    }

    /// What the filter says of a message, for each source that the organizations see (E2).
    pub(super) async fn asked_filter(
        &self,
        session: &Session,
        open: &Open,
        body: &Body,
        id: QueueId,
    ) -> Vec<FilterAnswer> {
        self.asking(session, open).filter(body, id).await
    }

    /// Logs and counts what the filter said.
    pub(super) async fn tell_filter(
        &self,
        session: &Session,
        open: &Open,
        decision: &Decision,
        id: QueueId,
    ) {
        self.asking(session, open).tell_filter(decision, id).await;
    }
}

/// The message with the changes that the filter may make to its own fields.
pub(crate) fn edited(decision: &Decision, body: Body) -> Body {
    if decision.filter_edits.is_empty() {
        return body;
    }
    Body::from(with_edits(body.into(), &decision.filter_edits))
}
