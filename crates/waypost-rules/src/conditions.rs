//! The conditions that rules put to one address: the sender's or the recipient's.
//!
//! Every distinct entry of all rules' lists is a *condition* with a number. What an address fulfils is
//! found from the address, not by trying the conditions: by hash for addresses, for groups and for most
//! patterns, by a pass over the address for the texts that other patterns need. [`Conditions::held`]
//! answers with the numbers; which rules wait for them is the rule set's matter.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::ops::Range;

use hashbrown::HashTable;
use regex_syntax::hir::Hir;
use smallvec::SmallVec;
use waypost_types::{Directory, Mailbox, Unavailable};

use crate::automata::{Automata, Cache, Sets, Whole};
use crate::shape::{Confirm, General, Parsed, Shape};
use crate::texts::{Folded, Hash, Texts, short};
use crate::{AddressMatch, Pattern, Rule};

/// One of the two lists of an envelope filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum List {
    #[default]
    Senders,
    Recipients,
}

impl List {
    pub(crate) fn of(self, rule: &Rule) -> &[AddressMatch] {
        match self {
            List::Senders => &rule.envelope.senders,
            List::Recipients => &rule.envelope.recipients,
        }
    }
}

/// With so few groups in all rules each is asked for; with more, those of the address are listed.
const FEW_GROUPS: usize = 2;
/// A text that more patterns than these need says too little about each of them.
const MOST_USERS: u32 = 32;

/// Where an entry stands: in which rule, and where in its list.
#[derive(Clone, Copy, Debug)]
struct Entry {
    condition: u32,
    rule: u32,
    place: u32,
}

impl Entry {
    fn of(self, rules: &[Rule], list: List) -> Option<&AddressMatch> {
        list.of(rules.get(self.rule as usize)?).get(self.place as usize)
    }

    fn address(self, rules: &[Rule], list: List) -> Option<&Mailbox> {
        match self.of(rules, list)? {
            AddressMatch::Address(address) | AddressMatch::Group(address) => Some(address),
            AddressMatch::Pattern(_) => None,
        }
    }
}

/// What the addresses that are asked about can fulfil, compiled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    list: List,
    addresses: HashTable<Entry>,
    groups: HashTable<Entry>,
    /// What every address fulfils.
    always: Vec<u32>,
    texts: Texts,
    /// Patterns that a text points to.
    pointed: Range<u32>,
    /// Patterns that are asked only when the rest of a rule holds. They follow the pointed ones.
    late: Range<u32>,
    /// Patterns that are asked together. They follow the late ones.
    together: Range<u32>,
    /// Of pointed and late patterns.
    automata: Automata,
    sets: Sets,
    /// For each pattern in the three ranges when it must be confirmed, and where it stands.
    written: Box<[Written]>,
    /// Those that look at case.
    whole: HashMap<u32, Whole>,
}

/// A pattern as it is written: in which rule, and where in its list.
#[derive(Clone, Copy, Debug)]
struct Written {
    confirm: Confirm,
    rule: u32,
    place: u32,
}

/// The conditions that an address fulfils.
pub(crate) struct Held<'a> {
    pub(crate) address: Option<&'a Mailbox>,
    /// In ascending order, each once; without the late ones.
    pub(crate) conditions: SmallVec<[u32; 16]>,
    /// Groups were asked for, or there are none.
    pub(crate) with_groups: bool,
    folded: Option<Folded>,
}

