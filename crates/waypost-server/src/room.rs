//! Room in memory for messages on their way, shared by all sessions.
//!
//! A message has a [`Share`] from before its first octet until it is committed, so the messages being
//! received never take more than [`ALL_SMALL`], [`ALL_MEDIUM`] and [`ALL_LARGE`] octets together, however
//! many sessions there are. Who finds no room waits, first come first served, and is not read from
//! meanwhile: the client's own window fills, and it waits too. When a message is all there, its share
//! becomes as large as it is.
//!
//! Small, medium and large messages have room of their own, so that a few slow clients with large ones
//! do not keep everyone waiting. A message of unknown size begins small and moves up, to the largest that
//! there may be in the end; whoever holds a share of the large room needs no more, so it ends some time
//! and others get on. Only a message that outgrows its own `SIZE` there may wait for room while it holds
//! some, and after [`PATIENCE`] it is let go.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Octets of a small message, which is also what one of unknown size begins with.
pub(crate) const SMALL: u64 = 64 << 10;
/// Octets of a message of medium size.
pub(crate) const MEDIUM: u64 = 1 << 20;
/// Octets of all small messages on their way.
pub(crate) const ALL_SMALL: u64 = 32 << 20;
/// Octets of all medium ones.
pub(crate) const ALL_MEDIUM: u64 = 32 << 20;
/// Octets of all larger ones. One that is larger than this has the room for itself.
pub(crate) const ALL_LARGE: u64 = 128 << 20;
/// How long a message waits for room; a client waits two minutes for an answer to DATA (RFC 5321
/// section 4.5.3.2.4).
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// What one permit stands for.
const UNIT: u64 = 1 << 10;

/// Room for messages.
#[derive(Debug)]
pub(crate) struct Room {
    small: Arc<Semaphore>,
    medium: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// A message's part of the room; dropped, it is given back.
#[derive(Debug)]
pub(crate) struct Share {
    octets: u64,
    permit: OwnedSemaphorePermit,
}

impl Share {
    /// Octets that it stands for.
    pub(crate) fn octets(&self) -> u64 {
        self.octets
    }

    /// Gives back what is more than `octets`.
    pub(crate) fn shrink(&mut self, octets: u64) {
        let held = self.permit.num_permits();
        let needed = usize::try_from(permits(octets)).unwrap_or(usize::MAX);
        drop(self.permit.split(held.saturating_sub(needed)));
        self.octets = self.octets.min(octets);
    }
}

impl Room {
    pub(crate) fn new() -> Self {
        let room = |octets| Arc::new(Semaphore::new(usize::try_from(octets / UNIT).unwrap_or(0)));
        Self { small: room(ALL_SMALL), medium: room(ALL_MEDIUM), large: room(ALL_LARGE) }
    }

    fn of(&self, octets: u64) -> &Arc<Semaphore> {
        match octets {
            ..=SMALL => &self.small,
            _ if octets <= MEDIUM => &self.medium,
            _ => &self.large,
        }
    }

    /// A share of so many octets; waits up to [`PATIENCE`]. `None`: there was no room.
    pub(crate) async fn share(&self, octets: u64) -> Option<Share> {
        let permit = acquire(self.of(octets), octets.min(ALL_LARGE)).await?;
        Some(Share { octets, permit })
    }

    /// Makes a share large enough for `needed` octets of a message of at most `most`; waits up to
    /// [`PATIENCE`]. `false`: there was no room.
    pub(crate) async fn grow(&self, share: &mut Share, needed: u64, most: u64) -> bool {
        let octets = if needed <= MEDIUM { MEDIUM.min(most) } else { most };
        if octets <= share.octets {
            return true;
        }
        let (old, new) = (self.of(share.octets), self.of(octets));
        if Arc::ptr_eq(old, new) {
            let more = octets.min(ALL_LARGE).saturating_sub(share.octets.min(ALL_LARGE));
            if more > 0 {
                let Some(permit) = acquire(new, more).await else { return false };
                share.permit.merge(permit);
            }
        } else {
            let Some(permit) = acquire(new, octets.min(ALL_LARGE)).await else { return false };
            share.permit = permit;
        }
        share.octets = octets;
        true
    }

