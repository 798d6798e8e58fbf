//! Calls of the script: what goes in, and what comes out.

use redis::{Cmd, Value};
use waypost_relay::{QuotaRefusal, QuotaUse, Reservation};
use waypost_types::Timestamp;

use crate::counter::Counter;
use crate::digest::Digest;
use crate::keys::Keys;

/// The script. It is loaded with each connection, and called by its digest.
pub(crate) const SCRIPT: &str = include_str!("ledger.lua");

/// The time of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Now {
    /// The clock of Redis, so that those of the nodes do not matter.
    OfRedis,
    /// A simulated one.
    #[cfg(test)]
    Given(Timestamp),
}

/// One call of the script: keys and arguments as told at its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

/// A commit among those of its node: what makes that it counts once, however often it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order<'a> {
    /// The start of the node, drawn anew each time.
    pub(crate) start: &'a str,
    /// Rises with each commit that is sent.
    pub(crate) number: u64,
    /// When, by the node's clock.
    pub(crate) at: Timestamp,
    /// How long ago that is.
    pub(crate) age: std::time::Duration,
    /// What it is known by when it is told again from the history.
    pub(crate) digest: Digest,
}

/// Commits are made before they are journaled, and Redis hears of them in the order of the journal: one is
/// behind another that was made later by less than this. So long Redis knows each by name.
pub(crate) const JOURNALING: std::time::Duration = std::time::Duration::from_secs(30);

/// What a reservation found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reserved {
    /// Of each recipient.
    pub(crate) verdicts: Vec<Result<Reservation, QuotaRefusal>>,
    /// Of each counter, afterwards.
    pub(crate) uses: Vec<QuotaUse>,
}

/// Redis answered what the script never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not the script's; is the key prefix used by something else?")]
pub(crate) struct StrangeAnswer;

impl Call {
    fn new(keys: &Keys, node: &str, operation: &str, now: Now, id: &str) -> Self {
        let messages = keys.messages();
        let now = match now {
            Now::OfRedis => "-1".to_owned(),
            #[cfg(test)]
            Now::Given(now) => now.as_millis().to_string(),
        };
        Self {
            keys: vec![format!("{messages}{id}"), keys.leases(), keys.mark(node), keys.told(node)],
            arguments: vec![operation.into(), now.into_bytes(), messages.into_bytes()],
        }
    }

    fn with(mut self, argument: impl Into<Vec<u8>>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    fn with_number(self, number: u64) -> Self {
        self.with(number.to_string())
    }

    fn with_counters(self, counters: &[Counter]) -> Self {
        let mut call = self.with(counters.len().to_string());
        for Counter { kind, window, allowed, key, .. } in counters {
            call.keys.push(key.clone());
            call = call.with(kind.letter()).with_number(window.bucket).with_number(window.window);
            call = call.with_number((*allowed).into());
        }
        call
    }

    fn with_digests(mut self, digests: &[Digest]) -> Self {
        self.arguments.extend(digests.iter().map(|digest| digest.octets().to_vec()));
        self
    }

    /// Reserves a place for each digest; without one, tells how far the counters are used.
    pub(crate) fn reserve(
        keys: &Keys,
        now: Now,
        id: &str,
        lease: std::time::Duration,
        is_enforced: bool,
        counters: &[Counter],
        digests: &[Digest],
    ) -> Self {
        Self::new(keys, "", "reserve", now, id)
            .with(id)
            .with_number(millis(lease))
            .with(if is_enforced { "1" } else { "0" })
            .with_counters(counters)
            .with_digests(digests)
    }

    pub(crate) fn commit(
        keys: &Keys,
        node: &str,
        now: Now,
        id: &str,
        order: &Order<'_>,
        counters: &[Counter],
        digests: &[Digest],
    ) -> Self {
        Self::new(keys, node, "commit", now, id)
            .with(id)
            .with(order.start)
            .with_number(order.number)
            .with_number(order.at.as_millis())
            .with_number(millis(order.age))
            .with(order.name())
            .with_number(millis(JOURNALING))
            .with_counters(counters)
            .with_digests(digests)
    }

    /// Gives back one place of each digest, or all that the message holds.
    pub(crate) fn release(keys: &Keys, now: Now, id: &str, digests: &[Digest]) -> Self {
        Self::new(keys, "", "release", now, id).with(id).with_digests(digests)
    }

    pub(crate) fn renew(keys: &Keys, now: Now, lease: std::time::Duration, ids: &[String]) -> Self {
        let mut call = Self::new(keys, "", "renew", now, "").with_number(millis(lease));
        call.arguments.extend(ids.iter().map(|id| id.clone().into_bytes()));
        call
    }

    /// The command for a script that was loaded under `sha`.
    pub(crate) fn command(&self, sha: &str) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(sha).arg(self.keys.len()).arg(&self.keys).arg(&self.arguments);
        command
    }
}

