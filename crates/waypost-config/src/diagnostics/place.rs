//! Where something stands in the files of a configuration.

use std::ops::Range;

/// One file of a configuration: its name as messages show it, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// The name, such as `waypost.toml`.
    pub name: String,
    /// The text.
    pub text: String,
}

impl SourceFile {
    /// A file's name and text.
    #[must_use]
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// The first octet of each line.
    pub(super) fn line_starts(&self) -> Vec<usize> {
        let breaks = self.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect()
    }

    /// Line and column of an octet offset, both from 1; columns are characters. An offset past the
    /// end is taken for the end.
    pub(super) fn line_and_column(&self, line_starts: &[usize], offset: usize) -> (usize, usize) {
        let offset = floor_char(&self.text, offset);
        let line = line_starts.partition_point(|start| *start <= offset);
        let start = line_starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or("");
        (line.max(1), before.chars().count() + 1)
    }

    /// The line that holds an offset (without its end) and where that line begins.
    pub(super) fn line_of(&self, offset: usize) -> (usize, &str) {
        let before = self.before(offset);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = self.text.get(start..).unwrap_or("");
        let line = rest.split('\n').next().unwrap_or("");
        (start, line.strip_suffix('\r').unwrap_or(line))
    }

    fn before(&self, offset: usize) -> &str {
        self.text.get(..floor_char(&self.text, offset)).unwrap_or("")
    }
}

/// The last character boundary at or before an offset.
pub(super) fn floor_char(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A stretch of text in one of the files: octet offsets, the end is past the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The file, as an index into [`Report::sources`](super::Report::sources).
    pub file: u32,
    /// The first octet.
    pub start: u32,
    /// The octet after the last.
    pub end: u32,
}

impl Place {
    /// A stretch of a file. Offsets above 4 GiB are taken for 4 GiB.
    #[must_use]
    pub fn new(file: u32, span: Range<usize>) -> Self {
        let short = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { file, start: short(span.start), end: short(span.end) }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands; for a default, the table that lacks the key.
    pub place: Place,
}

impl<T> Spanned<T> {
    /// A value at a place.
    pub fn new(value: T, place: Place) -> Self {
        Self { value, place }
    }
}

impl<T> std::ops::Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
