//! Changes to a text as ranges and what stands there instead.

use std::ops::Range;

/// One change: what stands in `range` is replaced by `text`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Octets of the original, from the first line that changes to the end of the last one; empty
    /// where something is only put in.
    pub range: Range<usize>,
    /// What stands there instead: whole lines ended by CR LF, or nothing.
    pub text: Vec<u8>,
}

/// A part of an edited message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Octets of the original, unchanged.
    Original(Range<usize>),
    /// New octets.
    New(Vec<u8>),
}

/// Changes to one message, in order and apart from each other.
///
/// All ranges begin and end at the beginning of a line, so each piece is whole lines where the message
/// is. New lines are ended by CR LF and begin neither with a dot nor with `--`, so a dot-stuffed message
/// stays one, and no delimiter comes to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits(Vec<Edit>);

impl Edits {
    /// Puts changes into order. Of two that overlap the later one is left out; those at the same place
    /// keep their order.
    pub(crate) fn of(mut edits: Vec<Edit>) -> Self {
        edits.sort_by_key(|edit| edit.range.start);
        let mut end = 0;
        edits.retain(|edit| {
            let apart = edit.range.start >= end && edit.range.start <= edit.range.end;
            if apart {
                end = edit.range.end;
            }
            apart
        });
        Self(edits)
    }

    /// These changes and further ones of the same message.
    #[must_use]
    pub fn and(self, further: impl IntoIterator<Item = Edit>) -> Self {
        Self::of(self.0.into_iter().chain(further).collect())
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The changes, first to last.
    pub fn iter(&self) -> impl Iterator<Item = &Edit> {
        self.0.iter()
    }

    /// The edited message in pieces, given the length of the original in octets. No piece is empty.
    #[must_use]
    pub fn into_pieces(self, length: usize) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(2 * self.0.len() + 1);
        let mut at = 0;
        for Edit { range, text } in self.0 {
            if at < range.start {
                pieces.push(Piece::Original(at..range.start));
            }
            if !text.is_empty() {
                pieces.push(Piece::New(text));
            }
            at = range.end;
        }
        if at < length {
            pieces.push(Piece::Original(at..length));
        }
        pieces
    }

    /// The edited message as one copy: for tests and small messages.
    #[must_use]
    pub fn apply(&self, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(message.len());
        for piece in self.clone().into_pieces(message.len()) {
            match piece {
                Piece::Original(range) => {
                    out.extend_from_slice(message.get(range).unwrap_or_default());
                }
                Piece::New(text) => out.extend_from_slice(&text),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_original_with_ranges_replaced() {
        let edit = |from: usize, to: usize, text: &str| Edit { range: from..to, text: text.into() };
        for (edits, want) in [
            (vec![], "0123456789"),
            (vec![edit(0, 0, "a")], "a0123456789"),
            (vec![edit(10, 10, "a")], "0123456789a"),
            (vec![edit(5, 7, ""), edit(2, 3, "ab")], "01ab34789"),
            (vec![edit(2, 2, "a"), edit(2, 2, "b"), edit(2, 4, "c")], "01abc456789"),
            (vec![edit(0, 10, "")], ""),
            (vec![edit(2, 6, "a"), edit(4, 5, "b")], "01a6789"),
        ] {
            let edits = Edits::of(edits);
            let got = String::from_utf8(edits.apply(b"0123456789")).unwrap();
            assert_eq!(got, want, "{edits:?}");
        }
    }
}
