//! The attachments of a message, and the edits that remove them.

use std::ops::Range;

use memchr::{memchr, memchr_iter, memmem};
use waypost_types::{Fields, HeaderBlock};

use crate::content::{Content, Encoding, Media};
use crate::definition::{Fate, Kind, Unreadable, Why, fate};
use crate::edit::{Edit, Edits};
use crate::notice::{Notice, harmless};

/// The most multiparts inside of each other that are opened; a deeper one goes as a whole.
pub const MOST_DEEP: usize = 32;
/// Parts of a message, multiparts and what stands behind their ends included.
pub const MOST_PARTS: usize = 1_000;
/// Octets of a part's header.
const LONGEST_HEADER: usize = 64 << 10;

/// One attachment, as far as its header tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its file name: one line without control characters, at most 121 characters.
    pub name: Option<String>,
    /// Its media type in lower case, at most 121 characters.
    pub media: String,
    /// Its size in octets: decoded for base64 and quoted-printable, without stuffed dots; a multipart
    /// as it stands.
    pub size: u64,
    /// Why it counts as one.
    pub why: Why,
}

/// What was found in a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// What goes, in order.
    pub attachments: Vec<Attachment>,
    /// How it goes; nothing when there is no attachment.
    pub edits: Edits,
    /// The whole content goes: it is one attachment, or cannot be read with certainty.
    pub is_whole: bool,
    /// Something goes from inside a multipart/signed, whose signature no longer holds then.
    pub breaks_signature: bool,
}

/// Finds the attachments of a message, and replaces each by a notice that names `rules`.
///
/// The octets are a message as it is stored, dot-stuffed, or one that is not; lines may end in LF
/// alone. Nothing of it is copied but what the notices say. Time is linear in its length (times
/// [`MOST_DEEP`] for lines that begin with `--`); memory is bounded by [`MOST_PARTS`] notices of at most
/// 3 KiB.
#[must_use]
pub fn remove_attachments(message: &[u8], rules: &[&str]) -> Removal {
    let header = HeaderBlock::of(message);
    let content = Content::read(header.fields(), Media::new("text", "plain"));
    let why = match fate(&content, None) {
        Fate::Keep => return Removal::default(),
        Fate::Remove(why) => why,
        Fate::Open(kind) => {
            let boundary = content.boundary.clone().unwrap_or_default();
            let walk = Walk::new(message, header.body_offset(), (boundary, kind), rules);
            match walk.run() {
                Ok(removal) => return removal,
                Err(because) => Why::Unreadable(because),
            }
        }
    };
    let body = header.body_offset()..message.len();
    let attachment = described(message, body, &content, why);
    let edits = whole(message, &header, Notice::of(&attachment, true, rules));
    Removal { attachments: vec![attachment], edits, is_whole: true, breaks_signature: false }
}

/// The edits that put a notice in the place of all content.
fn whole(message: &[u8], header: &HeaderBlock<'_>, notice: Notice) -> Edits {
    let block = header.as_bytes();
    let mut edits = Vec::new();
    let mut has_version = false;
    for field in header.fields() {
        has_version |= field.is("mime-version");
        if field.name.get(..8).is_some_and(|name| name.eq_ignore_ascii_case(b"content-")) {
            let text = block.get(field.offset..).unwrap_or_default();
            let colon = memchr(b':', text).unwrap_or_default();
            let end = field.offset + colon + 1 + field.raw.len();
            let end = memchr(b'\n', block.get(end..).unwrap_or_default())
                .map_or(block.len(), |at| end + at + 1);
            edits.push(Edit { range: field.offset..end, text: Vec::new() });
        }
    }
    let mut fields = String::new();
    if !block.is_empty() && !block.ends_with(b"\n") {
        fields.push_str("\r\n");
    }
    if !has_version {
        fields.push_str("MIME-Version: 1.0\r\n");
    }
    fields.push_str(&notice.header);
    let mut text = fields.into_bytes();
    // The empty line goes with the content: it may be missing.
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(&notice.text);
    // Where the last field goes, and had no line end, nothing stands before the new ones.
    if edits.last().is_some_and(|last| last.range.end == block.len()) && text.starts_with(b"\r\n") {
        text.drain(..2);
    }
    edits.push(Edit { range: block.len()..message.len(), text });
    Edits::of(edits)
}

/// An attachment in words: `region` is its content without its header.
fn described(message: &[u8], region: Range<usize>, content: &Content, why: Why) -> Attachment {
    let name = content.names.iter().find(|name| !name.trim().is_empty());
    Attachment {
        name: name.map(|name| harmless(name)),
        media: match &content.media {
            Some(media) => harmless(&media.to_string()),
            None => "unreadable".to_owned(),
        },
        size: size(message.get(region).unwrap_or_default(), content.encoding),
        why,
    }
}

