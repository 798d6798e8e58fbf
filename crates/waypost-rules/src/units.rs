//! The org units that have rules, or switch some off, by number.
//!
//! Units are numbered from the deepest to the root, and rules by unit, then by their place in the file.
//! So of the rules that hold for an account, those with lower numbers are looked at first (C8).

use std::collections::HashMap;
use std::ops::Range;

use waypost_types::OrgUnit;

use crate::lists::{Lists, ListsBuilder};
use crate::texts::{Hash, short};
use crate::{Rule, SwitchedOff};

/// The units, and the numbers of their rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Units {
    by_path: HashMap<Box<str>, u32, Hash>,
    paths: Vec<OrgUnit>,
    /// For each unit itself and those above it that are known, nearest first.
    lineages: Lists,
    /// For each unit the first of its rules; one more at the end.
    firsts: Vec<u32>,
    /// For each unit the rules above it that it switches off, in ascending order.
    switched_off: Lists,
}

impl Units {
    /// The units, and for each rule number the rule's place in the file.
    pub(crate) fn new(rules: &[Rule], switches: &[SwitchedOff]) -> (Self, Box<[u32]>) {
        let of_rules = rules.iter().map(|rule| &rule.org_unit);
        let mut known: Vec<&OrgUnit> =
            of_rules.chain(switches.iter().map(|switch| &switch.org_unit)).collect();
        let depth = |unit: &OrgUnit| match unit.as_str() {
            "/" => 0,
            path => path.matches('/').count(),
        };
        known.sort_unstable();
        known.dedup();
        known.sort_by_key(|unit| std::cmp::Reverse(depth(unit)));
        let mut units = Self::default();
        for (number, unit) in (0..).zip(known) {
            units.by_path.insert(unit.as_str().into(), number);
            units.paths.push(unit.clone());
        }
        let mut lineages = ListsBuilder::default();
        for unit in &units.paths {
            lineages.push(above(unit.as_str()).filter_map(|path| units.by_path.get(path)).copied());
        }
        units.lineages = lineages.finish();
        let number = |rule: &Rule| units.by_path.get(rule.org_unit.as_str()).copied().unwrap_or(0);
        let mut order: Vec<(u32, u32)> =
            rules.iter().zip(0..).map(|(rule, place)| (number(rule), place)).collect();
        order.sort_unstable();
        let firsts = (0..=short(units.paths.len()))
            .map(|unit| short(order.partition_point(|(of, _)| *of < unit)));
        units.firsts = firsts.collect();
        let order: Box<[u32]> = order.into_iter().map(|(_, place)| place).collect();
        units.switched_off = units.switched_off(rules, &order, switches);
        (units, order)
    }

    fn switched_off(&self, rules: &[Rule], order: &[u32], switches: &[SwitchedOff]) -> Lists {
        let mut named: HashMap<&str, Vec<u32>> =
            switches.iter().map(|switch| (&*switch.rule, Vec::new())).collect();
        for (number, place) in (0..).zip(order) {
            let rule = rules.get(*place as usize);
            if let Some(numbers) = rule.and_then(|rule| named.get_mut(&*rule.description)) {
                numbers.push(number);
            }
        }
        let mut off: Vec<Vec<u32>> = vec![Vec::new(); self.paths.len()];
        for switch in switches {
            let Some(unit) = self.by_path.get(switch.org_unit.as_str()) else { continue };
            let numbers = named.get(&*switch.rule).map(Vec::as_slice).unwrap_or_default();
            let above: Vec<Range<u32>> =
                self.lineage(*unit).iter().skip(1).map(|above| self.rules_of(*above)).collect();
            let inherited =
                numbers.iter().filter(|number| above.iter().any(|unit| unit.contains(number)));
            if let Some(off) = off.get_mut(*unit as usize) {
                off.extend(inherited);
            }
        }
        let mut lists = ListsBuilder::default();
        for numbers in &mut off {
            numbers.sort_unstable();
            lists.push(numbers.iter().copied());
        }
        lists.finish()
    }

    /// The known units whose rules hold for an account of a unit, nearest first.
    pub(crate) fn holding_for(&self, unit: &OrgUnit) -> &[u32] {
        let nearest = above(unit.as_str()).find_map(|path| self.by_path.get(path));
        nearest.map(|unit| self.lineage(*unit)).unwrap_or_default()
    }

    fn lineage(&self, unit: u32) -> &[u32] {
        self.lineages.of(unit)
    }

    /// How many units there are.
    pub(crate) fn count(&self) -> usize {
        self.paths.len()
    }

    /// The numbers of a unit's rules.
    pub(crate) fn rules_of(&self, unit: u32) -> Range<u32> {
        let first = |unit: usize| self.firsts.get(unit).copied().unwrap_or(0);
        first(unit as usize)..first(unit as usize + 1)
    }

    /// The unit that a rule is attached to.
    pub(crate) fn unit_of(&self, rule: u32) -> u32 {
        short(self.firsts.partition_point(|first| *first <= rule).saturating_sub(1))
    }

    /// The nearest of these units that switches a rule off.
    pub(crate) fn who_switches_off(&self, rule: u32, units: &[u32]) -> Option<&OrgUnit> {
        let off = |unit: &&u32| self.switched_off.of(**unit).binary_search(&rule).is_ok();
        units.iter().find(off).and_then(|unit| self.paths.get(*unit as usize))
    }
}

/// A path and those above it up to the root.
fn above(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| match path.rsplit_once('/')? {
        _ if *path == "/" => None,
        ("", _) => Some("/"),
        (above, _) => Some(above),
    })
}
