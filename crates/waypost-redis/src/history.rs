//! What a node accepted itself, for a Redis that does not know of it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use waypost_relay::QuotaCommit;
use waypost_types::Timestamp;

/// The journal of a node: whatever it accepted in the last 24 hours. Redis is told from it what it
/// misses: after a crash or a long outage, and when it was emptied.
pub trait History: Send + Sync + 'static {
    /// Shows the commits made since a moment, oldest first, until `visit` returns false. May block: it
    /// is called on a thread of its own.
    ///
    /// # Errors
    /// Why it cannot be read now; it is asked again.
    fn since(
        &self,
        since: Timestamp,
        visit: &mut dyn FnMut(QuotaCommit) -> bool,
    ) -> Result<(), String>;
}

/// No history: what Redis loses is lost.
impl History for () {
    fn since(&self, _: Timestamp, _: &mut dyn FnMut(QuotaCommit) -> bool) -> Result<(), String> {
        Ok(())
    }
}

/// The youngest commits that were told from the history, so that the same ones are not told again
/// from the outbox. In memory as many as there are since the oldest that waited there.
#[derive(Debug, Default)]
pub(crate) struct Told {
    commits: HashMap<u64, u32>,
    until: Timestamp,
}

impl Told {
    /// Commits of the outbox made after `until` cannot be in the history that was told.
    pub(crate) fn until(until: Timestamp) -> Self {
        Self { commits: HashMap::new(), until }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    pub(crate) fn add(&mut self, commit: &QuotaCommit) {
        let count = self.commits.entry(digest(commit)).or_default();
        *count = count.saturating_add(1);
    }

    /// Whether a commit of the outbox was told; takes it out then.
    pub(crate) fn has(&mut self, commit: &QuotaCommit) -> bool {
        if commit.at > self.until || self.commits.is_empty() {
            return false;
        }
        match self.commits.get_mut(&digest(commit)) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        }
    }
}

/// Of one process, so any hash will do.
fn digest(commit: &QuotaCommit) -> u64 {
    let mut hasher = DefaultHasher::new();
    let QuotaCommit { at, organization, user, recipients, login, client } = commit;
    (at, organization, user, recipients, login, client).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_the_history_told_is_not_told_again_d13() {
        let commit = |at: u64, to: &str| QuotaCommit {
            at: Timestamp::from_millis(at),
            organization: "S".into(),
            user: None,
            recipients: vec![to.parse().unwrap()].into(),
            login: None,
            client: None,
        };
        let mut told = Told::until(Timestamp::from_millis(10));
        told.add(&commit(9, "a@b.example"));
        told.add(&commit(9, "a@b.example"));
        told.add(&commit(10, "a@b.example"));
        for (at, to, want) in [
            (9, "a@b.example", true),
            (9, "c@b.example", false),
            (9, "a@b.example", true),
            (9, "a@b.example", false),
            (10, "a@b.example", true),
            (11, "a@b.example", false),
        ] {
            assert_eq!(told.has(&commit(at, to)), want, "{at} {to}");
        }
    }
}
