//! The filter in force, and how much spam users relay (D17).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use waypost_config::settings::FilterSettings;
use waypost_net::milter::{MilterAddress, MilterClient, MilterLimits};
use waypost_queue::{AdministratorsTold, SpamRelayed};
use waypost_types::{Mailbox, Timestamp};

use crate::administrators::TidingsKind;

/// The filter in force; a reload may change it. Spam that users relay is counted here.
#[derive(Default)]
pub(crate) struct Filter {
    current: ArcSwapOption<(FilterSettings, MilterClient)>,
    spam: Mutex<SpamTally>,
}

impl Filter {
    /// Puts the filter of a configuration in force. The same one keeps its connections.
    pub(crate) fn configure(&self, settings: Option<&FilterSettings>) {
        let Some(settings) = settings else { return self.current.store(None) };
        let current = self.current.load();
        let is_same = current.as_ref().is_some_and(|current| {
            let was = &current.0;
            (&was.address, was.timeout, was.connections)
                == (&settings.address, settings.timeout, settings.connections)
        });
        if is_same {
            return;
        }
        let limits = MilterLimits {
            dialogue: settings.timeout,
            at_once: settings.connections,
            ..MilterLimits::default()
        };
        match settings.address.parse::<MilterAddress>() {
            Ok(address) => {
                let client = MilterClient::new(address, limits);
                self.current.store(Some(Arc::new((settings.clone(), client))));
            }
            // The configuration's own check has said so; without a client, `on_failure` holds.
            Err(error) => {
                tracing::error!(%error, "the filter cannot be asked");
                self.current.store(None);
            }
        }
    }

    /// Who is asked about a message that begins now.
    pub(crate) fn client(&self) -> Option<MilterClient> {
        self.current.load().as_ref().map(|current| current.1.clone())
    }

    /// What the journal kept of the last day: the spam, oldest first, and what was told of it.
    pub(crate) fn recover(&self, relayed: &[SpamRelayed], told: &[AdministratorsTold]) {
        let mut spam = self.spam.lock().unwrap_or_else(PoisonError::into_inner);
        for SpamRelayed { at, organization, user } in relayed {
            let _ = spam.add(*at, organization, user, 0);
        }
        let abuse = TidingsKind::Abuse.name();
        for one in told.iter().filter(|one| *one.kind == *abuse) {
            if let Some(user) = &one.user {
                spam.told(one.at, &one.organization, user);
            }
        }
    }

    /// Counts a spam message of a user; how many they are in 24 hours, if the administrators are to be
    /// told now.
    pub(crate) fn count_spam(
        &self,
        now: Timestamp,
        organization: &str,
        user: &Mailbox,
        threshold: u64,
    ) -> Option<u64> {
        let mut spam = self.spam.lock().unwrap_or_else(PoisonError::into_inner);
        spam.add(now, organization, user, threshold)
    }
}

/// 24 hours, in milliseconds.
const WINDOW: u64 = 86_400_000;
/// Five minutes, in milliseconds: 1/288 of the window.
const BUCKET: u64 = 300_000;
/// Users whose spam is counted at a time.
const MOST_USERS: usize = 100_000;

/// How many spam messages users sent in the last 24 hours, in buckets of five minutes that count until
/// all of them is older: never too few, and too many by those of one bucket at most. A user takes 289
/// buckets of 8 octets at most, and goes when the last one does; beyond [`MOST_USERS`], who comes new is not
/// counted. The journal keeps what is counted, so a restart begins where it ended ([`Filter::recover`]).
#[derive(Debug, Default)]
pub(crate) struct SpamTally {
    users: HashMap<Box<str>, HashMap<Mailbox, Counted>>,
    count: usize,
    /// The bucket in which users were last pruned.
    pruned: u64,
}

#[derive(Debug, Default)]
struct Counted {
    /// Oldest first.
    buckets: VecDeque<(u32, u32)>,
    told: Option<Timestamp>,
}

impl SpamTally {
    /// Counts one; how many they are, if that is at least `threshold` and was not told in the last 24
    /// hours. A threshold of 0 tells never.
    fn add(
        &mut self,
        now: Timestamp,
        organization: &str,
        user: &Mailbox,
        threshold: u64,
    ) -> Option<u64> {
        let bucket = now.as_millis() / BUCKET;
        if self.pruned != bucket {
            self.prune(now);
            self.pruned = bucket;
        }
        if !self.users.contains_key(organization) {
            self.users.insert(organization.into(), HashMap::new());
        }
        let users = self.users.get_mut(organization)?;
        if !users.contains_key(user) {
            if self.count >= MOST_USERS {
                return None;
            }
            self.count += 1;
            users.insert(user.clone(), Counted::default());
        }
        let counted = users.get_mut(user)?;
        counted.advance(now);
        let bucket = u32::try_from(bucket).unwrap_or(u32::MAX);
        match counted.buckets.back_mut() {
            // A clock that steps back counts in the newest bucket.
            Some((last, count)) if *last >= bucket => *count = count.saturating_add(1),
            _ => counted.buckets.push_back((bucket, 1)),
        }
        let count = counted.sum();
        let is_told = counted
            .told
            .is_some_and(|told| now.as_millis() < told.as_millis().saturating_add(WINDOW));
        if threshold == 0 || count < threshold || is_told {
            return None;
        }
        counted.told = Some(now);
        Some(count)
    }

