//! The quotas of relayed mail, as sessions ask for them: reserve, commit, release (D10 to D13).

mod findings;
mod news;
mod sharing;

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroU32;
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use waypost_config::policy::{Observation, Policy};
use waypost_queue::QuotaCommit;
use waypost_redis::SharedTransaction;
use waypost_relay::{
    Ledger, Limits, OverLimit, QuotaRefusal, QuotaSubject, QuotaUse, Reservation, Transaction,
};
use waypost_types::{Mailbox, Reply, Timestamp};

pub(crate) use findings::Findings;
pub(crate) use news::News;
pub(crate) use sharing::{Sharing, SharingCounters};

use crate::control::Counted;
use crate::held::Held;
use crate::metrics::Reason;
use sharing::share;

/// Who has relayed how much.
///
/// What this node accepts is always counted here, so that it knows its own use when it must do without
/// Redis; where quotas are shared, Redis is asked who may relay.
pub(crate) struct Quotas {
    local: Mutex<Ledger>,
    sharing: Option<Sharing>,
    /// Who waits for what is given back.
    held: Arc<Held>,
}

/// How late room may be seen that nobody tells of: where limits are shared, that of other nodes.
const UNSEEN_ROOM: Duration = Duration::from_secs(60);
const UNSEEN_ROOM_SHARED: Duration = Duration::from_secs(10);

/// The reservations of one message, and what the limits said of it; dropped, they are given back.
pub(crate) struct Reserved {
    way: Way,
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
enum Way {
    Local(Transaction),
    Shared {
        shared: SharedTransaction,
        /// The recipients that were taken while Redis did not answer.
        local: Option<Box<Transaction>>,
        /// Places that were reserved before the RCPT came, in the order of the RCPTs.
        ahead: VecDeque<(Mailbox, Reservation)>,
    },
}

/// Why a recipient has no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// It is beyond a limit.
    Beyond(QuotaRefusal),
    /// Nobody can say, since Redis does not answer (O5).
    Unknown {
        /// What is wrong with it.
        because: Box<str>,
    },
}

impl Quotas {
    pub(crate) fn new(ledger: Ledger, held: Arc<Held>) -> Self {
        Self { local: Mutex::new(ledger), sharing: None, held }
    }

    /// With a Redis that other nodes use too.
    pub(crate) fn sharing(self, sharing: Sharing) -> Self {
        Self { sharing: Some(sharing), ..self }
    }

    /// Begins the transaction of one message, with nothing reserved.
    pub(crate) fn begin(&self, subject: QuotaSubject) -> Reserved {
        let way = match &self.sharing {
            None => Way::Local(self.local().begin(subject)),
            Some(sharing) => {
                let shared = sharing.ledger().begin(subject);
                Way::Shared { shared, local: None, ahead: VecDeque::new() }
            }
        };
        let given_back = GivenBack { held: Arc::clone(&self.held), organization: None };
        Reserved { way, findings: Findings::default(), given_back }
    }

