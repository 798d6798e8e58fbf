//! Who is asked about a message beside the policy: the DNS (E2) and a filter (D17); and what they said, logged and
//! counted.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use waypost_auth::Authentication;
use waypost_config::policy::{
    Answers, DataReply, Decision, FilterAnswer, FilterSaid, Known, Policy, RefusalCause,
    Transaction,
};
use waypost_net::milter::{FilterQuestion, MilterClient, TlsFacts};
use waypost_queue::Body;
use waypost_smtp::client::SharedBytes;
use waypost_types::{HeaderBlock, QueueId, Recipient, Session};

use crate::administrators::{Tidings, TidingsKind};
use crate::core::Core;
use crate::log;

/// The client keeps to the time itself, and says more about it.
const BEYOND: Duration = Duration::from_secs(1);

/// A message that others are asked about.
pub(crate) struct Asking<'a> {
    pub(crate) core: &'a Core,
    pub(crate) session: &'a Session,
    /// TLS version and cipher, as `TLSv1_3 TLS13_AES_256_GCM_SHA384`.
    pub(crate) tls: Option<&'a str>,
    pub(crate) policy: &'a Policy,
    pub(crate) transaction: &'a Transaction,
    pub(crate) recipients: &'a [Recipient],
    /// Who is asked about it, if anybody is.
    pub(crate) filter: Option<&'a MilterClient>,
}

/// What is decided of a message, and what others said before.
pub(crate) struct Decided {
    pub(crate) decision: Decision,
    /// What the DNS says, where it was asked.
    pub(crate) authentication: Option<Vec<Authentication>>,
    /// What the filter says, of each source.
    pub(crate) filter: Vec<FilterAnswer>,
}

impl Asking<'_> {
    /// What the policy decides, first by itself: what it refuses anyway costs no question to DNS and
    /// filter. Where one of them answers, it decides anew, and the answers are logged and counted.
    pub(crate) async fn decided(&self, body: &Body, id: QueueId) -> Decided {
        let Self { policy, transaction, recipients, .. } = self;
        let header = HeaderBlock::of(body);
        let decision = policy.at_data(transaction, recipients, &header);
        // A message that the DNS may yet prove to be internal takes another way then (C3).
        let may_yet_be_taken = || {
            decision.refused_for() != Some(RefusalCause::Loop)
                && policy.direction_hangs_on_answers(transaction, recipients, &header)
        };
        if matches!(decision.reply, DataReply::Refuse(_)) && !may_yet_be_taken() {
            return Decided { decision, authentication: None, filter: Vec::new() };
        }
        let (authentication, filter) =
            tokio::join!(self.authentication(body), self.filter(body, id));
        if authentication.is_none() && filter.is_empty() {
            return Decided { decision, authentication, filter };
        }
        let dns = authentication.as_deref().map(Answers::Given);
        let known = Known { dns, filter: &filter };
        let decision = policy.at_data_knowing(transaction, recipients, &header, known);
        self.tell_authentication(&decision);
        self.tell_filter(&decision, id).await;
        Decided { decision, authentication, filter }
    }

    /// What the DNS says of a message; `None` where no organization concerned asks.
    async fn authentication(&self, body: &Body) -> Option<Vec<Authentication>> {
        let header = HeaderBlock::of(body);
        let questions = self.policy.authentication_due(self.transaction, self.recipients, &header);
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
    fn tell_authentication(&self, decision: &Decision) {
        for view in &decision.organizations {
            if let Some(found) = &view.authentication {
                let (client, sender) = (self.session.client_ip, &self.transaction.sender);
                log::Authenticated { client, sender, organization: &view.organization, found }
                    .write();
            }
        }
    }

    /// What the filter says of a message, for each source that the organizations see (E2): most often
    /// one. Empty where no filter is configured.
    async fn filter(&self, body: &Body, id: QueueId) -> Vec<FilterAnswer> {
        let header = HeaderBlock::of(body);
        let due = self.policy.filter_due(self.transaction, self.recipients, &header);
        let mut answers = Vec::with_capacity(due.len());
        let span = self.policy.server.filter.as_ref().map_or(Duration::ZERO, |one| one.timeout);
        let until = tokio::time::Instant::now() + span;
        for source in due {
            let began = Instant::now();
            let said = match self.filter {
                // All sources share the time.
                Some(client) => {
                    let said = self.said(client, body, id, source);
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
        body: &Body,
        id: QueueId,
        source: Option<IpAddr>,
    ) -> FilterSaid {
        let session = self.session;
        let recipients = self.recipients.iter().map(|one| &one.address);
        let (own_name, sender) = (&self.policy.server.hostname, &self.transaction.sender);
        let mut question =
            FilterQuestion::new(own_name, session.client_ip, sender, recipients, body);
        question.source_ip = source.filter(|source| *source != session.client_ip);
        question.helo = session.helo.as_deref();
        let auth = session.auth.as_ref().map(ToString::to_string);
        question.auth = auth.as_deref();
        let tls = self.tls.map(|facts| facts.split_once(' ').unwrap_or((facts, "")));
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
    async fn tell_filter(&self, decision: &Decision, id: QueueId) {
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
                client: self.session.client_ip,
                source: view.source.ip,
                sender: &self.transaction.sender,
                organization: &view.organization,
                filter,
            }
            .write();
        }
        let Some(abuse) = decision.abuse() else { return };
        let organization = self.policy.organization(abuse.organization);
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
