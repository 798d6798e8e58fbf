//! Two tables of the format side by side, along the format's own keys.

use std::borrow::Cow;
use std::collections::HashMap;

use super::tree::Tree;
use super::{LONGEST_LINE, MOST_LINES};
use crate::raw::{KeyInfo, Kind, Need, RawConfig, RawGroup, RawUser};

/// Lists of tables that have names: what the list is called, and the keys that make the name; the
/// first one is shown.
const NAMED: &[(&str, &[&str])] = &[
    ("addresses", &["range"]),
    ("expect", &["description"]),
    ("listener", &["name"]),
    ("org_unit", &["path"]),
    ("organization", &["name"]),
    ("relay", &["description"]),
    ("route", &["name"]),
    ("rule", &["description", "org_unit"]),
];

/// The lines of a difference: the first ones, and how many there are.
#[derive(Default)]
pub(super) struct Lines {
    lines: Vec<String>,
    count: usize,
}

impl Lines {
    /// Adds a line, if there is room. A control character becomes its escape.
    pub(super) fn push(&mut self, line: String) {
        self.count += 1;
        if self.lines.len() < MOST_LINES {
            self.lines.push(shown(&line));
        }
    }

    pub(super) fn bounded(mut self) -> Vec<String> {
        if self.count > MOST_LINES {
            self.lines.truncate(MOST_LINES - 1);
            self.lines.push(format!("and {} more", self.count - (MOST_LINES - 1)));
        }
        self.lines
    }
}

fn shown(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for (place, c) in line.chars().enumerate() {
        if place + 1 >= LONGEST_LINE {
            out.push('…');
            break;
        }
        match waypost_types::misleads(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

pub(super) fn configurations(was: &Tree, is: &Tree, lines: &mut Lines) {
    tables(was, is, &RawConfig::keys(), &Place { prefix: "", key: "" }, lines);
}

/// The tables of a user or group of the same address.
pub(super) fn accounts(word: &str, was: &Tree, is: &Tree, prefix: &str, lines: &mut Lines) {
    let keys = if word == "user" { RawUser::keys() } else { RawGroup::keys() };
    tables(was, is, &keys, &Place { prefix, key: "" }, lines);
}

/// Where in the configuration: `organization "S": ` and the path of the table's key in it.
#[derive(Clone, Copy)]
struct Place<'a> {
    prefix: &'a str,
    key: &'a str,
}

impl Place<'_> {
    /// The path of a key in the table that is here.
    fn key(&self, name: &str) -> String {
        if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) }
    }
}

fn tables(was: &Tree, is: &Tree, keys: &[KeyInfo], at: &Place<'_>, lines: &mut Lines) {
    for key in keys {
        let (old, new) = (was.field(key.name), is.field(key.name));
        if old == new {
            continue;
        }
        let path = at.key(key.name);
        let here = Place { prefix: at.prefix, key: &path };
        match (&key.kind, &key.need) {
            (Kind::Table { keys, .. }, Need::List) => {
                let (old, new) = (items(old), items(new));
                match NAMED.iter().find(|(list, _)| *list == key.name) {
                    Some((word, named_by)) => named(old, new, (word, named_by), keys, &here, lines),
                    None => unnamed(old, new, keys, &here, lines),
                }
            }
            (Kind::Leaf { .. }, Need::List) => values(items(old), items(new), &here, lines),
            (Kind::Table { keys, .. }, Need::Section) => {
                let empty = Tree::default();
                tables(old.unwrap_or(&empty), new.unwrap_or(&empty), keys, &here, lines);
            }
            (Kind::Table { keys, .. }, _) => match (old, new) {
                (Some(old), Some(new)) => tables(old, new, keys, &here, lines),
                (Some(old), None) => lines.push(whole(&here, "removed", old)),
                (None, Some(new)) => lines.push(whole(&here, "added", new)),
                (None, None) => {}
            },
            (Kind::Leaf { .. }, need) => lines.push(leaf(old, new, need, &here)),
        }
    }
    // What only another version of the format knows.
    let known = |name: &Cow<'static, str>| keys.iter().any(|key| key.name == &**name);
    let strange = was.fields().iter().chain(is.fields()).filter(|(name, _)| !known(name));
    let mut told: Vec<&str> = Vec::new();
    for (name, _) in strange {
        let (old, new) = (was.field(name), is.field(name));
        if old != new && !told.contains(&&**name) {
            told.push(name);
            let path = at.key(name);
            let here = Place { prefix: at.prefix, key: &path };
            lines.push(leaf(old, new, &Need::Optional, &here));
        }
    }
}

