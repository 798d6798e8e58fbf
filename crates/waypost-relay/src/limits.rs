//! How much an organization and its users may relay.

/// Whether limits are in force (O6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum LimitMode {
    /// What is beyond a limit is refused.
    #[default]
    Enforce,
    /// Nothing is refused; what would have been is said ([`Reservation`](crate::Reservation)).
    Observe,
    /// Nothing is counted.
    Off,
}

/// What happens to a recipient over a limit (D10, D11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum OverLimit {
    /// Refused with the code of the limit ([`QuotaRefusal::reply`](crate::QuotaRefusal::reply)).
    #[default]
    Reject,
    /// Refused for now, with 450 ([`QuotaRefusal::deferral`](crate::QuotaRefusal::deferral)).
    Defer,
    /// Accepted, held in the queue, and counted when it is let go.
    Hold,
}

/// Whether the organization's bill is paid (D12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Payment {
    /// Yes, or not due yet.
    #[default]
    Settled,
    /// No: at most 100 recipients in 24 hours and 50 in 10 minutes.
    Overdue,
}

/// Limits that stand in `[organization.limits]`, each in place of the computed one (D12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct LimitOverrides {
    /// Recipients of the organization in 24 hours (D11).
    pub recipients_per_day: Option<u32>,
    /// Recipients of the organization in 10 minutes (D11).
    pub recipients_per_10_minutes: Option<u32>,
    /// Messages of each user in 24 hours (D10).
    pub messages_per_user_per_day: Option<u32>,
    /// Different recipients of each user in 24 hours (D10).
    pub unique_recipients_per_user_per_day: Option<u32>,
    /// Recipients of each login in 24 hours; `None`: as many as the others allow.
    pub recipients_per_login_per_day: Option<u32>,
    /// Recipients of each client's address in 24 hours; `None`: as many as the others allow.
    pub recipients_per_client_per_day: Option<u32>,
    /// Whether the limits are in force.
    pub mode: LimitMode,
}

/// Limits that stand in a user's `limits`; where the organization sets the same one, the lower holds
/// (D12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct UserLimitOverrides {
    /// Messages in 24 hours (D10).
    pub messages_per_user_per_day: Option<u32>,
    /// Different recipients in 24 hours (D10).
    pub unique_recipients_per_user_per_day: Option<u32>,
}

/// The limits that hold for one transaction (D10 to D12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Limits {
    /// Recipients of the organization in 24 hours.
    pub recipients_per_day: u32,
    /// Recipients of the organization in 10 minutes.
    pub recipients_per_10_minutes: u32,
    /// Messages of the user in 24 hours.
    pub messages_per_user_per_day: u32,
    /// Different recipients of the user in 24 hours.
    pub unique_recipients_per_user_per_day: u32,
    /// Recipients of the login in 24 hours; `None`: not limited, and not counted.
    pub recipients_per_login_per_day: Option<u32>,
    /// Recipients of the client's address in 24 hours; `None`: not limited, and not counted.
    pub recipients_per_client_per_day: Option<u32>,
    /// Whether the limits are in force.
    pub mode: LimitMode,
}

impl Limits {
    /// The limits of an organization and, with `user`, of one of its users.
    ///
    /// Computed: 130 recipients for each licence in 24 hours, at most 4,600,000; 9 in 10 minutes, at
    /// most 319,444; 10,000 messages and 130 different recipients for each licence for each user in
    /// 24 hours. An override stands in place of the computed limit, upwards too. Of several that
    /// hold at once (the organization's and the user's override, an overdue payment) the lowest
    /// holds.
    #[must_use]
    pub fn new(
        licences: u32,
        payment: Payment,
        overrides: &LimitOverrides,
        user: Option<&UserLimitOverrides>,
    ) -> Self {
        let times = |factor: u32| licences.saturating_mul(factor);
        let (day, ten_minutes) = match payment {
            Payment::Settled => (u32::MAX, u32::MAX),
            Payment::Overdue => (100, 50),
        };
        let user = user.copied().unwrap_or_default();
        Self {
            recipients_per_day: overrides
                .recipients_per_day
                .unwrap_or(times(130).min(4_600_000))
                .min(day),
            recipients_per_10_minutes: overrides
                .recipients_per_10_minutes
                .unwrap_or(times(9).min(319_444))
                .min(ten_minutes),
            messages_per_user_per_day: lower(
                overrides.messages_per_user_per_day,
                user.messages_per_user_per_day,
            )
            .unwrap_or(10_000),
            unique_recipients_per_user_per_day: lower(
                overrides.unique_recipients_per_user_per_day,
                user.unique_recipients_per_user_per_day,
            )
            .unwrap_or(times(130)),
            recipients_per_login_per_day: overrides.recipients_per_login_per_day,
            recipients_per_client_per_day: overrides.recipients_per_client_per_day,
            mode: overrides.mode,
        }
    }
}

fn lower(a: Option<u32>, b: Option<u32>) -> Option<u32> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_follow_licences_and_payment_d10_d11_d12() {
        use Payment::{Overdue, Settled};
        for (licences, payment, day, ten_minutes, messages, unique) in [
            (0, Settled, 0, 0, 10_000, 0),
            (1, Settled, 130, 9, 10_000, 130),
            (250, Settled, 32_500, 2_250, 10_000, 32_500),
            (35_384, Settled, 4_599_920, 318_456, 10_000, 4_599_920),
            (35_385, Settled, 4_600_000, 318_465, 10_000, 4_600_050),
            (35_494, Settled, 4_600_000, 319_444, 10_000, 4_614_220),
            (u32::MAX, Settled, 4_600_000, 319_444, 10_000, u32::MAX),
            (0, Overdue, 0, 0, 10_000, 0),
            (1, Overdue, 100, 9, 10_000, 130),
            (250, Overdue, 100, 50, 10_000, 32_500),
        ] {
            let got = Limits::new(licences, payment, &LimitOverrides::default(), None);
            let want = Limits {
                recipients_per_day: day,
                recipients_per_10_minutes: ten_minutes,
                messages_per_user_per_day: messages,
                unique_recipients_per_user_per_day: unique,
                recipients_per_login_per_day: None,
                recipients_per_client_per_day: None,
                mode: LimitMode::Enforce,
            };
            assert_eq!(got, want, "{licences} {payment:?}");
        }
    }

    #[test]
    fn overrides_and_the_lower_one_holds_d12() {
        for (organization, user, payment, want) in [
            (None, None, Payment::Settled, (1300, 10_000)),
            (Some(5), None, Payment::Settled, (5, 5)),
            (Some(20_000), None, Payment::Settled, (20_000, 20_000)),
            (None, Some(7), Payment::Settled, (1300, 7)),
            (None, Some(20_000), Payment::Settled, (1300, 20_000)),
            (Some(5), Some(7), Payment::Settled, (5, 5)),
            (Some(7), Some(5), Payment::Settled, (7, 5)),
            (Some(5000), None, Payment::Overdue, (100, 5000)),
            (Some(5), None, Payment::Overdue, (5, 5)),
        ] {
            let overrides = LimitOverrides {
                recipients_per_day: organization,
                messages_per_user_per_day: organization,
                ..LimitOverrides::default()
            };
            let user = UserLimitOverrides {
                messages_per_user_per_day: user,
                ..UserLimitOverrides::default()
            };
            let got = Limits::new(10, payment, &overrides, Some(&user));
            assert_eq!((got.recipients_per_day, got.messages_per_user_per_day), want);
        }
    }
}
