//! A message as it goes over the wire.

use std::fmt;
use std::sync::Arc;

use memchr::{memchr_iter, memmem};

/// Octets of a message, shared with whoever else holds them. Cloning is cheap.
///
/// The holder must give the same octets each time it is asked.
#[derive(Clone)]
pub struct SharedBytes(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl SharedBytes {
    /// Shares what holds the octets; nothing is copied.
    pub fn new(holder: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self(Arc::new(holder))
    }

    /// The octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl From<Arc<dyn AsRef<[u8]> + Send + Sync>> for SharedBytes {
    fn from(holder: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Self {
        Self(holder)
    }
}

/// A message as it goes over the wire: dot-stuffed lines, in pieces, without the final dot.
///
/// The pieces are the header lines added on top and the stored message; they are written one after
/// the other and never copied. A value of this type cannot end the message early at any peer: each
/// piece is whole lines ended by CR LF, each line that begins with a dot is stuffed (RFC 5321
/// section 4.5.2), and no CR or LF stands alone. Cloning is cheap.
#[derive(Clone)]
pub struct Message {
    pieces: Vec<SharedBytes>,
    facts: Facts,
}

/// Sums over the pieces.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    octets: u64,
    /// Dots that stand for stuffing alone.
    stuffed: u64,
    eight_bit: bool,
    eight_bit_header: bool,
    header_ended: bool,
}

/// Why bytes are no message that can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// A piece does not end in CR LF.
    #[error("a piece of the message does not end in CR LF (RFC 5321 2.3.8); end it so")]
    Unended,
    /// A line begins with a single dot.
    #[error("a line of the message begins with one dot (RFC 5321 4.5.2); stuff it: `..`")]
    Unstuffed,
    /// A CR or LF that is not part of CR LF.
    #[error("the message holds a bare CR or LF (RFC 5321 2.3.8); refuse it on the way in")]
    BareLineEnd,
}

impl Message {
    /// A message of pieces that are whole, dot-stuffed lines. No piece at all is the empty message.
    ///
    /// Each octet is looked at once here; keep the value for all recipients and attempts.
    ///
    /// # Errors
    /// [`MessageError`] when a peer could read the bytes as anything but this one message.
    pub fn new(pieces: impl IntoIterator<Item = SharedBytes>) -> Result<Self, MessageError> {
        let mut message = Self { pieces: Vec::new(), facts: Facts::default() };
        for piece in pieces {
            message.facts = message.facts.and(piece.as_bytes())?;
            message.pieces.push(piece);
        }
        Ok(message)
    }

    /// The number of octets without dot-stuffing and final dot: the size of RFC 1870.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.facts.octets
    }

    /// Whether an octet is above 127.
    #[must_use]
    pub fn is_eight_bit(&self) -> bool {
        self.facts.eight_bit
    }

    /// Whether an octet of the header is above 127, which asks for SMTPUTF8 (RFC 6532).
    #[must_use]
    pub fn has_eight_bit_header(&self) -> bool {
        self.facts.eight_bit_header
    }

    /// Whether no line is stuffed, so that the octets are the content as it stands.
    pub(super) fn is_content(&self) -> bool {
        self.facts.stuffed == 0
    }

    pub(super) fn pieces(&self) -> impl Iterator<Item = &SharedBytes> {
        self.pieces.iter()
    }
}

impl Facts {
    fn and(self, piece: &[u8]) -> Result<Self, MessageError> {
        if !piece.is_empty() && !piece.ends_with(b"\r\n") {
            return Err(MessageError::Unended);
        }
        let mut stuffed = u64::from(check_stuffing(piece)?);
        let mut ends = 0;
        for at in memchr_iter(b'\n', piece) {
            if at.checked_sub(1).and_then(|before| piece.get(before)) != Some(&b'\r') {
                return Err(MessageError::BareLineEnd);
            }
            ends += 1;
            stuffed += u64::from(check_stuffing(piece.get(at + 1..).unwrap_or_default())?);
        }
        // Each LF follows a CR, so as many CRs as LFs leave none that stands alone.
        if memchr_iter(b'\r', piece).count() != ends {
            return Err(MessageError::BareLineEnd);
        }
        let eight_bit = !piece.is_ascii();
        let end = match piece {
            _ if self.header_ended => Some(0),
            [b'\r', b'\n', ..] => Some(0),
            _ => memmem::find(piece, b"\r\n\r\n"),
        };
        let header = piece.get(..end.unwrap_or(piece.len())).unwrap_or_default();
        let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        Ok(Self {
            octets: self.octets.saturating_add(length - stuffed),
            stuffed: self.stuffed.saturating_add(stuffed),
            eight_bit: self.eight_bit || eight_bit,
            eight_bit_header: self.eight_bit_header || (eight_bit && !header.is_ascii()),
            header_ended: self.header_ended || end.is_some(),
        })
    }
}

/// Whether the line that begins here is stuffed; an error if it should be and is not.
fn check_stuffing(line: &[u8]) -> Result<bool, MessageError> {
    match line {
        [b'.', b'.', ..] => Ok(true),
        [b'.', ..] => Err(MessageError::Unstuffed),
        _ => Ok(false),
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("pieces", &self.pieces.len())
            .field("octets", &self.facts.octets)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_only_what_cannot_end_early() {
        use MessageError::*;
        type Facts = (u64, bool, bool);
        let table: &[(&[&str], Result<Facts, MessageError>)] = &[
            (&[], Ok((0, false, false))),
            (&[""], Ok((0, false, false))),
            (&["A: b\r\n", "C: d\r\n\r\nbody\r\n"], Ok((20, false, false))),
            (&["..\r\n..a\r\n"], Ok((7, false, false))),
            (&["A: b\r\n\r\né\r\n"], Ok((12, true, false))),
            (&["A: é\r\n\r\nb\r\n"], Ok((12, true, true))),
            (&["A: b\r\n", "\r\né\r\n"], Ok((12, true, false))),
            (&["A: b\r\n\r\n", "é\r\n"], Ok((12, true, false))),
            (&["A: é\r\n", "\r\né\r\n"], Ok((13, true, true))),
            (&["a"], Err(Unended)),
            (&["a\n"], Err(Unended)),
            (&["a\r\n", "b"], Err(Unended)),
            (&[".\r\n"], Err(Unstuffed)),
            (&["a\r\n.\r\n"], Err(Unstuffed)),
            (&["a\r\n", ".\r\n"], Err(Unstuffed)),
            (&["a\r\n.b\r\n"], Err(Unstuffed)),
            (&["a\n..\r\n"], Err(BareLineEnd)),
            (&["a\rb\r\n"], Err(BareLineEnd)),
            (&["a\r\r\n"], Err(BareLineEnd)),
            (&["a\n\r\n"], Err(BareLineEnd)),
        ];
        for (pieces, want) in table {
            let shared = pieces.iter().map(|piece| SharedBytes::new(piece.to_string()));
            let got = Message::new(shared)
                .map(|m| (m.octets(), m.is_eight_bit(), m.has_eight_bit_header()));
            assert_eq!(got, *want, "{pieces:?}");
        }
    }
}