fn items(list: Option<&Tree>) -> &[Tree] {
    list.map(Tree::items).unwrap_or_default()
}

fn whole(at: &Place<'_>, what: &str, table: &Tree) -> String {
    format!("{}{} {what}: {}", at.prefix, at.key, table.inline(LONGEST_LINE))
}

fn leaf(old: Option<&Tree>, new: Option<&Tree>, need: &Need, at: &Place<'_>) -> String {
    let secret = |value: Option<&Tree>| matches!(value, Some(Tree::Secret(_)));
    if secret(old) || secret(new) {
        let what = match (old, new) {
            (None, _) => "set",
            (_, None) => "removed",
            _ => "changed",
        };
        return format!("{}{} {what}", at.prefix, at.key);
    }
    let show = |value: Option<&Tree>| match (value, need) {
        // Half a line for each side, so that both are seen.
        (Some(value), _) => value.inline(LONGEST_LINE / 3).chars().take(LONGEST_LINE / 3).collect(),
        (None, Need::Default(text)) => text.clone(),
        (None, _) => "not set".to_owned(),
    };
    format!("{}{}: {} -> {}", at.prefix, at.key, show(old), show(new))
}

/// The name of an element, and which one of that name it is.
type Identity = (Vec<Box<str>>, usize);

fn identities<'t>(list: &'t [Tree], named_by: &[&str]) -> Vec<(Identity, &'t Tree)> {
    let mut seen: HashMap<Vec<Box<str>>, usize> = HashMap::new();
    let identity = |element: &'t Tree| {
        let parts =
            named_by.iter().map(|key| element.text(key).unwrap_or("").to_lowercase().into());
        let parts: Vec<Box<str>> = parts.collect();
        let number = seen.entry(parts.clone()).or_default();
        *number += 1;
        ((parts, *number), element)
    };
    list.iter().map(identity).collect()
}

/// Elements are found again by their names.
fn named(
    old: &[Tree],
    new: &[Tree],
    (word, named_by): (&str, &[&str]),
    keys: &[KeyInfo],
    at: &Place<'_>,
    lines: &mut Lines,
) {
    let (old, new) = (identities(old, named_by), identities(new, named_by));
    let place_of: HashMap<&Identity, usize> =
        new.iter().enumerate().map(|(place, (identity, _))| (identity, place)).collect();
    // The list stands in a table of its own, or in one that has a name.
    let above = at.key.strip_suffix(word).unwrap_or(at.key);
    let label = |element: &Tree| {
        let (first, others) = named_by.split_first().unwrap_or((&"", &[]));
        let name = element.text(first).unwrap_or("without a name");
        let unit = others.iter().find_map(|key| element.text(key));
        let unit = unit.map(|unit| format!(" of {}", unit.trim_matches('"'))).unwrap_or_default();
        format!("{}{above}{word} {name}{unit}", at.prefix)
    };
    let mut kept = Vec::new();
    for (identity, was) in &old {
        let Some(place) = place_of.get(identity) else {
            lines.push(format!("{} removed: {}", label(was), was.inline(LONGEST_LINE)));
            continue;
        };
        kept.push(*place);
        if let Some((_, is)) = new.get(*place)
            && was != is
        {
            let prefix = format!("{}: ", label(is));
            tables(was, is, keys, &Place { prefix: &prefix, key: "" }, lines);
        }
    }
    let was: std::collections::HashSet<&Identity> =
        old.iter().map(|(identity, _)| identity).collect();
    for (identity, is) in &new {
        if !was.contains(identity) {
            lines.push(format!("{} added: {}", label(is), is.inline(LONGEST_LINE)));
        }
    }
    for moved in moved(&kept) {
        let Some((_, element)) = new.get(moved) else { continue };
        let before = moved.checked_sub(1).and_then(|place| new.get(place));
        let now = match before {
            None => "now the first one".to_owned(),
            Some((_, before)) => {
                let first = named_by.first().and_then(|key| before.text(key));
                format!("now behind {}", first.unwrap_or("one without a name"))
            }
        };
        lines.push(format!("{} moved: {now}", label(element)));
    }
}

