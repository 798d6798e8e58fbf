//! The messages that are sent: all alike but for an id, by which the sink knows them again.

use memchr::memmem;

/// What stands before the id, at the beginning of a line of the header.
const MARK: &[u8] = b"X-Load-Id: ";
/// Digits of an id.
const DIGITS: usize = 16;
/// Where in a message the mark is looked for: relays put their lines before it.
const HEAD: usize = 4096;
/// Bits of an id that are the message's number; the others are the run's.
const NUMBER_BITS: u32 = 40;
/// The end of a message, as it is sent.
const DOT: &[u8] = b".\r\n";

/// One message of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id {
    /// Which run sent it.
    pub(crate) run: u32,
    /// Counted from 0.
    pub(crate) number: u64,
}

impl Id {
    fn digits(self) -> [u8; DIGITS] {
        let value = u64::from(self.run) << NUMBER_BITS | self.number;
        let mut digits = [0; DIGITS];
        for (digit, shift) in digits.iter_mut().zip((0..DIGITS).rev()) {
            *digit = b"0123456789abcdef"[(value >> (4 * shift)) as usize & 15];
        }
        digits
    }

    /// Finds the id in the beginning of a message.
    pub(crate) fn find(finder: &memmem::Finder<'_>, message: &[u8]) -> Option<Self> {
        let head = message.get(..HEAD).unwrap_or(message);
        let at = finder.find(head)? + MARK.len();
        let digits = std::str::from_utf8(message.get(at..at + DIGITS)?).ok()?;
        let value = u64::from_str_radix(digits, 16).ok()?;
        let run = u32::try_from(value >> NUMBER_BITS).ok()?;
        Some(Self { run, number: value & ((1 << NUMBER_BITS) - 1) })
    }
}

/// What [`Id::find`] looks with.
pub(crate) fn finder() -> memmem::Finder<'static> {
    memmem::Finder::new(MARK)
}

/// A message of a size, ready to be sent but for its id.
pub(crate) struct Message {
    head: Vec<u8>,
    /// Where the digits of the id go.
    places: [usize; 2],
    /// All behind the head, the final dot included; no line begins with a dot.
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// A message of `size` octets, or a little more if that is less than its header.
    pub(crate) fn new(size: usize, sender: &str, recipient: &str) -> Self {
        let mut head = MARK.to_vec();
        let first = head.len();
        head.extend([b'0'; DIGITS]);
        head.extend(b"\r\nMessage-ID: <");
        let second = head.len();
        head.extend([b'0'; DIGITS]);
        let rest = format!(
            "@source.example>\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n\
             From: <{sender}>\r\nTo: <{recipient}>\r\nSubject: load\r\n\r\n"
        );
        head.extend(rest.as_bytes());
        let length = size.saturating_sub(head.len()).max(3);
        let mut body: Vec<u8> = (0..length)
            .map(|at| match at % 78 {
                76 => b'\r',
                77 => b'\n',
                column => b'a' + (column % 26) as u8,
            })
            .collect();
        // The last line ends where the size says; no CR stands alone before its end.
        if body[length - 3] == b'\r' {
            body[length - 3] = b'z';
        }
        body[length - 2..].copy_from_slice(b"\r\n");
        body.extend(DOT);
        Self { head, places: [first, second], body }
    }

    /// Octets, without the final dot.
    pub(crate) fn size(&self) -> usize {
        self.head.len() + self.body.len() - DOT.len()
    }

    /// Appends the head with this id.
    pub(crate) fn head(&self, id: Id, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.head);
        for place in self.places {
            out[start + place..][..DIGITS].copy_from_slice(&id.digits());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_size_its_id_and_whole_lines() {
        for size in (0..=1024).chain([10_240, 102_400]) {
            let message = Message::new(size, "a@source.example", "b@dest.example");
            let id = Id { run: 0xab_cdef, number: size as u64 };
            let mut bytes = b"Received: from x\r\n\tby y\r\n".to_vec();
            let before = bytes.len();
            message.head(id, &mut bytes);
            assert_eq!(Id::find(&finder(), &bytes), Some(id));
            bytes.extend(&message.body);
            assert_eq!(bytes.len() - before, message.size() + 3);
            assert!(message.size() == size || size < 300, "{size}: {}", message.size());
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.ends_with("\r\n.\r\n"));
            let bare = text.replace("\r\n", "");
            assert!(!bare.contains(['\r', '\n']), "{size}");
            assert_eq!(text.matches("\r\n.").count(), 1, "{size}");
        }
    }

    #[test]
    fn what_has_no_id_has_none() {
        for text in ["", "X-Load-Id: 12", "X-Load-Id: xxxxxxxxxxxxxxxxxxxx", "Subject: x\r\n\r\n"] {
            assert_eq!(Id::find(&finder(), text.as_bytes()), None, "{text}");
        }
    }
}
