//! Which part of a from clause is the client's address: the rules, in order.
//!
//! 1. The first comment that is client information decides: `([ip] …)`, `(name [ip] …)`, `(ip)`,
//!    `(user@ip …)`. A comment that begins with HELO, a label or any other word said by the client
//!    is passed over, whatever it holds.
//! 2. A client slot that holds no address (`(unknown [])`, `([unix socket])`) makes the line
//!    unreadable: the word before it is what HELO said.
//! 3. A comment that stands behind no blank, and holds none, may be part of what HELO said: it counts
//!    only where no other comment is client information with another address or names a host. A comment
//!    inside of a quoted text, or one that a word of HELO or an ident answer closed, counts for nothing.
//! 4. Else a literal behind the first word, `name [ip]`: a HELO holds no blank, so the server wrote it.
//! 5. Else the first word itself, if it is a literal: `from [ip] by host via HTTP`, `from [ip] (helo=x)`;
//!    but only if each comment is of a kind that is known to name no client, for else the first word is
//!    what HELO said.
//!
//! Where candidates disagree in a way that a forger could have brought about, nothing is read: a miss
//! only falls back, a wrong address passes SPF.

use crate::class::Class;
use crate::clause::{Before, Clause, End, Part, Word, is_blank, is_by};
use crate::comment::{Said, comment};
use crate::literal::Found;
use crate::reading::{Place, Unreadable};
use crate::shape::{Shape, shape};

/// Candidates met so far.
#[derive(Clone, Debug, Default)]
struct Candidates {
    /// From a comment whose parentheses the server wrote.
    comment: Option<Comment>,
    /// From one that HELO may have brought along.
    glued: Option<Found>,
    /// Nothing may be read from that one.
    forked: bool,
    masked: bool,
    /// A comment names a host.
    name: bool,
    /// The first word may be what HELO said.
    spoken: bool,
    helo: bool,
    remark: bool,
    ambiguous: bool,
    /// The first word, when it is a literal.
    first: Option<Found>,
    /// A literal behind the first word.
    later: Option<Found>,
    words: usize,
    parts: usize,
    /// A word stands right behind a comment.
    sticks: bool,
}

/// Whether what stands behind the parts so far is in a quoted text, which a HELO may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quote {
    Closed,
    Open,
    /// A comment has begun in it.
    OpenAroundComment,
    /// It was closed behind that comment: who wrote the comment cannot be told. One that stays open
    /// is no quote, or any HELO could hide its client.
    HeldComment,
}

impl Quote {
    fn behind(self, value: &[u8], part: &Part) -> Self {
        let quotes = match part {
            Part::Comment(_) if self == Self::Open => return Self::OpenAroundComment,
            Part::Word(word) if word.classes.meets(Class::QUOTE) => {
                value.get(word.place.clone()).unwrap_or_default().iter().filter(|b| **b == b'"')
            }
            Part::Comment(_) | Part::Word(_) => return self,
        };
        match (self, quotes.count() % 2) {
            (Self::Closed, 1) => Self::Open,
            (Self::Open, 1) => Self::Closed,
            (Self::OpenAroundComment, _) => Self::HeldComment,
            (same, _) => same,
        }
    }
}

#[derive(Clone, Debug)]
struct Comment {
    found: Found,
    bare: bool,
    /// A parenthesis had been closed before it that was not open.
    stray: bool,
}

