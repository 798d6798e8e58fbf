//! The hop table: every Received line, newest first, what became of it, and where trust ends.

use std::io::{self, Write};

use waypost_inbound::Because;

use super::trail::{Line, Role, Trail};
use crate::dates;
use crate::table::{self, Row};

/// Lines that are shown; more are counted.
const SHOWN: usize = 100;

const BOUNDARY: &str = "trust ends here: anybody may have written what is below";

/// Writes the table.
pub(super) fn write(out: &mut impl Write, trail: &Trail) -> io::Result<()> {
    if trail.trace.is_empty() {
        return writeln!(out, "  no Received lines");
    }
    let source = trail.source_line().map(|line| line.line);
    let mut rows = Vec::new();
    for line in trail.trace.iter().take(SHOWN) {
        if trail.trusted_lines == Some(line.line - 1) {
            rows.push(Row::Rule(BOUNDARY));
        }
        rows.push(Row::Cells(row(line, source, trail.source.because)));
    }
    if trail.trusted_lines == Some(trail.trace.len()) {
        rows.push(Row::Rule(BOUNDARY));
    }
    writeln!(out)?;
    let heading = ["", "hop", "host", "address", "format", "delay", "verdict"];
    table::write_ruled(out, "  ", heading, &rows)?;
    let more = trail.trace.len().saturating_sub(SHOWN) + trail.more_lines;
    if more > 0 {
        writeln!(out, "  and {more} older lines")?;
    }
    if trail.source.because == Because::Internal {
        writeln!(out, "  every hop is inside: nothing below is from elsewhere")?;
    }
    writeln!(out)
}

fn row(line: &Line, source: Option<usize>, because: Because) -> [String; 7] {
    let is_source = source == Some(line.line);
    let chosen = matches!(because, Because::FirstExternal | Because::PreviousHop);
    let verdict = match line.role {
        Some(Role::NoHop) => "no hop: does not begin with `from`",
        Some(Role::Own) if is_source && !chosen => "the receiving server's own line; the source IP",
        Some(Role::Own) => "the receiving server's own line",
        Some(Role::Gateway) => "passed over: a listed gateway",
        Some(Role::Private) => "passed over: not public",
        Some(Role::Unreadable) => "passed over: not understood",
        Some(Role::Source) => "the source IP",
        Some(Role::NotLookedAt) | None => "not looked at",
    };
    let marked =
        line.role == Some(Role::Source) || (is_source && line.role == Some(Role::Own) && !chosen);
    [
        if marked { "=>" } else { "" }.to_owned(),
        line.line.to_string(),
        line.names(),
        line.ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string()),
        line.format.to_string(),
        line.delay.map_or_else(|| "-".to_owned(), dates::span),
        verdict.to_owned(),
    ]
}
