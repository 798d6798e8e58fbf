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

use crate::clause::{Clause, End, Part, Shape, Words, is_blank, shape};
use crate::literal::{self, Found};
use crate::reading::{Place, Unreadable};

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
            Part::Word(at) => {
                let start = at.start;
                met.word(shape(clause.text(at), start));
            }
            Part::Comment { inside, glued } => {
                // A HELO holds no blank: a comment with one in it was not brought along.
                let glued = glued && !clause.text(inside.clone()).iter().any(|b| is_blank(*b));
                steps += inside.len();
                let (said, looked) = comment(value, Words::of(value, inside));
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
const HEAD: usize = 6;

/// What one comment says, and how many bytes were looked at.
fn comment(value: &[u8], mut words: Words<'_>) -> (Said, usize) {
    let mut head: [&[u8]; HEAD] = [b""; HEAD];
    let mut shapes = [const { Shape::Text }; HEAD];
    let mut count = 0;
    let mut last = (0, b"".as_slice());
    while let Some(at) = words.next_word() {
        let text = value.get(at.clone()).unwrap_or_default();
        if words.nested() && text.eq_ignore_ascii_case(b"by") {
            // A stray parenthesis before it made a comment of what is none.
            return (Said::Ambiguous, words.steps());
        }
        if let (Some(word), Some(slot)) = (head.get_mut(count), shapes.get_mut(count)) {
            *word = text;
            *slot = after_slash(text, at.start).unwrap_or_else(|| shape(text, at.start));
        }
        last = (at.start, text);
        count += 1;
    }
    if let Some(said) = after_envelope(head[0], last.1, last.0) {
        return (said, words.steps());
    }
    (client_information(&head, &shapes, count), words.steps())
}

fn client_information(head: &[&[u8]; HEAD], shapes: &[Shape; HEAD], count: usize) -> Said {
    use Shape::{Bare, Bracket, Label, Named, Text, User};
    let [first, ..] = *head;
    let said = |found: &Option<Found>| found.clone().map_or(Said::Masked, Said::Client);
    match shapes {
        _ if count == 0 => Said::Masked,
        _ if is_said_by_client(first) => Said::Other,
        _ if is_ident(first) && count > HEAD => Said::Ambiguous,
        _ if is_ident(first) => after_ident(shapes),
        // ([ip] …), and ([ip] [ip]) where both must agree
        [Bracket(Some(a)), Bracket(Some(b)), ..] if a.ip != b.ip => Said::Ambiguous,
        [Bracket(Some(a)), ..] => Said::Client(a.clone()),
        // ([UNAVAILABLE]. [ip])
        [Bracket(None), Bracket(Some(b)), ..] if is_word_in_brackets(first) => {
            Said::Client(b.clone())
        }
        [Bracket(None), ..] => Said::Masked,
        [Named(found), ..] => said(found),
        [User(found), ..] => Said::Client(found.clone()),
        // (ip [ip]): the first is a name that looks like an address
        [Bare(_), Bracket(found), ..] => said(found),
        [Bare(a), Bare(b) | User(b), ..] if a.ip != b.ip => Said::Ambiguous,
        [Bare(a), ..] => Said::Client(a.clone()),
        [Label, ..] => Said::Other,
        // (name [ip] …)
        [Text, Bracket(Some(a)), Bracket(Some(b)), ..] if a.ip != b.ip => Said::Ambiguous,
        [Text, Bracket(found), ..] => said(found),
        [Text, second, third, ..] if count > 1 && is_prefix(first) => after_prefix(second, third),
        // (host ip), but not (Product 1.2.3.4)
        [Text, Bare(a), ..] if count == 2 && is_host(first) => Said::Client(a.clone()),
        [Text, Bare(_), ..] if count == 2 => Said::Name,
        [Text, Text, ..] if head.iter().take(3).any(|word| word.starts_with(b"[")) => Said::Masked,
        [Text, ..] if count == 1 => alone(first),
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
    const ANNOUNCE: [&[u8]; 25] = [
        b"account",
        b"authenticated",
        b"by",
        b"ehlo",
        b"envelope",
        b"envelope-from",
        b"envelope-sender",
        b"for",
        b"forwarded",
        b"forwarded-for",
        b"from",
        b"helo",
        b"id",
        b"ident",
        b"lhlo",
        b"mail-from",
        b"mailfrom",
        b"original",
        b"originating",
        b"proxied",
        b"proxying",
        b"sender",
        b"using",
        b"via",
        b"with",
    ];
    let name = word.split(|b| *b == b':').next().unwrap_or_default();
    ANNOUNCE.iter().any(|known| {
        word.eq_ignore_ascii_case(known)
            || (name.eq_ignore_ascii_case(known) && !name.eq_ignore_ascii_case(b"ident"))
    })
}

/// `(mailfrom:a@b.example fp:X ip:192.0.2.1)`: the server's own word comes last.
fn after_envelope(first: &[u8], last: &[u8], at: usize) -> Option<Said> {
    let starts = |word: &[u8], tag: &[u8]| {
        word.split_at_checked(tag.len()).is_some_and(|(head, _)| head.eq_ignore_ascii_case(tag))
    };
    if !starts(first, b"mailfrom:") || !starts(last, b"ip:") {
        return None;
    }
    Some(literal::bare(last.get(3..)?, at + 3).map_or(Said::Masked, Said::Client))
}

/// `IDENT:user@host [ip]`, `IDENT: user, host [ip]`: the last literal is the server's.
fn after_ident(shapes: &[Shape; HEAD]) -> Said {
    let last = shapes.iter().rev().find_map(|shape| match shape {
        Shape::Bracket(Some(found)) | Shape::Named(Some(found)) | Shape::User(found) => Some(found),
        _ => None,
    });
    last.cloned().map_or(Said::Name, Said::Client)
}

fn is_ident(word: &[u8]) -> bool {
    word.split_at_checked(6).is_some_and(|(s, _)| s.eq_ignore_ascii_case(b"ident:"))
}

/// `(Not Verified[ip])`, `(really host [ip])`.
fn is_prefix(word: &[u8]) -> bool {
    [b"not".as_slice(), b"really", b"unverified"].iter().any(|p| word.eq_ignore_ascii_case(p))
}

fn after_prefix(second: &Shape, third: &Shape) -> Said {
    match (second, third) {
        (Shape::Named(Some(found)), _) | (Shape::Text, Shape::Bracket(Some(found))) => {
            Said::Client(found.clone())
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
    let remark = REMARKS.iter().any(|remark| {
        word.split_at_checked(remark.len()).is_some_and(|(s, _)| s.eq_ignore_ascii_case(remark))
    });
    if remark && !word.contains(&b'@') { Said::Other } else { Said::Name }
}
