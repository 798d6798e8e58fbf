//! What is wrong or doubtful in a configuration, where, by which rule, and what to do about it.

mod catalogue;
mod place;
mod render;

pub use catalogue::{CATALOGUE, Known, reference};
pub use place::{Place, SourceFile, Spanned};

/// How much a diagnostic weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, and is probably not what was meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One thing found in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the configuration can be used in spite of it.
    pub severity: Severity,
    /// The kind of finding, in kebab-case, one of [`CATALOGUE`]; it stays the same over versions.
    pub id: &'static str,
    /// The text that it is about.
    pub place: Place,
    /// What is wrong: names the input.
    pub message: String,
    /// The requirement that it breaks, such as `A3`; `format` for the file format itself.
    pub rule: &'static str,
    /// What to do about it.
    pub cure: String,
    /// The text at the place may hold a secret: it is underlined in no output.
    pub secret: bool,
}

impl Diagnostic {
    /// An error.
    #[must_use]
    pub fn error(
        id: &'static str,
        place: Place,
        rule: &'static str,
        message: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        let (message, cure) = (message.into(), cure.into());
        Self { severity: Severity::Error, id, place, message, rule, cure, secret: false }
    }

    /// A warning.
    #[must_use]
    pub fn warning(
        id: &'static str,
        place: Place,
        rule: &'static str,
        message: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(id, place, rule, message, cure) }
    }
}

/// The files of a configuration and everything found in them, in the order of files and places.
///
/// Diagnostics can be added at any time: [`Report::render`] and [`Report::json`] sort. Holds a copy of
/// the files' text, in order to show the lines.
#[derive(Clone, Debug, Default)]
pub struct Report {
    sources: Vec<SourceFile>,
    /// For each source, where its lines begin.
    line_starts: Vec<Vec<usize>>,
    found: Vec<Diagnostic>,
}

impl Report {
    /// An empty report on these files; [`Place::file`] is the index.
    #[must_use]
    pub fn new(sources: Vec<SourceFile>) -> Self {
        let line_starts = sources.iter().map(SourceFile::line_starts).collect();
        Self { sources, line_starts, found: Vec::new() }
    }

    /// Adds a file that the configuration names, and gives its index for [`Place::file`].
    pub fn add_source(&mut self, source: SourceFile) -> u32 {
        self.line_starts.push(source.line_starts());
        self.sources.push(source);
        u32::try_from(self.sources.len() - 1).unwrap_or(u32::MAX)
    }

    /// Adds a finding.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.found.push(diagnostic);
    }

    /// The files.
    #[must_use]
    pub fn sources(&self) -> &[SourceFile] {
        &self.sources
    }

    /// `file:line` of a place, to name it in a message about another one.
    #[must_use]
    pub fn locate(&self, place: Place) -> String {
        match self.position(place) {
            Some((source, line, _)) => format!("{}:{line}", source.name),
            None => "another place".into(),
        }
    }

    /// The file of a place, and line and column where it begins, both from 1 (columns are characters).
    #[must_use]
    pub fn position(&self, place: Place) -> Option<(&SourceFile, usize, usize)> {
        let file = usize::try_from(place.file).ok()?;
        let (source, line_starts) = (self.sources.get(file)?, self.line_starts.get(file)?);
        let start = usize::try_from(place.start).unwrap_or(usize::MAX);
        let (line, column) = source.line_and_column(line_starts, start);
        Some((source, line, column))
    }

    /// The findings, in the order of files and places.
    #[must_use]
    pub fn diagnostics(&self) -> Vec<&Diagnostic> {
        let mut sorted: Vec<_> = self.found.iter().collect();
        sorted.sort_by_key(|found| (found.place, found.severity, found.id));
        sorted
    }

    /// How many findings there are.
    pub(crate) fn count(&self) -> usize {
        self.found.len()
    }

    /// Whether there is an error: the configuration cannot be used.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.found.iter().any(|found| found.severity == Severity::Error)
    }
}
