//! What stands in the place of what was removed.

use mail_builder::encoders::base64::Base64Encoder;

use crate::attachments::Attachment;

/// Characters of a file name, type or rule that a notice repeats.
const LONGEST: usize = 120;
/// Rules that a notice names.
const MOST_RULES: usize = 4;

/// The header fields and the text of a notice, each in whole lines ended by CR LF.
pub(crate) struct Notice {
    pub(crate) header: String,
    pub(crate) text: Vec<u8>,
}

impl Notice {
    /// The notice of one removed part. What the message says of itself is made harmless: no control
    /// characters, bounded, and each line begins with words of ours.
    pub(crate) fn of(attachment: &Attachment, is_whole: bool, rules: &[&str]) -> Self {
        let mut text = String::from(match is_whole {
            true => "The content of this message was removed on the way.\r\n\r\n",
            false => "An attachment of this message was removed on the way.\r\n\r\n",
        });
        if let Some(name) = &attachment.name {
            text.push_str(&format!("File name: {name}\r\n"));
        }
        text.push_str(&format!("Type: {}\r\n", attachment.media));
        text.push_str(&format!("Size: {} octets\r\n", attachment.size));
        text.push_str(&format!("Because: {}\r\n", attachment.why));
        let named: Vec<String> =
            rules.iter().take(MOST_RULES).map(|rule| format!("\"{}\"", harmless(rule))).collect();
        if !named.is_empty() {
            let more = if rules.len() > MOST_RULES { ", \u{2026}" } else { "" };
            text.push_str(&format!("By rule: {}{more}\r\n", named.join(", ")));
        }
        // In base64 no line can begin as a delimiter does, wherever it is cut.
        let (encoding, text) = match text.is_ascii() {
            true => ("7bit", text.into_bytes()),
            false => {
                let mut encoded = Vec::new();
                Base64Encoder::new().wrap_lines().encode_into(text.as_bytes(), &mut encoded);
                if !encoded.ends_with(b"\r\n") {
                    encoded.extend_from_slice(b"\r\n");
                }
                ("base64", encoded)
            }
        };
        let header = format!(
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n"
        );
        Self { header, text }
    }

    /// The notice as a part: header, empty line, text.
    pub(crate) fn part(self) -> Vec<u8> {
        let mut part = self.header.into_bytes();
        part.extend_from_slice(b"\r\n");
        part.extend_from_slice(&self.text);
        part
    }
}

/// Text of strangers in one line: what misleads whoever reads it becomes `?`, and what is longer than 120
/// characters is cut.
pub(crate) fn harmless(text: &str) -> String {
    let clean = |c: char| if waypost_types::misleads(c) { '?' } else { c };
    let mut out: String = text.trim().chars().map(clean).take(LONGEST).collect();
    if text.trim().chars().nth(LONGEST).is_some() {
        out.push('\u{2026}');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_strangers_stay_in_their_line() {
        let long = "x".repeat(500);
        let cut = format!("{}\u{2026}", "x".repeat(120));
        for (name, want) in [
            ("report.pdf", "report.pdf"),
            ("a\r\n--b\r\nBcc: x", "a??--b??Bcc: x"),
            ("a\0b\u{1b}[2J\u{7f}", "a?b?[2J?"),
            ("gpj.\u{202e}exe", "gpj.?exe"),
            ("a\u{2028}b\u{85}c", "a?b?c"),
            ("  a  ", "a"),
            (long.as_str(), cut.as_str()),
        ] {
            assert_eq!(harmless(name), want, "{name:?}");
        }
    }
}