    /// Octets of all shares.
    pub(crate) fn used(&self) -> u64 {
        let rooms = [&self.small, &self.medium, &self.large];
        let free: usize = rooms.iter().map(|room| room.available_permits()).sum();
        let free = u64::try_from(free).unwrap_or(u64::MAX).saturating_mul(UNIT);
        (ALL_SMALL + ALL_MEDIUM + ALL_LARGE).saturating_sub(free)
    }
}

fn permits(octets: u64) -> u32 {
    u32::try_from(octets.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1)
}

async fn acquire(room: &Arc<Semaphore>, octets: u64) -> Option<OwnedSemaphorePermit> {
    let permits = permits(octets);
    if let Ok(permit) = Arc::clone(room).try_acquire_many_owned(permits) {
        return Some(permit);
    }
    timeout(PATIENCE, Arc::clone(room).acquire_many_owned(permits)).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;

    use super::*;

    fn paused<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build();
        runtime.unwrap().block_on(future)
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn large_messages_wait_for_each_other_in_order_and_small_ones_do_not() {
        paused(async {
            let room = Room::new();
            let first = room.share(50 * MIB).await.unwrap();
            let second = room.share(50 * MIB).await.unwrap();
            let mut third = pin!(room.share(50 * MIB));
            assert!(timeout(Duration::from_secs(1), &mut third).await.is_err());
            // One that would fit does not overtake it.
            let mut fourth = pin!(room.share(2 * MIB));
            assert!(timeout(Duration::from_secs(1), &mut fourth).await.is_err());
            let small = room.share(SMALL).await.unwrap();
            assert_eq!(
                room.used(),
                100 * MIB + 28 * MIB + SMALL,
                "what waits has taken what is left"
            );
            drop(first);
            let third = third.await.unwrap();
            let fourth = fourth.await.unwrap();
            drop((second, third, fourth, small));
            assert_eq!(room.used(), 0);
        });
    }

    #[test]
    fn who_waits_too_long_gets_none_and_the_next_ones_do() {
        paused(async {
            let room = Room::new();
            let all = room.share(ALL_LARGE).await.unwrap();
            assert!(room.share(2 * MIB).await.is_none());
            drop(all);
            assert!(room.share(u64::MAX).await.is_some(), "alone, however large it is");
        });
    }

    #[test]
    fn a_message_that_outgrows_its_share_gets_more_or_is_let_go() {
        paused(async {
            let room = Room::new();
            let mut unknown = room.share(SMALL).await.unwrap();
            assert!(room.grow(&mut unknown, SMALL + 1, 50 * MIB).await);
            assert_eq!((unknown.octets(), room.used()), (MEDIUM, MEDIUM));
            assert!(room.grow(&mut unknown, MEDIUM + 1, 50 * MIB).await);
            assert_eq!((unknown.octets(), room.used()), (50 * MIB, 50 * MIB));
            // Those that said too little hold each other up, for a while.
            let mut liars = Vec::new();
            for _ in 0..3 {
                liars.push(room.share(20 * MIB).await.unwrap());
            }
            let [first, second, third] = &mut liars[..] else { unreachable!() };
            let grown = tokio::join!(
                room.grow(first, 21 * MIB, 50 * MIB),
                room.grow(second, 21 * MIB, 50 * MIB),
                room.grow(third, 21 * MIB, 50 * MIB),
            );
            assert_eq!(grown, (false, false, false));
            drop((unknown, liars));
            assert_eq!(room.used(), 0);
        });
    }

    #[test]
    fn what_a_message_does_not_need_is_given_back() {
        paused(async {
            let room = Room::new();
            let mut all = room.share(u64::MAX).await.unwrap();
            assert_eq!(room.used(), ALL_LARGE);
            all.shrink(3000);
            assert_eq!((all.octets(), room.used()), (3000, 3 << 10));
            all.shrink(5000);
            assert_eq!((all.octets(), room.used()), (3000, 3 << 10), "it does not grow");
            drop(all);
            assert_eq!(room.used(), 0);
        });
    }
}
