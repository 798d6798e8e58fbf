//! Which part of a from clause is the client's address: the rules, in order.
//!
//! 1. The first comment that is client information decides: `([ip] …)`, `(name [ip] …)`, `(ip)`,
//!    `(user@ip …)`. A comment that begins with HELO, a label or any other word said by the client
//!    is passed over, whatever it holds.
//! 2. A client slot that holds no address (`(unknown [])`, `([unix socket])`) makes the line
//!    unreadable: the word before it is what HELO said.
//! 3. Else a literal behind the first word, `name [ip]`: a HELO holds no blank, so the server wrote it.
//! 4. Else, unless a comment names a host (then the first word is what HELO said), the first word
//!    itself, if it is a literal: `from [ip] by host via HTTP`, `from [ip] (helo=x)`.
//!
//! Where a forger could have brought the parentheses along (a comment without a blank before it) and
//! another candidate disagrees, nothing is read: a miss only falls back, a wrong address passes SPF.

use std::ops::Range;

use crate::class::Class;
use crate::clause::{self, Clause, End, Part, Word, is_blank};
use crate::literal::{self, Found};
use crate::reading::{Place, Unreadable};
use crate::shape::{Shape, shape};
use crate::words::Words;

/// What a comment says about the client.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    /// This is its address.
    Client(Found),
    /// Two addresses, and nothing to choose by.
    Ambiguous,
    /// Here its address would stand, but it is hidden or none.
    Masked,
    /// A host's name alone.
    Name,
    /// Nothing.
    Other,
}

/// Candidates met so far.
#[derive(Clone, Debug, Default)]
struct Candidates {
    comment: Option<Comment>,
    masked: bool,
    name: bool,
    ambiguous: bool,
    /// The first word, when it is a literal.
    first: Option<Found>,
    /// A literal behind the first word.
    later: Option<Found>,
    words: usize,
}

#[derive(Clone, Debug)]
struct Comment {
    found: Found,
    glued: bool,
    rival: bool,
}

/// Reads a from clause. The number is the count of bytes looked at.
pub(crate) fn read(
    value: &[u8],
    mut clause: Clause<'_>,
) -> (Result<(Found, Place), Unreadable>, usize) {
    let mut met = Candidates::default();
    let mut steps = 0;
    while let Some(part) = clause.next_part() {
        match part {
            Part::Word(Word { place, classes }) => {
                let start = place.start;
                met.word(shape(clause.text(place), classes, start));
            }
            Part::Comment(part) => {
                // A HELO holds no blank: a comment with one in it was not brought along.
                let glued =
                    part.glued && !clause.text(part.inside.clone()).iter().any(|b| is_blank(*b));
                let (said, looked) = comment(value, part);
                steps += looked;
                met.comment(said, glued);
            }
        }
    }
    steps += clause.steps();
    let cut = match clause.end() {
        End::Word => false,
        End::Semicolon => {
            let (more, looked) = has_more(clause.rest());
            steps += looked;
            more
        }
        End::Open if met.comment.is_some() => false,
        End::Open => return (Err(Unreadable::Unbalanced), steps),
        End::Escape => return (Err(Unreadable::Ambiguous), steps),
    };
    (met.decide(cut), steps)
}

/// Whether behind a `;` the line goes on as if it were none: then the `;` may be part of a HELO.
fn has_more(rest: &[u8]) -> (bool, usize) {
    let by = rest
        .split(|b| b.is_ascii_whitespace() || b"()".contains(b))
        .any(|word| word.eq_ignore_ascii_case(b"by"));
    (by || rest.contains(&b'['), 2 * rest.len())
}

