//! What a pattern looks for: texts that can be looked up, or an automaton with texts that point to it.
//!
//! Addresses are compared in a *folded* form: ASCII letters in lower case, U+017F as `s` and U+212A as
//! `k`, which are the only characters outside ASCII that regular expressions without case hold equal
//! to ASCII ones; [`START`] in front, [`END`] behind. A pattern that stands for a few texts is replaced
//! by them: `@b\.example$` finds exactly what has `@b.example` and [`END`] in its folded form. A pattern
//! that stands for more is folded too, and a few texts are taken from it of which one must occur.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::literal::{ExtractKind, Extractor, Seq};
use regex_syntax::hir::{
    Class, ClassBytes, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look, Repetition,
};

/// Stands in front of a folded address; no address holds it.
pub(crate) const START: u8 = 1;
/// Stands behind a folded address; no address holds it.
pub(crate) const END: u8 = 2;

const KELVIN: char = '\u{212a}';
const LONG_S: char = '\u{17f}';

/// More texts than these, and a pattern is matched by its automaton.
const MOST_TEXTS: usize = 16;
/// More parts of a pattern than these are not looked at for required texts.
const MOST_PARTS: usize = 32;
/// A class with more ranges outside ASCII than these is widened to all that is outside ASCII.
const MOST_RANGES: usize = 8;

/// A pattern as the parser of regular expressions reads it.
pub(crate) struct Parsed {
    pub(crate) hir: Hir,
}

/// What a pattern looks for.
pub(crate) enum Shape {
    /// Nothing: it matches every address, the null path too.
    Everything,
    /// The folded addresses that hold one of these texts, and no others.
    Texts(Vec<Box<[u8]>>),
    /// Whatever its automaton says.
    General(General),
}

/// A pattern that needs an automaton.
pub(crate) struct General {
    /// The expression over folded addresses, without [`START`] and [`END`].
    pub(crate) folded: Hir,
    /// When a match of `folded` must be confirmed on the address as it is.
    pub(crate) confirm: Confirm,
    /// Sets of texts: of each, one at least is in each folded address that matches.
    pub(crate) required: Vec<Vec<Box<[u8]>>>,
}

/// When a match of the folded expression needs the pattern as written to be sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirm {
    /// It says the same.
    Never,
    /// It says the same of addresses in ASCII.
    OutsideAscii,
    /// The pattern looks at case.
    Always,
}

impl Confirm {
    pub(crate) fn is_ever(self) -> bool {
        self != Confirm::Never
    }
}

/// Writes the folded form of a text: an address, or a part of one.
pub(crate) fn fold(text: &str, mut put: impl FnMut(&[u8])) {
    if text.is_ascii() {
        let mut bytes = text.as_bytes();
        while let Some(upper) = bytes.iter().position(u8::is_ascii_uppercase) {
            let (before, rest) = bytes.split_at(upper);
            put(before);
            let Some((letter, rest)) = rest.split_first() else { break };
            put(&[letter.to_ascii_lowercase()]);
            bytes = rest;
        }
        put(bytes);
        return;
    }
    for c in text.chars() {
        put(folded_char(c).encode_utf8(&mut [0; 4]).as_bytes());
    }
}

fn folded_char(c: char) -> char {
    match c {
        KELVIN => 'k',
        LONG_S => 's',
        c => c.to_ascii_lowercase(),
    }
}

impl Parsed {
    /// Reads a pattern; what is wrong with it, otherwise.
    pub(crate) fn new(source: &str) -> Result<Self, String> {
        let hir = ParserBuilder::new().case_insensitive(true).build().parse(source);
        Ok(Self { hir: hir.map_err(|error| error.to_string())? })
    }

    /// What it looks for.
    pub(crate) fn shape(&self) -> Shape {
        let mut folding = Folding { looks_at_case: false, widened: false };
        let folded = folding.fold(&self.hir);
        let branches = match folded.kind() {
            HirKind::Alternation(branches) => branches.as_slice(),
            _ => std::slice::from_ref(&folded),
        };
        let branches: Vec<Branch> = branches.iter().map(Branch::new).collect();
        if !folding.looks_at_case
            && let Some(found) = texts(&branches)
        {
            return found;
        }
        Shape::General(General {
            required: required(&branches),
            confirm: match folding {
                Folding { looks_at_case: true, .. } => Confirm::Always,
                Folding { widened: true, .. } => Confirm::OutsideAscii,
                _ => Confirm::Never,
            },
            folded,
        })
    }
}

