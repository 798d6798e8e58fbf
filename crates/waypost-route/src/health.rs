//! Which hosts failed of late, and when each may be tried again.

use std::collections::HashMap;
use std::time::Duration;

use waypost_types::{FailureScope, HostPort, Timestamp};

/// The first pause after a host-scoped failure (A9).
pub const FIRST_PAUSE: Duration = Duration::from_secs(15);
/// The longest pause (A9).
pub const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// A probe that brings no verdict for so long is given up, and the next one may begin.
pub const PROBE_LEASE: Duration = Duration::from_secs(15 * 60);
/// Hosts remembered unless [`Health::with_capacity`] says otherwise.
pub const HEALTH_CAPACITY: usize = 10_000;

/// A host whose pause ended so long ago starts again from the first pause.
const FORGET_AFTER: Duration = Duration::from_secs(60 * 60);

/// What is known of one host at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum HostState {
    /// No failure since its last success.
    Up,
    /// Failed; nobody is to try before `until`.
    Paused {
        /// The end of the pause.
        until: Timestamp,
        /// Failures in a row.
        failures: u32,
        /// What the last of them was.
        cause: FailureScope,
    },
    /// Its pause is over and nobody has tried since: one attempt may.
    ProbeDue {
        /// Failures in a row.
        failures: u32,
    },
    /// One attempt is trying; the others wait for its verdict, `until` at the latest.
    Probing {
        /// When the probe is given up.
        until: Timestamp,
        /// Failures in a row.
        failures: u32,
        /// What the last of them was.
        cause: FailureScope,
    },
}

impl HostState {
    /// Whether an attempt may connect now.
    #[must_use]
    pub fn may_try(self) -> bool {
        matches!(self, HostState::Up | HostState::ProbeDue { .. })
    }

    /// Whether the host is waited for because TLS or its certificate failed.
    #[must_use]
    pub fn is_tls(self) -> bool {
        match self {
            HostState::Up | HostState::ProbeDue { .. } => false,
            HostState::Paused { cause, .. } | HostState::Probing { cause, .. } => {
                cause == FailureScope::Tls
            }
        }
    }

    /// When the answer may change; `None` for a host that may be tried now.
    #[must_use]
    pub fn until(self) -> Option<Timestamp> {
        match self {
            HostState::Up | HostState::ProbeDue { .. } => None,
            HostState::Paused { until, .. } | HostState::Probing { until, .. } => Some(until),
        }
    }
}

/// The health of hosts: pauses after host-scoped failures, and single probes after them (A9).
///
/// ```text
///          failed               time             claimed
///   Up ────────────► Paused ───────────► ProbeDue ───────► Probing
///   ▲                  ▲                    │ ▲               │
///   │                  └────────────────────┼─┼── failed ─────┤   pause doubles: 15 s … 15 min
///   └───────────── succeeded ───────────────┘ └── released ───┘   or the lease ends
/// ```
///
/// A value that the caller owns; one attempt does, for each host in its order:
/// [`claim`](Health::claim), connect unless the answer says no, then one of
/// [`succeeded`](Health::succeeded), [`failed`](Health::failed), [`released`](Health::released).
///
/// With MX lookup (A4) the MX hosts are known here by their own names, and the route's entry once all
/// of them have failed in one attempt.
///
/// **Units:** [`Timestamp`]s that should not step back. **Bounds:** a healthy host takes no memory;
/// at most a capacity of failing ones is remembered, those whose pause ended or ends first are
/// forgotten first. Each call is O(1), amortised. **Errors:** none. **Source:** A9.
#[derive(Clone, Debug)]
pub struct Health {
    troubles: HashMap<HostPort, Trouble>,
    capacity: usize,
}

#[derive(Clone, Copy, Debug)]
struct Trouble {
    failures: u32,
    cause: FailureScope,
    until: Timestamp,
    probe: Option<Timestamp>,
}

impl Trouble {
    fn state(self, now: Timestamp) -> HostState {
        let Trouble { failures, cause, until, probe } = self;
        if now < until {
            return HostState::Paused { until, failures, cause };
        }
        match probe.map(|began| began + PROBE_LEASE) {
            Some(until) if now < until => HostState::Probing { until, failures, cause },
            _ => HostState::ProbeDue { failures },
        }
    }

