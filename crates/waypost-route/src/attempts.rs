//! The order in which an attempt tries the hosts of a route.

use std::fmt;

use waypost_types::{
    EnhancedCode, Failure, FailureScope, HostPort, Outcome, QueueId, Reply, ReplyClass, Timestamp,
};

use crate::{Draw, Health, HostState, OnTlsFailure, Route, RouteHost, Tier};

/// The hosts that one attempt may try, in order, and those that it must skip, with the reason (A9).
///
/// The attempt goes on to the next host after a host-scoped failure only, and never after the final
/// dot was sent. As all primaries stand before all secondaries, a secondary is reached only when
/// every primary has failed in this attempt or is skipped. Before each connection it asks
/// [`Health::claim`], as another attempt may have taken a probe meanwhile.
///
/// Its text form tells draw, order and skipped hosts on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Attempts<'a> {
    /// The draw that decided the order.
    pub draw: Draw,
    /// The hosts to try, first to last.
    pub order: Vec<&'a RouteHost>,
    /// The hosts not to try now, in the order in which they would have stood.
    pub skipped: Vec<Skipped<'a>>,
}

/// A host that an attempt must not try.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Skipped<'a> {
    /// The host.
    pub host: &'a RouteHost,
    /// Why: [`HostState::Paused`], or [`HostState::Probing`] by another attempt.
    pub why: HostState,
}

impl Attempts<'_> {
    /// When every host is skipped: the earliest moment at which one may be tried. `None` when there
    /// is a host to try now.
    #[must_use]
    pub fn earliest(&self) -> Option<Timestamp> {
        if !self.order.is_empty() {
            return None;
        }
        self.skipped.iter().filter_map(|skipped| skipped.why.until()).min()
    }

    /// What becomes of the message when this attempt is over and nothing was delivered: `failures`
    /// are those of the hosts that were tried, in order (A9, A10).
    ///
    /// - A failure of the message itself decides: 5yz fails, anything else defers.
    /// - TLS failed on every host, be it in this attempt (at least once) or before the pause that a
    ///   skipped host is in: the message bounces, or is deferred if the route says so. So messages
    ///   that take turns at the probes of a route's hosts do not wait for each other for days.
    /// - All else defers, with the last failure that is not one of TLS.
    #[must_use]
    pub fn outcome(&self, failures: &[Failure], on_tls_failure: OnTlsFailure) -> Outcome {
        if let Some(own) = failures.iter().find(|f| f.scope == FailureScope::Message) {
            return Outcome::from_refusal(own.scope, own.host.clone(), own.reply.clone());
        }
        let Some(last) = failures.last() else {
            let text = format!("every host of the route is in its pause: {self}");
            let reply = Reply::new(451, (4, 4, 1), &text);
            return Outcome::Deferred(Failure { scope: FailureScope::Host, host: None, reply });
        };
        let other = failures.iter().rfind(|f| f.scope != FailureScope::Tls);
        let all_tls = other.is_none() && self.skipped.iter().all(|skipped| skipped.why.is_tls());
        match (all_tls, on_tls_failure) {
            (true, OnTlsFailure::Bounce) => Outcome::Failed(made_permanent(last)),
            (true, OnTlsFailure::Defer) | (false, _) => {
                Outcome::Deferred(other.unwrap_or(last).clone())
            }
        }
    }
}

/// The failure with a reply that says `never`: 4yz becomes 550, 4.x.y becomes 5.x.y.
fn made_permanent(failure: &Failure) -> Failure {
    let reply = &failure.reply;
    let reply = match (reply.class(), reply.enhanced()) {
        (ReplyClass::Permanent, _) => reply.clone(),
        (_, Some(EnhancedCode(_, subject, detail))) => {
            Reply::new(550, (5, subject, detail), reply.text())
        }
        (_, None) => Reply::new(550, (5, 7, 5), reply.text()),
    };
    Failure { reply, ..failure.clone() }
}

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "draw {}: ", self.draw)?;
        if self.order.is_empty() {
            f.write_str("no host now")?;
        }
        for (index, host) in self.order.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", then " };
            write!(f, "{comma}{} ({}, load {} %)", host.at, host.tier, host.load)?;
        }
        for Skipped { host, why } in &self.skipped {
            write!(f, "; not {}: ", host.at)?;
            match why {
                HostState::Paused { until, failures, .. } => {
                    let tls = if why.is_tls() { " (TLS)" } else { "" };
                    write!(f, "in pause until {until} after failure {failures} in a row{tls}")?;
                }
                HostState::Probing { .. } => f.write_str("being probed by another attempt")?,
                HostState::Up | HostState::ProbeDue { .. } => f.write_str("down")?,
            }
        }
        if let Some(at) = self.earliest() {
            write!(f, "; again at {at}")?;
        }
        Ok(())
    }
}

