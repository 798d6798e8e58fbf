//! New queue ids.

use std::sync::atomic::{AtomicU64, Ordering};

use waypost_types::{QueueId, Timestamp};

/// Makes queue ids: milliseconds in the upper 44 bits, a counter below, never the same twice in a
/// process and always rising. Across restarts they rise as the wall clock does; a clock that was set
/// back is made up for by [`QueueIds::after`].
#[derive(Debug, Default)]
pub(crate) struct QueueIds {
    last: AtomicU64,
}

impl QueueIds {
    /// Ids above all that the spool holds.
    #[must_use]
    pub(crate) fn after(highest: Option<QueueId>) -> Self {
        Self { last: AtomicU64::new(highest.map_or(0, QueueId::number)) }
    }

    /// The next id.
    pub(crate) fn next(&self, now: Timestamp) -> QueueId {
        let floor = now.as_millis() << 20;
        let step = |last: u64| Some(floor.max(last.saturating_add(1)));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
        let last = last.unwrap_or_else(|last| last);
        QueueId::new(floor.max(last.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_even_when_the_clock_does_not() {
        let ids = QueueIds::after(Some(QueueId::new(5 << 20)));
        let times = [10, 10, 10, 3, 11, 0];
        let made: Vec<_> = times.iter().map(|at| ids.next(Timestamp::from_millis(*at))).collect();
        assert!(made.is_sorted_by(|a, b| a < b), "{made:?}");
        assert!(made.first().is_some_and(|first| first.number() == 10 << 20));
    }
}
