//! The from clause of a `Received` line, cut into words and comments.
//!
//! Goes in: a field's value. Comes out: its parts in order, until the clause ends: at a word `by`,
//! `via`, `with`, `id` or `for` outside comments, at `;`, or at the end. Time is linear and nothing is
//! allocated: every byte is looked at a bounded number of times, which [`Clause::steps`] counts.
//!
//! Why it is stricter than RFC 5322 section 3.2: a forger writes HELO, ident and envelope texts, so no
//! quote, bracket or backslash may make the clause run on into what stands behind `by`. Quotes do not
//! protect parentheses, brackets hold no blank, and an escaped parenthesis makes the line unreadable.

use std::ops::Range;

use memchr::memchr;

use crate::literal::{self, Found};

/// Brackets further apart are not a literal's.
const LONGEST_BRACKET: usize = 64;

/// One part of the clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A word outside comments, by its place in the value.
    Word(Range<usize>),
    /// What stands between a comment's parentheses; `glued`: no blank stands before it.
    Comment { inside: Range<usize>, glued: bool },
}

/// How the clause ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// At one of the words of RFC 5321 section 4.4, or at the end of the value.
    Word,
    /// At `;`: the parts in between are missing.
    Semicolon,
    /// Inside a comment that is never closed.
    Open,
    /// A parenthesis with a backslash: who wrote it cannot be told.
    Escape,
}

/// The parts of a from clause, one after another.
#[derive(Clone, Debug)]
pub(crate) struct Clause<'a> {
    value: &'a [u8],
    at: usize,
    end: Option<End>,
    steps: usize,
}

impl<'a> Clause<'a> {
    /// The clause behind the word `from`, or nothing when the value does not begin with that word.
    pub(crate) fn of(value: &'a [u8]) -> Option<Self> {
        let blank = value.iter().take_while(|b| is_blank(**b)).count();
        let head = value.get(blank..blank + 4)?;
        let at = blank + 4;
        let ends = value.get(at).is_none_or(|b| is_blank(*b) || b"([\"".contains(b));
        (head.eq_ignore_ascii_case(b"from") && ends).then_some(Self {
            value,
            at,
            end: None,
            steps: 0,
        })
    }

    /// How the clause ended, once [`Self::next_part`] has said that it did.
    pub(crate) fn end(&self) -> End {
        self.end.unwrap_or(End::Word)
    }

    /// What stands behind the end of the clause.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.value.get(self.at..).unwrap_or_default()
    }

    /// How many bytes have been looked at, counted as often as they were.
    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    /// The bytes of a part.
    pub(crate) fn text(&self, place: Range<usize>) -> &'a [u8] {
        self.value.get(place).unwrap_or_default()
    }

    /// The next part.
    pub(crate) fn next_part(&mut self) -> Option<Part> {
        loop {
            if self.end.is_some() {
                return None;
            }
            match self.value.get(self.at) {
                None => self.end = Some(End::Word),
                Some(b'(') => return self.comment(),
                Some(b';') => {
                    self.at += 1;
                    self.end = Some(End::Semicolon);
                }
                Some(b) if is_blank(*b) || *b == b')' => {
                    self.at += 1;
                    self.steps += 1;
                }
                Some(_) => return self.word(),
            }
        }
    }

    fn comment(&mut self) -> Option<Part> {
        let start = self.at + 1;
        let glued = self.at.checked_sub(1).and_then(|i| self.value.get(i));
        let glued = glued.is_some_and(|b| !is_blank(*b));
        let mut depth = 1_usize;
        for (i, b) in self.value.iter().enumerate().skip(start) {
            self.steps += 1;
            match b {
                b'(' => depth += 1,
                b')' => depth -= 1,
                b'\\' if matches!(self.value.get(i + 1), Some(b'(' | b')')) => {
                    self.end = Some(End::Escape);
                    return None;
                }
                _ => {}
            }
            if depth == 0 {
                self.at = i + 1;
                return Some(Part::Comment { inside: start..i, glued });
            }
        }
        self.at = self.value.len();
        self.end = Some(End::Open);
        None
    }

    fn word(&mut self) -> Option<Part> {
        let start = self.at;
        while let Some(b) = self.value.get(self.at) {
            match b {
                b'[' => {
                    let rest = self.value.get(self.at..).unwrap_or_default();
                    let (closed, looked) = bracket(rest);
                    self.steps += looked;
                    self.at += closed.unwrap_or(1);
                    if closed.is_some() && is_by(self.rest()) {
                        break;
                    }
                }
                b'(' | b')' | b';' => break,
                b'\\' if matches!(self.value.get(self.at + 1), Some(b'(' | b')')) => {
                    self.end = Some(End::Escape);
                    return None;
                }
                b if is_blank(*b) => break,
                _ => {
                    self.at += 1;
                    self.steps += 1;
                }
            }
        }
        let word = self.value.get(start..self.at).unwrap_or_default();
        let ends: [&[u8]; 5] = [b"by", b"via", b"with", b"id", b"for"];
        // `by[192.0.2.1]` and `by:` end the clause as well.
        let head = word.split(|b| b"[:".contains(b)).next().unwrap_or_default();
        if ends.iter().any(|end| head.eq_ignore_ascii_case(end)) {
            self.end = Some(End::Word);
            return None;
        }
        Some(Part::Word(start..self.at))
    }
}

