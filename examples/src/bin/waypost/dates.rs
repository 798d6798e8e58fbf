//! The dates of `Received` lines, and the time between them.

use mail_parser::DateTime;

/// No date is longer.
const LONGEST: usize = 128;

/// Seconds since 1970 of a date as it stands in a header; `None` when it cannot be read.
pub(crate) fn seconds(date: &[u8]) -> Option<i64> {
    let text = date.get(..LONGEST).unwrap_or(date);
    // Folds are blanks, and the parser wants an end of the line.
    let line: String = String::from_utf8_lossy(text)
        .chars()
        .map(|c| if c.is_ascii_whitespace() { ' ' } else { c })
        .chain(['\n'])
        .collect();
    let date = DateTime::parse_rfc822(&line)?;
    date.is_valid().then(|| date.to_timestamp())
}

/// A time span in its two largest units: `3 min 5 s`, `-2 h`.
pub(crate) fn span(seconds: i64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut left = seconds.unsigned_abs();
    let mut parts = Vec::new();
    for (unit, name) in UNITS {
        let count = left / unit;
        left %= unit;
        if count > 0 || (!parts.is_empty() && parts.len() < 2) {
            parts.push((count, name));
        }
    }
    let parts = parts.iter().take(2).filter(|(count, _)| *count > 0);
    let text: Vec<String> = parts.map(|(count, name)| format!("{count} {name}")).collect();
    match (text.is_empty(), seconds < 0) {
        (true, _) => "0 s".to_owned(),
        (false, false) => text.join(" "),
        (false, true) => format!("-{}", text.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_servers_write_them() {
        for (date, want) in [
            ("Tue, 24 Mar 2020 15:11:47 +0000", Some(1_585_062_707)),
            ("Tue, 24 Mar 2020 08:11:47 -0700 (PDT)", Some(1_585_062_707)),
            ("24 Mar 2020 15:11:47 -0000", Some(1_585_062_707)),
            (" Tue, 24 Mar\r\n 2020 15:11:47 GMT", Some(1_585_062_707)),
            ("Tue, 24 Mar 2020 15:11:47 PST", Some(1_585_091_507)),
            ("date", None),
            ("", None),
            ("Tue, 99 Foo 2020 15:11:47 +0000", None),
        ] {
            assert_eq!(seconds(date.as_bytes()), want, "{date}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic_e12() {
        let pieces: [&[u8]; 12] = [
            b"9", b"24 ", b"Mar ", b"2020", b":", b"+", b"-9999", b" (", b")", b"\xff", b"\0", b",",
        ];
        // Every word of four pieces, and every pair of them repeated.
        for n in 0..pieces.len().pow(4) {
            let at = |k: u32| pieces[n / pieces.len().pow(k) % pieces.len()];
            let _ = seconds(&[at(0), at(1), at(2), at(3)].concat());
        }
        for a in pieces {
            for b in pieces {
                let _ = seconds(&[a, b].concat().repeat(100));
            }
        }
    }

    #[test]
    fn spans_have_two_units() {
        for (seconds, want) in [
            (0, "0 s"),
            (1, "1 s"),
            (-1, "-1 s"),
            (59, "59 s"),
            (60, "1 min"),
            (185, "3 min 5 s"),
            (3600, "1 h"),
            (3661, "1 h 1 min"),
            (3605, "1 h"),
            (90_000, "1 d 1 h"),
            (-7300, "-2 h 1 min"),
            (i64::MIN, "-106751991167300 d 15 h"),
        ] {
            assert_eq!(span(seconds), want, "{seconds}");
        }
    }
}
