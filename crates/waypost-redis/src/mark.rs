//! What Redis knows of the commits of one node.

use std::collections::HashMap;

use waypost_types::Timestamp;

use crate::call::JOURNALING;
use crate::digest::Digest;

/// The commits of one node that Redis has of one organization: all of them up to a moment, and those
/// after it by name. In memory as many as [`JOURNALING`] saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Before this none is missing.
    from: Timestamp,
    named: HashMap<(Timestamp, Digest), u32>,
}

impl Mark {
    /// From when the last one was made, if there is one, and the names and moments of the youngest.
    pub(crate) fn new(last: Option<Timestamp>, names: &[(String, u64)]) -> Self {
        let Some(last) = last else { return Self::default() };
        let mut named: HashMap<_, u32> = HashMap::new();
        for (name, at) in names {
            let digest = name.split_once(' ').and_then(|(digest, _)| Digest::from_hex(digest));
            if let Some(digest) = digest {
                *named.entry((Timestamp::from_millis(*at), digest)).or_default() += 1;
            }
        }
        // The last one always has a name; without any, Redis has dropped them, and nothing is to count twice.
        let from = match named.is_empty() {
            true => Timestamp::from_millis(last.as_millis().saturating_add(1)),
            false => last.before(JOURNALING),
        };
        Self { from, named }
    }

    /// Whether Redis has a commit of the history; each is asked for once, in the order of time. The digest is made
    /// only where it matters: most of a day is older.
    pub(crate) fn has(&mut self, at: Timestamp, digest: impl FnOnce() -> Digest) -> bool {
        if at < self.from {
            return true;
        }
        match self.named.get_mut(&(at, digest())) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::DigestKey;

    #[test]
    fn a_commit_is_told_again_if_and_only_if_redis_does_not_have_it_d13_o5() {
        let digest = |name: &str| DigestKey::new([1; 16]).of(&name.parse().unwrap());
        let named = |name: &str, number: u64| format!("{} start-{number:x}", digest(name));
        let names = [
            (named("a@b.example", 1), 100_000),
            (named("a@b.example", 2), 100_000),
            (named("c@b.example", 3), 99_999),
            ("of something else".to_owned(), 99_999),
        ];
        let last = Some(Timestamp::from_millis(100_000));
        let check = |mut mark: Mark, table: &[(u64, &str, bool)]| {
            for (at, name, want) in table {
                let at = Timestamp::from_millis(*at);
                assert_eq!(mark.has(at, || digest(name)), *want, "{at:?} {name}");
            }
        };
        check(
            Mark::new(last, &names),
            &[
                (69_999, "x@b.example", true),
                (70_000, "x@b.example", false),
                (99_999, "a@b.example", false),
                (99_999, "c@b.example", true),
                (99_999, "c@b.example", false),
                (100_000, "a@b.example", true),
                (100_000, "c@b.example", false),
                (100_000, "a@b.example", true),
                (100_000, "a@b.example", false),
                (100_001, "a@b.example", false),
            ],
        );
        let up_to_last = [(100_000, "a@b.example", true), (100_001, "a@b.example", false)];
        check(Mark::new(last, &[]), &up_to_last);
        check(Mark::new(None, &[]), &[(0, "a@b.example", false)]);
    }
}
