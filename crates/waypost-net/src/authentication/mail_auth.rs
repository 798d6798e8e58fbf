//! The [`Authenticator`] on top of the library `mail-auth`.

use std::sync::Arc;
use std::time::Duration;

use mail_auth::dmarc::Policy;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::{AuthenticatedMessage, DkimOutput, MessageAuthenticator, Parameters, SpfOutput};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use waypost_auth::{
    Aligned, Authentication, Dmarc, DmarcPolicy, DmarcResult, Question, Spf, SpfResult,
};
use waypost_smtp::client::SharedBytes;
use waypost_smtp::end_of_data::unstuff;
use waypost_types::{Domain, HeaderBlock};

use super::signatures::Signatures;
use super::{AuthenticationFuture, Authenticator, body};
use crate::dns::SystemResolver;
use crate::spf::{self, Client, check_client};

/// Bounds on what the evaluation of a message takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthenticationLimits {
    /// The time for a message, from the question to the answer; 10 s by default.
    pub time: Duration,
    /// Messages evaluated at once; others wait, in their own time. 256 by default.
    pub at_once: usize,
}

impl Default for AuthenticationLimits {
    fn default() -> Self {
        Self { time: Duration::from_secs(10), at_once: 256 }
    }
}

/// Bodies above this are hashed beside the event loop.
const LARGE: usize = 128 << 10;

/// Large bodies hashed at once.
const LARGE_AT_ONCE: usize = 2;

/// Asks the name servers of a [`SystemResolver`], through its cache.
///
/// Each message is evaluated in a task of its own: if the library panicked on it, that would be a
/// `temperror` and a line in the log. Cheap to clone. Must be used inside a tokio runtime with time.
#[derive(Clone)]
pub struct MailAuthenticator(Arc<Inner>);

struct Inner {
    resolver: SystemResolver,
    library: MessageAuthenticator,
    limits: AuthenticationLimits,
    turns: Semaphore,
    large: Arc<Semaphore>,
}

impl std::fmt::Debug for MailAuthenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MailAuthenticator").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

impl MailAuthenticator {
    /// Uses this resolver's name servers and cache.
    #[must_use]
    pub fn new(resolver: &SystemResolver, limits: AuthenticationLimits) -> Self {
        Self(Arc::new(Inner {
            resolver: resolver.clone(),
            library: MessageAuthenticator(resolver.library()),
            limits,
            turns: Semaphore::new(limits.at_once),
            large: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
        }))
    }
}

impl Authenticator for MailAuthenticator {
    fn authenticate(
        &self,
        message: SharedBytes,
        questions: Vec<Question>,
    ) -> AuthenticationFuture<'_> {
        Box::pin(async move {
            let inner = Arc::clone(&self.0);
            let asked = questions.clone();
            let task = tokio::spawn(async move { inner.answers(&message, &asked).await });
            task.await.unwrap_or_else(|error| {
                tracing::error!(%error, "SPF, DKIM and DMARC could not be evaluated");
                questions.iter().map(Question::unanswered).collect()
            })
        })
    }
}

impl Inner {
    async fn answers(&self, message: &SharedBytes, questions: &[Question]) -> Vec<Authentication> {
        let until = Instant::now() + self.limits.time;
        let unanswered = || questions.iter().map(Question::unanswered).collect();
        let Ok(Ok(_turn)) = timeout_at(until, self.turns.acquire()).await else {
            return unanswered();
        };
        let whole = message.as_bytes();
        let block = HeaderBlock::of(whole);
        let header = unstuff(block.as_bytes());
        let mut signatures = Signatures::of(&header);
        let hashed = self.hashes(message, block.body_offset(), &signatures);
        let Ok(Some(hashes)) = timeout_at(until, hashed).await else {
            return unanswered();
        };
        signatures.message.body_hashes = hashes;
        let verified = self.library.verify_dkim(&signatures.message);
        let spf = async {
            let mut results = Vec::with_capacity(questions.len());
            for question in questions {
                results.push(self.spf(question, until).await);
            }
            results
        };
        let (outputs, spf) = tokio::join!(timeout_at(until, verified), spf);
        let outputs = outputs.unwrap_or_else(|_| signatures.unanswered());
        let dkim = signatures.results(&outputs);
        let mut answers = Vec::with_capacity(questions.len());
        for (question, spf) in questions.iter().zip(spf) {
            let dmarc = self.dmarc(question, &spf, &outputs, until).await;
            answers.push(Authentication {
                checked: question.checked,
                spf,
                dkim: dkim.clone(),
                dmarc,
            });
        }
        answers
    }

