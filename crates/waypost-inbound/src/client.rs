//! Which part of a from clause is the client's address: the rules, in order.
//!
//! 1. The first comment that is client information decides: `([ip] …)`, `(name [ip] …)`, `(ip)`,
//!    `(user@ip …)`. A comment that begins with HELO, a label or any other word said by the client
//!    is passed over, whatever it holds.
//! 2. A client slot that holds no address (`(unknown [])`, `([unix socket])`) makes the line
//!    unreadable: the word before it is what HELO said.
//! 3. A comment that stands behind no blank, and holds none, may be part of what HELO said: it counts
//!    only where no other comment is client information with another address or names a host.
//! 4. Else a literal behind the first word, `name [ip]`: a HELO holds no blank, so the server wrote it.
//! 5. Else the first word itself, if it is a literal: `from [ip] by host via HTTP`, `from [ip] (helo=x)`;
//!    but only if each comment is of a kind that is known to name no client, for else the first word is
//!    what HELO said.
//!
//! Where candidates disagree in a way that a forger could have brought about, nothing is read: a miss
//! only falls back, a wrong address passes SPF.

use std::ops::Range;

use crate::class::Class;
use crate::clause::{self, Before, Clause, End, Part, Word, is_blank, is_by};
use crate::literal::{self, Found};
use crate::reading::{Place, Unreadable};
use crate::shape::{Shape, shape};
use crate::words::Words;

/// What a comment says about the client.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    /// This is its address, in brackets.
    Client(Found),
    /// This is its address, without brackets or behind an `@`.
    Bare(Found),
    /// Two addresses, and nothing to choose by.
    Ambiguous,
    /// Here its address would stand, but it is hidden or none.
    Masked,
    /// A host's name alone, or what is not known to be something else.
    Name,
    /// What HELO said.
    Helo,
    /// Something else that stands behind a client without a name: `[ip] (helo=x)`.
    Remark,
    /// Something else.
    Aside,
}

/// What the first word of a comment announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Announced {
    Helo,
    Remark,
    Aside,
}

impl From<Announced> for Said {
    fn from(announced: Announced) -> Self {
        match announced {
            Announced::Helo => Self::Helo,
            Announced::Remark => Self::Remark,
            Announced::Aside => Self::Aside,
        }
    }
}

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
}