/// The octets that a part decodes to, without stuffed dots and without the line end that belongs to
/// the delimiter behind it.
fn size(body: &[u8], encoding: Encoding) -> u64 {
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    let body = body.strip_suffix(b"\r").unwrap_or(body);
    let octets = match encoding {
        Encoding::Base64 => {
            let line_ends = memchr_iter(b'\n', body).count() + memchr_iter(b'\r', body).count();
            let digits = body.len() - line_ends;
            let padding = body.trim_ascii_end().iter().rev().take_while(|b| **b == b'=').count();
            (digits / 4 * 3).saturating_sub(padding.min(2))
        }
        Encoding::QuotedPrintable => {
            let escapes = memchr_iter(b'=', body).map(|at| match body.get(at + 1) {
                Some(b'\r') => 3,
                _ => 2,
            });
            body.len().saturating_sub(escapes.sum())
        }
        Encoding::Identity | Encoding::Unknown => {
            let stuffed = memmem::find_iter(body, b"\n..").count();
            body.len() - stuffed - usize::from(body.starts_with(b".."))
        }
    };
    u64::try_from(octets).unwrap_or(u64::MAX)
}

/// A multipart whose delimiters are looked for.
struct Frame {
    boundary: Vec<u8>,
    kind: Kind,
    /// Its closing delimiter was met. It may be opened again: not all readers mind the end.
    closed: bool,
    /// Its first delimiter, without what stands behind the boundary.
    first: Option<Range<usize>>,
    /// It is removed as a whole, with all that its delimiters part.
    gone: Option<Going>,
}

/// A part that is removed, whose end is still to come.
struct Going {
    /// The line of the delimiter before it.
    delimiter: usize,
    /// Its header begins here, its content there.
    header: usize,
    body: usize,
    content: Content,
    why: Why,
    /// A form in a multipart/alternative that is not the first one.
    is_alternative: bool,
}

/// A delimiter line.
struct Delimiter {
    frame: usize,
    closes: bool,
}

/// One pass over the delimiters of a message.
struct Walk<'m> {
    message: &'m [u8],
    /// Where the next delimiter is looked for: at the beginning of a line.
    at: usize,
    /// The open multiparts, outermost first.
    frames: Vec<Frame>,
    /// A part without parts that is being removed.
    going: Option<Going>,
    attachments: Vec<Attachment>,
    /// How each of them goes.
    edits: Vec<Edit>,
    parts: usize,
    breaks_signature: bool,
    rules: &'m [&'m str],
}

