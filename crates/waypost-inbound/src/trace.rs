//! What a `Received` line says beside the client's address: names, protocol, id, date.
//!
//! Goes in: the value of a field. Comes out: [`TraceLine`], its parts borrowed. Time is linear in the
//! bytes; nothing is allocated. Source: RFC 5321 section 4.4, read as servers really write it. For
//! people and logs only: no part but [`TraceLine::reading`] may decide anything, since the client wrote
//! some of it and anybody may have written the lines below our own. Not done here: the date's text is
//! not parsed.

use std::ops::Range;

use crate::format::{Format, Marks};
use crate::reading::Reading;

/// A `Received` line, taken apart for people.
///
/// ```
/// use waypost_inbound::{Format, TraceLine};
///
/// let line = TraceLine::of(
///     b"from laptop (host.example [192.0.2.7]) by mx.example (Postfix) with ESMTPS id 4F2; \
///       Tue, 24 Mar 2020 15:11:47 -0800",
/// );
/// assert_eq!(line.reading.ip(), Some([192, 0, 2, 7].into()));
/// assert_eq!(line.host, Some(&b"host.example"[..]));
/// assert_eq!(line.helo, Some(&b"laptop"[..]));
/// assert_eq!(line.by, Some(&b"mx.example"[..]));
/// assert_eq!(line.with, Some(&b"ESMTPS"[..]));
/// assert_eq!(line.id, Some(&b"4F2"[..]));
/// assert_eq!(line.date, Some(&b"Tue, 24 Mar 2020 15:11:47 -0800"[..]));
/// assert_eq!(line.format, Format::Postfix);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceLine<'a> {
    /// What the line says about the client; the same as [`Reading::of`].
    pub reading: Reading,
    /// The client's name as the server found it out, if it says one: `unknown` counts as a name.
    pub host: Option<&'a [u8]>,
    /// What the client called itself. In a line without a client's address: the first word.
    pub helo: Option<&'a [u8]>,
    /// The server that wrote the line, as it calls itself.
    pub by: Option<&'a [u8]>,
    /// The protocol, one or several words: `ESMTPS`, `Microsoft SMTP Server`.
    pub with: Option<&'a [u8]>,
    /// The server's id for the message.
    pub id: Option<&'a [u8]>,
    /// The date's text, from behind the last `;` to the end.
    pub date: Option<&'a [u8]>,
    /// The software whose layout it is.
    pub format: Format,
}

impl<'a> TraceLine<'a> {
    /// Takes a field's value apart, folds and all. Any bytes may be given.
    #[must_use]
    pub fn of(value: &'a [u8]) -> Self {
        let reading = Reading::of(value);
        let semicolon = memchr::memrchr(b';', value);
        let clauses = value.get(..semicolon.unwrap_or(value.len())).unwrap_or_default();
        let date = semicolon.and_then(|at| value.get(at + 1..)).map(<[u8]>::trim_ascii);
        let parts = Parts::of(clauses);
        let at = |range: &Range<usize>| value.get(range.clone());
        let said = Said::of(value, &parts, &reading);
        Self {
            host: said.host,
            helo: said.helo,
            by: parts.by.as_ref().and_then(at),
            with: parts.with.as_ref().and_then(at),
            id: parts.id.as_ref().and_then(at),
            date: date.filter(|date| !date.is_empty()),
            format: Format::of(&Marks {
                server: parts.server(clauses),
                by: parts.by.as_ref().and_then(at).unwrap_or_default(),
                with: parts.with.as_ref().and_then(at).unwrap_or_default(),
                is_numbered: parts.id.is_some(),
                date: date.unwrap_or_default(),
            }),
            reading,
        }
    }
}

/// The clause that a word belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clause {
    Head,
    From,
    By,
    Via,
    With,
    Id,
    For,
}

impl Clause {
    fn begun_by(word: &[u8]) -> Option<Self> {
        const WORDS: [(&[u8], Clause); 6] = [
            (b"from", Clause::From),
            (b"by", Clause::By),
            (b"via", Clause::Via),
            (b"with", Clause::With),
            (b"id", Clause::Id),
            (b"for", Clause::For),
        ];
        WORDS.iter().find(|(known, _)| word.eq_ignore_ascii_case(known)).map(|(_, clause)| *clause)
    }
}