/// How much of the mail one host gets.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Share<'a> {
    /// The host.
    pub host: &'a RouteHost,
    /// The expected share in percent, 0 to 100.
    pub percent: f64,
}

/// How many of a number of simulated messages each host got first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Spread<'a> {
    /// Each host of the route, in the order of its settings, and its messages.
    pub counts: Vec<(&'a RouteHost, u64)>,
    /// Messages for which every host was down.
    pub none: u64,
}

impl Route {
    /// The order of hosts for one attempt: a weighted draw without replacement, all primaries, then
    /// all secondaries; in each tier hosts of load 0 last, shuffled (A3, A9).
    ///
    /// Pure and reproducible: the draw alone decides the order, `health` only who is skipped. So a
    /// skipped host's share goes to the others of its tier in proportion to their loads.
    /// A host whose probe is due stands in its place.
    #[must_use]
    pub fn attempts<'a>(&'a self, draw: Draw, health: &Health, now: Timestamp) -> Attempts<'a> {
        let mut order = self.drawn(draw);
        let mut skipped = Vec::new();
        if !health.is_untroubled() {
            order.retain(|host| {
                let why = health.state(&host.at, now);
                if !why.may_try() {
                    skipped.push(Skipped { host, why });
                }
                why.may_try()
            });
        }
        Attempts { draw, order, skipped }
    }

    /// The expected share of each host, in the order of the settings, while the hosts in `down` are
    /// out: what an explanation prints when there is no queue id (A9).
    ///
    /// With every host down all shares are 0; with only standby hosts left, they are equal.
    #[must_use]
    pub fn distribution(&self, down: &[HostPort]) -> Vec<Share<'_>> {
        let up = |host: &&RouteHost| !down.contains(&host.at);
        let acting = [Tier::Primary, Tier::Secondary]
            .into_iter()
            .find(|tier| self.tier(*tier).any(|host| up(&host)));
        let in_turn = |host: &&RouteHost| Some(host.tier) == acting && up(host);
        let total: u32 = self.hosts().iter().filter(in_turn).map(|h| u32::from(h.load)).sum();
        let standby = self.hosts().iter().filter(in_turn).count();
        let percent = |host: &RouteHost| match (in_turn(&host), total) {
            (false, _) => 0.0,
            (true, 0) => 100.0 / f64::from(u32::try_from(standby).unwrap_or(u32::MAX)),
            (true, _) => 100.0 * f64::from(host.load) / f64::from(total),
        };
        self.hosts().iter().map(|host| Share { host, percent: percent(host) }).collect()
    }

    /// Simulates `count` messages with the queue ids 0, 1, 2, …, while the hosts in `down` are out:
    /// which host gets each first.
    ///
    /// Over 100,000 messages a host's count is within half a percentage point of its expected share
    /// but for about one key in five hundred; the same key gives the same counts. Time: O(count).
    #[must_use]
    pub fn spread(&self, key: [u8; 16], count: u64, down: &[HostPort]) -> Spread<'_> {
        let mut counts: Vec<(&RouteHost, u64)> = self.hosts().iter().map(|h| (h, 0)).collect();
        let mut none = 0;
        for id in 0..count {
            let draw = Draw::new(key, QueueId::new(id), self.name());
            let first = self.drawn(draw).into_iter().find(|host| !down.contains(&host.at));
            match counts.iter_mut().find(|(host, _)| first.is_some_and(|f| std::ptr::eq(f, *host)))
            {
                Some((_, count)) => *count += 1,
                None => none += 1,
            }
        }
        Spread { counts, none }
    }

    /// All hosts in the order of the draw. Allocates the list and nothing else.
    fn drawn(&self, draw: Draw) -> Vec<&RouteHost> {
        let mut numbers = draw.numbers(0);
        let mut order: Vec<&RouteHost> = Vec::with_capacity(self.hosts().len());
        for tier in [Tier::Primary, Tier::Secondary] {
            let begin = order.len();
            order.extend(self.tier(tier));
            let mut left = order.get_mut(begin..).unwrap_or_default();
            let mut total: u32 = left.iter().map(|host| u32::from(host.load)).sum();
            while !left.is_empty() {
                let standby_only = total == 0;
                let weight = |host: &RouteHost| match standby_only {
                    true => 1,
                    false => u32::from(host.load),
                };
                let count = u32::try_from(left.len()).unwrap_or(u32::MAX);
                let mut ticket = numbers.below(if standby_only { count } else { total });
                let hit = left.iter().position(|host| {
                    let hit = ticket < weight(host);
                    ticket = ticket.saturating_sub(weight(host));
                    hit
                });
                let passed = left.get_mut(..=hit.unwrap_or(0)).unwrap_or_default();
                total -= passed.last().map_or(0, |host| u32::from(host.load));
                // The one that was hit goes first; the others keep their order.
                passed.rotate_right(1);
                left = left.split_first_mut().map(|(_, rest)| rest).unwrap_or_default();
            }
        }
        order
    }
}
