//! The texts that patterns look for, found in a folded address.
//!
//! Whole addresses, domains and ends of domains are found by hash; all others in one pass over the
//! address.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use aho_corasick::automaton::OverlappingState;
use aho_corasick::{AhoCorasick, AhoCorasickKind};
use hashbrown::HashTable;
use smallvec::SmallVec;
use waypost_types::{Host, Mailbox};

use crate::lists::{Lists, ListsBuilder};
use crate::shape::{END, START, fold};

/// Hashes without a key: whoever writes the rules gains nothing by making them slow.
pub(crate) type Hash = BuildHasherDefault<DefaultHasher>;

/// A folded address, from [`START`] to [`END`].
pub(crate) struct Folded {
    text: SmallVec<[u8; 128]>,
    is_ascii: bool,
}

impl Folded {
    /// Folds an address; the null path is the empty text.
    pub(crate) fn new(address: Option<&Mailbox>) -> Self {
        let mut text = SmallVec::new();
        text.push(START);
        if let Some(mailbox) = address {
            fold(mailbox.local_part(), |part| text.extend_from_slice(part));
            match mailbox.host() {
                Host::Name(domain) => {
                    text.push(b'@');
                    // Domains are kept in lower case.
                    text.extend_from_slice(domain.as_str().as_bytes());
                }
                Host::Ip(_) => {
                    let whole = mailbox.to_string();
                    let host = whole.rfind('@').and_then(|at| whole.get(at..)).unwrap_or_default();
                    fold(host, |part| text.extend_from_slice(part));
                }
            }
        }
        text.push(END);
        let is_ascii = address.is_none_or(|mailbox| mailbox.local_part().is_ascii());
        Self { text, is_ascii }
    }

    pub(crate) fn is_ascii(&self) -> bool {
        self.is_ascii
    }

    /// The address without its marks.
    pub(crate) fn address(&self) -> &[u8] {
        match self.text.as_slice() {
            [_, address @ .., _] => address,
            _ => &[],
        }
    }
}

/// Where a text can stand in an address.
fn is_whole_or_end(text: &[u8]) -> bool {
    match text {
        [START, .., END] => true,
        [b'@' | b'.', rest @ .., END] => !rest.contains(&b'@'),
        _ => false,
    }
}

/// Texts, and for each of them what is to be told where it occurs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts {
    all: Box<[u8]>,
    /// Where each text ends, and the next begins.
    ends: Box<[u32]>,
    by_hash: HashTable<u32>,
    /// Whether there are ends of domains among them that do not begin with `@`.
    has_ends: bool,
    /// Each with the number of its first text.
    scans: Vec<(u32, AhoCorasick)>,
    told: Lists,
}

impl Texts {
    /// `texts` are pairs of a text and what is to be told of it.
    pub(crate) fn build(mut texts: Vec<(Box<[u8]>, u32)>) -> Self {
        texts.sort_unstable();
        let (hashed, scanned): (Vec<_>, Vec<_>) =
            texts.into_iter().partition(|(text, _)| is_whole_or_end(text));
        let first_scanned = Distinct::of(&hashed).count();
        let mut built = Self::default();
        let (mut all, mut ends, mut told) = (Vec::new(), Vec::new(), ListsBuilder::default());
        for (text, uses) in Distinct::of(&hashed).chain(Distinct::of(&scanned)) {
            all.extend_from_slice(text);
            ends.push(short(all.len()));
            told.push(uses.iter().map(|(_, told)| *told));
        }
        (built.all, built.ends, built.told) = (all.into(), ends.into(), told.finish());
        let of = |text: &u32| Hash::default().hash_one(built.text(*text));
        let mut by_hash = HashTable::with_capacity(first_scanned);
        for text in 0..short(first_scanned) {
            by_hash.insert_unique(of(&text), text, of);
        }
        let is_end = |text: u32| built.text(text).first() == Some(&b'.');
        let has_ends = (0..short(first_scanned)).any(is_end);
        (built.by_hash, built.has_ends) = (by_hash, has_ends);
        let scanned: Vec<&[u8]> = Distinct::of(&scanned).map(|(text, _)| text).collect();
        built.scan(short(first_scanned), &scanned);
        built
    }

    /// Makes one automaton of the texts, or several where one would be too large.
    fn scan(&mut self, first: u32, texts: &[&[u8]]) {
        let mut builder = AhoCorasick::builder();
        builder.kind(Some(AhoCorasickKind::ContiguousNFA)).prefilter(false);
        match (builder.build(texts), texts) {
            (_, []) => {}
            (Ok(scan), _) => self.scans.push((first, scan)),
            // Texts are short, since their extractor cuts them: one alone always fits.
            (Err(_), [_]) => {}
            (Err(_), texts) => {
                let (left, right) = texts.split_at(texts.len() / 2);
                self.scan(first, left);
                self.scan(first.saturating_add(short(left.len())), right);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn text(&self, text: u32) -> &[u8] {
        let at = text as usize;
        let before = at.checked_sub(1).and_then(|before| self.ends.get(before));
        let (from, to) = (before.copied().unwrap_or(0), self.ends.get(at).copied().unwrap_or(0));
        self.all.get(from as usize..to as usize).unwrap_or_default()
    }

    /// Tells what is to be told of the texts in an address; some of it more than once.
    pub(crate) fn find(&self, address: &Folded, mut each: impl FnMut(u32)) {
        let text = address.text.as_slice();
        let mut tell = |found: u32| self.told.of(found).iter().for_each(|told| each(*told));
        if !self.by_hash.is_empty() {
            let mut find = |part: &[u8]| {
                let hash = Hash::default().hash_one(part);
                if let Some(found) = self.by_hash.find(hash, |text| self.text(*text) == part) {
                    tell(*found);
                }
            };
            find(text);
            let at_sign = memchr::memrchr(b'@', text).unwrap_or(text.len());
            let mut domain = text.get(at_sign..).unwrap_or_default();
            if !domain.is_empty() {
                find(domain);
            }
            while self.has_ends
                && let Some(dot) = memchr::memchr(b'.', domain)
            {
                domain = domain.get(dot..).unwrap_or_default();
                find(domain);
                domain = domain.get(1..).unwrap_or_default();
            }
        }
        for (first, scan) in &self.scans {
            let mut state = OverlappingState::start();
            let input = aho_corasick::Input::new(text);
            while scan.try_find_overlapping(input.clone(), &mut state).is_ok()
                && let Some(found) = state.get_match()
            {
                tell(first.saturating_add(found.pattern().as_u32()));
            }
        }
    }
}

/// Runs of equal texts.
struct Distinct<'t>(&'t [(Box<[u8]>, u32)]);

impl<'t> Distinct<'t> {
    fn of(sorted: &'t [(Box<[u8]>, u32)]) -> Self {
        Self(sorted)
    }
}

impl<'t> Iterator for Distinct<'t> {
    type Item = (&'t [u8], &'t [(Box<[u8]>, u32)]);

    fn next(&mut self) -> Option<Self::Item> {
        let (text, _) = self.0.first()?;
        let run = self.0.iter().take_while(|(other, _)| other == text).count();
        let (same, rest) = self.0.split_at(run);
        self.0 = rest;
        Some((text, same))
    }
}

/// Rules, texts and units are counted in 32 bits; a configuration has room for fewer.
pub(crate) fn short(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
