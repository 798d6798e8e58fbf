//! Frames: a length, a letter, and what belongs to it.

use crate::fault::Fault;

/// One frame, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The letter that says what it is.
    pub letter: u8,
    /// What stands behind the letter.
    pub payload: &'a [u8],
}

/// Splits octets, in chunks of any size, into frames.
///
/// Keeps what was handed over and not taken out yet: whoever takes out all frames before handing over
/// more keeps it at the limit and one chunk.
#[derive(Clone, Debug)]
pub struct Frames {
    buffer: Vec<u8>,
    /// Where the next frame begins; what stands before it was taken out.
    from: usize,
    limit: u32,
}

impl Frames {
    /// A splitter for frames of at most `limit` octets, the letter included and the length not.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self { buffer: Vec::new(), from: 0, limit }
    }

    /// Takes octets.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.from);
        self.from = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether there is nothing that was not taken out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.from == self.buffer.len()
    }

    /// Octets that were not taken out.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.buffer.len().saturating_sub(self.from)
    }

    /// Gives memory back that nothing is in any more: a connection may be idle for an hour.
    pub fn give_back(&mut self) {
        if self.is_empty() {
            *self = Self::new(self.limit);
        }
    }

    /// The letter of the next frame, which stays; `None`: more octets are needed.
    ///
    /// # Errors
    /// [`Fault::FrameTooLong`] as soon as the length is there, and [`Fault::FrameEmpty`].
    pub fn letter(&self) -> Result<Option<u8>, Fault> {
        Ok(self.whole()?.map(|frame| frame.letter))
    }

    /// Takes out the next whole frame; `None`: more octets are needed.
    ///
    /// # Errors
    /// As [`Frames::letter`].
    pub fn take(&mut self) -> Result<Option<Frame<'_>>, Fault> {
        let Some(length) = self.whole()?.map(|frame| frame.payload.len() + 5) else {
            return Ok(None);
        };
        self.from += length;
        let taken = self.buffer.get(self.from - length + 4..self.from).unwrap_or_default();
        let [letter, payload @ ..] = taken else { return Err(Fault::FrameEmpty) };
        Ok(Some(Frame { letter: *letter, payload }))
    }

    fn whole(&self) -> Result<Option<Frame<'_>>, Fault> {
        let rest = self.buffer.get(self.from..).unwrap_or_default();
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let octets = u32::from_be_bytes(*length);
        if octets > self.limit {
            return Err(Fault::FrameTooLong { octets, limit: self.limit });
        }
        let length = usize::try_from(octets).unwrap_or(usize::MAX);
        match rest.get(..length) {
            None => Ok(None),
            Some([letter, payload @ ..]) => Ok(Some(Frame { letter: *letter, payload })),
            Some([]) => Err(Fault::FrameEmpty),
        }
    }
}

/// Appends a frame whose payload is written by a function.
pub(crate) fn write(out: &mut Vec<u8>, letter: u8, payload: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, letter]);
    payload(out);
    // What is written here has its own bounds, far below.
    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends a text and the NUL that ends it. A NUL inside would be its end, so it is left out.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    match memchr::memchr(0, text) {
        None => out.extend_from_slice(text),
        Some(_) => out.extend(text.iter().filter(|octet| **octet != 0)),
    }
    out.push(0);
}

/// Takes the text before the next NUL, and that NUL.
pub(crate) fn take_text<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = memchr::memchr(0, from)?;
    let (text, rest) = from.split_at_checked(end)?;
    *from = rest.get(1..).unwrap_or_default();
    Some(text)
}

/// Takes four octets, the highest first.
pub(crate) fn take_number(from: &mut &[u8]) -> Option<u32> {
    let (number, rest) = from.split_first_chunk::<4>()?;
    *from = rest;
    Some(u32::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_are_looked_at_before_what_follows_d17() {
        for (bytes, want) in [
            (&b"\0\0\0\x01c"[..], Ok(Some(b'c'))),
            (b"\0\0\0\x05cabcd", Ok(Some(b'c'))),
            (b"\0\0\0\x05cab", Ok(None)),
            (b"\0\0\0", Ok(None)),
            (b"", Ok(None)),
            (b"\0\0\0\0", Err(Fault::FrameEmpty)),
            (b"\0\0\0\x65", Err(Fault::FrameTooLong { octets: 101, limit: 100 })),
            (b"HTTP/1.1 400", Err(Fault::FrameTooLong { octets: 0x4854_5450, limit: 100 })),
        ] {
            let mut frames = Frames::new(100);
            frames.push(bytes);
            let got = frames.take().map(|frame| frame.map(|frame| frame.letter));
            assert_eq!(got, want, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn memory_is_given_back_once_all_is_taken_out() {
        let mut frames = Frames::new(100);
        frames.push(b"\0\0\0\x02ab\0\0\0\x03a");
        assert!(frames.take().unwrap().is_some());
        frames.give_back();
        assert_eq!((frames.octets(), frames.is_empty()), (5, false), "a frame has begun");
        frames.push(b"bc");
        assert_eq!(frames.take().unwrap().unwrap().payload, b"bc");
        frames.give_back();
        assert_eq!((frames.octets(), frames.buffer.capacity()), (0, 0));
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(
            frames in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..9)), 0..6),
            chunk in 1_usize..9,
        ) {
            let mut wire = Vec::new();
            for (letter, payload) in &frames {
                write(&mut wire, *letter, |out| out.extend_from_slice(payload));
            }
            let mut splitter = Frames::new(100);
            let mut got = Vec::new();
            for chunk in wire.chunks(chunk) {
                splitter.push(chunk);
                while let Some(frame) = splitter.take().unwrap() {
                    got.push((frame.letter, frame.payload.to_vec()));
                }
            }
            prop_assert!(splitter.is_empty());
            prop_assert_eq!(got, frames);
        }
    }
}