/// Where the parts of a line stand in its value.
#[derive(Default)]
struct Parts {
    /// The first word behind `from`.
    from: Option<Range<usize>>,
    by: Option<Range<usize>>,
    with: Option<Range<usize>>,
    id: Option<Range<usize>>,
    /// All that stands before what the server says of itself.
    from_clause: Range<usize>,
}

impl Parts {
    fn of(value: &[u8]) -> Self {
        let mut parts = Self::default();
        let mut clause = Clause::Head;
        let mut tokens = Tokens { value, at: 0 };
        let mut last = Clause::Head;
        while let Some(token) = tokens.next_token() {
            let Token::Word(range) = token else {
                last = Clause::Head;
                continue;
            };
            let word = value.get(range.clone()).unwrap_or_default();
            // `from` begins a clause only at the head of the line.
            let begun = Clause::begun_by(word)
                .filter(|begun| *begun != Clause::From || clause == Clause::Head);
            if let Some(begun) = begun {
                let server = matches!(clause, Clause::Head | Clause::From);
                if server && begun != Clause::From {
                    parts.from_clause = 0..range.start;
                }
                (clause, last) = (begun, Clause::Head);
                continue;
            }
            let adjoins = last == clause;
            last = clause;
            let slot = match clause {
                Clause::From => &mut parts.from,
                Clause::By => &mut parts.by,
                Clause::With => &mut parts.with,
                Clause::Id => &mut parts.id,
                Clause::Head | Clause::Via | Clause::For => continue,
            };
            match slot {
                None => *slot = Some(range),
                Some(words) if clause == Clause::With && adjoins => words.end = range.end,
                Some(_) => {}
            }
        }
        if matches!(clause, Clause::Head | Clause::From) {
            parts.from_clause = 0..value.len();
        }
        parts
    }

    /// What the server says of itself and the message.
    fn server<'v>(&self, value: &'v [u8]) -> &'v [u8] {
        value.get(self.from_clause.end..).unwrap_or_default()
    }
}

/// The client's names.
#[derive(Default)]
struct Said<'a> {
    host: Option<&'a [u8]>,
    helo: Option<&'a [u8]>,
}

impl<'a> Said<'a> {
    fn of(value: &'a [u8], parts: &Parts, reading: &Reading) -> Self {
        let Reading::From(hop) = reading else {
            let first = parts.from.clone().filter(|_| *reading != Reading::By);
            return Self { host: None, helo: first.and_then(|first| value.get(first)) };
        };
        // The first word, unless it is the address itself.
        let first = parts.from.clone().filter(|first| !first.contains(&hop.text.start));
        let first = first.and_then(|first| value.get(first));
        let clause = value.get(parts.from_clause.clone()).unwrap_or_default();
        if let Some(helo) = announced(clause) {
            return Self { host: first, helo: Some(helo) };
        }
        Self { host: before_address(value, hop.text.start), helo: first }
    }
}

/// What stands behind `HELO`, `helo=` and their like in a comment.
fn announced(clause: &[u8]) -> Option<&[u8]> {
    let mut depth = 0_usize;
    let (mut at, mut helo_next) = (0, false);
    while let Some(b) = clause.get(at) {
        match b {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b if is_blank(*b) || b",\"".contains(b) => {}
            _ => {
                let rest = clause.get(at..).unwrap_or_default();
                let end = rest.iter().position(|b| is_blank(*b) || b"(),\"".contains(b));
                let word = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
                at += word.len();
                if depth > 0 {
                    if helo_next {
                        return Some(word);
                    }
                    if let Some((name, value)) = word.split_at_checked(5)
                        && name.eq_ignore_ascii_case(b"helo=")
                    {
                        return Some(value).filter(|value| !value.is_empty());
                    }
                    let announces: [&[u8]; 3] = [b"helo", b"ehlo", b"lhlo"];
                    helo_next = announces.iter().any(|known| word.eq_ignore_ascii_case(known));
                }
                continue;
            }
        }
        helo_next &= depth > 0;
        at += 1;
    }
    None
}

