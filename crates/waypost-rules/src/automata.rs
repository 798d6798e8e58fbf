//! The automata of patterns that stand for more than a few texts.
//!
//! A pattern that a text points to is asked alone ([`Automata::is_match`]), one that nothing points to is
//! asked together with its like ([`Sets`]). Both look at the folded address, which has at most some 320
//! octets, in time linear in it.

use regex_automata::nfa::thompson::backtrack::{self, BoundedBacktracker};
use regex_automata::nfa::thompson::pikevm::PikeVM;
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_automata::{Anchored, Input, MatchKind, PatternID, PatternSet, meta};
use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, Hir, HirKind, Look, Repetition};

use crate::shape::{Parsed, any, is_any};

/// The automaton of one pattern may have so many octets.
const MOST_OCTETS: usize = 1 << 20;
/// Patterns share an automaton as long as it has no more states than these: one list of states for many
/// patterns, just below a power of two, since lists grow in doubling.
const SHARED_STATES: usize = 500;
/// The octets of a folded address, and some more.
const LONGEST_ADDRESS: usize = 400;
/// Patterns that are asked together.
const SET: usize = 128;
/// What a set may have of memory; where it would have more, it is halved.
const SET_OCTETS: usize = 8 << 20;

fn compiler(most_octets: Option<usize>) -> thompson::Compiler {
    let mut compiler = NFA::compiler();
    compiler.configure(
        NFA::config().utf8(false).which_captures(WhichCaptures::None).nfa_size_limit(most_octets),
    );
    compiler
}

/// Whether a pattern can be compiled.
pub(crate) fn fits(hir: &Hir) -> bool {
    compiler(Some(MOST_OCTETS)).build_from_hir(hir).is_ok()
}

/// A pattern as written, for addresses as they are: when the folded form does not say enough.
#[derive(Clone, Debug)]
pub(crate) struct Whole(PikeVM);

impl Whole {
    /// `None` for what [`Pattern::new`](crate::Pattern::new) does not take.
    pub(crate) fn new(source: &str) -> Option<Self> {
        let parsed = Parsed::new(source).ok()?;
        let nfa = compiler(None).build_from_hir(&parsed.hir).ok()?;
        PikeVM::new_from_nfa(nfa).ok().map(Self)
    }

    pub(crate) fn is_match(&self, address: &str) -> bool {
        self.0.is_match(&mut self.0.create_cache(), address)
    }
}

/// Automata that are asked one pattern at a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Automata {
    chunks: Vec<BoundedBacktracker>,
    /// For each pattern its chunk, and its place there.
    places: Vec<(u32, u16)>,
}

/// What [`Automata::is_match`] needs besides; kept from one question to the next.
#[derive(Default)]
pub(crate) struct Cache(Option<backtrack::Cache>);

impl Automata {
    pub(crate) fn build(folded: &[&Hir]) -> Self {
        let mut automata = Self::default();
        let mut chunk: Vec<Hir> = Vec::new();
        let mut states = 0_usize;
        for hir in folded {
            let hir = from_anywhere(hir);
            let more = states_of(&hir).saturating_add(1);
            if states.saturating_add(more) > SHARED_STATES {
                automata.add(&std::mem::take(&mut chunk));
                states = 0;
            }
            states = states.saturating_add(more);
            chunk.push(hir);
        }
        automata.add(&chunk);
        automata
    }

    fn add(&mut self, hirs: &[Hir]) {
        let built = match hirs {
            [] => return,
            hirs => compiler(None).build_many_from_hir(hirs).ok().and_then(|nfa| {
                let bits = nfa.states().len().saturating_mul(LONGEST_ADDRESS);
                let capacity = backtrack::Config::new().visited_capacity(bits / 8 + 1);
                BoundedBacktracker::builder().configure(capacity).build_from_nfa(nfa).ok()
            }),
        };
        let chunk = u32::try_from(self.chunks.len()).unwrap_or(u32::MAX);
        match (built, hirs) {
            (Some(built), _) => {
                self.chunks.push(built);
                let here = (0..).map(|place| (chunk, place));
                self.places.extend(here.zip(hirs).map(|(place, _)| place));
            }
            // Each alone fits: `fits` has seen to it.
            (None, [_]) => self.places.push((u32::MAX, 0)),
            (None, hirs) => hirs.chunks(hirs.len().div_ceil(2)).for_each(|half| self.add(half)),
        }
    }

