//! What a word of a from clause looks like.
//!
//! Goes in: a word and the classes of its bytes. Comes out: its [`Shape`], with the address if it
//! holds one. Time is linear in the word; most words are names and are told by their classes alone.

use memchr::memchr;

use crate::class::Class;
use crate::clause::is_blank;
use crate::literal::{self, Found};

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
    /// `a:b@192.0.2.1`: the same behind a HELO comment, else a label.
    Login(Found),
    /// `label:…` or `label=…`: what follows was said by someone else.
    Label,
    /// Anything else.
    Text,
}

/// Looks at one word; `at` is where it stands in the value.
pub(crate) fn shape(word: &[u8], classes: Class, at: usize) -> Shape {
    if !classes.meets(Class::AT | Class::OPEN | Class::EQUALS | Class::LESS) {
        let text = word.strip_suffix(b",").unwrap_or(word);
        let found = match classes.meets(Class::COLON) {
            true => literal::bare(text, at),
            false => literal::dotted(text, at),
        };
        return match found {
            Some(found) => Shape::Bare(found),
            None if word.ends_with(b":") => Shape::Label,
            None => Shape::Text,
        };
    }
    if classes.meets(Class::AT)
        && let Some(user) = memchr::memrchr(b'@', word)
    {
        return with_user(word, user, at);
    }
    let Some(open) = memchr(b'[', word) else {
        return if is_label(word) { Shape::Label } else { Shape::Text };
    };
    let (name, rest) = word.split_at_checked(open).unwrap_or((word, b""));
    if is_label(name) {
        return Shape::Label;
    }
    // A quote, open or not, may hold blanks: it is no name.
    if name.contains(&b'"') {
        return Shape::Text;
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
    let port = name.split_at_checked(5).is_some_and(|(s, rest)| {
        s.eq_ignore_ascii_case(b"\"port") && rest.first().is_some_and(|b| is_blank(*b))
    });
    let at = at + user + 1;
    if !ident && !port && name.iter().any(|b| b":=<\"".contains(b)) {
        return match literal::bare(rest, at) {
            _ if name.starts_with(b"\"") => Shape::Text,
            Some(found) if !name.iter().any(|b| b"=<\"".contains(b)) => Shape::Login(found),
            _ => Shape::Label,
        };
    }
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
            Some(open) if open > 0 && !rest.contains(&b'"') => {
                match shape_of_name(rest, open, at) {
                    Some(found) => Shape::Named(Some(found)),
                    None => Shape::Text,
                }
            }
            _ => Shape::Text,
        },
    }
}

fn shape_of_name(rest: &[u8], open: usize, at: usize) -> Option<Found> {
    let (content, suffix) = closing(rest.get(open..)?)?;
    literal::ends_literal(suffix).then(|| literal::bracketed(content, at + open + 1)).flatten()
}

/// A word that says what follows, with or without its value: `helo=x`, `AUTH:`, `<a@b>`. But
/// `<unknown>` is how some servers write that a client has no name.
fn is_label(word: &[u8]) -> bool {
    let stands_for_name =
        |name: &[u8]| name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'.');
    match word {
        [b'<', name @ .., b'>'] => !stands_for_name(name),
        _ => word.starts_with(b"<") || word.contains(&b'=') || word.ends_with(b":"),
    }
}
