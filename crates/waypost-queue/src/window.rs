//! How many works may run for a site at a time.

/// Works that a site whose manners are unknown may have running.
pub(crate) const FIRST_WINDOW: usize = 5;

/// How a work ended, as far as its site is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The site answered.
    Answered,
    /// It answered, but a connection was refused, lost or timed out: it has enough.
    Strained,
    /// Every failure was the host's.
    Down,
    /// Nothing was learned.
    Unknown,
}

/// A window that opens with success and shuts with failure: from 5 it grows by one with each success
/// up to the limit; a strain halves it, and from there on it grows by one in as many successes as it
/// is wide. A site found down has a window of one until it answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    size: usize,
    /// Below it the window grows fast.
    threshold: usize,
    /// Successes since it last grew slowly.
    credit: usize,
    down: bool,
}

impl Window {
    pub(crate) fn new(limit: usize) -> Self {
        Self { size: FIRST_WINDOW.min(limit), threshold: limit, credit: 0, down: false }
    }

    /// How many may run.
    pub(crate) fn size(&self) -> usize {
        if self.down { 1 } else { self.size }
    }

    pub(crate) fn is_down(&self) -> bool {
        self.down
    }

    pub(crate) fn ended(&mut self, verdict: Verdict, limit: usize) {
        match verdict {
            Verdict::Answered => {
                self.down = false;
                self.credit += 1;
                if self.size < self.threshold || self.credit >= self.size {
                    self.size = (self.size + 1).min(limit);
                    self.credit = 0;
                }
            }
            Verdict::Strained => {
                self.down = false;
                self.halve();
            }
            Verdict::Down => {
                self.down = true;
                self.halve();
            }
            Verdict::Unknown => {}
        }
    }

    /// All its hosts rest: one work is to find out whether they are well again.
    pub(crate) fn shut(&mut self) {
        self.down = true;
    }

    fn halve(&mut self) {
        self.size = (self.size / 2).max(1);
        self.threshold = self.size;
        self.credit = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_with_success_and_shuts_with_failure() {
        use Verdict::{Answered as A, Down as D, Strained as S, Unknown as U};
        // What ended, and the window after each.
        for (limit, ended, want) in [
            (20, vec![A; 16], (6..=20).chain([20]).collect()),
            (20, vec![A, A, A, S, A, A, A, S], vec![6, 7, 8, 4, 4, 4, 4, 2]),
            (20, vec![S, A, A, A, A, A], vec![2, 2, 3, 3, 3, 4]),
            (20, vec![D, D, D, U, A, A, A], vec![1, 1, 1, 1, 2, 2, 3]),
            (3, vec![A, D, A, A, A, A, A], vec![3, 1, 2, 2, 3, 3, 3]),
            (1, vec![A, S, D, A], vec![1, 1, 1, 1]),
        ] {
            let mut window = Window::new(limit);
            let sizes: Vec<usize> = ended
                .iter()
                .map(|verdict| {
                    window.ended(*verdict, limit);
                    window.size()
                })
                .collect();
            assert_eq!(sizes, want, "{limit} {ended:?}");
        }
    }
}
