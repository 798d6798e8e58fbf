//! Aligned text for people.

use std::io::{self, Write};

/// A row of a table.
pub(crate) enum Row<const N: usize> {
    /// Its cells.
    Cells([String; N]),
    /// A line drawn across the table, with words on it.
    Rule(&'static str),
}

/// Writes rows under a heading, each column as wide as its widest cell, without blanks at line ends.
pub(crate) fn write<const N: usize>(
    out: &mut impl Write,
    indent: &str,
    heading: [&str; N],
    rows: &[[String; N]],
) -> io::Result<()> {
    let rows: Vec<Row<N>> = rows.iter().cloned().map(Row::Cells).collect();
    write_ruled(out, indent, heading, &rows)
}

/// The same, with lines drawn across.
pub(crate) fn write_ruled<const N: usize>(
    out: &mut impl Write,
    indent: &str,
    heading: [&str; N],
    rows: &[Row<N>],
) -> io::Result<()> {
    let heading = Row::Cells(heading.map(str::to_owned));
    let all = || std::iter::once(&heading).chain(rows);
    let cells = || all().filter_map(Row::cells);
    let widths: Vec<usize> =
        (0..N).map(|column| cells().map(|row| width(row, column)).max().unwrap_or(0)).collect();
    for row in all() {
        let mut line = indent.to_owned();
        match row {
            Row::Cells(row) => {
                for (cell, wide) in row.iter().zip(&widths) {
                    line.push_str(cell);
                    let left = wide.saturating_sub(cell.chars().count());
                    line.extend(std::iter::repeat_n(' ', left + 2));
                }
            }
            Row::Rule(words) => {
                let whole = widths.iter().map(|wide| wide + 2).sum::<usize>().saturating_sub(2);
                line.push_str(&format!("---- {words} "));
                let left = whole.saturating_sub(words.chars().count() + 6);
                line.extend(std::iter::repeat_n('-', left.max(4)));
            }
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

impl<const N: usize> Row<N> {
    fn cells(&self) -> Option<&[String; N]> {
        match self {
            Self::Cells(cells) => Some(cells),
            Self::Rule(_) => None,
        }
    }
}

fn width<const N: usize>(row: &[String; N], column: usize) -> usize {
    row.get(column).map_or(0, |cell| cell.chars().count())
}

/// Bytes of a message as text that cannot steer a terminal, nor mislead its reader: letters that would are
/// told by their number. At most `most` characters of it.
pub(crate) fn shown(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let end = text.char_indices().nth(most).map(|(end, _)| end);
    let kept = end.and_then(|end| text.get(..end)).unwrap_or(&text);
    let cut = if end.is_some() { "…" } else { "" };
    format!("{}{cut}", waypost_types::shown(kept))
}