/// All texts of a pattern, if they are few and say everything.
fn texts(branches: &[Branch]) -> Option<Shape> {
    let mut all = Vec::new();
    for branch in branches {
        let seq = branch.seq()?;
        for literal in seq.literals().filter(|_| seq.is_exact())? {
            let text = branch.with_marks(literal.as_bytes());
            match text.as_slice() {
                [] | [START] | [END] => return Some(Shape::Everything),
                _ => all.push(text.into()),
            }
        }
        if all.len() > MOST_TEXTS {
            return None;
        }
    }
    all.sort_unstable();
    all.dedup();
    Some(Shape::Texts(all))
}

/// The sets of texts that are required: with one branch each set that can be had, with several the
/// union of the longest of each.
fn required(branches: &[Branch]) -> Vec<Vec<Box<[u8]>>> {
    if let [branch] = branches {
        return branch.required();
    }
    let mut union = Vec::new();
    for branch in branches {
        let longest = |set: &Vec<Box<[u8]>>| set.iter().map(|text| text.len()).min();
        let Some(best) = branch.required().into_iter().max_by_key(longest) else {
            return Vec::new();
        };
        union.extend(best);
    }
    if union.len() > MOST_TEXTS { Vec::new() } else { vec![union] }
}

/// One of the alternatives of a pattern, its anchors and what matches anything at its ends taken off.
struct Branch {
    from_start: bool,
    to_end: bool,
    parts: Vec<Hir>,
}

impl Branch {
    fn new(hir: &Hir) -> Self {
        let mut parts = match hir.kind() {
            HirKind::Concat(parts) => parts.as_slice(),
            _ => std::slice::from_ref(hir),
        };
        let (mut from_start, mut to_end) = (false, false);
        while let [first, rest @ ..] = parts {
            let at_sign = rest.first().is_some_and(begins_with_at);
            match first.kind() {
                HirKind::Look(Look::Start) => from_start = true,
                // No address begins with `@`.
                HirKind::Repetition(some) if is_any(some) && (some.min == 0 || at_sign) => {
                    from_start = false;
                }
                _ => break,
            }
            parts = rest;
        }
        while let [rest @ .., last] = parts {
            match last.kind() {
                HirKind::Look(Look::End) => to_end = true,
                HirKind::Repetition(some) if is_any(some) && some.min == 0 => to_end = false,
                _ => break,
            }
            parts = rest;
        }
        Self { from_start, to_end, parts: parts.to_vec() }
    }

    /// The texts of the branch, exact if they are all and nothing else is asked.
    fn seq(&self) -> Option<Seq> {
        let whole = Hir::concat(self.parts.clone());
        let asks_more = !whole.properties().look_set().is_empty();
        (!asks_more).then(|| Extractor::new().extract(&whole))
    }

    fn with_marks(&self, text: &[u8]) -> Vec<u8> {
        let start = self.from_start.then_some(START);
        start.into_iter().chain(text.iter().copied()).chain(self.to_end.then_some(END)).collect()
    }

    /// Every set of texts of which one must occur that is easily seen: what the branch ends with, and
    /// what it goes on with from each of its parts.
    fn required(&self) -> Vec<Vec<Box<[u8]>>> {
        let mark = |set, mark| if set { Hir::literal([mark]) } else { Hir::empty() };
        let mut parts = vec![mark(self.from_start, START)];
        parts.extend(self.parts.iter().cloned());
        parts.push(mark(self.to_end, END));
        let mut extractor = Extractor::new();
        extractor.limit_class(4).limit_total(MOST_TEXTS / 2);
        let mut found = Vec::new();
        let mut keep = |seq: Seq| {
            let literals = seq.literals().filter(|texts| texts.len() <= MOST_TEXTS / 2);
            let texts: Vec<Box<[u8]>> =
                literals.unwrap_or_default().iter().map(|text| text.as_bytes().into()).collect();
            if !texts.is_empty() && texts.iter().all(|text| !text.is_empty()) {
                found.push(texts);
            }
        };
        keep(extractor.kind(ExtractKind::Suffix).extract(&Hir::concat(parts.clone())));
        extractor.kind(ExtractKind::Prefix);
        for from in 0..parts.len().min(MOST_PARTS) {
            if let Some(rest) = parts.get(from..) {
                keep(extractor.extract(&Hir::concat(rest.to_vec())));
            }
        }
        found
    }
}

fn begins_with_at(hir: &Hir) -> bool {
    matches!(hir.kind(), HirKind::Literal(text) if text.0.first() == Some(&b'@'))
}

/// Whether this is `.*`, `.+` or the like.
pub(crate) fn is_any(repetition: &Repetition) -> bool {
    repetition.max.is_none() && repetition.min <= 1 && *repetition.sub == any()
}

/// Any character. Addresses hold no line ends, so whether `.` means them too is all one.
pub(crate) fn any() -> Hir {
    Hir::class(Class::Unicode(ClassUnicode::new([ClassUnicodeRange::new('\0', char::MAX)])))
}