    /// The administrators were told of a user who is counted.
    fn told(&mut self, at: Timestamp, organization: &str, user: &Mailbox) {
        let counted = self.users.get_mut(organization).and_then(|users| users.get_mut(user));
        if let Some(counted) = counted {
            counted.told = counted.told.max(Some(at));
        }
    }

    fn prune(&mut self, now: Timestamp) {
        for users in self.users.values_mut() {
            users.retain(|_, counted| {
                counted.advance(now);
                !counted.buckets.is_empty()
            });
        }
        self.users.retain(|_, users| !users.is_empty());
        self.count = self.users.values().map(HashMap::len).sum();
    }
}

impl Counted {
    fn advance(&mut self, now: Timestamp) {
        let is_over = |bucket: u32| {
            (u64::from(bucket) + 1).saturating_mul(BUCKET).saturating_add(WINDOW) <= now.as_millis()
        };
        while self.buckets.front().is_some_and(|(bucket, _)| is_over(*bucket)) {
            self.buckets.pop_front();
        }
    }

    fn sum(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| u64::from(*count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_millis(1_600_000_000_000 / BUCKET * BUCKET + minutes * 60_000)
    }

    #[test]
    fn administrators_are_told_at_the_threshold_once_a_user_and_day_d17() {
        let (marie, jean) = ("marie@s.example".parse().unwrap(), "jean@s.example".parse().unwrap());
        let mut tally = SpamTally::default();
        for (minute, user, threshold, want) in [
            (0, &marie, 3, None),
            (1, &marie, 3, None),
            (2, &jean, 3, None),
            (3, &marie, 3, Some(3)),
            (4, &marie, 3, None),
            (5, &jean, 3, None),
            (6, &jean, 3, Some(3)),
            // The first ones leave after 24 hours and their bucket's five minutes.
            (1443, &marie, 3, Some(5)),
            (1450, &marie, 3, None),
            // A threshold of 0 tells never; a changed one counts at once.
            (1451, &marie, 0, None),
            (2891, &marie, 1, Some(3)),
        ] {
            assert_eq!(tally.add(at(minute), "S", user, threshold), want, "{minute}");
        }
        assert_eq!(tally.add(at(3000), "Other", &marie, 1), Some(1), "by organization");
        assert_eq!(tally.count, 2, "jean is forgotten");
    }

    #[test]
    fn a_restart_neither_forgets_spam_nor_tells_twice_d17() {
        let user: Mailbox = "marie@s.example".parse().unwrap();
        let relayed =
            |minute| SpamRelayed { at: at(minute), organization: "S".into(), user: user.clone() };
        let told = AdministratorsTold {
            at: at(2),
            organization: "S".into(),
            kind: "abuse".into(),
            user: Some(user.clone()),
            client: None,
        };
        let spam: Vec<SpamRelayed> = (0..3).map(relayed).collect();
        for (kept, told, threshold, want) in [
            (&spam[..2], &[][..], 3, Some(3)),
            (&spam[..2], &[], 4, None),
            (&spam[..], std::slice::from_ref(&told), 3, None),
        ] {
            let filter = Filter::default();
            filter.recover(kept, told);
            assert_eq!(filter.count_spam(at(10), "S", &user, threshold), want, "{threshold}");
        }
        let filter = Filter::default();
        filter.recover(&spam, &[told]);
        assert_eq!(filter.count_spam(at(1441), "S", &user, 3), None);
        assert_eq!(filter.count_spam(at(1443), "S", &user, 1), Some(5), "a day after it was told");
    }

    proptest! {
        #[test]
        fn the_count_lies_between_the_window_and_one_bucket_more_d17(
            steps in prop::collection::vec(0u64..4_000_000, 1..300)
        ) {
            let user = "marie@s.example".parse().unwrap();
            let mut tally = SpamTally::default();
            let mut log: Vec<u64> = Vec::new();
            let mut now = 1_600_000_000_000;
            for step in steps {
                now += step;
                log.push(now);
                let _ = tally.add(Timestamp::from_millis(now), "S", &user, 0);
                let counted = &tally.users["S"][&user];
                let within = |span: u64| {
                    u64::try_from(log.iter().filter(|then| now - **then < span).count()).unwrap()
                };
                let sum = counted.sum();
                prop_assert!(within(WINDOW) <= sum && sum <= within(WINDOW + BUCKET));
                prop_assert!(counted.buckets.len() <= 290);
            }
        }
    }
}
