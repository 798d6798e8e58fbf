//! Patterns that are asked alone, each compiled when it is first asked.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::{Regex, RegexBuilder};
use waypost_rules::Pattern;

/// The patterns asked so far.
#[derive(Default)]
pub(super) struct Matcher {
    compiled: RefCell<HashMap<Box<str>, Option<Regex>>>,
}

impl Matcher {
    /// Whether a pattern matches an address; compiling one takes tens of microseconds.
    pub(super) fn is_match(&self, pattern: &Pattern, address: &str) -> bool {
        let mut compiled = self.compiled.borrow_mut();
        let source = pattern.as_str();
        if !compiled.contains_key(source) {
            let regex = RegexBuilder::new(source).case_insensitive(true).build().ok();
            compiled.insert(source.into(), regex);
        }
        compiled
            .get(source)
            .is_some_and(|regex| regex.as_ref().is_some_and(|one| one.is_match(address)))
    }
}

/// Whether a pattern could match the empty text: found without compiling it.
pub(super) fn may_match_nothing(pattern: &Pattern) -> bool {
    let parsed = regex_syntax::parse(pattern.as_str());
    parsed.is_ok_and(|hir| hir.properties().minimum_len() == Some(0))
}
