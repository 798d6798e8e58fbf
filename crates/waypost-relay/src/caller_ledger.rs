//! How much each login and each client has relayed, where an organization limits that.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use waypost_types::{Mailbox, Timestamp};

use crate::limits::Limits;
use crate::quota::{QuotaCommit, QuotaLimit, QuotaRefusal, QuotaSubject, QuotaUse, used};
use crate::window::{DAY, Window};

/// What is counted as one client: an IPv4 address, or 64 bits of an IPv6 address, which one host has
/// to itself ([`QuotaSubject::client`]).
#[must_use]
pub fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(client) => IpAddr::V6(Ipv6Addr::from_bits(client.to_bits() >> 64 << 64)),
        client => client,
    }
}

/// Recipients of logins and clients in 24 hours. Empty, and asked nothing, while no organization limits
/// them; else about 250 octets a login or client that relayed something, which the organizations' own
/// limits bound, and up to 3.5 KiB for one that is busy all day.
#[derive(Debug, Default)]
pub(crate) struct CallerLedger {
    organizations: HashMap<Arc<str>, Callers>,
}

#[derive(Debug, Default)]
struct Callers {
    logins: HashMap<Mailbox, Counts>,
    clients: HashMap<IpAddr, Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    day: Window<u32>,
    pending: u32,
}

impl QuotaSubject {
    /// Whether a login or a client is counted.
    pub(crate) fn has_caller(&self) -> bool {
        self.login.is_some() || self.client.is_some()
    }

    /// Without the login and client that are not limited, as [`Ledger::begin`](crate::Ledger::begin)
    /// takes it: what is not limited is not counted.
    #[must_use]
    pub fn only_limited(mut self) -> Self {
        self.forget_unlimited();
        self
    }

    /// The same where it stands.
    pub(crate) fn forget_unlimited(&mut self) {
        if self.login.is_some() && self.limits.recipients_per_login_per_day.is_none() {
            self.login = None;
        }
        if self.client.is_some() && self.limits.recipients_per_client_per_day.is_none() {
            self.client = None;
        }
    }
}

impl CallerLedger {
    /// The use of what is limited of a subject, the login before the client.
    pub(crate) fn uses(&self, subject: &QuotaSubject, now: Timestamp) -> [Option<QuotaUse>; 2] {
        if !subject.has_caller() {
            return [None, None];
        }
        let callers = self.organizations.get(&*subject.organization);
        let none = Counts::default();
        let Limits { recipients_per_login_per_day, recipients_per_client_per_day, .. } =
            subject.limits;
        let login = subject.login.as_ref().zip(recipients_per_login_per_day);
        let client = subject.client.as_ref().zip(recipients_per_client_per_day);
        [
            login.map(|(login, allowed)| {
                let counts = callers.and_then(|all| all.logins.get(login)).unwrap_or(&none);
                counts.used(QuotaLimit::RecipientsPerLoginPerDay, allowed, now)
            }),
            client.map(|(client, allowed)| {
                let counts = callers.and_then(|all| all.clients.get(client)).unwrap_or(&none);
                counts.used(QuotaLimit::RecipientsPerClientPerDay, allowed, now)
            }),
        ]
    }

    /// The refusal of one more recipient.
    pub(crate) fn refusal(&self, subject: &QuotaSubject, now: Timestamp) -> Option<QuotaRefusal> {
        self.uses(subject, now).iter().flatten().find_map(QuotaUse::refusal)
    }

    /// Holds a place for a recipient.
    pub(crate) fn reserve(&mut self, subject: &QuotaSubject) {
        self.change(&subject.organization, (subject.login.as_ref(), subject.client), |counts| {
            counts.pending = counts.pending.saturating_add(1);
        });
    }

    /// Lets go what was held.
    pub(crate) fn give_back(&mut self, subject: &QuotaSubject, recipients: usize) {
        let recipients = u32::try_from(recipients).unwrap_or(u32::MAX);
        self.change(&subject.organization, (subject.login.as_ref(), subject.client), |counts| {
            counts.pending = counts.pending.saturating_sub(recipients);
        });
    }

    /// Counts a message.
    pub(crate) fn count(&mut self, commit: &QuotaCommit, at: Timestamp, now: Timestamp) {
        let QuotaCommit { organization, login, client, recipients, .. } = commit;
        let recipients = u32::try_from(recipients.len()).unwrap_or(u32::MAX);
        self.change(organization, (login.as_ref(), *client), |counts| {
            counts.day.advance(DAY, now);
            counts.day.add(DAY.bucket(at), recipients);
        });
    }

    pub(crate) fn prune(&mut self, now: Timestamp) {
        fn keep<K: Eq + Hash>(counted: &mut HashMap<K, Counts>, now: Timestamp) {
            counted.retain(|_, counts| {
                counts.day.advance(DAY, now);
                !counts.is_empty()
            });
            if counted.len() * 4 < counted.capacity() {
                counted.shrink_to_fit();
            }
        }
        self.organizations.retain(|_, callers| {
            keep(&mut callers.logins, now);
            keep(&mut callers.clients, now);
            !callers.is_empty()
        });
    }

    /// How many logins and clients take memory.
    pub(crate) fn len(&self) -> usize {
        self.organizations.values().map(|all| all.logins.len() + all.clients.len()).sum()
    }

    fn change(
        &mut self,
        organization: &str,
        (login, client): (Option<&Mailbox>, Option<IpAddr>),
        change: impl Fn(&mut Counts),
    ) {
        if login.is_none() && client.is_none() {
            return;
        }
        if !self.organizations.contains_key(organization) {
            self.organizations.insert(organization.into(), Callers::default());
        }
        let Some(callers) = self.organizations.get_mut(organization) else { return };
        if let Some(login) = login {
            changed(&mut callers.logins, login, &change);
        }
        if let Some(client) = client {
            changed(&mut callers.clients, &client, &change);
        }
    }
}

/// Changes what is counted of one; nothing is kept of one without counts.
fn changed<K: Clone + Eq + Hash>(
    counted: &mut HashMap<K, Counts>,
    who: &K,
    change: impl Fn(&mut Counts),
) {
    match counted.get_mut(who) {
        Some(counts) => {
            change(counts);
            if counts.is_empty() {
                counted.remove(who);
            }
        }
        None => {
            let mut counts = Counts::default();
            change(&mut counts);
            if !counts.is_empty() {
                counted.insert(who.clone(), counts);
            }
        }
    }
}

impl Callers {
    fn is_empty(&self) -> bool {
        self.logins.is_empty() && self.clients.is_empty()
    }
}

impl Counts {
    fn is_empty(&self) -> bool {
        self.pending == 0 && self.day.sum() == 0
    }

    fn used(&self, limit: QuotaLimit, allowed: u32, now: Timestamp) -> QuotaUse {
        let sent = self.day.sum_at(DAY, now);
        used(limit, allowed, (sent, self.pending), DAY, now, |need| {
            self.day.free_again_at(DAY, now, need, |recipients| *recipients)
        })
    }
}