impl Conditions {
    /// What an address fulfils; `directory` where groups matter.
    pub(crate) fn held<'a>(
        &self,
        rules: &[Rule],
        address: Option<&'a Mailbox>,
        directory: Option<&dyn Directory>,
    ) -> Result<Held<'a>, Unavailable> {
        let mut conditions: SmallVec<[u32; 16]> = SmallVec::new();
        if let Some(address) = address {
            let find = |table: &HashTable<Entry>, address: &Mailbox| {
                let is_it = |entry: &Entry| entry.address(rules, self.list) == Some(address);
                let hash = Hash::default().hash_one(address);
                table.find(hash, is_it).map(|entry| entry.condition)
            };
            if !self.addresses.is_empty() {
                conditions.extend(find(&self.addresses, address));
            }
            if let Some(directory) = directory.filter(|_| !self.groups.is_empty()) {
                if self.groups.len() <= FEW_GROUPS {
                    for entry in &self.groups {
                        let Some(group) = entry.address(rules, self.list) else { continue };
                        if directory.is_member(address, group)? {
                            conditions.push(entry.condition);
                        }
                    }
                } else {
                    directory.for_each_group(address, &mut |group| {
                        conditions.extend(find(&self.groups, group));
                    })?;
                }
            }
        }
        let has_patterns =
            !self.texts.is_empty() || !self.late.is_empty() || !self.together.is_empty();
        let folded = has_patterns.then(|| Folded::new(address));
        conditions.extend_from_slice(&self.always);
        if let Some(folded) = &folded {
            self.texts.find(folded, |condition| conditions.push(condition));
        }
        conditions.sort_unstable();
        conditions.dedup();
        let with_groups = directory.is_some() || self.groups.is_empty();
        let mut held = Held { address, conditions, with_groups, folded };
        self.ask_patterns(rules, &mut held);
        Ok(held)
    }

    /// Asks the patterns that a text points to, and those that are asked together.
    fn ask_patterns(&self, rules: &[Rule], held: &mut Held<'_>) {
        if held.conditions.iter().any(|condition| self.pointed.contains(condition)) {
            let mut cache = Cache::default();
            let mut conditions = std::mem::take(&mut held.conditions);
            conditions.retain(|condition| {
                !self.pointed.contains(condition)
                    || self.is_match(rules, *condition, held, &mut cache)
            });
            held.conditions = conditions;
        }
        let (Some(folded), false) = (&held.folded, self.together.is_empty()) else { return };
        let mut found: SmallVec<[u32; 16]> = SmallVec::new();
        self.sets.matches(folded.address(), |place| found.push(self.together.start + place));
        found.retain(|condition| self.is_confirmed(rules, *condition, held));
        for place in &self.sets.alone {
            let condition = self.together.start + place;
            found.extend(self.is_match_as_written(rules, condition, held).then_some(condition));
        }
        found.sort_unstable();
        held.conditions.extend(found);
    }

    /// Whether one of these conditions is fulfilled: the late ones are asked now.
    pub(crate) fn any_held(&self, rules: &[Rule], any: &[u32], held: &Held<'_>) -> bool {
        let late = any.partition_point(|condition| *condition < self.late.start);
        let found = match held.conditions.len() < any.len() {
            true => held.conditions.iter().any(|one| any.binary_search(one).is_ok()),
            false => any.iter().any(|one| held.conditions.binary_search(one).is_ok()),
        };
        let late = || any.iter().skip(late).filter(|condition| self.late.contains(condition));
        found || {
            let mut cache = Cache::default();
            late().any(|condition| self.is_match(rules, *condition, held, &mut cache))
        }
    }

    /// Whether a pattern with an automaton of its own matches.
    fn is_match(&self, rules: &[Rule], condition: u32, held: &Held<'_>, cache: &mut Cache) -> bool {
        let Some(folded) = &held.folded else { return false };
        let place = (condition - self.pointed.start) as usize;
        match self.automata.is_match(place, folded.address(), cache) {
            Some(matches) => matches && self.is_confirmed(rules, condition, held),
            None => self.is_match_as_written(rules, condition, held),
        }
    }

    /// Whether what the folded address says holds for the address as it is.
    fn is_confirmed(&self, rules: &[Rule], condition: u32, held: &Held<'_>) -> bool {
        let is_ascii = held.folded.as_ref().is_none_or(Folded::is_ascii);
        match self.written(condition).map(|written| written.confirm) {
            Some(Confirm::Always) => self.is_match_as_written(rules, condition, held),
            Some(Confirm::OutsideAscii) if !is_ascii => {
                self.is_match_as_written(rules, condition, held)
            }
            _ => true,
        }
    }

    fn written(&self, condition: u32) -> Option<Written> {
        self.written.get(condition.checked_sub(self.pointed.start)? as usize).copied()
    }

    /// Asks the pattern as it is written, compiled for this once unless it is one that looks at case.
    fn is_match_as_written(&self, rules: &[Rule], condition: u32, held: &Held<'_>) -> bool {
        let address = held.address.map(Mailbox::to_string).unwrap_or_default();
        if let Some(whole) = self.whole.get(&condition) {
            return whole.is_match(&address);
        }
        let pattern = self.written(condition).and_then(|written| written.pattern(rules, self.list));
        let Some(pattern) = pattern else { return false };
        Whole::new(pattern.as_str()).is_some_and(|whole| whole.is_match(&address))
    }
}

impl Written {
    fn pattern(self, rules: &[Rule], list: List) -> Option<&Pattern> {
        match list.of(rules.get(self.rule as usize)?).get(self.place as usize)? {
            AddressMatch::Pattern(pattern) => Some(pattern),
            _ => None,
        }
    }
}

/// What all rules ask, before it is known by which of its lists each rule is found.
pub(crate) struct Draft<'r> {
    list: List,
    rules: &'r [Rule],
    asked: Vec<Asked>,
    addresses: HashTable<Entry>,
    groups: HashTable<Entry>,
    patterns: HashMap<&'r str, u32>,
}