impl<'m> Walk<'m> {
    fn new(message: &'m [u8], at: usize, root: (Vec<u8>, Kind), rules: &'m [&'m str]) -> Self {
        let (boundary, kind) = root;
        let root = Frame { boundary, kind, closed: false, first: None, gone: None };
        Self {
            message,
            at,
            frames: vec![root],
            going: None,
            attachments: Vec::new(),
            edits: Vec::new(),
            parts: 0,
            breaks_signature: false,
            rules,
        }
    }

    fn run(mut self) -> Result<Removal, Unreadable> {
        let mut is_parted = false;
        let body = self.at;
        while let Some(line) = self.next_line() {
            if let Some(delimiter) = self.delimiter(&line) {
                is_parted = true;
                self.part(&line, &delimiter)?;
            }
        }
        let content = self.message.get(body..).unwrap_or_default();
        if !is_parted && !content.trim_ascii().is_empty() {
            return Err(Unreadable::Delimiter);
        }
        self.close(0, self.message.len());
        let edits = Edits::of(self.edits);
        let Self { attachments, breaks_signature, .. } = self;
        Ok(Removal { attachments, edits, is_whole: false, breaks_signature })
    }

    /// The next line that begins with `--`, with its line end.
    fn next_line(&mut self) -> Option<Range<usize>> {
        let rest = self.message.get(self.at..)?;
        let start = if rest.starts_with(b"--") {
            self.at
        } else {
            self.at + memmem::find(rest, b"\n--")? + 1
        };
        let end = line_end(self.message, start);
        self.at = end;
        Some(start..end)
    }

    /// The multipart that a line delimits: the innermost whose boundary it holds exactly, first of
    /// those that are open; else the innermost whose boundary it begins with (RFC 2046 section 5.1.1).
    fn delimiter(&self, line: &Range<usize>) -> Option<Delimiter> {
        let line = self.message.get(line.clone())?.strip_prefix(b"--")?.trim_ascii_end();
        let exact = |frame: &Frame| match line.strip_prefix(frame.boundary.as_slice()) {
            Some(b"") => Some(false),
            Some(b"--") => Some(true),
            _ => None,
        };
        let frames = || self.frames.iter().enumerate().rev();
        for closed in [false, true] {
            let mut open = frames().filter(|(_, frame)| frame.closed == closed);
            let found = open.find_map(|(place, frame)| Some((place, exact(frame)?)));
            if let Some((frame, closes)) = found {
                return Some(Delimiter { frame, closes });
            }
        }
        let (frame, _) = frames().find(|(_, frame)| line.starts_with(&frame.boundary))?;
        Some(Delimiter { frame, closes: false })
    }

    /// A part begins behind a delimiter, or, behind a closing one, text that is no part to all readers.
    fn part(&mut self, line: &Range<usize>, delimiter: &Delimiter) -> Result<(), Unreadable> {
        self.parts += 1;
        if self.parts > MOST_PARTS {
            return Err(Unreadable::TooMany);
        }
        self.close(delimiter.frame + 1, line.start);
        let depth = self.frames.len();
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        frame.closed = delimiter.closes;
        if frame.gone.is_some() {
            return Ok(());
        }
        let here = line.start..line.start + 2 + frame.boundary.len();
        if !delimiter.closes {
            frame.first.get_or_insert(here.clone());
        }
        let kind = frame.kind;
        let is_alternative =
            kind == Kind::Alternative && !delimiter.closes && frame.first != Some(here);
        let default = if delimiter.closes { Kind::Mixed } else { kind }.default_media();
        let (content, body, fate) = match self.header(line.end) {
            Some(header) => {
                let fields = self.message.get(header.clone()).unwrap_or_default();
                let content = Content::read(Fields::of(fields), default);
                let fate = match fate(&content, Some(kind)) {
                    Fate::Open(_) if depth >= MOST_DEEP => {
                        Fate::Remove(Why::Unreadable(Unreadable::TooDeep))
                    }
                    fate => fate,
                };
                self.at = header.end;
                (content, header.end, fate)
            }
            None => {
                let why = Why::Unreadable(Unreadable::Header);
                (Content::unreadable(), line.end, Fate::Remove(why))
            }
        };
        let boundary = content.boundary.clone().filter(|_| content.is("multipart"));
        let going = |why| Going {
            delimiter: line.start,
            header: line.end,
            body,
            content,
            why,
            is_alternative,
        };
        match (fate, boundary) {
            (Fate::Keep, _) => {}
            (Fate::Open(kind), boundary) => {
                let boundary = boundary.unwrap_or_default();
                self.frames.push(Frame { boundary, kind, closed: false, first: None, gone: None });
            }
            (Fate::Remove(why), Some(boundary)) => {
                let (kind, gone) = (Kind::Mixed, Some(going(why)));
                self.frames.push(Frame { boundary, kind, closed: false, first: None, gone });
            }
            (Fate::Remove(why), None) => self.going = Some(going(why)),
        }
        Ok(())
    }

    /// Where a part's header stands, with the empty line that ends it; it ends too where a delimiter
    /// does. `None` if it is too long.
    fn header(&self, start: usize) -> Option<Range<usize>> {
        let mut at = start;
        loop {
            let end = line_end(self.message, at);
            let line = self.message.get(at..end).unwrap_or_default();
            match line {
                b"" => return Some(start..at),
                b"\n" | b"\r\n" => return Some(start..end),
                [b'-', b'-', ..] if self.delimiter(&(at..end)).is_some() => {
                    return Some(start..at);
                }
                _ => at = end,
            }
            if at - start > LONGEST_HEADER {
                return None;
            }
        }
    }

    /// Ends what stands open inside of the first `depth` multiparts.
    fn close(&mut self, depth: usize, end: usize) {
        if let Some(going) = self.going.take() {
            let first = self.frames.last().and_then(|frame| frame.first.clone());
            self.remove(&going, end, first);
        }
        while self.frames.len() > depth {
            let Some(frame) = self.frames.pop() else { return };
            if let Some(going) = frame.gone {
                let first = self.frames.last().and_then(|frame| frame.first.clone());
                self.remove(&going, end, first);
            }
        }
    }

    /// A part that goes ends; `first` is the first delimiter of the multipart it stands in.
    fn remove(&mut self, going: &Going, end: usize, first: Option<Range<usize>>) {
        let attachment = described(self.message, going.body..end, &going.content, going.why);
        let notice = Notice::of(&attachment, false, self.rules).part();
        self.attachments.push(attachment);
        self.breaks_signature |= self.frames.iter().any(|frame| frame.kind == Kind::Signed);
        match first.filter(|_| going.is_alternative) {
            // Readers show the last form that they can: a notice there would hide the message.
            Some(first) => {
                let mut text = self.message.get(first.clone()).unwrap_or_default().to_vec();
                text.extend_from_slice(b"\r\n");
                text.extend_from_slice(&notice);
                self.edits.push(Edit { range: first.start..first.start, text });
                self.edits.push(Edit { range: going.delimiter..end, text: Vec::new() });
            }
            None => self.edits.push(Edit { range: going.header..end, text: notice }),
        }
    }
}

/// Where the line that begins at `start` ends, its line end included.
fn line_end(message: &[u8], start: usize) -> usize {
    let rest = message.get(start..).unwrap_or_default();
    memchr(b'\n', rest).map_or(message.len(), |end| start + end + 1)
}