#[derive(Clone, Debug)]
struct Comment {
    found: Found,
    bare: bool,
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
    while let Some(part) = clause.next_part() {
        match part {
            Part::Word(word) if first.is_none() && met.words == 0 => {
                met.parts += 1;
                first = Some(word);
            }
            Part::Word(word) => {
                if let Some(first) = first.take() {
                    met.word(look(first));
                }
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
                    (true, false) => met.glued(said, clause.runs_into_by()),
                    (false, _) => met.comment(said),
                }
            }
        }
    }
    if let Some(first) = first.filter(|_| met.comment.is_none()) {
        met.word(look(first));
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
    fn comment(&mut self, said: Said) {
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
                self.comment = Some(Comment { found, bare });
            }
        }
    }

    /// A comment that HELO may have brought along.
    fn glued(&mut self, said: Said, into_by: bool) {
        // `([ip] helo=x)([ip])`: the server has said who it is.
        if self.comment.is_some() {
            return;
        }
        match said {
            Said::Client(found) | Said::Bare(found) => {
                self.forked |= into_by || differs(self.glued.as_ref(), &found);
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
        if let Some(Comment { found, .. }) = self.comment {
            let other = [&self.later, &self.glued].iter().any(|o| differs(o.as_ref(), &found));
            return match other || (stray && self.glued.is_some()) {
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
        match self.later.or(self.first.filter(|_| !self.spoken)) {
            Some(_) if cut || stray => Err(Unreadable::Ambiguous),
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
    /// What the first word announces, if that is what the client or the sender said.
    announces: Option<Announced>,
}

impl<'a> Head<'a> {
    fn text(&self, i: usize) -> &'a [u8] {
        let place = self.words.get(i).map(|word| word.place.clone());
        place.and_then(|place| self.value.get(place)).unwrap_or_default()
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
///
/// `helo`: another one before it says what HELO said.
fn comment(value: &[u8], part: clause::Comment, helo: bool) -> (Said, usize) {
    let mut words = Words::of(value, part.inside.clone());
    let mut head = Head {
        value,
        inside: part.inside,
        words: [const { Word::NONE }; HEAD],
        count: 0,
        announces: None,
    };
    let mut last = Word::NONE;
    let mut envelope = false;
    while let Some(word) = words.next_word() {
        let text = value.get(word.place.clone()).unwrap_or_default();
        if words.nested() && !part.open && text.eq_ignore_ascii_case(b"by") {
            // A stray parenthesis before it made a comment of what is none.
            return (Said::Ambiguous, words.steps());
        }
        if head.count == 0 {
            envelope = starts(text, b"mailfrom:");
            // None of the words that announce holds a dot, and what follows one stands behind a colon.
            let host = word.classes.meets(Class::DOT) && !word.classes.meets(Class::COLON);
            head.announces = if host { None } else { announces(text) };
        }
        if envelope {
            last = word.clone();
        }
        if let Some(slot) = head.words.get_mut(head.count) {
            *slot = word;
        }
        head.count += 1;
        // The rest matters only to the rules that look at all of it.
        let decided = head.count == HEAD || head.announces.is_some();
        // Nor does what an open comment holds: it is no comment's any more.
        if decided && (part.open || !(envelope || part.nests)) {
            break;
        }
    }
    let steps = words.steps() + head.inside.len();
    let said = match envelope {
        true if part.open => Said::Aside,
        true => after_envelope(value, last).unwrap_or(Said::Aside),
        false => client_information(&head, helo, part.open),
    };
    (said, steps)
}

fn client_information(head: &Head<'_>, helo: bool, open: bool) -> Said {
    let first = head.text(0);
    if head.count == 0 {
        return Said::Masked;
    }
    if let Some(announced) = head.announces {
        return announced.into();
    }
    if is_ident(first) {
        return if open { Said::Name } else { after_ident(head) };
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
        Shape::User(found) => Said::Bare(found),
        Shape::Login(found) if helo && head.count == 1 => Said::Bare(found),
        Shape::Bare(a) => match head.shape(1) {
            // (ip [ip]): the first is a name that looks like an address
            Shape::Bracket(found) => client_or_masked(found),
            Shape::Bare(b) | Shape::User(b) if a.ip != b.ip => Said::Ambiguous,
            _ => Said::Bare(a),
        },
        // `(HELO x) (a:b@hidden)`
        Shape::Label if helo && head.count == 1 && first.contains(&b'@') => Said::Name,
        Shape::Label if first.contains(&b'=') => Said::Remark,
        Shape::Login(_) | Shape::Label => Said::Aside,
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
        _ if head.count > 1 && is_prefix(first) => after_prefix(head, second),
        // (host ip), but not (Product 1.2.3.4)
        Shape::Bare(a) if head.count == 2 && is_host(first) => Said::Bare(a),
        Shape::Text if (0..HEAD).any(|i| head.text(i).starts_with(b"[")) => Said::Masked,
        _ if is_aside(first, head.count) => Said::Aside,
        _ => Said::Name,
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
fn announces(word: &[u8]) -> Option<Announced> {
    const LONGEST: usize = 15;
    let name = word.split(|b| *b == b':').next().unwrap_or_default();
    let mut lower = [0; LONGEST];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    match &*lower {
        b"ehlo" | b"helo" | b"lhlo" => Some(Announced::Helo),
        b"account" | b"forwarded" | b"forwarded-for" | b"proxied" | b"proxying" | b"using" => {
            Some(Announced::Remark)
        }
        b"authenticated" | b"by" | b"envelope" | b"envelope-from" | b"envelope-sender" | b"for"
        | b"from" | b"id" | b"mail-from" | b"mailfrom" | b"original" | b"originating"
        | b"sender" | b"via" | b"with" => Some(Announced::Aside),
        // `ident:user@host [ip]` holds what the server saw, too.
        b"ident" => (name.len() == word.len()).then_some(Announced::Aside),
        _ => None,
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
        let Some(word) = next_of(&mut words) else { break };
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

/// The next word, for the rules that seldom need one: the loop over all comments has its own copy.
#[inline(never)]
fn next_of(words: &mut Words<'_>) -> Option<Word> {
    words.next_word()
}

fn is_ident(word: &[u8]) -> bool {
    starts(word, b"ident:")
}

/// `(Not Verified[ip])`, `(really host [ip])`, `(actually host r.example [ip])`.
fn is_prefix(word: &[u8]) -> bool {
    [b"actually".as_slice(), b"not", b"really", b"unverified"]
        .iter()
        .any(|p| word.eq_ignore_ascii_case(p))
}

fn after_prefix(head: &Head<'_>, second: Shape) -> Said {
    match (second, head.shape(2)) {
        (Shape::Named(Some(found)), _) | (Shape::Text, Shape::Bracket(Some(found))) => {
            Said::Client(found)
        }
        (Shape::Text, Shape::Text) if head.text(1).eq_ignore_ascii_case(b"host") => {
            let mut words = Words::of(head.value, head.inside.clone());
            let fourth = (0..4).map(|_| next_of(&mut words)).last().flatten();
            match fourth.map(|word| shape_in_comment(head.value, &word)) {
                Some(Shape::Bracket(Some(found))) => Said::Client(found),
                _ => Said::Masked,
            }
        }
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
    // A quote may hold blanks: it is neither.
    (name && !word.contains(&b'/') && !word.contains(&b'"'))
        || (word.len() >= 32 && !word.contains(&b'"'))
        || known.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// Whether a comment that begins with `first` is one of those that say how mail came, not from whom.
fn is_aside(first: &[u8], words: usize) -> bool {
    const ALONE: [&[u8]; 12] = [
        b"auth",
        b"authenticated",
        b"encrypted",
        b"esmtp",
        b"http",
        b"https",
        b"nasmail",
        b"smtp",
        b"squirrelmail",
        b"ssl",
        b"tls",
        b"verified",
    ];
    const FIRST: [&[u8]; 11] = [
        b"auth.",
        b"avg",
        b"client",
        b"encrypted",
        b"login",
        b"may",
        b"nasmail",
        b"no",
        b"smtp-auth",
        b"squirrelmail",
        b"user",
    ];
    let is = |known: &&[u8]| first.eq_ignore_ascii_case(known);
    match words {
        1 => ALONE.iter().any(is) || starts(first, b"tlsv") || starts(first, b"sslv"),
        // `(1234 bytes)`
        _ => ALONE.iter().chain(&FIRST).any(is) || first.iter().all(u8::is_ascii_digit),
    }
}
