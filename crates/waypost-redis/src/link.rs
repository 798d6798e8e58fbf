//! Whether Redis can be asked now, and when to look again.

use std::time::Duration;

use waypost_types::Timestamp;

/// The state of the connection, as a value: time and draws come in, and nothing is done.
///
/// One failure is enough to be down, so that no other session waits for what is not there; the first
/// look comes after a tenth of a second, the next ones after twice as long each, up to five seconds,
/// each drawn from half to one and a half of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    state: State,
    /// Counts connections: a failure of an earlier one says nothing of this one.
    generation: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Up,
    Down { failures: u32, next_try: Timestamp },
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Link {
    /// Down, to be tried at once.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { state: State::Down { failures: 0, next_try: now }, generation: 0 }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// When to try to connect; `None` while up.
    pub(crate) fn next_try(&self) -> Option<Timestamp> {
        match self.state {
            State::Up => None,
            State::Down { next_try, .. } => Some(next_try),
        }
    }

    /// Redis is there; returns the number of this connection.
    pub(crate) fn connected(&mut self) -> u64 {
        self.state = State::Up;
        self.generation += 1;
        self.generation
    }

    /// A request over a connection, or a try to connect, failed. True when that is news: up until now.
    pub(crate) fn failed(&mut self, generation: u64, now: Timestamp, draw: u32) -> bool {
        if generation != self.generation {
            return false;
        }
        let (was_up, failures) = match self.state {
            State::Up => (true, 0),
            State::Down { failures, .. } => (false, failures.saturating_add(1)),
        };
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE);
        let drawn = pause.mul_f64(0.5 + f64::from(draw) / f64::from(u32::MAX));
        self.state = State::Down { failures, next_try: now + drawn };
        // What is still under way over this connection is not news any more.
        self.generation += u64::from(was_up);
        was_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn pauses_double_to_five_seconds_and_are_drawn_o5() {
        let half = u32::MAX / 2;
        let mut link = Link::new(at(7));
        assert_eq!(link.next_try(), Some(at(7)), "at once at first");
        let generation = link.connected();
        assert_eq!(link.next_try(), None);
        assert!(link.failed(generation, at(1000), half));
        for (draw, want) in [
            (half, 200),
            (half, 400),
            (0, 400),
            (u32::MAX, 2400),
            (half, 3200),
            (half, 5000),
            (half, 5000),
            (0, 2500),
            (u32::MAX, 7500),
        ] {
            assert!(!link.failed(link.generation(), at(1000), draw), "no news");
            let pause = link.next_try().unwrap().since(at(1000)).as_millis();
            assert!(pause.abs_diff(want) <= 1, "{pause} {want}");
        }
        link.connected();
        assert!(link.failed(link.generation(), at(5000), half));
        assert!(link.next_try().unwrap().since(at(5000)).as_millis().abs_diff(100) <= 1, "anew");
    }

    #[test]
    fn a_late_failure_of_an_old_connection_says_nothing_o5() {
        let mut link = Link::new(at(0));
        let old = link.connected();
        assert!(link.failed(old, at(1), 0));
        let down = link.clone();
        assert!(!link.failed(old, at(2), 0), "told once");
        assert_eq!(link, down);
        let new = link.connected();
        assert!(!link.failed(old, at(3), 0));
        assert_eq!(link.next_try(), None);
        assert!(link.failed(new, at(4), 0));
    }
}