/// The name right before an address in its comment: `(host.example [`, `(ident@host.example [`.
fn before_address(value: &[u8], address: usize) -> Option<&[u8]> {
    let before = value.get(..address)?;
    let open = memchr::memrchr(b'(', before)?;
    let inside = before.get(open + 1..)?;
    // The comment must not have ended before the address.
    if inside.contains(&b')') {
        return None;
    }
    let marks: &[u8] = b"[/(:";
    let tagged = inside.len().checked_sub(5).and_then(|at| inside.split_at_checked(at));
    let inside = match tagged {
        Some((head, tag)) if tag.eq_ignore_ascii_case(b"ipv6:") => head,
        _ => inside,
    };
    let end = inside.iter().rposition(|b| !is_blank(*b) && !marks.contains(b) && *b != b',')?;
    let words = inside.get(..=end)?;
    let start = words.iter().rposition(|b| is_blank(*b) || b",@".contains(b));
    let name = words.get(start.map_or(0, |at| at + 1)..)?;
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || b".-_".contains(b);
    // `user@` alone is no name.
    let is_user = inside.get(end) == Some(&b'@');
    let remarks: [&[u8]; 3] = [b"verified", b"unverified", b"really"];
    let is_remark = remarks.iter().any(|remark| name.eq_ignore_ascii_case(remark));
    (!name.is_empty() && !is_user && !is_remark && name.iter().all(is_name)).then_some(name)
}

/// A piece of a line outside the pieces between.
enum Token {
    Word(Range<usize>),
    Comment,
}

struct Tokens<'v> {
    value: &'v [u8],
    at: usize,
}