/// Reads a from clause. The number is the count of bytes looked at.
pub(crate) fn read(
    value: &[u8],
    mut clause: Clause<'_>,
) -> (Result<(Found, Place), Unreadable>, usize) {
    let mut met = Candidates::default();
    let mut steps = 0;
    let look = |word: Word| {
        let text = value.get(word.place.clone()).unwrap_or_default();
        shape(text, word.classes, word.place.start)
    };
    // The first word is mostly a name: it is looked at only where it can matter.
    let mut first = None;
    let mut quote = Quote::Closed;
    while let Some(part) = clause.next_part() {
        quote = quote.behind(value, &part);
        match part {
            Part::Word(word) if first.is_none() && met.words == 0 => {
                met.parts += 1;
                first = Some(word);
            }
            Part::Word(word) => {
                if let Some(first) = first.take() {
                    met.word(look(first));
                }
                let before = word.place.start.checked_sub(1).and_then(|i| value.get(i));
                met.sticks |= before == Some(&b')');
                met.word(look(word));
            }
            Part::Comment(_) if met.is_settled() => {}
            Part::Comment(part) => {
                // A HELO holds no blank: a comment with one in it was not brought along.
                let blanks = || clause.text(part.inside.clone()).iter().any(|b| is_blank(*b));
                let glued = match part.before {
                    Before::Comment => true,
                    Before::Blank if met.parts > 0 => false,
                    Before::Blank | Before::Word => part.open || !blanks(),
                };
                let open = part.open;
                let (said, looked) = comment(value, part, met.helo);
                steps += looked;
                met.parts += 1;
                if met.remark
                    && let Some(first) = first.take()
                {
                    met.word(look(first));
                }
                match (glued, open) {
                    (true, true) => {}
                    (true, false) => met.glued(said, clause.runs_into_end()),
                    (false, _) => met.comment(said, clause.stray()),
                }
            }
        }
    }
    if let Some(first) = first.filter(|_| met.comment.is_none()) {
        met.word(look(first));
    }
    if quote == Quote::HeldComment {
        return (Err(Unreadable::Ambiguous), steps + clause.steps());
    }
    steps += clause.steps();
    let cut = match clause.end() {
        End::By | End::Word => false,
        End::Semicolon => {
            let (more, looked) = has_more(clause.rest());
            steps += looked;
            more
        }
        End::Open if met.comment.is_some() => false,
        End::Open => return (Err(Unreadable::Unbalanced), steps),
        End::Escape => return (Err(Unreadable::Ambiguous), steps),
    };
    let read = met.decide(cut, clause.stray());
    if clause.end() == End::By && matches!(read, Ok((_, Place::Literal))) {
        let (again, looked) = is_another_line(clause.rest());
        steps += looked;
        if again {
            return (Err(Unreadable::Ambiguous), steps);
        }
    }
    (read, steps)
}

/// Whether behind a `;` the line goes on as if it were none: then the `;` may be part of a HELO. One
/// that stands before the word `by` is no more than the end of a clause.
fn has_more(rest: &[u8]) -> (bool, usize) {
    if rest.first().is_some_and(|b| is_blank(*b)) && is_by(rest.trim_ascii_start()) {
        return (false, rest.len());
    }
    let by = rest
        .split(|b| b.is_ascii_whitespace() || b"()".contains(b))
        .any(|word| word.eq_ignore_ascii_case(b"by"));
    (by || rest.contains(&b'['), 3 * rest.len())
}