    /// Whether a pattern matches a folded address. `None`: its automaton cannot say.
    pub(crate) fn is_match(&self, pattern: usize, text: &[u8], cache: &mut Cache) -> Option<bool> {
        let (chunk, place) = self.places.get(pattern)?;
        let chunk = self.chunks.get(usize::try_from(*chunk).ok()?)?;
        let cache = match &mut cache.0 {
            Some(cache) => {
                chunk.reset_cache(cache);
                cache
            }
            none => none.insert(chunk.create_cache()),
        };
        let pattern = PatternID::new(usize::from(*place)).ok()?;
        let input = Input::new(text).anchored(Anchored::Pattern(pattern)).earliest(true);
        chunk.try_is_match(cache, input).ok()
    }
}

/// The expression with anything in front of it, unless it asks for the start itself.
fn from_anywhere(hir: &Hir) -> Hir {
    // Between the octets of a character no word begins or ends, but `\B` would hold.
    let looks_at_words = hir.properties().look_set().contains_word();
    let hir = if looks_at_words { hir.clone() } else { by_octets(hir) };
    if hir.properties().look_set_prefix().contains(Look::Start) {
        return hir;
    }
    let any = if looks_at_words { any() } else { octet() };
    let any = Repetition { min: 0, max: None, greedy: false, sub: Box::new(any) };
    Hir::concat(vec![Hir::repetition(any), hir])
}

fn octet() -> Hir {
    Hir::class(Class::Bytes(ClassBytes::new([ClassBytesRange::new(0, 255)])))
}

/// The expression with `.*` and `.+` told in octets instead of characters: as many states fewer as there
/// are kinds of characters. What stands behind them begins with a character, so it is all one.
fn by_octets(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Repetition(some) if is_any(some) => Hir::repetition(some.with(octet())),
        HirKind::Repetition(some) => Hir::repetition(some.with(by_octets(&some.sub))),
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(by_octets).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(by_octets).collect()),
        _ => hir.clone(),
    }
}

/// How many states an expression takes: exactly for ASCII, roughly beyond. Nesting is bounded by the
/// parser.
fn states_of(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(text) => text.0.len(),
        HirKind::Class(class) if class.maximum_len().is_none_or(|most| most <= 1) => 1,
        HirKind::Class(_) => 12,
        HirKind::Capture(capture) => states_of(&capture.sub),
        HirKind::Repetition(some) => {
            let times = some.max.unwrap_or(some.min).max(1);
            let branches = some.max.map_or(1, |most| most - some.min) as usize;
            states_of(&some.sub).saturating_mul(times as usize).saturating_add(branches)
        }
        HirKind::Concat(parts) => parts.iter().map(states_of).fold(0, usize::saturating_add),
        HirKind::Alternation(parts) => {
            parts.iter().map(states_of).fold(parts.len(), usize::saturating_add)
        }
    }
}

/// Patterns that are asked together, some hundred at a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sets {
    sets: Vec<(u32, meta::Regex)>,
    /// The patterns that no set holds: asked alone.
    pub(crate) alone: Vec<u32>,
}

impl Sets {
    pub(crate) fn build(folded: &[&Hir]) -> Self {
        let mut sets = Self::default();
        for (place, some) in folded.chunks(SET).enumerate() {
            sets.add(place * SET, some);
        }
        sets
    }

    fn add(&mut self, first: usize, folded: &[&Hir]) {
        let config = meta::Config::new()
            .match_kind(MatchKind::All)
            .utf8_empty(false)
            .which_captures(WhichCaptures::None)
            .nfa_size_limit(Some(SET_OCTETS))
            .hybrid_cache_capacity(SET_OCTETS / 8)
            .onepass(false)
            .auto_prefilter(false);
        let from = u32::try_from(first).unwrap_or(u32::MAX);
        match (meta::Builder::new().configure(config).build_many_from_hir(folded), folded) {
            (Ok(regex), _) => self.sets.push((from, regex)),
            (Err(_), [_]) => self.alone.push(from),
            (Err(_), folded) => {
                let (left, right) = folded.split_at(folded.len() / 2);
                self.add(first, left);
                self.add(first + left.len(), right);
            }
        }
    }

    /// Tells the patterns that match a folded address.
    pub(crate) fn matches(&self, text: &[u8], mut each: impl FnMut(u32)) {
        let mut found: Option<PatternSet> = None;
        for (first, regex) in &self.sets {
            let found = found.get_or_insert_with(|| PatternSet::new(SET));
            found.clear();
            regex.which_overlapping_matches(&Input::new(text), found);
            for pattern in found.iter() {
                each(first + pattern.as_u32());
            }
        }
    }
}
