//! A message that comes in chunks: the reader for what follows BDAT.
//!
//! **In:** the announced length of each chunk, then its octets in pieces of any size. **Out:** the
//! same [`Data`] that DATA would have given, or the [`DataFault`] that keeps it from being taken.
//! **Units:** octets. **Bounds:** one pass; what is kept never exceeds 4/3 of the limit (the stuffed
//! dots) plus two octets, and nothing is kept once a fault is seen. **Errors:** [`DataFault`].
//! **Source:** RFC 3030 section 2; RFC 5321 sections 2.3.8, 4.1.1.4 and 4.5.2.
//!
//! Where a chunk ends its length alone says: `CR LF . CR LF` inside is content, and leaves stuffed.
//! Chunks are joined as they are, so a CR LF may be cut by their border. As BINARYMIME is not offered,
//! content is lines: a CR or LF that stands alone, or a NUL, is a fault of the whole message. A last
//! line without CR LF gets one, as RFC 5321 section 4.1.1.4 has it for DATA; a DKIM signature does not
//! see that (RFC 6376 sections 3.4.3 and 3.4.4 end the body so before they hash it), and its two
//! octets do not count against the limit.
//!
//! **Not here:** the BDAT command, its order and its replies.
//!
//! ```
//! use waypost_smtp::chunked::ChunkedReader;
//!
//! let mut reader = ChunkedReader::new(1000);
//! for chunk in [&b"Subject: x\r"[..], b"\n\r\n.\r\nend"] {
//!     reader.begin(chunk.len() as u64);
//!     assert_eq!(reader.read(chunk), chunk.len());
//! }
//! let data = reader.finish()?;
//! assert_eq!(data.stuffed, b"Subject: x\r\n\r\n..\r\nend\r\n");
//! # Ok::<(), waypost_smtp::end_of_data::DataFault>(())
//! ```

use memchr::memchr3;

use crate::end_of_data::{Data, DataFault};

/// What the octets so far end in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the beginning of a line, which only CR LF (or the beginning) makes.
    LineStart,
    Text,
    /// A CR that may begin CR LF.
    Cr,
}

/// Reads one message in chunks; made anew for each transaction.
#[derive(Debug)]
pub struct ChunkedReader {
    state: State,
    stuffed: Vec<u8>,
    size: u64,
    /// Octets of the chunk that are still to come.
    left: u64,
    limit: u64,
    fault: Option<DataFault>,
}