/// Whether the word `by` stands at the head of `text`: `from [192.0.2.1]by mx.example`.
fn is_by(text: &[u8]) -> bool {
    let ends = text.get(2).is_none_or(|b| is_blank(*b));
    ends && text.get(..2).is_some_and(|word| word.eq_ignore_ascii_case(b"by"))
}

/// The length of the bracket at the head of `text` with both its marks, and how far was looked.
///
/// No blank may stand in it but at its ends; a parenthesis only as `[(1.2.3.4)]`.
fn bracket(text: &[u8]) -> (Option<usize>, usize) {
    let window = text.get(1..text.len().min(LONGEST_BRACKET)).unwrap_or_default();
    let Some(length) = window.iter().position(|b| b"[]".contains(b)) else {
        return (None, window.len());
    };
    let looked = length + 1;
    let content = window.get(..length).unwrap_or_default();
    let closed = window.get(length) == Some(&b']');
    let plain = |text: &[u8]| !text.iter().any(|b| is_blank(*b) || b"()".contains(b));
    let inner = content.trim_ascii();
    let inner = inner.strip_prefix(b"(").and_then(|s| s.strip_suffix(b")")).unwrap_or(inner);
    ((closed && plain(inner)).then_some(length + 2), looked)
}

pub(crate) fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

/// What a word looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Brackets, maybe with a port behind them; `None`: what they hold is no address.
    Bracket(Option<Found>),
    /// An address without brackets.
    Bare(Found),
    /// A name with brackets right behind it: `host[192.0.2.1]`.
    Named(Option<Found>),
    /// `user@192.0.2.1`, `user@[192.0.2.1]`: an ident answer or a login before the address.
    User(Found),
    /// `label:…` or `label=…`: what follows was said by someone else.
    Label,
    /// Anything else.
    Text,
}

/// Looks at one word; `at` is where it stands in the value.
pub(crate) fn shape(word: &[u8], at: usize) -> Shape {
    if let Some(found) = literal::bare(word.strip_suffix(b",").unwrap_or(word), at) {
        return Shape::Bare(found);
    }
    if let Some(user) = memchr::memrchr(b'@', word) {
        return with_user(word, user, at);
    }
    let Some(open) = memchr(b'[', word) else {
        return if is_label(word) { Shape::Label } else { Shape::Text };
    };
    let (name, rest) = word.split_at_checked(open).unwrap_or((word, b""));
    if is_label(name) {
        return Shape::Label;
    }
    let found = match closing(rest) {
        Some((content, suffix)) if literal::ends_literal(suffix) => {
            literal::bracketed(content, at + open + 1)
        }
        // A name such as `[UNAVAILABLE]example` is no literal.
        Some(_) if name.is_empty() => return Shape::Bracket(None),
        _ => None,
    };
    if name.is_empty() { Shape::Bracket(found) } else { Shape::Named(found) }
}

