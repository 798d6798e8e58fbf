//! A message with a filter's changes to its own fields (D17).

use waypost_milter::HeaderEdit;
use waypost_types::HeaderBlock;

use super::filter::written;

/// The header edits of a decision, carried out on a message as it is stored: dot-stuffed lines ended by
/// CR LF. `nth` counts the fields of the name that the message had when the filter saw it.
#[must_use]
pub fn with_edits(message: Vec<u8>, edits: &[HeaderEdit]) -> Vec<u8> {
    let header = HeaderBlock::of(&message);
    let mut wanted: Vec<(std::ops::Range<usize>, String)> = Vec::new();
    for edit in edits {
        let (name, nth) = match edit {
            HeaderEdit::Change { name, nth, .. } | HeaderEdit::Delete { name, nth } => (name, *nth),
            _ => continue,
        };
        let nth = usize::try_from(nth.max(1)).unwrap_or(usize::MAX);
        let mut fields = header.fields().named(name.as_str());
        let Some(field) = fields.nth(nth - 1) else { continue };
        let after = field.offset + length(&message, field.offset);
        let text = edit.value().map(|value| written(name, value)).unwrap_or_default();
        // The last one to touch a field is heard.
        wanted.retain(|(range, _)| range.start != field.offset);
        wanted.push((field.offset..after, text));
    }
    if wanted.is_empty() {
        return message;
    }
    wanted.sort_by_key(|(range, _)| range.start);
    let mut out = Vec::with_capacity(message.len());
    let mut at = 0;
    for (range, text) in wanted {
        out.extend_from_slice(message.get(at..range.start).unwrap_or_default());
        out.extend_from_slice(text.as_bytes());
        at = range.end;
    }
    out.extend_from_slice(message.get(at..).unwrap_or_default());
    out
}

/// The octets of the field that begins at `offset`, with its continuations and line ends.
fn length(message: &[u8], offset: usize) -> usize {
    let rest = message.get(offset..).unwrap_or_default();
    let mut end = 0;
    for line in rest.split_inclusive(|b| *b == b'\n') {
        if end > 0 && !line.starts_with(b" ") && !line.starts_with(b"\t") {
            break;
        }
        end += line.len();
    }
    end
}