impl Tokens<'_> {
    fn next_token(&mut self) -> Option<Token> {
        while self.value.get(self.at).is_some_and(|b| is_blank(*b) || b");".contains(b)) {
            self.at += 1;
        }
        let start = self.at;
        if self.value.get(start)? == &b'(' {
            let mut depth = 0_usize;
            while let Some(b) = self.value.get(self.at) {
                self.at += 1;
                match b {
                    b'(' => depth += 1,
                    b')' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            return Some(Token::Comment);
        }
        while let Some(b) = self.value.get(self.at) {
            if is_blank(*b) || b"();".contains(b) {
                break;
            }
            self.at += 1;
            // `[192.0.2.1]by mx.example`
            let rest = self.value.get(self.at..).unwrap_or_default();
            if *b == b']' && rest.starts_with(b"by") && rest.get(2).is_none_or(|b| is_blank(*b)) {
                break;
            }
        }
        Some(Token::Word(start..self.at))
    }
}

pub(crate) fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_protocol_id_and_date_are_taken_apart() {
        let table: &[(&str, [&str; 6])] = &[
            // (line, [host, helo, by, with, id, date])
            (
                "from a (b.example [192.0.2.1]) by c (Postfix) with ESMTP id 1F for <x@y>; d",
                ["b.example", "a", "c", "ESMTP", "1F", "d"],
            ),
            (
                "from a (unknown [192.0.2.1]) by c with SMTP; d",
                ["unknown", "a", "c", "SMTP", "", "d"],
            ),
            ("from a ([192.0.2.1]) by c; d", ["", "a", "c", "", "", "d"]),
            ("from a ([IPv6:2001:db8::1]) by c; d", ["", "a", "c", "", "", "d"]),
            ("from a (b.example [IPv6:2001:db8::1]) by c; d", ["b.example", "a", "c", "", "", "d"]),
            (
                "from b.example (HELO a) (192.0.2.1) by c with SMTP; d",
                ["b.example", "a", "c", "SMTP", "", "d"],
            ),
            (
                "from b.example (HELO a) (root@192.0.2.1) by c; d",
                ["b.example", "a", "c", "", "", "d"],
            ),
            ("from unknown (HELO ) (192.0.2.1) by c; d", ["", "unknown", "c", "", "", "d"]),
            (
                "from b.example ([192.0.2.1] helo=a) by c with esmtp (Exim 4.96) id x; d",
                ["b.example", "a", "c", "esmtp", "x", "d"],
            ),
            ("from [192.0.2.1] (helo=a ident=r) by c; d", ["", "a", "c", "", "", "d"]),
            ("from [192.0.2.1] by c via HTTP; d", ["", "", "c", "", "", "d"]),
            (
                "from a (IDENT:root@b.example [192.0.2.1]) by c; d",
                ["b.example", "a", "c", "", "", "d"],
            ),
            ("from a (root@[192.0.2.1]) by c; d", ["", "a", "c", "", "", "d"]),
            ("from a (Not Verified[192.0.2.1]) by c; d", ["", "a", "c", "", "", "d"]),
            ("from a (b.example/192.0.2.1) by c; d", ["b.example", "a", "c", "", "", "d"]),
            ("from a (b.example. [192.0.2.1]) by c; d", ["b.example.", "a", "c", "", "", "d"]),
            (
                "from a (192.0.2.1) by c (192.0.2.9) with Microsoft SMTP Server (x=y) id 15.20; d",
                ["", "a", "c", "Microsoft SMTP Server", "15.20", "d"],
            ),
            ("from a [192.0.2.1] by c with SMTP; d", ["", "a", "c", "SMTP", "", "d"]),
            (
                "from a (b.example [192.0.2.1])by c with SMTP; d",
                ["b.example", "a", "c", "SMTP", "", "d"],
            ),
            ("from [192.0.2.1]by c; d", ["", "", "c", "", "", "d"]),
            ("by 192.0.2.1 with SMTP id x; d", ["", "", "192.0.2.1", "SMTP", "x", "d"]),
            ("(qmail 7 invoked from network); d", ["", "", "", "", "", "d"]),
            ("from mail by c; d", ["", "mail", "c", "", "", "d"]),
            (
                "from a (b.example [192.0.2.1]) by c id 7 from d",
                ["b.example", "a", "c", "", "7", ""],
            ),
            (
                "from a (b [192.0.2.1])\r\n\tby c\r\n\twith ESMTP;\r\n\td",
                ["b", "a", "c", "ESMTP", "", "d"],
            ),
            ("from a (c [192.0.2.1]) by d; 1; e", ["c", "a", "d", "", "", "e"]),
            ("", ["", "", "", "", "", ""]),
            ("from", ["", "", "", "", "", ""]),
            ("from by with id for via ;", ["", "", "", "", "", ""]),
        ];
        for (line, want) in table {
            let read = TraceLine::of(line.as_bytes());
            let got = [read.host, read.helo, read.by, read.with, read.id, read.date]
                .map(|part| String::from_utf8_lossy(part.unwrap_or_default()).into_owned());
            assert_eq!(got, want.map(str::to_owned), "{line}");
        }
    }

    const PIECES: &[&[u8]] = &[
        b"from ",
        b" by ",
        b" with ",
        b" id ",
        b"(",
        b")",
        b"[",
        b"]",
        b"192.0.2.1",
        b"helo=",
        b"HELO ",
        b";",
        b"\r\n ",
        b"\0",
        b"\xff",
        b"a",
        b"@",
        b"IPv6:",
        b"\"",
        b"\\(",
        b"by",
    ];

    proptest! {
        #[test]
        fn any_bytes_may_be_given_e12(
            line in proptest::collection::vec(proptest::sample::select(PIECES), 0..40),
        ) {
            let line = line.concat();
            let read = TraceLine::of(&line);
            prop_assert_eq!(read.reading, Reading::of(&line));
        }
    }

    #[test]
    fn a_line_of_a_megabyte_is_looked_at_once_e12() {
        for piece in ["(", ")", "from ", "by ", "a", "(a ", "[", ";", " ", "(HELO ", "with "] {
            let line = format!("from a ({}", piece.repeat((1 << 20) / piece.len()));
            let mut tokens = Tokens { value: line.as_bytes(), at: 0 };
            let mut end = 0;
            while tokens.next_token().is_some() {
                assert!(tokens.at > end, "it goes on");
                end = tokens.at;
            }
            let _ = TraceLine::of(line.as_bytes());
        }
    }
}