/// Turns an expression over addresses into one over folded addresses: whatever the first matches, the
/// second matches in folded form.
struct Folding {
    /// The other way round does not hold.
    looks_at_case: bool,
    /// The other way round holds for ASCII only.
    widened: bool,
}

impl Folding {
    /// Nesting is bounded by the parser.
    fn fold(&mut self, hir: &Hir) -> Hir {
        match hir.kind() {
            HirKind::Empty => Hir::empty(),
            HirKind::Literal(text) => self.literal(&text.0),
            HirKind::Class(Class::Unicode(class)) => self.class(class, true),
            HirKind::Class(Class::Bytes(class)) => self.bytes(class),
            HirKind::Look(look) => {
                // What is a word in ASCII differs between an address and its folded form.
                self.looks_at_case |= is_word_in_ascii(*look);
                Hir::look(*look)
            }
            HirKind::Repetition(some) => Hir::repetition(some.with(self.fold(&some.sub))),
            HirKind::Capture(capture) => self.fold(&capture.sub),
            HirKind::Concat(parts) => Hir::concat(parts.iter().map(|one| self.fold(one)).collect()),
            HirKind::Alternation(parts) => {
                Hir::alternation(parts.iter().map(|one| self.fold(one)).collect())
            }
        }
    }

    /// Letters stand in a literal only where the pattern switches case on; else they are classes.
    fn literal(&mut self, bytes: &[u8]) -> Hir {
        let Ok(text) = std::str::from_utf8(bytes) else {
            self.looks_at_case = true;
            return Hir::literal(bytes);
        };
        let is_cased = |c: char| c.is_ascii_alphabetic() || matches!(c, KELVIN | LONG_S);
        self.looks_at_case |= text.contains(is_cased);
        let folded: String = text.chars().map(folded_char).collect();
        Hir::literal(folded.into_bytes())
    }

    fn bytes(&mut self, class: &ClassBytes) -> Hir {
        let ranges = class.ranges().iter();
        let ranges = ranges.map(|range| {
            ClassUnicodeRange::new(char::from(range.start()), char::from(range.end()))
        });
        self.class(&ClassUnicode::new(ranges), false)
    }

    fn class(&mut self, class: &ClassUnicode, unicode: bool) -> Hir {
        let mut ascii = 0_u128;
        let mut beyond = Vec::new();
        let (mut kelvin, mut long_s) = (false, false);
        for range in class.ranges() {
            let (start, end) = (range.start(), range.end());
            for code in u32::from(start)..=u32::from(end).min(0x7f) {
                ascii |= 1 << code;
            }
            kelvin |= (start..=end).contains(&KELVIN);
            long_s |= (start..=end).contains(&LONG_S);
            if end > '\x7f' && ![(KELVIN, KELVIN), (LONG_S, LONG_S)].contains(&(start, end)) {
                beyond.push(ClassUnicodeRange::new(start.max('\u{80}'), end));
            }
        }
        let mut folded = ascii;
        for lower in b'a'..=b'z' {
            let (small, large) = (1_u128 << lower, 1_u128 << lower.to_ascii_uppercase());
            let third = match lower {
                b'k' => kelvin,
                b's' => long_s,
                _ => ascii & small != 0,
            };
            let members = [ascii & small != 0, ascii & large != 0, third];
            self.looks_at_case |= members.contains(&true) && members.contains(&false);
            if members.contains(&true) {
                folded |= small;
            }
            folded &= !large;
        }
        let most = 1_u128 << u32::from(b'\n') | 1_u128 << u32::from(b'\r');
        let is_all_of_ascii = ascii | most == u128::MAX;
        let is_all_beyond = unicode
            && matches!(beyond.as_slice(), [one] if (one.start(), one.end()) == ('\u{80}', char::MAX));
        if is_all_of_ascii && is_all_beyond {
            return any();
        }
        if beyond.len() > MOST_RANGES {
            self.widened = true;
            beyond = vec![ClassUnicodeRange::new('\u{80}', char::MAX)];
        }
        let kept = (0..0x80_u8).filter(|code| folded & (1 << code) != 0);
        let kept = kept.map(|code| ClassUnicodeRange::new(char::from(code), char::from(code)));
        Hir::class(Class::Unicode(ClassUnicode::new(kept.chain(beyond))))
    }
}

fn is_word_in_ascii(look: Look) -> bool {
    matches!(
        look,
        Look::WordAscii
            | Look::WordAsciiNegate
            | Look::WordStartAscii
            | Look::WordEndAscii
            | Look::WordStartHalfAscii
            | Look::WordEndHalfAscii
    )
}
