//! How an explanation is shown: its colours, its width, how much of it.

use std::io;

use anstream::{AutoStream, ColorChoice};
use waypost_config::policy::{Layout, RulesShown};

/// How an explanation for people is shown.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Colours: auto is on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Colors::Auto)]
    color: Colors,
    /// Tell of every rule that did not match why, not of the nearest ones alone
    #[arg(long)]
    all_rules: bool,
}

/// Whether stdout shows colours.
pub(crate) fn is_colored() -> bool {
    AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

/// When there are colours.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Colors {
    Auto,
    Always,
    Never,
}

impl Look {
    /// For stdout: wrapped at the terminal's width, and not at all elsewhere.
    pub(crate) fn layout(self) -> Layout {
        let colored = match self.color {
            Colors::Auto => is_colored(),
            Colors::Always => true,
            Colors::Never => false,
        };
        let size = terminal_size::terminal_size_of(io::stdout());
        Layout {
            width: size.map(|(width, _)| usize::from(width.0)),
            colored,
            rules: if self.all_rules { RulesShown::All } else { RulesShown::Nearest },
        }
    }
}