    /// Reserves a place for a recipient; the limits that are nearly used up are kept for the end of the
    /// message.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn reserve(
        &self,
        now: Timestamp,
        reserved: &mut Reserved,
        recipient: &Mailbox,
    ) -> Result<Reservation, NoPlace> {
        let reservation = self.place(now, reserved, recipient).await?;
        reserved.findings.near(&reservation.near);
        reserved.holds_places();
        Ok(reservation)
    }

    /// The same for whoever answers clients: what observed limits would have refused is an observation.
    ///
    /// # Errors
    /// Why there is no place.
    pub(crate) async fn reserve_observing(
        &self,
        now: Timestamp,
        reserved: &mut Reserved,
        recipient: &Mailbox,
        policy: &Policy,
        observations: &mut Vec<Observation>,
    ) -> Result<(), NoPlace> {
        let reservation = self.reserve(now, reserved, recipient).await?;
        observations.extend(reservation.would_refuse.map(|would| {
            let organization = &reserved.subject().organization;
            Observation::of_limits(organization, recipient, &would, reserved.over_limit(policy))
        }));
        Ok(())
    }

    async fn place(
        &self,
        now: Timestamp,
        reserved: &mut Reserved,
        recipient: &Mailbox,
    ) -> Result<Reservation, NoPlace> {
        let (shared, local, ahead) = match &mut reserved.way {
            Way::Local(local) => return Ok(self.local().reserve(now, local, recipient)?),
            Way::Shared { shared, local, ahead } => (shared, local, ahead),
        };
        let unknown = |because: &str| NoPlace::Unknown { because: because.into() };
        let Some(sharing) = &self.sharing else { return Err(unknown("quotas are not shared")) };
        if let Some(place) = ahead.iter().position(|(reserved, _)| reserved == recipient) {
            // Those before it never came.
            for (never, _) in ahead.drain(..place) {
                sharing.ledger().release_recipient(shared, &never);
            }
            if let Some((_, reservation)) = ahead.pop_front() {
                return Ok(reservation);
            }
        }
        let because = match sharing.ledger().reserve(shared, slice::from_ref(recipient)).await {
            Ok(mut verdicts) => {
                let verdict = verdicts.pop().ok_or_else(|| unknown("Redis said nothing"))?;
                return Ok(verdict?);
            }
            Err(error) => error.because,
        };
        sharing.did_without();
        let Some(nodes) = sharing.nodes() else { return Err(NoPlace::Unknown { because }) };
        let mut ledger = self.local();
        let local = local.get_or_insert_with(|| {
            let QuotaSubject { limits, .. } = shared.subject();
            let subject = QuotaSubject { limits: share(limits, nodes), ..shared.subject().clone() };
            Box::new(ledger.begin(subject))
        });
        let reservation = ledger.reserve(now, local, recipient)?;
        shared.take_unreserved(recipient.clone());
        Ok(reservation)
    }

    /// Reserves places for recipients whose RCPTs are known to wait, in one round trip. Those that get
    /// none are asked for again when their turn comes: by then there may be room, and if not, the
    /// refusal is a fresh one.
    pub(crate) async fn reserve_ahead(&self, reserved: &mut Reserved, recipients: Vec<Mailbox>) {
        let (Way::Shared { shared, ahead, .. }, Some(sharing)) = (&mut reserved.way, &self.sharing)
        else {
            return;
        };
        if recipients.len() < 2 {
            return;
        }
        // Without an answer each asks for itself, and falls back.
        let Ok(verdicts) = sharing.ledger().reserve(shared, &recipients).await else { return };
        let places = recipients.into_iter().zip(verdicts);
        ahead.extend(places.filter_map(|(to, verdict)| Some((to, verdict.ok()?))));
        reserved.holds_places();
    }

    /// Gives back the place of a recipient that is refused after all.
    pub(crate) async fn release_recipient(
        &self,
        now: Timestamp,
        reserved: &mut Reserved,
        recipient: &Mailbox,
    ) {
        match &mut reserved.way {
            Way::Local(local) => {
                self.local().release_recipient(now, local, recipient);
            }
            Way::Shared { shared, local, .. } => {
                if let Some(local) = local {
                    self.local().release_recipient(now, local, recipient);
                }
                if let Some(sharing) = &self.sharing {
                    sharing.ledger().release_recipient(shared, recipient);
                }
            }
        }
        self.held.may_have_room(&reserved.subject().organization);
    }

    /// Counts a message that is safe on disk. Redis is told without being waited for.
    pub(crate) async fn commit(&self, at: Timestamp, mut reserved: Reserved) {
        reserved.given_back.organization = None;
        match reserved.way {
            Way::Local(local) => {
                let _ = self.local().commit(at, local);
            }
            Way::Shared { mut shared, local, ahead } => {
                drop(local);
                let Some(sharing) = &self.sharing else { return };
                for (never, _) in &ahead {
                    sharing.ledger().release_recipient(&mut shared, never);
                }
                if !ahead.is_empty() {
                    self.held.may_have_room(&shared.subject().organization);
                }
                if let Some(commit) = sharing.ledger().commit(at, shared) {
                    self.local().replay(&commit);
                }
            }
        }
    }

    /// How far the limits of an organization are used, or those of one of its users.
    pub(crate) async fn usage(
        &self,
        now: Timestamp,
        organization: &str,
        user: Option<&Mailbox>,
        limits: &Limits,
    ) -> (Counted, Vec<QuotaUse>) {
        let here = |limits: &Limits| self.local().usage(now, organization, user, limits).to_vec();
        let Some(sharing) = &self.sharing else { return (Counted::Here, here(limits)) };
        match sharing.ledger().usage(organization, user, limits).await {
            Ok(uses) => (Counted::Shared, uses),
            Err(_) => {
                let nodes = sharing.nodes().unwrap_or(NonZeroU32::MIN);
                (Counted::HereForNow, here(&share(limits, nodes)))
            }
        }
    }

    /// Waits until Redis knows of everything that was accepted, but not for longer than `within`; the
    /// next start makes up for the rest.
    pub(crate) async fn flush(&self, within: Duration) {
        if let Some(sharing) = &self.sharing {
            sharing.flush(within).await;
        }
    }

    /// How far the limits of a subject's login and client are used, where there are such limits.
    pub(crate) async fn usage_of_caller(
        &self,
        now: Timestamp,
        subject: &QuotaSubject,
    ) -> (Counted, Vec<QuotaUse>) {
        let here = |subject: &QuotaSubject| self.local().usage_of_caller(now, subject);
        let Some(sharing) = &self.sharing else { return (Counted::Here, here(subject)) };
        match sharing.ledger().usage_of_caller(subject).await {
            Ok(uses) => (Counted::Shared, uses),
            Err(_) => {
                let nodes = sharing.nodes().unwrap_or(NonZeroU32::MIN);
                let limits = share(&subject.limits, nodes);
                (Counted::HereForNow, here(&QuotaSubject { limits, ..subject.clone() }))
            }
        }
    }

    /// How late room may be seen of which nobody tells.
    pub(crate) fn unseen_room_within(&self) -> Duration {
        if self.sharing.is_some() { UNSEEN_ROOM_SHARED } else { UNSEEN_ROOM }
    }

    /// Frees some memory of what has left the windows.
    pub(crate) fn prune_some(&self, now: Timestamp) {
        self.local().prune_some(now);
    }

    fn local(&self) -> MutexGuard<'_, Ledger> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserved {
    fn holds_places(&mut self) {
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
        let subject = match &self.way {
            Way::Local(local) => local.subject(),
            Way::Shared { shared, .. } => shared.subject(),
        };
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
        match &self.way {
            Way::Local(local) => local.subject(),
            Way::Shared { shared, .. } => shared.subject(),
        }
    }

    /// The recipients reserved so far, each as often as it was given.
    pub(crate) fn recipients(&self) -> Vec<Mailbox> {
        match &self.way {
            Way::Local(local) => local.recipients().to_vec(),
            Way::Shared { shared, ahead, .. } => {
                let mut recipients = shared.recipients().to_vec();
                for (never, _) in ahead {
                    if let Some(place) = recipients.iter().rposition(|held| held == never) {
                        recipients.remove(place);
                    }
                }
                recipients
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
            recipients,
            login: subject.login.clone(),
            client: subject.client,
        })
    }

    /// Whether to be told of the recipients to come spares round trips.
    pub(crate) fn looks_ahead(&self) -> bool {
        matches!(&self.way, Way::Shared { ahead, .. } if ahead.is_empty())
    }
}

impl NoPlace {
    pub(crate) fn reply(&self) -> Reply {
        match self {
            Self::Beyond(refusal) => refusal.reply(),
            // Not why: that is nothing for strangers.
            Self::Unknown { .. } => Reply::new(
                451,
                (4, 3, 0),
                "Relay quotas cannot be counted now; try again in some minutes (O5)",
            ),
        }
    }

    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Beyond(refusal) => refusal.limit.into(),
            Self::Unknown { .. } => Reason::QuotaUnknown,
        }
    }
}

impl From<QuotaRefusal> for NoPlace {
    fn from(refusal: QuotaRefusal) -> Self {
        Self::Beyond(refusal)
    }
}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beyond(refusal) => refusal.fmt(f),
            Self::Unknown { because } => {
                write!(f, "relay quotas are shared over Redis, which cannot be asked: {because}")
            }
        }
    }
}
