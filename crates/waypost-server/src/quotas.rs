//! The quotas of relayed mail, as sessions ask for them: reserve, commit, release (D10 to D13).

mod findings;
mod news;
mod no_place;
mod reserved;
mod sharing;

use std::num::NonZeroU32;
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use waypost_config::policy::{Observation, Policy};
use waypost_relay::{Ledger, Limits, QuotaSubject, QuotaUse, Reservation};
use waypost_types::{Mailbox, Timestamp};

pub(crate) use findings::Findings;
pub(crate) use news::News;
pub(crate) use no_place::NoPlace;
pub(crate) use reserved::Reserved;
pub(crate) use sharing::{Sharing, SharingCounters};

use crate::control::Counted;
use crate::held::Held;
use reserved::Way;
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
            Some(sharing) => Way::shared(sharing.ledger().begin(subject)),
        };
        Reserved::new(way, Arc::clone(&self.held))
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
        reserved.near(&reservation.near);
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
        reserved.keeps_places();
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
