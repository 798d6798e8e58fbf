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

use memchr::memchr3;

use crate::class::Class;

/// What brackets hold is no longer, but for blanks at its ends.
const LONGEST_BRACKET: usize = 64;

/// A word's place in the value, and what its bytes are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) place: Range<usize>,
    pub(crate) classes: Class,
}

impl Word {
    /// No word.
    pub(crate) const NONE: Self = Self { place: 0..0, classes: Class::NONE };
}

/// What stands right before a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    Blank,
    /// A comment's end.
    Comment,
    /// A word.
    Word,
}

/// A comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comment {
    /// What stands between its parentheses.
    pub(crate) inside: Range<usize>,
    /// What stands before it.
    pub(crate) before: Before,
    /// Another comment stands in it.
    pub(crate) nests: bool,
    /// It is never closed: all that is left stands in it.
    pub(crate) open: bool,
}

/// One part of the clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A word outside comments.
    Word(Word),
    /// A comment.
    Comment(Comment),
}

/// How the clause ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// At the word `by`.
    By,
    /// At another word of RFC 5321 section 4.4, or at the end of the value.
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
    stray: bool,
    steps: usize,
}

impl<'a> Clause<'a> {
    /// The clause behind the word `from`, or nothing when the value does not begin with that word.
    pub(crate) fn of(value: &'a [u8]) -> Option<Self> {
        let blank = value.iter().take_while(|b| is_blank(**b)).count();
        let head = value.get(blank..blank + 4)?;
        let at = blank + 4;
        let ends = value.get(at).is_none_or(|b| is_blank(*b) || b"()[\"<;".contains(b));
        (head.eq_ignore_ascii_case(b"from") && ends).then_some(Self {
            value,
            at,
            end: None,
            stray: false,
            steps: 0,
        })
    }

    /// Whether a parenthesis was closed that was not open.
    pub(crate) fn stray(&self) -> bool {
        self.stray
    }

    /// Whether the last part and the word behind it, at which the clause ends, are one word that HELO
    /// may have said.
    pub(crate) fn runs_into_end(&self) -> bool {
        let rest = self.rest();
        let length = rest.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        let (word, behind) = rest.split_at_checked(length).unwrap_or((rest, b""));
        match end_of_clause(word, Class::NONE) {
            Some(End::By) => behind.first().is_some_and(|b| !is_blank(*b)) || !ends_at_by(rest),
            end => end.is_some(),
        }
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
        while self.end.is_none() {
            match self.value.get(self.at) {
                None => self.end = Some(End::Word),
                Some(b'(') => return self.comment(),
                Some(b';') => {
                    self.at += 1;
                    self.end = Some(End::Semicolon);
                }
                Some(b @ (b')' | b' ' | b'\t' | b'\r' | b'\n')) => {
                    self.stray |= *b == b')';
                    self.at += 1;
                    self.steps += 1;
                }
                Some(_) => return self.word(),
            }
        }
        None
    }

    fn comment(&mut self) -> Option<Part> {
        let before = match self.at.checked_sub(1).and_then(|i| self.value.get(i)) {
            Some(b')') => Before::Comment,
            Some(b) if !is_blank(*b) => Before::Word,
            _ => Before::Blank,
        };
        let start = self.at + 1;
        self.at = start;
        let (mut depth, mut nests) = (1_usize, false);
        loop {
            // Where marks follow each other, a search for each would cost more than a look.
            let next = match self.rest() {
                [b'(' | b')' | b'\\', ..] => Some(0),
                rest => memchr3(b'(', b')', b'\\', rest),
            };
            let Some(length) = next else {
                self.steps += self.rest().len();
                self.at = self.value.len();
                self.end = Some(End::Open);
                let inside = start..self.at;
                return Some(Part::Comment(Comment { inside, before, nests, open: true }));
            };
            self.steps += length + 1;
            self.at += length;
            match self.rest() {
                [b'\\', b'(' | b')', ..] => {
                    self.end = Some(End::Escape);
                    return None;
                }
                [b'(', ..] => {
                    depth += 1;
                    nests = true;
                }
                [b')', ..] => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                let inside = start..self.at - 1;
                return Some(Part::Comment(Comment { inside, before, nests, open: false }));
            }
        }
    }

