//! Where a message ends: the scanner for `CR LF . CR LF`, and dot stuffing.
//!
//! **In:** the bytes behind `354`, in chunks of any size. **Out:** how many of them belong to the
//! message, and at its end the [`Data`] or the [`DataFault`] that keeps it from being taken. **Units:**
//! octets. **Bounds:** one pass; what is kept never exceeds 4/3 of the limit (the stuffed dots) plus
//! five octets, and nothing is kept once a fault is seen. **Errors:** [`DataFault`]. **Source:** RFC
//! 5321 sections 2.3.8, 4.1.1.4 and 4.5.2; RFC 1870 for what counts as size.
//!
//! Only CR LF `.` CR LF ends a message, or `.` CR LF at once for an empty one. A CR or LF that is not
//! part of CR LF is a fault of the whole message, which is still read to its real end: so two
//! servers never disagree on where one message ends and the next command begins.
//!
//! **Not here:** replies, header limits, counting `Received:` lines.

use std::borrow::Cow;

use memchr::{memchr3, memmem};
use waypost_types::Reply;

/// A message as it came: dot-stuffed, each line ended by CR LF, without the final dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// The octets as received, empty or ended by CR LF; [`unstuff`] gives the message itself. A line
    /// that came with one dot in front of text came without stuffing: the dot is gone (RFC 5321
    /// section 4.5.2), so that what is sent on is what was taken.
    pub stuffed: Vec<u8>,
    /// The size of the message itself, in octets, without the stuffed dots (RFC 1870 section 5).
    pub size: u64,
}

/// Why a message cannot be taken as it is. The first octet-level fault wins over the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DataFault {
    /// A CR that no LF follows.
    #[error("the message holds a CR without LF (RFC 5321 section 2.3.8); end lines in CR LF")]
    BareCr,
    /// An LF that no CR precedes.
    #[error("the message holds an LF without CR (RFC 5321 section 2.3.8); end lines in CR LF")]
    BareLf,
    /// An octet of value zero.
    #[error("the message holds a NUL (RFC 5322 section 4); encode binary content")]
    Nul,
    /// More octets than the limit.
    #[error("the message has more than {limit} octets; send a smaller one")]
    TooBig {
        /// The limit that was given, in octets.
        limit: u64,
    },
    /// The application had no room for it ([`DataReader::discard`]).
    #[error("too many large messages are on their way; try again in a minute, with SIZE in MAIL")]
    NoRoom,
}

impl DataFault {
    /// The reply that refuses the message: 552, 452 or 550, with the fault in words.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let mut text = self.to_string();
        if let Some(first) = text.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        match self {
            Self::TooBig { .. } => Reply::new(552, (5, 3, 4), &text),
            Self::NoRoom => Reply::new(452, (4, 3, 1), &text),
            Self::BareCr | Self::BareLf | Self::Nul => Reply::new(550, (5, 6, 0), &text),
        }
    }
}

/// What the octets so far end in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the beginning of a line, which only CR LF (or the beginning) makes.
    LineStart,
    /// A dot at the beginning of a line.
    Dot,
    /// A dot at the beginning of a line, then CR.
    DotCr,
    /// Anywhere else in a line.
    Text,
    /// A CR that may begin CR LF.
    Cr,
    /// Behind the final dot.
    End,
}

/// Reads one message; made anew for each DATA.
#[derive(Debug)]
pub struct DataReader {
    state: State,
    stuffed: Vec<u8>,
    /// Octets seen, the final dot and its CR LF included.
    seen: u64,
    /// Dots that stuffing put there.
    dots: u64,
    /// One of them is followed by text: the client does not stuff.
    lone_dot: bool,
    limit: u64,
    fault: Option<DataFault>,
}

