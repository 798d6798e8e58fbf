//! Diagnostics as text for people and as JSON for programs.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Level, Origin, Renderer, Snippet};

use super::place::floor_char;
use super::{Diagnostic, Report, Severity, SourceFile};

impl Report {
    /// The findings as text: for each its kind, message, `file:line:column`, the line with the text
    /// underlined, the rule and the cure. `colour` adds ANSI sequences.
    ///
    /// Of a stretch over several lines only the first is shown. Control characters never reach the
    /// output as they are.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut text = String::new();
        for found in self.diagnostics() {
            text.push_str(&self.render_one(found, &renderer));
            text.push_str("\n\n");
        }
        text
    }

    fn render_one(&self, found: &Diagnostic, renderer: &Renderer) -> String {
        let level = match found.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let (rule, cure) = (format!("rule {}", found.rule), visible(&found.cure));
        let mut group = level.primary_title(visible(&found.message)).id(found.id).elements(
            self.position(found.place)
                .filter(|_| !found.secret)
                .map(|(source, line, _)| excerpt(found, source, line)),
        );
        if let Some((source, line, column)) = self.position(found.place).filter(|_| found.secret) {
            let origin = Origin::path(visible(&source.name)).line(line).char_column(column);
            group = group.element(origin);
        }
        renderer
            .render(&[group.element(Level::NOTE.message(rule)).element(Level::HELP.message(cure))])
    }

    /// The findings as a JSON array of objects with `severity`, `id`, `file`, `line`, `column`,
    /// `start`, `end` (octets), `message`, `rule` and `cure`.
    #[must_use]
    pub fn json(&self) -> String {
        let list: Vec<_> = self.diagnostics().iter().map(|found| self.json_one(found)).collect();
        serde_json::Value::Array(list).to_string()
    }

    fn json_one(&self, found: &Diagnostic) -> serde_json::Value {
        let position = self.position(found.place);
        let (line, column) = position.map_or((0, 0), |(_, line, column)| (line, column));
        serde_json::json!({
            "severity": found.severity.as_str(),
            "id": found.id,
            "file": position.map(|(source, _, _)| source.name.as_str()),
            "line": line,
            "column": column,
            "start": found.place.start,
            "end": found.place.end,
            "message": found.message,
            "rule": found.rule,
            "cure": found.cure,
        })
    }
}

/// The line with the text of a finding underlined; one line, so that the cost is bounded by it.
fn excerpt(
    found: &Diagnostic,
    source: &SourceFile,
    number: usize,
) -> Snippet<'static, Annotation<'static>> {
    let (start, end) = (offset(found.place.start), offset(found.place.end));
    let (begin, line) = source.line_of(start);
    let from = floor_char(line, start.saturating_sub(begin));
    let to = floor_char(line, end.saturating_sub(begin)).max(from);
    let part = |range: std::ops::Range<usize>| visible(line.get(range).unwrap_or(""));
    let (before, marked) = (part(0..from), part(from..to));
    let span = before.len()..before.len() + marked.len();
    Snippet::source(format!("{before}{marked}{}", part(to..line.len())))
        .line_start(number)
        .path(visible(&source.name))
        .annotation(AnnotationKind::Primary.span(span))
}

fn offset(short: u32) -> usize {
    usize::try_from(short).unwrap_or(usize::MAX)
}

/// Text without letters that mislead but the tab, so that a file cannot steer a terminal; each keeps its
/// place, which marks are put under.
fn visible(text: &str) -> String {
    text.chars().map(|c| if waypost_types::misleads(c) && c != '\t' { '?' } else { c }).collect()
}