    fn word(&mut self) -> Option<Part> {
        const BREAK: Class = Class::BLANK
            .and(Class::PARENTHESIS)
            .and(Class::OPEN)
            .and(Class::SEMICOLON)
            .and(Class::BACKSLASH);
        let start = self.at;
        let mut classes = Class::default();
        loop {
            let (length, met) = Class::run(self.rest(), BREAK);
            classes = classes | met;
            self.steps += length + 1;
            self.at += length;
            match self.rest() {
                [b'[', ..] => {
                    let bracket = Bracket::of(self.rest());
                    classes = classes | bracket.classes;
                    self.steps += bracket.looked;
                    self.at += bracket.length.unwrap_or(1);
                    if bracket.length.is_some() && ends_at_by(self.rest()) {
                        break;
                    }
                }
                [b'\\', b'(' | b')', ..] => {
                    self.end = Some(End::Escape);
                    return None;
                }
                [b'\\', ..] => self.at += 1,
                _ => break,
            }
        }
        let place = start..self.at;
        if let Some(end) = end_of_clause(self.text(place.clone()), classes) {
            self.end = Some(end);
            return None;
        }
        Some(Part::Word(Word { place, classes }))
    }
}

/// How a word ends the clause, if it does; `by[192.0.2.1]` and `by:` do as well.
fn end_of_clause(word: &[u8], classes: Class) -> Option<End> {
    let head = match classes.meets(Class::OPEN | Class::COLON) {
        true => word.split(|b| b"[:".contains(b)).next().unwrap_or_default(),
        false => word,
    };
    let is = |end: &[u8]| head.eq_ignore_ascii_case(end);
    match head.len() {
        2 if is(b"by") => Some(End::By),
        2 if is(b"id") => Some(End::Word),
        3 if is(b"via") || is(b"for") => Some(End::Word),
        4 if is(b"with") => Some(End::Word),
        _ => None,
    }
}

/// Whether the word `by` stands at the head of `text`.
pub(crate) fn is_by(text: &[u8]) -> bool {
    let ends = text.get(2).is_none_or(|b| is_blank(*b));
    ends && text.get(..2).is_some_and(|word| word.eq_ignore_ascii_case(b"by"))
}

/// Whether a `by` right behind a bracket ends the clause: `from [192.0.2.1]by mx.example`, but not
/// `from [192.0.2.1]by (r.example [192.0.2.2])`, where it is part of what HELO said.
fn ends_at_by(text: &[u8]) -> bool {
    let behind = text.get(2..).unwrap_or_default().trim_ascii_start();
    is_by(text) && !behind.starts_with(b"(") && !behind.starts_with(b"[") && !is_by(behind)
}

/// What stands at an opening bracket.
///
/// No blank may stand in a literal's brackets but at their ends; a parenthesis only as `[(1.2.3.4)]`.
pub(crate) struct Bracket {
    /// Its length with both marks, if it may be a literal's.
    pub(crate) length: Option<usize>,
    /// The classes of the bytes within, and [`Class::OPEN`].
    pub(crate) classes: Class,
    /// How far was looked.
    pub(crate) looked: usize,
}

impl Bracket {
    /// Looks at the bracket at the head of `text`.
    pub(crate) fn of(text: &[u8]) -> Self {
        const STOP: Class = Class::BLANK.and(Class::OPEN).and(Class::CLOSE);
        let blanks = |text: &[u8]| text.iter().take_while(|b| is_blank(**b)).count();
        let inside = text.get(1..).unwrap_or_default();
        let before = blanks(inside);
        let inside = inside.get(before..).unwrap_or_default();
        let window = inside.get(..inside.len().min(LONGEST_BRACKET)).unwrap_or_default();
        let (length, met) = Class::run(window, STOP);
        let rest = inside.get(length..).unwrap_or_default();
        let after = blanks(rest);
        let content = window.get(..length).unwrap_or_default();
        let closed = rest.get(after) == Some(&b']');
        let literal = closed && is_plain(content, met, before + after > 0);
        let looked = before + length + after + 1;
        Self {
            length: literal.then_some(looked + 1),
            classes: Class::OPEN | if literal { met } else { Class::default() },
            looked,
        }
    }
}

/// Whether brackets may hold that; `apart`: there are blanks between them and it.
fn is_plain(content: &[u8], met: Class, apart: bool) -> bool {
    // `[ by ]` is no literal that has blanks in it, but the end of the clause.
    if apart && !content.is_empty() && !met.meets(Class::DOT | Class::COLON) {
        return false;
    }
    if !met.meets(Class::PARENTHESIS) {
        return true;
    }
    let inner = content.strip_prefix(b"(").and_then(|s| s.strip_suffix(b")")).unwrap_or(content);
    !Class::run(inner, Class::default()).1.meets(Class::PARENTHESIS)
}

pub(crate) fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}