impl Candidates {
    fn word(&mut self, shape: Shape) {
        self.words += 1;
        let literal = match shape {
            // `from HELO [hidden] by`
            Shape::Bracket(None) if self.words > 1 => {
                self.name = true;
                return;
            }
            Shape::Bracket(found) => found,
            Shape::Bare(found) => {
                // A bare one further back is the client's only as in `name - ip`.
                if self.words > 1 && self.first.is_some() {
                    self.ambiguous |= self.first.as_ref().is_some_and(|f| f.ip != found.ip);
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

    fn comment(&mut self, said: Said, glued: bool) {
        match (said, &mut self.comment) {
            (Said::Client(found), Some(chosen)) => chosen.rival |= chosen.found.ip != found.ip,
            (Said::Client(found), None) if !self.masked => {
                self.comment = Some(Comment { found, glued, rival: false });
            }
            (Said::Masked | Said::Ambiguous, Some(chosen)) => chosen.rival = true,
            (Said::Masked, None) => self.masked = true,
            (Said::Ambiguous, None) => self.ambiguous = true,
            (Said::Name, _) => self.name = true,
            _ => {}
        }
    }

    fn decide(self, cut: bool) -> Result<(Found, Place), Unreadable> {
        let differs = |other: &Option<Found>, found: &Found| {
            other.as_ref().is_some_and(|other| other.ip != found.ip)
        };
        if self.ambiguous {
            return Err(Unreadable::Ambiguous);
        }
        if let Some(comment) = self.comment {
            let found = comment.found;
            let forged = comment.glued && (comment.rival || differs(&self.first, &found));
            if forged || differs(&self.later, &found) {
                return Err(Unreadable::Ambiguous);
            }
            return Ok((found, Place::ClientInformation));
        }
        if self.masked {
            return Err(Unreadable::Masked);
        }
        let literal = match (self.later, self.first) {
            (Some(later), _) => Some(later),
            (None, Some(first)) if !self.name => Some(first),
            _ => None,
        };
        match literal {
            Some(_) if cut => Err(Unreadable::Ambiguous),
            Some(found) => Ok((found, Place::Literal)),
            None => Err(Unreadable::NoAddress),
        }
    }
}

/// How many words of a comment its rules look at.
const HEAD: usize = 3;

/// The first words of a comment, and how many there are, as far as that matters.
struct Head<'a> {
    value: &'a [u8],
    inside: Range<usize>,
    words: [Word; HEAD],
    count: usize,
}

impl<'a> Head<'a> {
    fn text(&self, i: usize) -> &'a [u8] {
        let place = self.words.get(i).map(|word| word.place.clone());
        place.and_then(|place| self.value.get(place)).unwrap_or_default()
    }

    /// Whether its first word announces what the client or the sender said.
    fn is_said_by_client(&self) -> bool {
        let classes = self.words.first().map_or(Class::NONE, |word| word.classes);
        // None of those words holds a dot, and what follows one stands behind a colon.
        let host = classes.meets(Class::DOT) && !classes.meets(Class::COLON);
        !host && is_said_by_client(self.text(0))
    }

    fn shape(&self, i: usize) -> Shape {
        self.words.get(i).map_or(Shape::Text, |word| shape_in_comment(self.value, word))
    }
}

fn shape_in_comment(value: &[u8], word: &Word) -> Shape {
    let text = value.get(word.place.clone()).unwrap_or_default();
    let at = word.place.start;
    let slash = if word.classes.meets(Class::SLASH) { after_slash(text, at) } else { None };
    slash.unwrap_or_else(|| shape(text, word.classes, at))
}

/// What one comment says, and how many bytes were looked at.
fn comment(value: &[u8], part: clause::Comment) -> (Said, usize) {
    let mut words = Words::of(value, part.inside.clone());
    let mut head =
        Head { value, inside: part.inside, words: [const { Word::NONE }; HEAD], count: 0 };
    let mut last = Word::NONE;
    let mut envelope = false;
    while let Some(word) = words.next_word() {
        let text = value.get(word.place.clone()).unwrap_or_default();
        if words.nested() && text.eq_ignore_ascii_case(b"by") {
            // A stray parenthesis before it made a comment of what is none.
            return (Said::Ambiguous, words.steps());
        }
        if head.count == 0 {
            envelope = starts(text, b"mailfrom:");
        }
        if envelope {
            last = word.clone();
        }
        if let Some(slot) = head.words.get_mut(head.count) {
            *slot = word;
        }
        head.count += 1;
        // The rest matters only to the rules that look at all of it.
        let decided = head.count == HEAD || (head.count == 1 && head.is_said_by_client());
        if decided && !envelope && !part.nests {
            break;
        }
    }
    let steps = words.steps() + head.inside.len();
    let said = match envelope {
        true => after_envelope(value, last).unwrap_or(Said::Other),
        false => client_information(&head),
    };
    (said, steps)
}

fn client_information(head: &Head<'_>) -> Said {
    let first = head.text(0);
    if head.count == 0 {
        return Said::Masked;
    }
    if head.is_said_by_client() {
        return Said::Other;
    }
    if is_ident(first) {
        return after_ident(head);
    }
    match head.shape(0) {
        Shape::Bracket(found) => match (found, head.shape(1)) {
            // ([ip] …), and ([ip] [ip]) where both must agree
            (Some(a), Shape::Bracket(Some(b))) if a.ip != b.ip => Said::Ambiguous,
            (Some(a), _) => Said::Client(a),
            // ([UNAVAILABLE]. [ip])
            (None, Shape::Bracket(Some(b))) if is_word_in_brackets(first) => Said::Client(b),
            (None, _) => Said::Masked,
        },
        Shape::Named(found) => client_or_masked(found),
        Shape::User(found) => Said::Client(found),
        Shape::Bare(a) => match head.shape(1) {
            // (ip [ip]): the first is a name that looks like an address
            Shape::Bracket(found) => client_or_masked(found),
            Shape::Bare(b) | Shape::User(b) if a.ip != b.ip => Said::Ambiguous,
            _ => Said::Client(a),
        },
        Shape::Label => Said::Other,
        Shape::Text => after_name(head),
    }
}

fn client_or_masked(found: Option<Found>) -> Said {
    found.map_or(Said::Masked, Said::Client)
}

/// The rules of a comment that begins with a name.
fn after_name(head: &Head<'_>) -> Said {
    let (first, second) = (head.text(0), head.shape(1));
    match second {
        // (name [ip] …)
        Shape::Bracket(Some(a)) => match head.shape(2) {
            Shape::Bracket(Some(b)) if a.ip != b.ip => Said::Ambiguous,
            _ => Said::Client(a),
        },
        Shape::Bracket(None) => Said::Masked,
        _ if head.count > 1 && is_prefix(first) => after_prefix(second, &head.shape(2)),
        // (host ip), but not (Product 1.2.3.4)
        Shape::Bare(a) if head.count == 2 && is_host(first) => Said::Client(a),
        Shape::Bare(_) if head.count == 2 => Said::Name,
        Shape::Text if (0..3).any(|i| head.text(i).starts_with(b"[")) => Said::Masked,
        Shape::Text if head.count == 1 => alone(first),
        _ => Said::Other,
    }
}

/// `(host.example/192.0.2.1)`, `(/192.0.2.1)`: how some runtimes print an address.
fn after_slash(word: &[u8], at: usize) -> Option<Shape> {
    let slash = memchr::memchr(b'/', word)?;
    let (host, address) = (word.get(..slash)?, word.get(slash + 1..)?);
    let name = |b: &u8| b.is_ascii_alphanumeric() || b".-_".contains(b);
    let known = host.is_empty() || (host.contains(&b'.') && host.iter().all(name));
    literal::bare(address, at + slash + 1).filter(|_| known).map(Shape::Bare)
}

/// Words that announce what the client or the sender said: the rest of the comment is theirs.
fn is_said_by_client(word: &[u8]) -> bool {
    const LONGEST: usize = 15;
    let name = word.split(|b| *b == b':').next().unwrap_or_default();
    let mut lower = [0; LONGEST];
    let Some(lower) = lower.get_mut(..name.len()) else { return false };
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    match &*lower {
        b"account" | b"authenticated" | b"by" | b"ehlo" | b"envelope" | b"envelope-from"
        | b"envelope-sender" | b"for" | b"forwarded" | b"forwarded-for" | b"from" | b"helo"
        | b"id" | b"lhlo" | b"mail-from" | b"mailfrom" | b"original" | b"originating"
        | b"proxied" | b"proxying" | b"sender" | b"using" | b"via" | b"with" => true,
        // `ident:user@host [ip]` holds what the server saw, too.
        b"ident" => name.len() == word.len(),
        _ => false,
    }
}

/// Whether `word` begins with `tag`, compared without case.
fn starts(word: &[u8], tag: &[u8]) -> bool {
    word.split_at_checked(tag.len()).is_some_and(|(head, _)| head.eq_ignore_ascii_case(tag))
}

/// `(mailfrom:a@b.example fp:X ip:192.0.2.1)`: the server's own word comes last.
fn after_envelope(value: &[u8], last: Word) -> Option<Said> {
    let at = last.place.start;
    let word = value.get(last.place).filter(|word| starts(word, b"ip:"))?;
    Some(client_or_masked(literal::bare(word.get(3..)?, at + 3)))
}

/// `IDENT:user@host [ip]`, `IDENT: user, host [ip]`: the last literal is the server's. An answer of
/// many words is not looked through.
fn after_ident(head: &Head<'_>) -> Said {
    const LONGEST: usize = 6;
    let mut words = Words::of(head.value, head.inside.clone());
    let mut last = Said::Name;
    for count in 0.. {
        let Some(word) = words.next_word() else { break };
        if count == LONGEST {
            return Said::Ambiguous;
        }
        match shape_in_comment(head.value, &word) {
            Shape::Bracket(Some(found)) | Shape::Named(Some(found)) | Shape::User(found) => {
                last = Said::Client(found);
            }
            _ => {}
        }
    }
    last
}

fn is_ident(word: &[u8]) -> bool {
    starts(word, b"ident:")
}

/// `(Not Verified[ip])`, `(really host [ip])`.
fn is_prefix(word: &[u8]) -> bool {
    [b"not".as_slice(), b"really", b"unverified"].iter().any(|p| word.eq_ignore_ascii_case(p))
}

fn after_prefix(second: Shape, third: &Shape) -> Said {
    match (second, third) {
        (Shape::Named(Some(found)), _) => Said::Client(found),
        (Shape::Text, Shape::Bracket(Some(found))) => Said::Client(found.clone()),
        _ => Said::Masked,
    }
}

fn is_word_in_brackets(word: &[u8]) -> bool {
    word.iter().all(|b| b.is_ascii_alphabetic() || b"[]._".contains(b))
}

/// A name with a dot and a letter, or a long token without meaning.
fn is_host(word: &[u8]) -> bool {
    let name = word.contains(&b'.') && word.iter().any(u8::is_ascii_alphabetic);
    let known = [b"unknown".as_slice(), b"localhost"];
    (name && !word.contains(&b'/'))
        || word.len() >= 32
        || known.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// One word alone: a host's name, unless it is a remark such as `(authenticated)`.
fn alone(word: &[u8]) -> Said {
    const REMARKS: [&[u8]; 11] = [
        b"auth",
        b"encrypt",
        b"esmtp",
        b"http",
        b"may",
        b"secur",
        b"smtp",
        b"squirrel",
        b"ssl",
        b"tls",
        b"verified",
    ];
    let remark = REMARKS.iter().any(|remark| starts(word, remark));
    if remark && !word.contains(&b'@') { Said::Other } else { Said::Name }
}