/// What the bracket at the head of `text` holds, and what stands behind it.
fn closing(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"[")?;
    let close = memchr(b']', text)?;
    Some((text.get(..close)?, text.get(close + 1..)?))
}

fn with_user(word: &[u8], user: usize, at: usize) -> Shape {
    let (name, rest) = word.split_at_checked(user + 1).unwrap_or((word, b""));
    let ident = name.split_at_checked(6).is_some_and(|(s, _)| s.eq_ignore_ascii_case(b"ident:"));
    // `"port 51581"@[192.0.2.1]`
    let port = name.split_at_checked(6).is_some_and(|(s, _)| s.eq_ignore_ascii_case(b"\"port "));
    if !ident && !port && (is_label(name) || name.iter().any(|b| b":=<\"".contains(b))) {
        return if name.starts_with(b"\"") { Shape::Text } else { Shape::Label };
    }
    let at = at + user + 1;
    let found = match closing(rest) {
        Some((content, suffix)) if literal::ends_literal(suffix) => {
            literal::bracketed(content, at + 1)
        }
        Some(_) => None,
        None => literal::bare(rest.strip_suffix(b",").unwrap_or(rest), at),
    };
    match found {
        Some(found) => Shape::User(found),
        // `root@dubravka.kbx.de[212.40.160.59]`
        None => match memchr(b'[', rest) {
            Some(open) if open > 0 => match shape_of_name(rest, open, at) {
                Some(found) => Shape::Named(Some(found)),
                None => Shape::Text,
            },
            _ => Shape::Text,
        },
    }
}

fn shape_of_name(rest: &[u8], open: usize, at: usize) -> Option<Found> {
    let (content, suffix) = closing(rest.get(open..)?)?;
    literal::ends_literal(suffix).then(|| literal::bracketed(content, at + open + 1)).flatten()
}

/// A word that says what follows, with or without its value: `helo=x`, `AUTH:`, `<a@b>`.
fn is_label(word: &[u8]) -> bool {
    word.starts_with(b"<") || word.contains(&b'=') || word.ends_with(b":")
}

/// The words of a comment: blanks and commas part them, nested comments are left out, a quoted text
/// is one word.
#[derive(Clone, Debug)]
pub(crate) struct Words<'a> {
    value: &'a [u8],
    at: usize,
    end: usize,
    steps: usize,
    nested: bool,
}

impl<'a> Words<'a> {
    pub(crate) fn of(value: &'a [u8], inside: Range<usize>) -> Self {
        Self { value, at: inside.start, end: inside.end, steps: 0, nested: false }
    }

    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    /// Whether a nested comment has been passed.
    pub(crate) fn nested(&self) -> bool {
        self.nested
    }

    fn byte(&self) -> Option<u8> {
        self.value.get(self.at).copied().filter(|_| self.at < self.end)
    }

    /// The next word's place.
    pub(crate) fn next_word(&mut self) -> Option<Range<usize>> {
        let mut depth = 0_usize;
        loop {
            let b = self.byte()?;
            match b {
                b'(' => {
                    self.nested = true;
                    depth += 1;
                }
                b')' => depth = depth.saturating_sub(1),
                b',' => {}
                _ if depth > 0 || is_blank(b) => {}
                _ => break,
            }
            self.at += 1;
            self.steps += 1;
        }
        let start = self.at;
        while let Some(b) = self.byte() {
            let rest = self.value.get(self.at..self.end).unwrap_or_default();
            match b {
                b'[' => {
                    let (closed, looked) = bracket(rest);
                    self.steps += looked;
                    self.at += closed.unwrap_or(1);
                }
                b'"' => {
                    // An open quote holds all that is left: it may be a forger's.
                    let text = rest.get(1..).unwrap_or_default();
                    let length = memchr(b'"', text).map_or(rest.len(), |close| close + 2);
                    self.steps += length;
                    self.at += length;
                }
                b'(' | b')' | b',' => break,
                b if is_blank(b) => break,
                _ => {
                    self.at += 1;
                    self.steps += 1;
                }
            }
        }
        Some(start..self.at)
    }
}
