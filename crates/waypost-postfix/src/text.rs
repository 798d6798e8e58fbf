//! Texts of others, made fit to be shown.

/// What can be shown of octets in an error: short, without control characters.
pub(crate) fn shown(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(octets);
    text.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A text that stands on one line: control characters become blanks, at most `most` octets.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len().min(most));
    for c in text.chars() {
        if out.len() + c.len_utf8() > most {
            break;
        }
        out.push(if c.is_control() { ' ' } else { c });
    }
    out
}