    /// Past its pause for so long that it counts as up again.
    fn is_forgotten(self, now: Timestamp) -> bool {
        let held = self.probe.map_or(self.until, |began| began + PROBE_LEASE);
        now >= held.max(self.until) + FORGET_AFTER
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::with_capacity(HEALTH_CAPACITY)
    }
}

impl Health {
    /// All hosts up; remembers at most `capacity` failing hosts (at least one).
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { troubles: HashMap::new(), capacity: capacity.max(1) }
    }

    /// Whether no host has failed: then all are up.
    #[must_use]
    pub fn is_untroubled(&self) -> bool {
        self.troubles.is_empty()
    }

    /// Forgets what is known of the hosts that `forgotten` names: they count as up, as when what is
    /// asked of them was changed.
    pub fn forget(&mut self, mut forgotten: impl FnMut(&HostPort, FailureScope) -> bool) {
        self.troubles.retain(|host, trouble| !forgotten(host, trouble.cause));
    }

    /// What is known of a host.
    #[must_use]
    pub fn state(&self, host: &HostPort, now: Timestamp) -> HostState {
        match self.troubles.get(host) {
            Some(trouble) if !trouble.is_forgotten(now) => trouble.state(now),
            _ => HostState::Up,
        }
    }

    /// Asks to connect: the state before the call, which says whether the caller may
    /// ([`HostState::may_try`]). Where a probe was due, the caller now has it, and owes a verdict.
    pub fn claim(&mut self, host: &HostPort, now: Timestamp) -> HostState {
        let state = self.state(host, now);
        if let HostState::ProbeDue { .. } = state
            && let Some(trouble) = self.troubles.get_mut(host)
        {
            trouble.probe = Some(now);
        }
        state
    }

    /// The host answered as a host should: the session came as far as MAIL. Whatever it says to the
    /// message after that does not matter here.
    pub fn succeeded(&mut self, host: &HostPort) {
        self.troubles.remove(host);
    }

    /// A host-scoped failure, or one of TLS: the host's pause begins or doubles. A failure during a
    /// pause, of an attempt begun before it, changes nothing. One of the message says nothing about
    /// the host and is taken as [`Health::released`]. Returns the state after the call.
    pub fn failed(&mut self, host: &HostPort, cause: FailureScope, now: Timestamp) -> HostState {
        if cause == FailureScope::Message {
            self.released(host);
            return self.state(host, now);
        }
        let failures = match self.state(host, now) {
            paused @ HostState::Paused { .. } => return paused,
            HostState::Up => 1,
            HostState::ProbeDue { failures } | HostState::Probing { failures, .. } => {
                failures.saturating_add(1)
            }
        };
        let trouble = Trouble { failures, cause, until: now + pause(failures), probe: None };
        if !self.troubles.contains_key(host) {
            self.make_room(now);
        }
        self.troubles.insert(host.clone(), trouble);
        trouble.state(now)
    }

    /// An attempt ended without a verdict on the host, as when it was cancelled: if it held the
    /// probe, the next one may have it.
    pub fn released(&mut self, host: &HostPort) {
        if let Some(trouble) = self.troubles.get_mut(host) {
            trouble.probe = None;
        }
    }

    /// The hosts that failed and have not succeeded since, in no order (for metrics and lists).
    pub fn troubled(&self, now: Timestamp) -> impl Iterator<Item = (&HostPort, HostState)> {
        self.troubles
            .iter()
            .filter(move |(_, trouble)| !trouble.is_forgotten(now))
            .map(move |(host, trouble)| (host, trouble.state(now)))
    }

    /// Drops what is forgotten, and an eighth of the rest when that is not enough: so the cost of a
    /// sweep is shared by many calls.
    fn make_room(&mut self, now: Timestamp) {
        if self.troubles.len() < self.capacity {
            return;
        }
        self.troubles.retain(|_, trouble| !trouble.is_forgotten(now));
        if self.troubles.len() < self.capacity - self.capacity / 8 {
            return;
        }
        let mut ends: Vec<Timestamp> = self.troubles.values().map(|t| t.until).collect();
        let nth = self.capacity / 8;
        if nth >= ends.len() {
            return self.troubles.clear();
        }
        let (_, limit, _) = ends.select_nth_unstable(nth);
        let limit = *limit;
        self.troubles.retain(|_, trouble| trouble.until > limit);
    }
}

/// The pause after so many failures in a row: 15 s, 30 s, … 15 min.
fn pause(failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(factor.max(1)).min(LONGEST_PAUSE)
}