/// A condition of a draft, by its number there.
struct Asked {
    entry: Entry,
    what: What,
    /// In how many lists.
    count: u32,
}

enum What {
    Address,
    Group,
    Pattern(Shape),
}

impl<'r> Draft<'r> {
    pub(crate) fn new(rules: &'r [Rule], list: List) -> Self {
        Self {
            list,
            rules,
            asked: Vec::new(),
            addresses: HashTable::new(),
            groups: HashTable::new(),
            patterns: HashMap::new(),
        }
    }

    /// The conditions of a rule's list, each once.
    pub(crate) fn add(&mut self, rule: u32) -> SmallVec<[u32; 4]> {
        let (rules, list) = (self.rules, self.list);
        let mut conditions = SmallVec::new();
        let Some(found) = rules.get(rule as usize) else { return conditions };
        for (place, matching) in (0..).zip(list.of(found)) {
            let entry = Entry { condition: short(self.asked.len()), rule, place };
            let known = match matching {
                AddressMatch::Address(address) => {
                    known(&mut self.addresses, rules, list, address, entry)
                }
                AddressMatch::Group(group) => known(&mut self.groups, rules, list, group, entry),
                AddressMatch::Pattern(pattern) => {
                    *self.patterns.entry(pattern.as_str()).or_insert(entry.condition)
                }
            };
            if known == entry.condition {
                let what = match matching {
                    AddressMatch::Address(_) => What::Address,
                    AddressMatch::Group(_) => What::Group,
                    // It was read before, so it can be read.
                    AddressMatch::Pattern(pattern) => What::Pattern(
                        Parsed::new(pattern.as_str())
                            .map_or(Shape::Texts(Vec::new()), |parsed| parsed.shape()),
                    ),
                };
                self.asked.push(Asked { entry, what, count: 0 });
            }
            if !conditions.contains(&known) {
                conditions.push(known);
                if let Some(asked) = self.asked.get_mut(known as usize) {
                    asked.count += 1;
                }
            }
        }
        conditions
    }

    /// How many conditions there are.
    pub(crate) fn count(&self) -> usize {
        self.asked.len()
    }

    /// How many rules are looked at, about, when one of these conditions is fulfilled, the likely ones
    /// counted more.
    pub(crate) fn cost(&self, conditions: &[u32]) -> u64 {
        let asked = conditions.iter().filter_map(|one| self.asked.get(*one as usize));
        asked.map(|asked| u64::from(asked.count) * asked.what.likelihood()).sum()
    }

    /// Compiles. `finds` says of each condition whether rules are to be found by it, or only to be
    /// checked once found. Says the new number of each condition too.
    pub(crate) fn finish(self, finds: &[bool]) -> (Conditions, Vec<u32>) {
        let finds = |condition: usize| finds.get(condition).copied().unwrap_or_default();
        let needed = self.needed(finds);
        // The five kinds, in the order of their numbers.
        let kind = |(condition, asked): (usize, &Asked)| match &asked.what {
            What::Pattern(Shape::General(_)) if !finds(condition) => 2,
            What::Pattern(Shape::General(_)) if needed.contains_key(&condition) => 1,
            What::Pattern(Shape::General(_)) => 3,
            _ => 0,
        };
        let kinds: Vec<u8> = self.asked.iter().enumerate().map(kind).collect();
        let count = |kind| short(kinds.iter().filter(|one| **one == kind).count());
        let pointed = count(0)..count(0) + count(1);
        let late = pointed.end..pointed.end + count(2);
        let together = late.end..late.end + count(3);
        let mut next = [0, pointed.start, late.start, together.start];
        let number = |kind: &u8| {
            let next = next.get_mut(usize::from(*kind))?;
            *next += 1;
            Some(*next - 1)
        };
        let numbers: Vec<u32> = kinds.iter().filter_map(number).collect();
        let mut built = Conditions {
            list: self.list,
            addresses: self.addresses,
            groups: self.groups,
            pointed,
            late,
            together,
            ..Conditions::default()
        };
        for table in [&mut built.addresses, &mut built.groups] {
            for entry in table.iter_mut() {
                entry.condition = numbers.get(entry.condition as usize).copied().unwrap_or(0);
            }
            table.shrink_to_fit(|entry| hash_of(*entry, self.rules, self.list));
        }
        let mut texts = Vec::new();
        let mut general: Vec<(u32, &General, Written)> = Vec::new();
        for (condition, asked) in self.asked.iter().enumerate() {
            let Some(number) = numbers.get(condition).copied() else { continue };
            match &asked.what {
                What::Address | What::Group => {}
                What::Pattern(Shape::Everything) => built.always.push(number),
                What::Pattern(Shape::Texts(all)) => {
                    texts.extend(all.iter().map(|text| (text.clone(), number)));
                }
                What::Pattern(Shape::General(found)) => {
                    let required = needed.get(&condition).and_then(|set| found.required.get(*set));
                    let required = required.into_iter().flatten();
                    texts.extend(required.map(|text| (text.clone(), number)));
                    let Entry { rule, place, .. } = asked.entry;
                    let written = Written { confirm: found.confirm, rule, place };
                    general.push((number, found, written));
                }
            }
        }
        built.texts = Texts::build(texts);
        general.sort_unstable_by_key(|(number, ..)| *number);
        built.written = general.iter().map(|(.., written)| *written).collect();
        for (number, _, written) in &general {
            if written.confirm == Confirm::Always {
                let pattern = written.pattern(self.rules, self.list);
                let whole = pattern.and_then(|pattern| Whole::new(pattern.as_str()));
                built.whole.extend(whole.map(|whole| (*number, whole)));
            }
        }
        let folded: Vec<&Hir> = general.iter().map(|(_, general, _)| &general.folded).collect();
        let alone = (built.together.start - built.pointed.start) as usize;
        let (alone, together) = folded.split_at(alone.min(folded.len()));
        (built.automata, built.sets) = (Automata::build(alone), Sets::build(together));
        (built, numbers)
    }