impl DataReader {
    /// A reader for a message of at most `limit` octets, counted without stuffed dots.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        let stuffed = Vec::new();
        let state = State::LineStart;
        Self { state, stuffed, seen: 0, dots: 0, lone_dot: false, limit, fault: None }
    }

    /// Reads up to the end of the message; returns how many octets of `bytes` belong to it.
    ///
    /// Fewer than given, or [`DataReader::is_complete`], means that the message has ended; what is
    /// left are the next commands. After the end no octet is taken.
    #[must_use]
    pub fn read(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        while self.state != State::End {
            let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) else { break };
            used += self.step(rest);
        }
        self.seen += used as u64;
        self.keep(bytes.get(..used).unwrap_or_default());
        used
    }

    /// Whether the final dot has been read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state == State::End
    }

    /// Octets of the message that are held in memory.
    #[must_use]
    pub fn octets_kept(&self) -> u64 {
        self.stuffed.len() as u64
    }

    /// Lets go of the message: it is read to its end, and refused with [`DataFault::NoRoom`].
    pub fn discard(&mut self) {
        self.fault.get_or_insert(DataFault::NoRoom);
        self.stuffed = Vec::new();
    }

    /// Octets read so far, for judging progress.
    #[must_use]
    pub fn octets_read(&self) -> u64 {
        self.seen
    }

    /// The message, once it is complete.
    ///
    /// # Errors
    /// [`DataFault`] when the message must be refused. An incomplete message is never handed out:
    /// asked too early, the answer is an empty message's.
    pub fn finish(mut self) -> Result<Data, DataFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.state != State::End {
            return Ok(Data { stuffed: Vec::new(), size: 0 });
        }
        let size = self.size();
        self.stuffed.truncate(self.stuffed.len().saturating_sub(FINAL_DOT));
        if self.lone_dot {
            self.stuffed = stuff(&unstuff(&self.stuffed)).into_owned();
        }
        Ok(Data { stuffed: self.stuffed, size })
    }

    /// Takes one octet, or a run of plain text; returns how many.
    fn step(&mut self, rest: &[u8]) -> usize {
        let [first, ..] = rest else { return 0 };
        if self.state == State::Text {
            // Text is most of a message: jump to the next octet that means something.
            match memchr3(b'\r', b'\n', 0, rest) {
                None => return rest.len(),
                Some(0) => {}
                Some(at) => return at,
            }
        }
        self.state = self.after(*first);
        1
    }

    fn after(&mut self, octet: u8) -> State {
        match (self.state, octet) {
            (State::DotCr, b'\n') => return State::End,
            (State::Cr, b'\n') => return State::LineStart,
            (State::LineStart, b'.') => return State::Dot,
            (State::Dot, b'\r') => return State::DotCr,
            _ => {}
        }
        if matches!(self.state, State::Dot | State::DotCr) {
            self.dots += 1;
            self.lone_dot |= octet != b'.';
        }
        if matches!(self.state, State::Cr | State::DotCr) {
            self.blame(DataFault::BareCr);
        }
        match octet {
            b'\r' => State::Cr,
            b'\n' => {
                self.blame(DataFault::BareLf);
                State::Text
            }
            0 => {
                self.blame(DataFault::Nul);
                State::Text
            }
            _ => State::Text,
        }
    }

    fn blame(&mut self, fault: DataFault) {
        if matches!(self.fault, None | Some(DataFault::TooBig { .. })) {
            self.fault = Some(fault);
        }
    }

    /// Octets of the message itself; before its end, an estimate that is never too high.
    fn size(&self) -> u64 {
        self.seen.saturating_sub(self.dots).saturating_sub(FINAL_DOT as u64)
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.fault.is_none() && self.size() > self.limit {
            self.fault = Some(DataFault::TooBig { limit: self.limit });
        }
        match self.fault {
            None => self.stuffed.extend_from_slice(bytes),
            Some(_) => self.stuffed = Vec::new(),
        }
    }
}

/// `.` CR LF.
const FINAL_DOT: usize = 3;

