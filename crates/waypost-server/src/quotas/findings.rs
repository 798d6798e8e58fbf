//! What the limits said of a message's recipients: what is held, and what is worth a warning (D10 to D13).

use waypost_queue::Hold;
use waypost_relay::{QuotaRefusal, QuotaSubject, QuotaUse};
use waypost_types::Mailbox;

use crate::held;

/// Of one message. At most one entry a limit, and what is held.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Limits of which 80 % are used, each as it was last seen.
    pub(super) near: Vec<QuotaUse>,
    /// Recipients that wait for room.
    pub(super) held: Vec<Mailbox>,
    /// The limit that the first of them is over, for all of them.
    pub(super) over: Option<(QuotaRefusal, Hold)>,
}

impl Findings {
    /// Keeps what a reservation found near.
    pub(super) fn near(&mut self, near: &[QuotaUse]) {
        for found in near {
            match self.near.iter_mut().find(|known| known.limit == found.limit) {
                Some(known) => *known = *found,
                None => self.near.push(*found),
            }
        }
    }

    /// Has a recipient over a limit wait for room, beside `waiting` ones of the organization; false where
    /// as many wait as the organization may send in a day.
    pub(super) fn hold(
        &mut self,
        subject: &QuotaSubject,
        recipient: &Mailbox,
        refusal: &QuotaRefusal,
        waiting: u64,
    ) -> bool {
        let held = u64::try_from(self.held.len()).unwrap_or(u64::MAX);
        if waiting.saturating_add(held) >= u64::from(subject.limits.recipients_per_day) {
            return false;
        }
        self.held.push(recipient.clone());
        self.over.get_or_insert_with(|| (*refusal, held::hold(refusal, subject)));
        true
    }

    /// Why a delivery is held that goes back to this recipient, if it is.
    pub(crate) fn hold_of(&self, recipient: &Mailbox) -> Option<Hold> {
        let (_, hold) = self.over.as_ref()?;
        self.held.contains(recipient).then(|| hold.clone())
    }
}

#[cfg(test)]
mod tests {
    use waypost_relay::{LimitMode, Limits, QuotaLimit};
    use waypost_types::Timestamp;

    use super::*;

    fn subject(recipients_per_day: u32) -> QuotaSubject {
        let limits = Limits {
            recipients_per_day,
            recipients_per_10_minutes: 1,
            messages_per_user_per_day: 9,
            unique_recipients_per_user_per_day: 9,
            recipients_per_login_per_day: None,
            recipients_per_client_per_day: None,
            mode: LimitMode::Enforce,
        };
        QuotaSubject::new("S".into(), None, limits)
    }

    #[test]
    fn no_more_is_held_than_a_day_allows_d11() {
        let refusal = QuotaRefusal {
            limit: QuotaLimit::RecipientsPer10Minutes,
            allowed: 1,
            used: 1,
            reserved: 0,
            room_at: Some(Timestamp::from_millis(5)),
        };
        let [a, b, c] =
            ["a@f.example", "b@f.example", "c@f.example"].map(|one| one.parse().unwrap());
        let mut findings = Findings::default();
        // One waits of another message, three are a day's.
        for (recipient, want) in [(&a, true), (&b, true), (&c, false)] {
            assert_eq!(findings.hold(&subject(3), recipient, &refusal, 1), want, "{recipient}");
        }
        assert!(findings.hold_of(&a).is_some_and(|hold| hold.ends_with_room()));
        assert_eq!(findings.hold_of(&c), None);
    }

    #[test]
    fn a_limit_is_told_as_it_was_last_seen_d13() {
        let seen = |limit, used| QuotaUse { limit, allowed: 9, used, reserved: 0, room_at: None };
        let (day, peak) = (QuotaLimit::RecipientsPerDay, QuotaLimit::RecipientsPer10Minutes);
        let mut findings = Findings::default();
        findings.near(&[seen(day, 8)]);
        findings.near(&[seen(day, 9), seen(peak, 8)]);
        assert_eq!(findings.near, [seen(day, 9), seen(peak, 8)]);
    }
}