/// Which places must move so that the others are in rising order, as few as possible.
pub(super) fn moved(places: &[usize]) -> Vec<usize> {
    // Longest rising part: for each length the element that ends one with the least place.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(places.len());
    let place = |at: usize| places.get(at).copied().unwrap_or(0);
    for (at, here) in places.iter().enumerate() {
        let length = ends.partition_point(|end| place(*end) < *here);
        before.push(length.checked_sub(1).and_then(|last| ends.get(last).copied()));
        match ends.get_mut(length) {
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let mut stays = vec![false; places.len()];
    let mut last = ends.last().copied();
    while let Some(at) = last {
        if let Some(stay) = stays.get_mut(at) {
            *stay = true;
        }
        last = before.get(at).copied().flatten();
    }
    let mut moved: Vec<usize> =
        places.iter().zip(stays).filter(|(_, stays)| !stays).map(|(place, _)| *place).collect();
    moved.sort_unstable();
    moved
}

/// Elements without names are found again by their place, from both ends of the list.
fn unnamed(old: &[Tree], new: &[Tree], keys: &[KeyInfo], at: &Place<'_>, lines: &mut Lines) {
    let front = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old, new) = (old.get(front..).unwrap_or_default(), new.get(front..).unwrap_or_default());
    let back = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let old = old.get(..old.len() - back).unwrap_or_default();
    let new = new.get(..new.len() - back).unwrap_or_default();
    for place in 0..old.len().max(new.len()) {
        let path = format!("{}[{}]", at.key, front + place);
        let here = Place { prefix: at.prefix, key: &path };
        match (old.get(place), new.get(place)) {
            (Some(old), Some(new)) => tables(old, new, keys, &here, lines),
            (Some(old), None) => lines.push(whole(&here, "removed", old)),
            (None, Some(new)) => lines.push(whole(&here, "added", new)),
            (None, None) => {}
        }
    }
}

/// Lists of single values: which ones came and went, or only changed their order.
fn values(old: &[Tree], new: &[Tree], at: &Place<'_>, lines: &mut Lines) {
    let texts = |list: &[Tree]| -> Vec<String> {
        list.iter().map(|value| value.inline(LONGEST_LINE)).collect()
    };
    let (old, new) = (texts(old), texts(new));
    let count = |list: &[String]| {
        let mut counts: HashMap<String, usize> = HashMap::new();
        list.iter().for_each(|text| *counts.entry(text.clone()).or_default() += 1);
        counts
    };
    let without = |list: &[String], mut others: HashMap<String, usize>| -> Vec<String> {
        let fresh = |text: &&String| match others.get_mut(*text) {
            Some(left) if *left > 0 => {
                *left -= 1;
                false
            }
            _ => true,
        };
        list.iter().filter(fresh).cloned().collect()
    };
    let (gone, came) = (without(&old, count(&new)), without(&new, count(&old)));
    for (list, what) in [(&gone, "removed"), (&came, "added")] {
        for text in list {
            lines.push(format!("{}{}: {text} {what}", at.prefix, at.key));
        }
    }
    let (stayed, stays) = (without(&old, count(&gone)), without(&new, count(&came)));
    if stayed != stays {
        let list =
            |list: &[String]| list.join(", ").chars().take(LONGEST_LINE / 3).collect::<String>();
        let (was, is) = (list(&old), list(&new));
        lines.push(format!("{}{}: order: [{was}] -> [{is}]", at.prefix, at.key));
    }
}