impl Order<'_> {
    /// The name that Redis keeps: the digest, and what makes it another one than that of an equal commit.
    fn name(&self) -> String {
        format!("{} {}-{:x}", self.digest, self.start, self.number)
    }
}

impl Reserved {
    /// Reads the answer to [`Call::reserve`] of `recipients` digests.
    pub(crate) fn read(
        answer: &Value,
        recipients: usize,
        counters: &[Counter],
    ) -> Result<Self, StrangeAnswer> {
        let numbers = numbers(answer)?;
        let (verdicts, uses) = numbers.split_at_checked(5 * recipients).ok_or(StrangeAnswer)?;
        if uses.len() != 3 * counters.len() {
            return Err(StrangeAnswer);
        }
        let uses = counters.iter().zip(uses.chunks_exact(3)).map(|(counter, found)| match found {
            [used, reserved, room] => counter.used(*used, *reserved, *room),
            _ => Err(StrangeAnswer),
        });
        let uses = uses.collect::<Result<Vec<_>, _>>()?;
        let near: Vec<QuotaUse> = uses.iter().filter(|found| found.is_near()).copied().collect();
        let verdicts = verdicts.chunks_exact(5).map(|found| match found {
            [place, beyond, used, reserved, room] => {
                let beyond = match usize::try_from(*beyond).map_err(|_| StrangeAnswer)? {
                    0 => None,
                    number => Some(counters.get(number - 1).ok_or(StrangeAnswer)?),
                };
                let refusal = beyond
                    .map(|counter| counter.used(*used, *reserved, *room).map(refusal))
                    .transpose()?;
                match (place, refusal) {
                    (1, would_refuse) => Ok(Ok(Reservation { would_refuse, near: near.clone() })),
                    (0, Some(refusal)) => Ok(Err(refusal)),
                    _ => Err(StrangeAnswer),
                }
            }
            _ => Err(StrangeAnswer),
        });
        Ok(Self { verdicts: verdicts.collect::<Result<_, _>>()?, uses })
    }
}

impl Counter {
    fn used(&self, used: i64, reserved: i64, room: i64) -> Result<QuotaUse, StrangeAnswer> {
        let number = |found: i64| u32::try_from(found).map_err(|_| StrangeAnswer);
        let room_at = u64::try_from(room).ok().map(Timestamp::from_millis);
        Ok(QuotaUse {
            limit: self.limit,
            allowed: self.allowed,
            used: number(used)?,
            reserved: number(reserved)?,
            room_at,
        })
    }
}

fn refusal(found: QuotaUse) -> QuotaRefusal {
    let QuotaUse { limit, allowed, used, reserved, room_at } = found;
    QuotaRefusal { limit, allowed, used, reserved, room_at }
}

fn numbers(answer: &Value) -> Result<Vec<i64>, StrangeAnswer> {
    let Value::Array(values) = answer else { return Err(StrangeAnswer) };
    let number = |value: &Value| match value {
        Value::Int(number) => Ok(*number),
        _ => Err(StrangeAnswer),
    };
    values.iter().map(number).collect()
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