/// Whether what stands behind `by` is a comment and another `by`: then all before it may be a HELO of
/// several words, and the comment the server's word on its client.
fn is_another_line(behind: &[u8]) -> (bool, usize) {
    let (mut depth, mut comment, mut steps) = (0_usize, false, 0);
    let parts = |b: &u8| is_blank(*b) || b"();".contains(b);
    for piece in behind.split_inclusive(parts) {
        steps += piece.len();
        // The last word ends without a mark.
        let (mark, word) = piece.split_last().filter(|(b, _)| parts(b)).unwrap_or((&b' ', piece));
        let is = |end: &[u8]| word.eq_ignore_ascii_case(end);
        match mark {
            _ if depth == 0 && is(b"by") => return (comment, steps),
            _ if depth == 0 && (is(b"with") || is(b"id") || is(b"for") || is(b"via")) => break,
            b';' if depth == 0 => break,
            b'(' => {
                depth += 1;
                comment = true;
            }
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    (false, steps)
}

fn differs(other: Option<&Found>, found: &Found) -> bool {
    other.is_some_and(|other| other.ip != found.ip)
}

impl Candidates {
    fn word(&mut self, shape: Shape) {
        self.words += 1;
        let literal = match shape {
            // `from HELO [hidden] by`, `from ip helo=x by`
            Shape::Bracket(None) | Shape::Label if self.words > 1 => {
                self.spoken = true;
                return;
            }
            Shape::Bracket(found) => found,
            Shape::Bare(found) => {
                // A bare one further back is the client's only as in `name - ip`.
                if self.words > 1 && self.first.is_some() {
                    self.ambiguous |= differs(self.first.as_ref(), &found);
                    return;
                }
                (self.words <= 3).then_some(found)
            }
            Shape::Named(found) if self.words == 1 => found,
            _ => None,
        };
        let Some(found) = literal else { return };
        if self.words == 1 {
            self.first = Some(found);
        } else if let Some(later) = &self.later {
            self.ambiguous |= later.ip != found.ip;
        } else {
            self.later = Some(found);
        }
    }

    /// Whether a comment that nobody but the server can have written has named the client: then other
    /// comments change nothing.
    fn is_settled(&self) -> bool {
        self.comment.as_ref().is_some_and(|comment| !comment.bare || self.helo)
    }

    /// A comment whose parentheses the server wrote.
    fn comment(&mut self, said: Said, stray: bool) {
        let (found, bare) = match said {
            Said::Client(found) => (found, false),
            Said::Bare(found) => (found, true),
            Said::Name => {
                self.name = true;
                self.spoken = true;
                return;
            }
            Said::Helo => {
                self.helo = true;
                return;
            }
            Said::Remark => {
                self.remark = true;
                return;
            }
            Said::Aside => return,
            Said::Masked => {
                self.masked |= self.comment.is_none();
                return;
            }
            Said::Ambiguous => {
                self.ambiguous |= self.comment.is_none();
                return;
            }
        };
        match &self.comment {
            // Servers put brackets first: `from HELO (ip) (name [ip])` comes of a HELO with blanks.
            Some(chosen) if chosen.bare && !bare && !self.helo => {
                self.ambiguous |= chosen.found.ip != found.ip;
            }
            Some(_) => {}
            None if self.masked => {}
            None => {
                // `from [ip] (helo=x) ([ip])`: the first word is the client, as the label says.
                self.ambiguous |= self.remark && !self.helo && differs(self.first.as_ref(), &found);
                self.comment = Some(Comment { found, bare, stray });
            }
        }
    }

    /// A comment that HELO may have brought along.
    fn glued(&mut self, said: Said, into_end: bool) {
        // `([ip] helo=x)([ip])`: the server has said who it is.
        if self.comment.is_some() {
            return;
        }
        match said {
            Said::Client(found) | Said::Bare(found) => {
                self.forked |= into_end || differs(self.glued.as_ref(), &found);
                self.glued = Some(found);
            }
            Said::Masked | Said::Name => self.spoken = true,
            Said::Ambiguous => self.forked = true,
            Said::Helo => self.helo = true,
            Said::Remark | Said::Aside => {}
        }
    }

    fn decide(self, cut: bool, stray: bool) -> Result<(Found, Place), Unreadable> {
        if self.ambiguous {
            return Err(Unreadable::Ambiguous);
        }
        if let Some(Comment { found, stray: before, .. }) = self.comment {
            let other = [&self.later, &self.glued].iter().any(|o| differs(o.as_ref(), &found));
            // One closed behind it may be its own: then what closed it was an ident answer's.
            return match other || (stray && (!before || self.glued.is_some())) {
                true => Err(Unreadable::Ambiguous),
                false => Ok((found, Place::ClientInformation)),
            };
        }
        if self.masked {
            return Err(Unreadable::Masked);
        }
        if self.forked {
            return Err(Unreadable::Ambiguous);
        }
        if let Some(found) = self.glued {
            let first = differs(self.first.as_ref(), &found);
            let forged = cut || stray || first || differs(self.later.as_ref(), &found);
            return match () {
                () if forged => Err(Unreadable::Ambiguous),
                () if self.name => Err(Unreadable::NoAddress),
                () => Ok((found, Place::ClientInformation)),
            };
        }
        // `from [ip] (helo=a)[ip](b) by`: the second one is a part of what HELO said.
        let other = self.first.as_ref().is_some_and(|first| differs(self.later.as_ref(), first));
        match self.later.or(self.first.filter(|_| !self.spoken)) {
            Some(_) if cut || stray || (self.sticks && other) => Err(Unreadable::Ambiguous),
            Some(found) => Ok((found, Place::Literal)),
            None => Err(Unreadable::NoAddress),
        }
    }
}
