//! Text of strangers as it is shown: in a log, on a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character shows nothing of itself but changes how what stands beside it is read: controls (C0, DEL,
/// C1), separators of lines and paragraphs, letters that turn the direction of text, and letters of no
/// width, among them tags and variation selectors.
///
/// In a line of a log such a letter can hide a part, or show it in another order (THREATS). Blanks are
/// none of them, nor is U+FFFD, which stands for octets that are no text.
///
/// # Example
/// ```
/// use waypost_types::misleads;
///
/// assert!(misleads('\u{202e}') && misleads('\n') && !misleads('é') && !misleads(' '));
/// ```
#[must_use]
pub fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{feff}' | '\u{3164}' | '\u{ffa0}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{fff0}'..='\u{fffc}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Text in one line that misleads nobody: each letter that [`misleads`] is told by its number,
/// `\u{202e}`. Costs one pass, and allocates where something is told so.
///
/// # Example
/// ```
/// assert_eq!(waypost_types::shown("gpj.\u{202e}exe"), "gpj.\\u{202e}exe");
/// ```
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    escaped(text, |out, c| {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
    })
}

/// JSON of one line, in which no letter [`misleads`]: each stands as its `\u` escape, so what the JSON
/// says stays the same. Expects JSON as it is written without line ends between values.
///
/// # Example
/// ```
/// assert_eq!(waypost_types::shown_json("\"gpj.\u{202e}exe\""), "\"gpj.\\u202eexe\"");
/// ```
#[must_use]
pub fn shown_json(json: &str) -> Cow<'_, str> {
    escaped(json, |out, c| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

fn escaped(text: &str, escape: impl Fn(&mut String, char)) -> Cow<'_, str> {
    if text.bytes().all(|octet| (b' '..=b'~').contains(&octet)) || !text.contains(misleads) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match misleads(c) {
            true => escape(&mut out, c),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it means")]
mod tests {
    use super::*;

    #[test]
    fn no_letter_that_misleads_is_shown() {
        for (what, text, want) in [
            ("plain", "marie@s.example", "marie@s.example"),
            ("letters of other scripts", "Zoé, 日本, שלום, ✉", "Zoé, 日本, שלום, ✉"),
            ("no text", "a\u{fffd}b", "a\u{fffd}b"),
            ("line ends", "a\r\nb", r"a\u{d}\u{a}b"),
            ("escape, bell, DEL", "\u{1b}[2J\u{7}\u{7f}", r"\u{1b}[2J\u{7}\u{7f}"),
            ("C1: CSI, NEL", "\u{9b}31m\u{85}", r"\u{9b}31m\u{85}"),
            ("separators", "a\u{2028}b\u{2029}c", r"a\u{2028}b\u{2029}c"),
            ("embeddings, overrides", "gpj.\u{202e}exe\u{202c}", r"gpj.\u{202e}exe\u{202c}"),
            ("the others", "\u{202a}\u{202b}\u{202d}", r"\u{202a}\u{202b}\u{202d}"),
            (
                "isolates",
                "\u{2066}a\u{2067}b\u{2068}c\u{2069}",
                r"\u{2066}a\u{2067}b\u{2068}c\u{2069}",
            ),
            ("marks", "\u{200e}\u{200f}\u{61c}", r"\u{200e}\u{200f}\u{61c}"),
            (
                "no width",
                "a\u{200b}\u{200c}\u{200d}\u{2060}b",
                r"a\u{200b}\u{200c}\u{200d}\u{2060}b",
            ),
            ("byte order mark", "\u{feff}a", r"\u{feff}a"),
            ("soft hyphen, fillers", "\u{ad}\u{3164}\u{115f}", r"\u{ad}\u{3164}\u{115f}"),
            ("tags", "\u{e0001}\u{e0061}", r"\u{e0001}\u{e0061}"),
            ("selectors", "\u{fe0f}\u{e0100}", r"\u{fe0f}\u{e0100}"),
            ("annotations", "\u{fff9}\u{fffb}", r"\u{fff9}\u{fffb}"),
        ] {
            assert_eq!(shown(text), want, "{what}");
            assert!(!shown(text).contains(misleads), "{what}");
        }
    }

    #[test]
    fn json_says_the_same_afterwards() {
        let every: String = (0..=0x10_ffff_u32).filter_map(char::from_u32).collect();
        let misleading: String = every.chars().filter(|c| misleads(*c)).collect();
        // As JSON writes them: what must be escaped is, by whoever writes it.
        let json: String = misleading.chars().filter(|c| !c.is_ascii_control()).collect();
        let shown = shown_json(&json);
        assert!(shown.is_ascii(), "{shown}");
        let units: Vec<u16> = shown
            .split("\\u")
            .filter(|unit| !unit.is_empty())
            .map(|unit| u16::from_str_radix(unit, 16).unwrap())
            .collect();
        assert_eq!(String::from_utf16(&units).unwrap(), json);
    }

    #[test]
    fn what_misleads_nobody_is_borrowed() {
        for text in ["", "a", "Zoé"] {
            assert!(matches!(shown(text), Cow::Borrowed(_)), "{text}");
        }
    }
}