impl ChunkedReader {
    /// A reader for a message of at most `limit` octets.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        let stuffed = Vec::new();
        Self { state: State::LineStart, stuffed, size: 0, left: 0, limit, fault: None }
    }

    /// A chunk of so many octets follows. With one that passes the limit the fault is seen at once.
    pub fn begin(&mut self, octets: u64) {
        self.left = octets;
        if self.size.saturating_add(octets) > self.limit {
            self.blame(DataFault::TooBig { limit: self.limit });
        }
    }

    /// Reads up to the end of the chunk; returns how many octets of `bytes` belong to it.
    #[must_use]
    pub fn read(&mut self, bytes: &[u8]) -> usize {
        let used = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let count = u64::try_from(used).unwrap_or(u64::MAX);
        self.left = self.left.saturating_sub(count);
        self.size = self.size.saturating_add(count);
        if self.fault.is_none() {
            self.scan(bytes.get(..used).unwrap_or_default());
        }
        used
    }

    /// Octets of the chunk that are still to come.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }

    /// What keeps the message from being taken, as far as is known.
    #[must_use]
    pub fn fault(&self) -> Option<DataFault> {
        self.fault
    }

    /// Octets of the message that are held in memory.
    #[must_use]
    pub fn octets_kept(&self) -> u64 {
        self.stuffed.len() as u64
    }

    /// Lets go of the message: it is read to its end, and refused with [`DataFault::NoRoom`].
    pub fn discard(&mut self) {
        self.blame(DataFault::NoRoom);
        self.stuffed = Vec::new();
    }

    /// The message, once the last chunk is read.
    ///
    /// # Errors
    /// [`DataFault`] when the message must be refused. An unfinished chunk is never handed out: asked
    /// too early, the answer is an empty message's.
    pub fn finish(mut self) -> Result<Data, DataFault> {
        if self.state == State::Cr && self.left == 0 {
            self.blame(DataFault::BareCr);
        }
        match self.fault {
            Some(fault) => return Err(fault),
            None if self.left > 0 => return Ok(Data { stuffed: Vec::new(), size: 0 }),
            None => {}
        }
        if self.state == State::Text {
            self.stuffed.extend_from_slice(b"\r\n");
            self.size = self.size.saturating_add(2);
        }
        Ok(Data { stuffed: self.stuffed, size: self.size })
    }

    /// Jumps from one octet that means something to the next, and copies what lies between two dots
    /// that are to be doubled in one piece.
    fn scan(&mut self, bytes: &[u8]) {
        let (mut kept, mut at) = (0, 0);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match (self.state, rest) {
                (State::LineStart, [b'.', ..]) => {
                    self.stuffed.extend_from_slice(bytes.get(kept..at).unwrap_or_default());
                    self.stuffed.push(b'.');
                    (kept, self.state) = (at, State::Text);
                }
                (State::Cr, [b'\n', ..]) => (at, self.state) = (at + 1, State::LineStart),
                (State::Cr, _) => return self.blame(DataFault::BareCr),
                (State::LineStart | State::Text, _) => {
                    let plain = memchr3(b'\r', b'\n', 0, rest).unwrap_or(rest.len());
                    match rest.get(plain) {
                        Some(b'\r') => (at, self.state) = (at + plain + 1, State::Cr),
                        Some(b'\n') => return self.blame(DataFault::BareLf),
                        Some(_) => return self.blame(DataFault::Nul),
                        None => (at, self.state) = (bytes.len(), State::Text),
                    }
                }
            }
        }
        self.stuffed.extend_from_slice(bytes.get(kept..).unwrap_or_default());
    }

    /// The first fault stands.
    fn blame(&mut self, fault: DataFault) {
        self.fault.get_or_insert(fault);
        self.stuffed = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::end_of_data::{DataReader, stuff, unstuff};

    fn read(chunks: &[&[u8]], limit: u64) -> Result<Data, DataFault> {
        let mut reader = ChunkedReader::new(limit);
        for chunk in chunks {
            reader.begin(chunk.len() as u64);
            for piece in chunk.chunks(3) {
                assert_eq!(reader.read(piece), piece.len());
                assert!(reader.stuffed.len() as u64 <= limit / 3 * 4 + 4);
            }
            assert_eq!(reader.left(), 0);
            assert_eq!(reader.read(b"behind"), 0);
        }
        reader.finish()
    }

    #[test]
    fn chunks_become_what_data_would_give() {
        use DataFault::{BareCr, BareLf, Nul, TooBig};
        let table: &[(&[&str], Result<&str, DataFault>)] = &[
            (&[], Ok("")),
            (&[""], Ok("")),
            (&["a\r\n"], Ok("a\r\n")),
            (&["a"], Ok("a\r\n")),
            (&["a\r\n\r\n"], Ok("a\r\n\r\n")),
            (&["."], Ok("..\r\n")),
            (&[".\r\n"], Ok("..\r\n")),
            (&["..\r\n"], Ok("...\r\n")),
            (&["a\r\n.\r\nb"], Ok("a\r\n..\r\nb\r\n")),
            (&["a\r\n.", "\r\n"], Ok("a\r\n..\r\n")),
            (&["a\r", "\n.", "\r", "\n"], Ok("a\r\n..\r\n")),
            (&["a", ".\r\n"], Ok("a.\r\n")),
            (&["a\r\n", "", ".b"], Ok("a\r\n..b\r\n")),
            (&["a\r"], Err(BareCr)),
            (&["a\r", "b\r\n"], Err(BareCr)),
            (&["a\r\r\n"], Err(BareCr)),
            (&["a\n"], Err(BareLf)),
            (&["a", "\n"], Err(BareLf)),
            (&["\n"], Err(BareLf)),
            (&["a\0"], Err(Nul)),
            (&["a\n", "\0"], Err(BareLf)),
            (&["0123456789"], Ok("0123456789\r\n")),
            (&["0123456789", "0"], Err(TooBig { limit: 10 })),
            (&["0123456789\n"], Err(TooBig { limit: 10 })),
        ];
        for (chunks, want) in table {
            let bytes: Vec<&[u8]> = chunks.iter().map(|chunk| chunk.as_bytes()).collect();
            let got = read(&bytes, 10).map(|data| {
                assert_eq!(data.size, unstuff(&data.stuffed).len() as u64, "{chunks:?}");
                String::from_utf8(data.stuffed).unwrap()
            });
            assert_eq!(got, want.map(str::to_owned), "{chunks:?}");
        }
    }

    #[test]
    fn the_length_of_a_chunk_may_be_any_number() {
        let mut reader = ChunkedReader::new(u64::MAX - 1);
        reader.begin(u64::MAX - 1);
        assert_eq!((reader.read(b"abc"), reader.fault()), (3, None));
        reader.begin(u64::MAX);
        assert!(matches!(reader.fault(), Some(DataFault::TooBig { .. })));
        let mut reader = ChunkedReader::new(10);
        reader.begin(5);
        assert_eq!(reader.read(b"abc"), 3);
        assert_eq!(reader.finish(), Ok(Data { stuffed: Vec::new(), size: 0 }));
    }

    proptest! {
        /// DATA with the same lines gives the same octets, in any chunks.
        #[test]
        fn agrees_with_data(
            text in prop::collection::vec(prop::sample::select(b"\r\n\r\n..a\0".to_vec()), 0..40),
            lines in "([.a]{0,3}\r\n){0,8}[.a]{0,3}",
            cuts in prop::collection::vec(0..40usize, 0..6),
        ) {
            for text in [text.as_slice(), lines.as_bytes()] {
                let mut cuts: Vec<usize> = cuts.iter().map(|cut| (*cut).min(text.len())).collect();
                cuts.extend([0, text.len()]);
                cuts.sort_unstable();
                let chunks: Vec<&[u8]> =
                    cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
                let whole = match text {
                    [] | [.., b'\r', b'\n'] => text.to_vec(),
                    _ => [text, b"\r\n"].concat(),
                };
                let wire = [stuff(&whole).as_ref(), b".\r\n"].concat();
                let mut reader = DataReader::new(u64::MAX);
                prop_assert_eq!(reader.read(&wire), wire.len());
                prop_assert_eq!(read(&chunks, 1000), reader.finish());
            }
        }
    }
}
