//! A progress bar on stderr, for people who wait.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Who waits less sees no bar.
const A_MOMENT: Duration = Duration::from_millis(700);

/// Octets between two looks at the clock.
const STEP: u64 = 1 << 18;

/// How far a command is. A bar is drawn when stderr is a terminal, stdout is not being read there, and
/// the command takes more than a moment.
pub(crate) struct Progress {
    since: Instant,
    total: u64,
    done: u64,
    told: u64,
    bar: Bar,
}

enum Bar {
    Never,
    NotYet,
    Drawn(ProgressBar),
}

impl Progress {
    /// `quiet`: little is written to stdout until the end, so a bar disturbs nobody.
    pub(crate) fn new(quiet: bool) -> Self {
        let seen = io::stderr().is_terminal() && (quiet || !io::stdout().is_terminal());
        let bar = if seen { Bar::NotYet } else { Bar::Never };
        Self { since: Instant::now(), total: 0, done: 0, told: 0, bar }
    }

    /// So many octets are to be read.
    pub(crate) fn expect(&mut self, octets: u64) {
        self.total = octets;
    }

    /// Octets read so far.
    pub(crate) fn octets(&self) -> u64 {
        self.done
    }

    /// More octets were read.
    pub(crate) fn advance(&mut self, octets: usize) {
        self.reach(self.done.saturating_add(u64::try_from(octets).unwrap_or(u64::MAX)));
    }

    /// All up to here was read or is not needed.
    pub(crate) fn reach(&mut self, octets: u64) {
        self.done = octets;
        if matches!(self.bar, Bar::Never) || octets.abs_diff(self.told) < STEP {
            return;
        }
        self.told = octets;
        if matches!(self.bar, Bar::NotYet) && self.since.elapsed() > A_MOMENT {
            self.bar = Bar::Drawn(bar(self.total));
        }
        if let Bar::Drawn(bar) = &self.bar {
            bar.set_position(octets);
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&mut self) {
        if let Bar::Drawn(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(total: u64) -> ProgressBar {
    if total == 0 {
        return ProgressBar::new_spinner();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left");
    let bar = ProgressBar::new(total);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