    async fn hashes(
        &self,
        message: &SharedBytes,
        from: usize,
        signatures: &Signatures<'_>,
    ) -> Option<Vec<body::BodyHash>> {
        let wanted = signatures.hashes();
        let body = message.as_bytes().get(from..).unwrap_or_default();
        if wanted.is_empty() || body.len() <= LARGE {
            return Some(body::hashes(body, &wanted));
        }
        let turn = Arc::clone(&self.large).acquire_owned().await.ok()?;
        let message = message.clone();
        let hashed = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            body::hashes(message.as_bytes().get(from..).unwrap_or_default(), &wanted)
        });
        hashed.await.ok()
    }

    async fn spf(&self, question: &Question, until: Instant) -> Spf {
        let (identity, domain) = question.identity();
        let (Some(ip), Some(domain)) = (question.checked, domain) else {
            let (_, domain) = question.identity();
            return Spf::new(SpfResult::None, identity, domain.as_ref().map(Domain::as_str));
        };
        let helo = question.helo.as_deref().unwrap_or("unknown");
        let client = match question.sender.mailbox() {
            Some(sender) => Client { ip, local_part: sender.local_part(), sender: &domain, helo },
            None => Client::postmaster(&domain, ip, helo),
        };
        let found = timeout_at(until, check_client(&self.resolver, &domain, client)).await;
        let found = found.map_or(spf::SpfResult::TempError, |found| found.result);
        let result = match found {
            spf::SpfResult::None => SpfResult::None,
            spf::SpfResult::Neutral => SpfResult::Neutral,
            spf::SpfResult::Pass => SpfResult::Pass,
            spf::SpfResult::Fail => SpfResult::Fail,
            spf::SpfResult::SoftFail => SpfResult::SoftFail,
            spf::SpfResult::TempError => SpfResult::TempError,
            spf::SpfResult::PermError => SpfResult::PermError,
        };
        Spf::new(result, identity, Some(domain.as_str()))
    }

    /// DMARC for each author; the worst of them.
    async fn dmarc(
        &self,
        question: &Question,
        spf: &Spf,
        outputs: &[DkimOutput<'_>],
        until: Instant,
    ) -> Dmarc {
        if question.has_too_many_authors() {
            return Dmarc::of_too_many_authors();
        }
        let mut worst = Dmarc::new(DmarcResult::None, None);
        for author in &question.authors {
            let found = timeout_at(until, self.dmarc_of(author, spf, outputs)).await;
            let found =
                found.unwrap_or_else(|_| Dmarc::new(DmarcResult::TempError, Some(author.clone())));
            if worst.author.is_none() || found.severity() > worst.severity() {
                worst = found;
            }
        }
        worst
    }

    async fn dmarc_of(&self, author: &Domain, spf: &Spf, outputs: &[DkimOutput<'_>]) -> Dmarc {
        let from = format!("author@{author}");
        let message = AuthenticatedMessage { from: vec![from], ..Default::default() };
        let domain = spf.domain.as_deref().unwrap_or_default();
        let spf = SpfOutput::new(domain.to_owned()).with_result(match spf.result {
            SpfResult::Pass => mail_auth::SpfResult::Pass,
            SpfResult::TempError => mail_auth::SpfResult::TempError,
            _ => mail_auth::SpfResult::None,
        });
        let parameters = DmarcParameters {
            message: &message,
            dkim_output: outputs,
            dkim2_output: None,
            rfc5321_mail_from_domain: domain,
            spf_output: &spf,
        };
        let found = self.library.verify_dmarc(Parameters::new(parameters)).await;
        let result = match found.result() {
            mail_auth::DmarcResult::Pass => DmarcResult::Pass,
            mail_auth::DmarcResult::Fail(_) => DmarcResult::Fail,
            mail_auth::DmarcResult::TempError(_) => DmarcResult::TempError,
            mail_auth::DmarcResult::PermError(_) => DmarcResult::PermError,
            mail_auth::DmarcResult::None => DmarcResult::None,
        };
        let policy = found.dmarc_record().map(|_| match found.policy() {
            Policy::None | Policy::Unspecified => DmarcPolicy::None,
            Policy::Quarantine => DmarcPolicy::Quarantine,
            Policy::Reject => DmarcPolicy::Reject,
        });
        let aligned = match (found.dkim_result(), result) {
            (mail_auth::DmarcResult::Pass, DmarcResult::Pass) => Some(Aligned::Dkim),
            (_, DmarcResult::Pass) => Some(Aligned::Spf),
            _ => None,
        };
        Dmarc { result, author: Some(author.clone()), policy, aligned }
    }
}
