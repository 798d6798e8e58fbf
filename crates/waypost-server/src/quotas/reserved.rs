//! The reservations of one message, wherever they are.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use waypost_config::policy::Policy;
use waypost_queue::QuotaCommit;
use waypost_redis::SharedTransaction;
use waypost_relay::{OverLimit, QuotaRefusal, QuotaSubject, QuotaUse, Reservation, Transaction};
use waypost_types::{Mailbox, Timestamp};

use super::{Findings, News};
use crate::held::Held;

/// The reservations of one message, and what the limits said of it; dropped, they are given back.
pub(crate) struct Reserved {
    pub(super) way: Way,
    findings: Findings,
    /// Told last, when the places are free.
    given_back: GivenBack,
}

/// Tells those who wait for room of an organization, when it is dropped, that some was given back.
struct GivenBack {
    held: Arc<Held>,
    /// `None`: nothing is held that could be given back.
    organization: Option<Arc<str>>,
}

impl Drop for GivenBack {
    fn drop(&mut self) {
        if let Some(organization) = &self.organization {
            self.held.may_have_room(organization);
        }
    }
}

/// Where places are reserved.
pub(super) enum Way {
    Local(Transaction),
    Shared {
        shared: SharedTransaction,
        /// The recipients that were taken while Redis did not answer.
        local: Option<Box<Transaction>>,
        /// Places that were reserved before the RCPT came, in the order of the RCPTs.
        ahead: VecDeque<(Mailbox, Reservation)>,
    },
}

impl Way {
    pub(super) fn shared(shared: SharedTransaction) -> Self {
        Self::Shared { shared, local: None, ahead: VecDeque::new() }
    }

    fn subject(&self) -> &QuotaSubject {
        match self {
            Self::Local(local) => local.subject(),
            Self::Shared { shared, .. } => shared.subject(),
        }
    }
}

impl Reserved {
    pub(super) fn new(way: Way, held: Arc<Held>) -> Self {
        let given_back = GivenBack { held, organization: None };
        Self { way, findings: Findings::default(), given_back }
    }

    /// Which limits are nearly used up, as a reservation found.
    pub(super) fn near(&mut self, near: &[QuotaUse]) {
        self.findings.near(near);
    }

    /// The places count: dropped, it gives nothing back.
    pub(super) fn keeps_places(&mut self) {
        self.given_back.organization = None;
    }

    /// Something is reserved: dropped, it gives that back.
    pub(super) fn holds_places(&mut self) {
        if self.given_back.organization.is_none() {
            self.given_back.organization = Some(Arc::clone(&self.subject().organization));
        }
    }

    /// What happens over a limit, as the organization says.
    pub(crate) fn over_limit(&self, policy: &Policy) -> OverLimit {
        let owner = policy.organization(&self.subject().organization);
        owner.map(|owner| owner.over_limit).unwrap_or_default()
    }

    /// Has a recipient over a limit wait for room, beside `waiting` ones of the organization; false where
    /// as many wait as the organization may send in a day. Its message is to stay in this queue.
    pub(crate) fn hold(
        &mut self,
        recipient: &Mailbox,
        refusal: &QuotaRefusal,
        waiting: u64,
    ) -> bool {
        // Not by `subject()`, which would borrow the findings too.
        let subject = self.way.subject();
        self.findings.hold(subject, recipient, refusal, waiting)
    }

    /// What the limits said.
    pub(crate) fn findings(&self) -> &Findings {
        &self.findings
    }

    /// What is to be told once the message is accepted, for administrators.
    pub(crate) fn take_news(&mut self) -> News {
        let findings = std::mem::take(&mut self.findings);
        News { subject: self.subject().clone(), findings }
    }

    /// Counts a recipient whom an administrator lets go while nobody can say whether there is room: with
    /// the commit, which Redis hears of when it is back.
    pub(crate) fn count_unasked(&mut self, recipient: &Mailbox) {
        if let Way::Shared { shared, .. } = &mut self.way {
            shared.take_unreserved(recipient.clone());
        }
    }

    /// Who the recipients count for.
    pub(crate) fn subject(&self) -> &QuotaSubject {
        self.way.subject()
    }

    /// The recipients reserved so far, each as often as it was given.
    pub(crate) fn recipients(&self) -> Cow<'_, [Mailbox]> {
        match &self.way {
            Way::Local(local) => local.recipients().into(),
            Way::Shared { shared, ahead, .. } if ahead.is_empty() => shared.recipients().into(),
            Way::Shared { shared, ahead, .. } => {
                let mut recipients = shared.recipients().to_vec();
                for (never, _) in ahead {
                    if let Some(place) = recipients.iter().rposition(|held| held == never) {
                        recipients.remove(place);
                    }
                }
                recipients.into()
            }
        }
    }

    /// What the journal keeps of a message that is accepted at `at`; `None` when nothing was reserved.
    pub(crate) fn counted(&self, at: Timestamp) -> Option<QuotaCommit> {
        let recipients = self.recipients();
        let subject = self.subject();
        (!recipients.is_empty()).then(|| QuotaCommit {
            at,
            organization: (*subject.organization).into(),
            user: subject.user.clone(),
            recipients: recipients.into_owned(),
            login: subject.login.clone(),
            client: subject.client,
        })
    }

    /// Whether to be told of the recipients to come spares round trips.
    pub(crate) fn looks_ahead(&self) -> bool {
        matches!(&self.way, Way::Shared { ahead, .. } if ahead.is_empty())
    }
}
