//! Which recipients of which messages a sender was told of, where another mail server takes the message in:
//! that one may be asked about the same message again, if its client heard no `250` or it lost its milter.
//!
//! **In:** digests of sender, message and recipient. **Bounds:** a day, as the journal keeps them, and 100,000
//! digests, about 4 MB; of more, the oldest are forgotten. **Source:** RFC 3464.

use std::collections::{HashSet, VecDeque};
use std::hash::Hasher as _;
use std::sync::Arc;
use std::time::Duration;

use siphasher::sip::SipHasher13;
use siphasher::sip128::{Hasher128 as _, SipHasher13 as SipHasher13To128};
use tokio::sync::{Mutex, MutexGuard};
use waypost_queue::{Body, Entry, Event, SenderTold};
use waypost_store::CommitError;
use waypost_types::{Mailbox, ReversePath, Timestamp};

use crate::core::Core;

/// How long a message is known again.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Digests at a time.
const MOST: usize = 100_000;

/// What senders were told.
#[derive(Debug, Default)]
pub(crate) struct SendersTold(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    known: HashSet<u64>,
    /// The same with the time, oldest first.
    order: VecDeque<(Timestamp, u64)>,
}

impl Remembered {
    fn forget_old(&mut self, now: Timestamp) {
        let is_old = |(at, _): &(Timestamp, u64)| now.since(*at) >= DAY;
        while self.order.len() > MOST || self.order.front().is_some_and(is_old) {
            let Some((_, oldest)) = self.order.pop_front() else { return };
            self.known.remove(&oldest);
        }
    }

    fn remember(&mut self, at: Timestamp, about: &[u64]) {
        for one in about {
            if self.known.insert(*one) {
                self.order.push_back((at, *one));
            }
        }
    }
}

impl SendersTold {
    /// What the journal kept, oldest first. To be called before anybody is told.
    pub(crate) fn recover(&self, told: &[SenderTold]) {
        let Ok(mut remembered) = self.0.try_lock() else { return };
        for SenderTold { at, about } in told {
            remembered.remember(*at, about);
            remembered.forget_old(*at);
        }
    }

    async fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().await
    }
}

/// A digest for each recipient of whom a sender is told. Nobody finds two alike who does not know the key.
pub(crate) fn digests<'a>(
    key: &[u8; 16],
    sender: &ReversePath,
    message: &[u8],
    recipients: impl Iterator<Item = &'a Mailbox>,
) -> Vec<u64> {
    let mut whole = SipHasher13To128::new_with_key(key);
    whole.write(message);
    let whole = whole.finish128().as_bytes();
    let sender = sender.mailbox().map(Mailbox::to_string).unwrap_or_default();
    let digest = |recipient: &Mailbox| {
        let mut hasher = SipHasher13::new_with_key(key);
        hasher.write(b"sender told\0");
        hasher.write(&whole);
        hasher.write(sender.as_bytes());
        hasher.write(b"\0");
        hasher.write(recipient.to_string().as_bytes());
        hasher.finish()
    };
    recipients.map(digest).collect()
}

impl Core {
    /// Puts a notice to a sender into the queue, about those recipients alone of whom he was not told before; how many
    /// they are. `about` has a digest for each delivery. Notice and digests are in one record: both are on disk when
    /// this returns, or neither is. Runs to its end even if the caller goes away.
    ///
    /// # Errors
    /// [`CommitError`]: nobody is told.
    pub(crate) async fn tell_sender(
        self: &Arc<Self>,
        entry: Entry,
        body: Body,
        about: Vec<u64>,
    ) -> Result<usize, CommitError> {
        let core = Arc::clone(self);
        let telling = tokio::spawn(async move { core.tell_once(entry, body, about).await });
        telling.await.unwrap_or_else(|error| {
            tracing::error!(%error, "telling a sender ended abnormally");
            Err(CommitError::Closed)
        })
    }

    async fn tell_once(
        &self,
        mut entry: Entry,
        body: Body,
        about: Vec<u64>,
    ) -> Result<usize, CommitError> {
        let at = self.clock.now();
        // Held until it is written: the same message in another session waits, and finds it told.
        let mut told = self.senders_told.lock().await;
        told.forget_old(at);
        let all = std::mem::take(&mut entry.deliveries).into_iter().zip(about);
        let (deliveries, about): (Vec<_>, Vec<_>) =
            all.filter(|(_, one)| !told.known.contains(one)).unzip();
        let recipients = deliveries.len();
        if recipients > 0 {
            entry.deliveries = deliveries;
            let event = Event::SenderTold(SenderTold { at, about: about.clone() });
            self.spool.tell(entry, body, event).await?;
            told.remember(at, &about);
        }
        Ok(recipients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000) + Duration::from_secs(seconds)
    }

    #[test]
    fn what_was_told_is_known_for_a_day_and_is_bounded() {
        let mut told = Remembered::default();
        told.remember(at(0), &[1, 2]);
        told.remember(at(100), &[2, 3]);
        told.forget_old(at(DAY.as_secs() - 1));
        assert_eq!(told.known.len(), 3);
        told.forget_old(at(DAY.as_secs()));
        assert_eq!(told.known, HashSet::from([3]));
        let many: Vec<u64> = (10..10 + 2 * MOST as u64).collect();
        told.remember(at(100), &many);
        told.forget_old(at(100));
        assert_eq!((told.known.len(), told.order.len()), (MOST, MOST));
        assert!(told.known.contains(many.last().unwrap()), "the latest stay");
    }

    #[test]
    fn what_the_journal_kept_is_known() {
        let told = SendersTold::default();
        told.recover(&[
            SenderTold { at: at(0), about: vec![1] },
            SenderTold { at: at(9), about: vec![2] },
        ]);
        assert_eq!(told.0.into_inner().known, HashSet::from([1, 2]));
    }

    #[test]
    fn a_digest_is_of_sender_message_recipient_and_key() {
        let sender = |text: &str| ReversePath::Mailbox(text.parse().unwrap());
        let to: Mailbox = "c@d.example".parse().unwrap();
        let other: Mailbox = "e@d.example".parse().unwrap();
        let one = |key: u8, from: &str, message: &[u8], to: &Mailbox| {
            digests(&[key; 16], &sender(from), message, std::iter::once(to))
        };
        let want = one(1, "a@b.example", b"x", &to);
        assert_eq!(one(1, "a@b.example", b"x", &to), want);
        for different in [
            one(2, "a@b.example", b"x", &to),
            one(1, "b@b.example", b"x", &to),
            one(1, "a@b.example", b"y", &to),
            one(1, "a@b.example", b"x", &other),
        ] {
            assert_ne!(different, want);
        }
    }
}
