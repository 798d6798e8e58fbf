//! What one comment of a from clause says about the client.
//!
//! Goes in: a comment's place and whether HELO was told before it. Comes out: what it says ([`Said`]),
//! by its first words: a host and an address that the server saw, what the client said, or neither.

use std::ops::Range;

use crate::class::Class;
use crate::clause::{self, Word};
use crate::literal::{self, Found};
use crate::shape::{Shape, shape};
use crate::words::Words;

/// What a comment says about the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
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
pub(crate) fn comment(value: &[u8], part: clause::Comment, helo: bool) -> (Said, usize) {
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
            (Some(a), Shape::Bracket(Some(b)) | Shape::User(b)) if a.ip != b.ip => Said::Ambiguous,
            // ([ip](a)@name [ip]): all but the last may be an ident answer
            (Some(a), Shape::Text) if head.text(1).contains(&b'@') => match head.shape(2) {
                Shape::Bracket(Some(b)) if a.ip != b.ip => Said::Ambiguous,
                _ => Said::Client(a),
            },
            (Some(a), _) => Said::Client(a),
            // ([UNAVAILABLE]. [ip])
            (None, Shape::Bracket(Some(b))) if is_word_in_brackets(first) => Said::Client(b),
            (None, _) => Said::Masked,
        },
        Shape::Named(found) if head.count == 1 => client_or_masked(found),
        Shape::Named(found) => found.map_or(Said::Masked, |a| after_user(head, a, Said::Client)),
        Shape::User(found) if head.count == 1 => Said::Bare(found),
        Shape::User(found) => after_user(head, found, Said::Bare),
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
            Shape::Bracket(Some(b)) | Shape::Named(Some(b)) | Shape::User(b) if a.ip != b.ip => {
                Said::Ambiguous
            }
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

/// `(user@[ip] …)`: what stands before the last literal may be an ident answer, so only one right
/// behind it, as in `(name [ip])`, is the client's instead; any other makes the comment unreadable.
fn after_user(head: &Head<'_>, first: Found, said: fn(Found) -> Said) -> Said {
    let mut words = Words::of(head.value, head.inside.clone());
    let (mut count, mut second) = (0_usize, None);
    while let Some(word) = next_of(&mut words) {
        count += 1;
        let found = match shape_in_comment(head.value, &word) {
            Shape::Bracket(Some(b)) | Shape::Named(Some(b)) | Shape::User(b) => b,
            _ => continue,
        };
        match count {
            1 => {}
            2 if word_begins(head.value, &word, b'[') => second = Some(found),
            _ if found.ip != second.as_ref().map_or(first.ip, |b: &Found| b.ip) => {
                return Said::Ambiguous;
            }
            _ => {}
        }
    }
    second.map_or_else(|| said(first), Said::Client)
}

fn word_begins(value: &[u8], word: &Word, mark: u8) -> bool {
    value.get(word.place.start) == Some(&mark)
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
