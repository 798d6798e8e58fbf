//! Users and groups, packed: there may be very many, and few of them change.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::compare::{self, Lines};
use super::tree::Tree;
use crate::diagnostics::Spanned;
use crate::raw::{self, RawGroup, RawUser};

/// How many changed users and groups of an organization have lines of their own; of more, there is a
/// summary.
const LINES_EACH: usize = 10;

/// How many addresses a summary names.
const NAMED: usize = 10;

/// The users and groups of an organization, wherever they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Accounts {
    users: Vec<Account>,
    groups: Vec<Account>,
}

/// One of them, sorted by address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Account(
    /// The address, in lower case.
    Box<str>,
    /// The table as JSON, since it is rarely looked at.
    Box<str>,
);

impl Accounts {
    pub(super) fn new<'r>(
        users: impl Iterator<Item = &'r Spanned<RawUser>>,
        groups: impl Iterator<Item = &'r Spanned<RawGroup>>,
    ) -> Self {
        let users = users.filter_map(|raw| Account::new(&raw::tree(&raw.value)));
        let groups = groups.filter_map(|raw| Account::new(&raw::tree(&raw.value)));
        Self { users: sorted(users.collect()), groups: sorted(groups.collect()) }
    }
}

fn sorted(mut accounts: Vec<Account>) -> Vec<Account> {
    accounts.sort_by(|a, b| a.0.cmp(&b.0));
    accounts
}

impl Account {
    /// `None`: it has no address, which is an error that was told.
    fn new(tree: &Tree) -> Option<Self> {
        let address = tree.text("address")?.trim_matches('"');
        let folded = match address.is_ascii() {
            true => address.to_ascii_lowercase(),
            false => address.to_lowercase(),
        };
        // Text, numbers, lists: nothing that JSON cannot say.
        let packed = serde_json::to_string(tree).unwrap_or_default();
        Some(Self(folded.into(), packed.into()))
    }

    fn tree(&self) -> Tree {
        serde_json::from_str(&self.1).unwrap_or_default()
    }

    /// The address as written.
    fn address(&self) -> String {
        let tree = self.tree();
        let written = tree.text("address").map(|text| text.trim_matches('"').to_owned());
        written.unwrap_or_else(|| self.0.to_string())
    }
}

/// Who changed, and how.
enum Change<'a> {
    Added(&'a Account),
    Removed(&'a Account),
    Changed(&'a Account, &'a Account),
}

pub(super) fn difference(of: &str, was: &Accounts, is: &Accounts, lines: &mut Lines) {
    let users = changes(&was.users, &is.users);
    let groups = changes(&was.groups, &is.groups);
    if users.len() + groups.len() > LINES_EACH {
        let parts = [summary("users", &users), summary("groups", &groups)];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        lines.push(format!("{of}: directory: {}", parts.join("; ")));
        return;
    }
    for (word, changes) in [("user", users), ("group", groups)] {
        for change in changes {
            match change {
                Change::Added(account) => {
                    lines.push(told(of, word, account, "added"));
                }
                Change::Removed(account) => {
                    lines.push(told(of, word, account, "removed"));
                }
                Change::Changed(was, is) => {
                    let prefix = format!("{of}: {word} {}: ", is.address());
                    compare::accounts(word, &was.tree(), &is.tree(), &prefix, lines);
                }
            }
        }
    }
}

fn told(of: &str, word: &str, account: &Account, what: &str) -> String {
    let table = account.tree().inline(super::LONGEST_LINE);
    format!("{of}: {word} {} {what}: {table}", account.address())
}

/// Both sorted by address.
fn changes<'a>(was: &'a [Account], is: &'a [Account]) -> Vec<Change<'a>> {
    let mut changes = Vec::new();
    let (mut was, mut is) = (was.iter().peekable(), is.iter().peekable());
    loop {
        let order = match (was.peek(), is.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(was), Some(is)) => was.0.cmp(&is.0),
        };
        match order {
            Ordering::Less => changes.extend(was.next().map(Change::Removed)),
            Ordering::Greater => changes.extend(is.next().map(Change::Added)),
            Ordering::Equal => {
                if let (Some(was), Some(is)) = (was.next(), is.next())
                    && was.1 != is.1
                {
                    changes.push(Change::Changed(was, is));
                }
            }
        }
    }
}

/// `12 users added, 3 removed, 1 changed: a@b.example, …`.
fn summary(word: &str, changes: &[Change<'_>]) -> Option<String> {
    let count = |wanted: fn(&&Change<'_>) -> bool| changes.iter().filter(wanted).count();
    let counts = [
        (count(|change| matches!(change, Change::Added(_))), "added"),
        (count(|change| matches!(change, Change::Removed(_))), "removed"),
        (count(|change| matches!(change, Change::Changed(..))), "changed"),
    ];
    let counts: Vec<_> = counts.into_iter().filter(|(count, _)| *count > 0).collect();
    let ((first, what), others) = counts.split_first()?;
    let mut text = format!("{first} {word} {what}");
    for (count, what) in others {
        text.push_str(&format!(", {count} {what}"));
    }
    let named: Vec<String> = changes
        .iter()
        .take(NAMED)
        .map(|change| match change {
            Change::Added(one) | Change::Removed(one) | Change::Changed(_, one) => one.address(),
        })
        .collect();
    let rest = if changes.len() > NAMED { ", …" } else { "" };
    Some(format!("{text}: {}{rest}", named.join(", ")))
}