    /// For each pattern that rules are found by the set of texts that points to it best: texts that few
    /// other patterns could need, and long ones. None where all its texts say too little.
    fn needed(&self, finds: impl Fn(usize) -> bool) -> HashMap<usize, usize> {
        let general = || {
            let all = self.asked.iter().enumerate().filter(|(condition, _)| finds(*condition));
            all.filter_map(|(condition, asked)| match &asked.what {
                What::Pattern(Shape::General(general)) => Some((condition, general)),
                _ => None,
            })
        };
        let mut users: HashMap<&[u8], u32> = HashMap::new();
        for text in general().flat_map(|(_, general)| general.required.iter().flatten()) {
            *users.entry(text).or_default() += 1;
        }
        let cost = |set: &Vec<Box<[u8]>>| {
            set.iter().map(|text| hits(text, users.get(&**text).copied().unwrap_or(1))).max()
        };
        let mut needed = HashMap::new();
        let mut pointing: HashMap<&[u8], u32> = HashMap::new();
        for (condition, general) in general() {
            let sets = general.required.iter().enumerate();
            let sets = sets.filter(|(_, set)| set.iter().all(|text| says_something(text)));
            if let Some((set, texts)) = sets.min_by_key(|(_, set)| cost(set)) {
                needed.insert(condition, set);
                for text in texts {
                    *pointing.entry(text).or_default() += 1;
                }
            }
        }
        for (condition, general) in general() {
            let set = needed.get(&condition).and_then(|set| general.required.get(*set));
            let many = |text: &[u8]| pointing.get(text).is_some_and(|users| *users > MOST_USERS);
            if set.is_some_and(|set| set.iter().any(|text| many(text))) {
                needed.remove(&condition);
            }
        }
        needed
    }
}

impl What {
    /// How likely an address fulfils the condition, roughly, beside the others.
    fn likelihood(&self) -> u64 {
        match self {
            What::Address => 1,
            What::Group => 8,
            What::Pattern(Shape::Texts(texts)) => 2 * texts.len() as u64,
            What::Pattern(Shape::General(general)) if !general.required.is_empty() => 32,
            What::Pattern(Shape::General(_)) => 1 << 12,
            What::Pattern(Shape::Everything) => 1 << 20,
        }
    }
}

/// Characters that stand in every address say nothing.
fn says_something(text: &[u8]) -> bool {
    text.iter().any(u8::is_ascii_alphanumeric) && text.len() > 1
}

/// How many patterns a text would point to in vain, about, in thousandths, for one address.
fn hits(text: &[u8], users: u32) -> (u64, std::cmp::Reverse<usize>) {
    let telling = text.iter().filter(|byte| !b"@.\x02".contains(byte)).count();
    let likely = 1024_u64 >> (2 * telling.min(5));
    (likely * u64::from(users), std::cmp::Reverse(text.len()))
}

fn hash_of(entry: Entry, rules: &[Rule], list: List) -> u64 {
    entry.address(rules, list).map_or(0, |address| Hash::default().hash_one(address))
}

/// The number of the condition that asks for the address; it is added if there is none.
fn known(
    table: &mut HashTable<Entry>,
    rules: &[Rule],
    list: List,
    address: &Mailbox,
    entry: Entry,
) -> u32 {
    let hash = Hash::default().hash_one(address);
    let is_it = |other: &Entry| other.address(rules, list) == Some(address);
    let slot = table.entry(hash, is_it, |other| hash_of(*other, rules, list));
    slot.or_insert(entry).get().condition
}
