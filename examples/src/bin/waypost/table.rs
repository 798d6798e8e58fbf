//! Aligned text for people.

use std::io::{self, Write};

/// Writes rows under a heading, each column as wide as its widest cell, without blanks at line ends.
pub(crate) fn write<const N: usize>(
    out: &mut impl Write,
    indent: &str,
    heading: [&str; N],
    rows: &[[String; N]],
) -> io::Result<()> {
    let heading = heading.map(str::to_owned);
    let all = || std::iter::once(&heading).chain(rows);
    let widths: Vec<usize> =
        (0..N).map(|column| all().map(|row| width(row, column)).max().unwrap_or(0)).collect();
    for row in all() {
        let mut line = indent.to_owned();
        for (cell, wide) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', wide.saturating_sub(cell.chars().count()) + 2));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn width<const N: usize>(row: &[String; N], column: usize) -> usize {
    row.get(column).map_or(0, |cell| cell.chars().count())
}

/// Bytes of a message as text that cannot steer a terminal, at most `most` characters of it.
pub(crate) fn shown(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown: String =
        text.chars().take(most).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(most).is_some() {
        shown.push('…');
    }
    shown
}