/// Doubles each dot that begins a line (RFC 5321 section 4.5.2). A line begins at the start and
/// behind each CR LF. One pass; borrows when there is nothing to do, else copies the message.
#[must_use]
pub fn stuff(message: &[u8]) -> Cow<'_, [u8]> {
    edit_dots(message, Edit::Double)
}

/// Removes the dot that begins a line, the inverse of [`stuff`]. One pass; borrows when there is
/// nothing to do, else copies the message.
#[must_use]
pub fn unstuff(stuffed: &[u8]) -> Cow<'_, [u8]> {
    edit_dots(stuffed, Edit::Remove)
}

#[derive(Clone, Copy)]
enum Edit {
    Double,
    Remove,
}

fn edit_dots(text: &[u8], edit: Edit) -> Cow<'_, [u8]> {
    let first = text.starts_with(b".").then_some(0);
    let inner = memmem::find_iter(text, b"\r\n.").map(|at| at + 2);
    let mut dots = first.into_iter().chain(inner).peekable();
    if dots.peek().is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len() + 16);
    let mut from = 0;
    for dot in dots {
        let until = match edit {
            Edit::Double => dot + 1,
            Edit::Remove => dot,
        };
        out.extend_from_slice(text.get(from..until).unwrap_or_default());
        from = match edit {
            Edit::Double => dot,
            Edit::Remove => dot + 1,
        };
    }
    out.extend_from_slice(text.get(from..).unwrap_or_default());
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 1000;

    /// Reads in the given chunks; the message, and what is left behind its end.
    fn read_in(chunks: &[&[u8]], limit: u64) -> Option<(Result<Data, DataFault>, Vec<u8>)> {
        let mut reader = DataReader::new(limit);
        let mut left = Vec::new();
        for chunk in chunks {
            let used = reader.read(chunk);
            left.extend_from_slice(&chunk[used..]);
        }
        reader.is_complete().then(|| (reader.finish(), left))
    }

    /// The three lines that say where a message ends.
    fn model_end(bytes: &[u8]) -> Option<usize> {
        let whole = [b"\r\n".as_slice(), bytes].concat();
        let end = whole.windows(5).position(|five| five == b"\r\n.\r\n")? + 5;
        Some(end - 2)
    }

    #[test]
    fn only_cr_lf_dot_cr_lf_ends_a_message() {
        use DataFault::{BareCr, BareLf, Nul};
        let ok = |text: &str| Some(Ok(text.to_owned()));
        let table: &[(&str, Option<Result<String, DataFault>>)] = &[
            (".\r\n", ok("")),
            ("a\r\n.\r\n", ok("a\r\n")),
            ("\r\n.\r\n", ok("\r\n")),
            ("..\r\n.\r\n", ok("..\r\n")),
            ("...\r\na\r\n.\r\n", ok("...\r\na\r\n")),
            (".a\r\n.\r\n", ok("a\r\n")),
            (".a\r\n..b\r\n.\r\n", ok("a\r\n..b\r\n")),
            ("a.\r\n.\r\n", ok("a.\r\n")),
            ("\u{e9}\r\n.\r\n", ok("\u{e9}\r\n")),
            ("a\r\n.", None),
            ("a\r\n.\r", None),
            ("a\r\n.\n", None),
            ("a\n.\n", None),
            ("a\n.\r\n", None),
            ("a\r.\r", None),
            ("a\r.\r\n", None),
            ("a\r\n.\r\r\n", None),
            ("a\r\n\0.\r\n", None),
            ("a\r\n.\0\r\n", None),
            ("a\r\n.\r\r\n\r\n.\r\n", Some(Err(BareCr))),
            ("a\n.\n\r\n.\r\n", Some(Err(BareLf))),
            ("a\n.\r\nb\r\n.\r\n", Some(Err(BareLf))),
            ("a\r.\r\nb\r\n.\r\n", Some(Err(BareCr))),
            ("a\r\n\0.\r\nb\r\n.\r\n", Some(Err(Nul))),
            ("a\r\r\n.\r\n", Some(Err(BareCr))),
            (".\r\r\n.\r\n", Some(Err(BareCr))),
            (".\n\r\n.\r\n", Some(Err(BareLf))),
            ("\n\r\n.\r\n", Some(Err(BareLf))),
        ];
        for (text, want) in table {
            let mut chunkings = vec![vec![text.as_bytes()], text.as_bytes().chunks(1).collect()];
            chunkings.extend((0..text.len()).map(|at| {
                let (head, tail) = text.as_bytes().split_at(at);
                vec![head, tail]
            }));
            for chunks in chunkings {
                let got = read_in(&chunks, LIMIT).map(|(end, _)| end);
                let got = got.map(|end| end.map(|data| String::from_utf8(data.stuffed).unwrap()));
                assert_eq!(&got, want, "{text:?} as {chunks:?}");
            }
        }
    }

    #[test]
    fn size_counts_the_message_without_stuffing() {
        for (text, size) in
            [(".\r\n", 0), ("a\r\n.\r\n", 3), ("..\r\n.\r\n", 3), (".a\r\n..b\r\n.\r\n", 7)]
        {
            let (data, _) = read_in(&[text.as_bytes()], size).unwrap();
            assert_eq!(data.unwrap().size, size, "{text:?}");
            let small = read_in(&[text.as_bytes()], size.saturating_sub(1)).unwrap().0;
            assert_eq!(small.is_ok(), size == 0, "{text:?}");
        }
    }

    #[test]
    fn a_big_message_is_read_to_its_end_in_bounded_memory() {
        let mut reader = DataReader::new(100);
        for _ in 0..10_000 {
            assert_eq!(reader.read(b"0123456789\r\n"), 12);
            assert!(reader.stuffed.capacity() <= 512);
        }
        assert_eq!(reader.read(b".\r\nQUIT\r\n"), 3);
        assert_eq!(reader.finish(), Err(DataFault::TooBig { limit: 100 }));
    }

    /// Octets that matter, often.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let octet = prop_oneof![
            6 => prop::sample::select(b"\r\n.".to_vec()),
            2 => prop::sample::select(b"a\0".to_vec()),
            1 => any::<u8>(),
        ];
        let piece = prop_oneof![
            octet.prop_map(|octet| vec![octet]),
            Just(b"\r\n".to_vec()),
            Just(b"\r\n.\r\n".to_vec()),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn stuffing_goes_back(text in hostile()) {
            let stuffed = stuff(&text);
            prop_assert_eq!(unstuff(&stuffed).into_owned(), text);
        }

        #[test]
        fn a_stuffed_message_ends_where_it_should(text in hostile()) {
            let mut wire = stuff(&text).into_owned();
            wire.extend_from_slice(b"\r\n.\r\nQUIT\r\n");
            let (end, left) = read_in(&[&wire], u64::MAX).unwrap();
            prop_assert_eq!(left, b"QUIT\r\n");
            if let Ok(data) = end {
                let message = unstuff(&data.stuffed).into_owned();
                prop_assert_eq!(data.size, message.len() as u64);
                prop_assert_eq!(message, [text.as_slice(), b"\r\n"].concat());
            }
        }

        #[test]
        fn agrees_with_the_model_in_any_chunks(text in hostile(), cuts in prop::collection::vec(0..200usize, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let got = read_in(&chunks, u64::MAX);
            let end = model_end(&text);
            prop_assert_eq!(got.as_ref().map(|(_, left)| text.len() - left.len()), end);
            prop_assert_eq!(&got, &read_in(&[&text], u64::MAX));
            if let (Some((found, _)), Some(end)) = (got, end) {
                let body = &text[..end - 3];
                let plain = String::from_utf8_lossy(body).replace("\r\n", "");
                prop_assert_eq!(found.is_ok(), !plain.contains(['\r', '\n', '\0']));
                if let Ok(data) = found {
                    prop_assert_eq!(data.stuffed, stuff(&unstuff(body)).into_owned());
                }
            }
        }
    }
}
