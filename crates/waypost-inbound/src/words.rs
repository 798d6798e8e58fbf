//! The words of a comment.

use std::ops::Range;

use memchr::memchr;

use crate::class::Class;
use crate::clause::{Bracket, Word};

/// The words of a comment: blanks and commas part them, nested comments are left out, a quoted text
/// is one word.
#[derive(Clone, Debug)]
pub(crate) struct Words<'a> {
    value: &'a [u8],
    at: usize,
    end: usize,
    steps: usize,
    nested: bool,
}

impl<'a> Words<'a> {
    pub(crate) fn of(value: &'a [u8], inside: Range<usize>) -> Self {
        Self { value, at: inside.start, end: inside.end, steps: 0, nested: false }
    }

    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    /// Whether a nested comment has been passed.
    pub(crate) fn nested(&self) -> bool {
        self.nested
    }

    fn rest(&self) -> &'a [u8] {
        self.value.get(self.at..self.end).unwrap_or_default()
    }

    /// The next word.
    pub(crate) fn next_word(&mut self) -> Option<Word> {
        const BREAK: Class = Class::BLANK
            .and(Class::PARENTHESIS)
            .and(Class::OPEN)
            .and(Class::QUOTE)
            .and(Class::COMMA);
        self.skip();
        let start = self.at;
        let mut classes = Class::default();
        loop {
            let (length, met) = Class::run(self.rest(), BREAK);
            classes = classes | met;
            self.steps += length + 1;
            self.at += length;
            match self.rest() {
                [b'[', ..] => {
                    let bracket = Bracket::of(self.rest());
                    classes = classes | bracket.classes;
                    self.steps += bracket.looked;
                    self.at += bracket.length.unwrap_or(1);
                }
                [b'"', text @ ..] => {
                    // An open quote holds all that is left: it may be a forger's.
                    let length = memchr(b'"', text).map_or(text.len() + 1, |close| close + 2);
                    let quoted = text.get(..length - 1).unwrap_or_default();
                    classes = classes | Class::run(quoted, Class::default()).1;
                    self.steps += 2 * length;
                    self.at += length;
                }
                _ => break,
            }
        }
        (start < self.at).then_some(Word { place: start..self.at, classes })
    }

    /// Passes over what parts words.
    fn skip(&mut self) {
        let mut depth = 0_usize;
        for b in self.rest() {
            match b {
                b'(' => {
                    self.nested = true;
                    depth += 1;
                }
                b')' => depth = depth.saturating_sub(1),
                b',' | b' ' | b'\t' | b'\r' | b'\n' => {}
                _ if depth > 0 => {}
                _ => break,
            }
            self.at += 1;
            self.steps += 1;
        }
    }
}
