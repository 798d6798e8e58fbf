//! The filter asked about a message, and what its answer does beside the decision (D17).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use waypost_config::policy::{Decision, FilterAnswer, FilterSaid, with_edits};
use waypost_net::milter::{FilterQuestion, MilterClient, TlsFacts};
use waypost_queue::Body;
use waypost_types::{HeaderBlock, QueueId, Session};

use super::{Open, SmtpHandler};
use crate::administrators::{Tidings, TidingsKind};
use crate::log;

/// The client keeps to the time itself, and says more about it.
const BEYOND: Duration = Duration::from_secs(1);

impl SmtpHandler {
    /// What the filter says of a message, for each source that the organizations see (E2): most often
    /// one. Empty where no filter is configured.
    pub(super) async fn asked_filter(
        &self,
        session: &Session,
        open: &Open,
        body: &Body,
        id: QueueId,
    ) -> Vec<FilterAnswer> {
        let header = HeaderBlock::of(body);
        let due = open.policy.filter_due(&open.transaction, &open.recipients, &header);
        let mut answers = Vec::with_capacity(due.len());
        let span = open.policy.server.filter.as_ref().map_or(Duration::ZERO, |one| one.timeout);
        let until = tokio::time::Instant::now() + span;
        for source in due {
            let began = Instant::now();
            let said = match &open.filter {
                // All sources share the time.
                Some(client) => {
                    let said = self.said(client, session, open, body, id, source);
                    let said = tokio::time::timeout_at(until + BEYOND, said).await;
                    said.unwrap_or_else(|_| FilterSaid::Nothing("its time is used up".into()))
                }
                None => FilterSaid::Nothing("there is no client for it".into()),
            };
            self.core.metrics.filter.took(began.elapsed());
            answers.push(FilterAnswer { source, said });
        }
        answers
    }

    async fn said(
        &self,
        client: &MilterClient,
        session: &Session,
        open: &Open,
        body: &Body,
        id: QueueId,
        source: Option<IpAddr>,
    ) -> FilterSaid {
        let transaction = &open.transaction;
        let recipients = open.recipients.iter().map(|one| &one.address);
        let (own_name, sender) = (&open.policy.server.hostname, &transaction.sender);
        let mut question =
            FilterQuestion::new(own_name, session.client_ip, sender, recipients, body);
        question.source_ip = source.filter(|source| *source != session.client_ip);
        question.helo = session.helo.as_deref();
        let auth = session.auth.as_ref().map(ToString::to_string);
        question.auth = auth.as_deref();
        let tls = self.tls.as_deref().map(|facts| facts.split_once(' ').unwrap_or((facts, "")));
        // `TLSv1_3` here is `TLSv1.3` to filters.
        let tls = tls.map(|(version, cipher)| (version.replace('_', "."), cipher));
        question.tls = tls.as_ref().map(|(version, cipher)| TlsFacts {
            version,
            cipher,
            ..TlsFacts::default()
        });
        question.queue_id = Some(id);
        match client.filter(&question).await {
            Ok(verdict) => FilterSaid::Verdict(verdict),
            Err(error) => {
                tracing::warn!(%id, %error, "the filter gave no answer");
                FilterSaid::Nothing(error.to_string().into())
            }
        }
    }

    /// Logs and counts what the filter said; spam that a user relays counts against the user, and the
    /// administrators are told where it is much.
    pub(super) async fn tell_filter(
        &self,
        session: &Session,
        open: &Open,
        decision: &Decision,
        id: QueueId,
    ) {
        let mut told: Vec<Option<IpAddr>> = Vec::new();
        for view in &decision.organizations {
            let Some(filter) = &view.filter else { continue };
            if told.contains(&view.source.ip) {
                continue;
            }
            told.push(view.source.ip);
            self.core.metrics.filter.found(&filter.finding.kind);
            log::Filtered {
                id,
                client: session.client_ip,
                source: view.source.ip,
                sender: &open.transaction.sender,
                organization: &view.organization,
                filter,
            }
            .write();
        }
        let Some(abuse) = decision.abuse() else { return };
        let organization = open.policy.organization(abuse.organization);
        let threshold = organization.map_or(0, |one| one.abuse_threshold);
        let count = self.core.count_spam(abuse.organization, abuse.user, threshold).await;
        if let Some(count) = count {
            let (user, because) = (abuse.user, abuse.because);
            let text = format!(
                "{count} messages that {user} relayed in the last 24 hours are spam or malware, as \
                 the filter says; the threshold is {threshold}. The last one: {because}. See whether \
                 the password was stolen or a machine of the user is infected; change the password, or \
                 set `active = false` for the user, to stop the mail."
            );
            self.core.metrics.filter.abuse();
            let tidings = Tidings {
                organization: abuse.organization.into(),
                kind: TidingsKind::Abuse,
                user: Some(user.clone()),
                client: None,
                text,
            };
            self.core.tell_administrators(tidings).await;
        }
    }
}

/// The message with the changes that the filter may make to its own fields.
pub(super) fn edited(decision: &Decision, body: Body) -> Body {
    if decision.filter_edits.is_empty() {
        return body;
    }
    Body::from(with_edits(body.into(), &decision.filter_edits))
}
