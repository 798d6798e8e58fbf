//! What a transaction is counted in: the counters of a call of the script.

use waypost_relay::{Limits, QuotaLimit, QuotaSubject, network};
use waypost_types::Mailbox;

use crate::digest::DigestKey;
use crate::keys::Keys;

/// What a counter counts, by the script's letter for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Messages,
    Recipients,
    DifferentRecipients,
}

/// A sliding window and its buckets, in milliseconds; a bucket is at most 1/288 of the window (D13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) bucket: u64,
    pub(crate) window: u64,
}

pub(crate) const DAY: Window = Window { bucket: 300_000, window: 86_400_000 };
pub(crate) const TEN_MINUTES: Window = Window { bucket: 2_000, window: 600_000 };

/// One limit, and where it is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counter {
    pub(crate) limit: QuotaLimit,
    pub(crate) kind: Kind,
    pub(crate) window: Window,
    pub(crate) allowed: u32,
    pub(crate) key: String,
}

impl Kind {
    pub(crate) fn letter(self) -> &'static str {
        match self {
            Kind::Messages => "m",
            Kind::Recipients => "t",
            Kind::DifferentRecipients => "u",
        }
    }
}

/// All that a transaction counts for, in the order in which the limits refuse. A limit that is added
/// to [`QuotaLimit`] gets its line here; the script knows none of them by name.
pub(crate) fn of_subject(keys: &Keys, key: DigestKey, subject: &QuotaSubject) -> Vec<Counter> {
    let QuotaSubject { user, limits, .. } = subject;
    let mut all = Vec::with_capacity(6);
    if let Some(user) = user {
        all.extend(of_user(keys, key, user, limits));
    }
    all.extend(of_organization(keys, limits));
    all.extend(of_caller(keys, key, subject));
    all
}

/// Those of a login and a client, where there are such limits.
pub(crate) fn of_caller(keys: &Keys, key: DigestKey, subject: &QuotaSubject) -> Vec<Counter> {
    let QuotaSubject { limits, login, client, .. } = subject;
    let login = login.as_ref().zip(limits.recipients_per_login_per_day);
    let client = client.zip(limits.recipients_per_client_per_day);
    let login = login.map(|(login, allowed)| Counter {
        limit: QuotaLimit::RecipientsPerLoginPerDay,
        kind: Kind::Recipients,
        window: DAY,
        allowed,
        key: keys.named("login", &key.of(login).to_string()),
    });
    let client = client.map(|(client, allowed)| Counter {
        limit: QuotaLimit::RecipientsPerClientPerDay,
        kind: Kind::Recipients,
        window: DAY,
        allowed,
        key: keys.named("client", &network(client).to_string()),
    });
    login.into_iter().chain(client).collect()
}

/// Those of a user (D10).
pub(crate) fn of_user(
    keys: &Keys,
    key: DigestKey,
    user: &Mailbox,
    limits: &Limits,
) -> [Counter; 2] {
    let user = key.of(user).to_string();
    [
        Counter {
            limit: QuotaLimit::MessagesPerUserPerDay,
            kind: Kind::Messages,
            window: DAY,
            allowed: limits.messages_per_user_per_day,
            key: keys.named("messages", &user),
        },
        Counter {
            limit: QuotaLimit::UniqueRecipientsPerUserPerDay,
            kind: Kind::DifferentRecipients,
            window: DAY,
            allowed: limits.unique_recipients_per_user_per_day,
            key: keys.named("recipients", &user),
        },
    ]
}

/// Those of an organization (D11).
pub(crate) fn of_organization(keys: &Keys, limits: &Limits) -> [Counter; 2] {
    [
        Counter {
            limit: QuotaLimit::RecipientsPerDay,
            kind: Kind::Recipients,
            window: DAY,
            allowed: limits.recipients_per_day,
            key: keys.one("day"),
        },
        Counter {
            limit: QuotaLimit::RecipientsPer10Minutes,
            kind: Kind::Recipients,
            window: TEN_MINUTES,
            allowed: limits.recipients_per_10_minutes,
            key: keys.one("ten-minutes"),
        },
    ]
}
