//! Aligned, wrapped and coloured lines for people.

use anstyle::{AnsiColor, Style};
use waypost_types::shown;

/// How an explanation is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Columns to wrap at; `None`: lines are as long as they are.
    pub width: Option<usize>,
    /// With colours for a terminal.
    pub colored: bool,
    /// Which of the rules that did not match are told.
    pub rules: RulesShown,
}

/// Which of the rules that did not match are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RulesShown {
    /// Of each recipient, the few that came nearest to matching.
    #[default]
    Nearest,
    /// All of them.
    All,
}

/// What a piece of text is, and with it its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Label,
    Heading,
    Good,
    Bad,
    Kept,
    Faint,
}

impl Tone {
    fn style(self) -> Style {
        let color = |color: AnsiColor| color.on_default();
        match self {
            Self::Plain => Style::new(),
            Self::Label | Self::Faint => Style::new().dimmed(),
            Self::Heading => Style::new().bold(),
            Self::Good => color(AnsiColor::Green),
            Self::Bad => color(AnsiColor::Red),
            Self::Kept => color(AnsiColor::Yellow),
        }
    }
}

/// Columns below which nothing is wrapped narrower.
const NARROWEST: usize = 40;

/// A text that grows line by line.
pub(super) struct Page {
    layout: Layout,
    out: String,
}

impl Page {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, out: String::new() }
    }

    pub(super) fn into_text(self) -> String {
        self.out
    }

    pub(super) fn shows_all_rules(&self) -> bool {
        self.layout.rules == RulesShown::All
    }

    pub(super) fn blank(&mut self) {
        self.out.push('\n');
    }

    /// A label, and its value in a column of its own; further lines of the value stand below it.
    pub(super) fn field(
        &mut self,
        indent: usize,
        wide: usize,
        label: &str,
        tone: Tone,
        value: &str,
    ) {
        let label = shown(label);
        let padded = format!("{label:wide$}");
        self.out.extend(std::iter::repeat_n(' ', indent));
        self.styled(Tone::Label, &padded);
        self.value(indent + padded.chars().count(), tone, &[(tone, value)]);
    }

    /// A line of several pieces, from column `indent` on; further lines are indented by two more.
    pub(super) fn sentence(&mut self, indent: usize, pieces: &[(Tone, &str)]) {
        self.out.extend(std::iter::repeat_n(' ', indent));
        let at = indent;
        self.wrapped(at, indent + 2, pieces);
        self.out.push('\n');
    }

    fn value(&mut self, column: usize, _: Tone, pieces: &[(Tone, &str)]) {
        self.wrapped(column, column, pieces);
        self.out.push('\n');
    }

    /// Writes words from column `at` on; lines that follow begin at `hanging`.
    fn wrapped(&mut self, mut at: usize, hanging: usize, pieces: &[(Tone, &str)]) {
        let width =
            self.layout.width.map(|width| width.max(hanging + NARROWEST / 2).max(NARROWEST));
        let mut begins = true;
        for (tone, text) in pieces {
            let text = shown(text);
            let mut run = String::new();
            // Blanks inside a value are its own, but for those where a line is broken.
            for (place, word) in text.split(' ').enumerate() {
                let long = word.chars().count();
                let blank = usize::from(place > 0);
                let breaks = width.is_some_and(|width| at + blank + long > width)
                    && !begins
                    && (place > 0 || run.is_empty() && self.out.ends_with(' '));
                if breaks {
                    self.styled(*tone, &run);
                    run.clear();
                    self.out.truncate(self.out.trim_end_matches(' ').len());
                    self.out.push('\n');
                    self.out.extend(std::iter::repeat_n(' ', hanging));
                    at = hanging;
                } else if place > 0 {
                    run.push(' ');
                    at += 1;
                }
                run.push_str(word);
                at += long;
                begins = false;
            }
            self.styled(*tone, &run);
        }
    }

    fn styled(&mut self, tone: Tone, text: &str) {
        let style = tone.style();
        if !self.layout.colored || text.is_empty() || style == Style::new() {
            return self.out.push_str(text);
        }
        self.out.push_str(&format!("{style}{text}{style:#}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(width: Option<usize>, colored: bool) -> Page {
        Page::new(Layout { width, colored, rules: RulesShown::Nearest })
    }

    #[test]
    fn values_are_wrapped_below_themselves_c9() {
        let mut wrapped = page(Some(40), false);
        wrapped.field(2, 12, "because", Tone::Plain, "one two three four five six seven eight");
        let want = "  because     one two three four five\n              six seven eight\n";
        assert_eq!(wrapped.into_text(), want);
        let mut long = page(None, false);
        long.field(2, 12, "because", Tone::Plain, &"word ".repeat(40));
        assert_eq!(long.into_text().lines().count(), 1);
        let mut word = page(Some(40), false);
        word.field(0, 14, "tag", Tone::Plain, &"x".repeat(100));
        assert_eq!(word.into_text().lines().count(), 1, "a word is never cut");
    }

    #[test]
    fn nothing_of_a_message_steers_a_terminal_c9() {
        let mut plain = page(None, false);
        plain.sentence(0, &[(Tone::Bad, "a\u{1b}[2Jb\r\nc"), (Tone::Plain, " d")]);
        assert_eq!(plain.into_text(), "a\\u{1b}[2Jb\\u{d}\\u{a}c d\n");
        let mut turned = page(None, false);
        turned.field(0, 4, "a\u{2066}", Tone::Plain, "gpj.\u{202e}exe\u{feff}\u{2028}");
        assert_eq!(turned.into_text(), "a\\u{2066}gpj.\\u{202e}exe\\u{feff}\\u{2028}\n");
        let mut colored = page(None, true);
        colored.sentence(0, &[(Tone::Bad, "no"), (Tone::Plain, " yes")]);
        assert_eq!(colored.into_text(), "\u{1b}[31mno\u{1b}[0m yes\n");
    }
}
