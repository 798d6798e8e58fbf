//! Spans of time as the configuration writes them.

use std::time::Duration;

/// Reads one whole number and a unit: `ms`, `s`, `m`, `h` or `d`, as in `30s` or `5d`.
///
/// A blank between them is allowed. At most 3,650 days. `None` for anything else, and for a bare
/// number, whose unit nobody can know.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let milliseconds = match unit.strip_prefix(' ').unwrap_or(unit) {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let total = number.checked_mul(milliseconds)?;
    (total <= 3_650 * 86_400_000).then(|| Duration::from_millis(total))
}

/// The shortest form that [`parse`] reads back, in whole milliseconds.
pub(crate) fn show(duration: Duration) -> String {
    let total = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let exact = units.iter().find(|(unit, _)| total >= *unit && total.is_multiple_of(*unit));
    match exact {
        Some((unit, name)) => format!("{}{name}", total / unit),
        None => format!("{total}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_one_number_and_a_unit() {
        for (text, want) in [
            ("2s", Some(2_000)),
            ("250ms", Some(250)),
            ("5m", Some(300_000)),
            ("4 h", Some(14_400_000)),
            ("5d", Some(432_000_000)),
            ("0s", Some(0)),
            ("5", None),
            ("", None),
            ("s", None),
            ("-5s", None),
            ("5 minutes", None),
            ("1h30m", None),
            ("1.5h", None),
            ("5  s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
            ("3651d", None),
        ] {
            assert_eq!(parse(text), want.map(Duration::from_millis), "{text:?}");
        }
        for text in ["5d", "36h", "90s", "250ms", "5m", "0ms"] {
            assert_eq!(show(parse(text).unwrap()), text);
        }
    }
}
