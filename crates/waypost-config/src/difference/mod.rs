//! What changed from one configuration to another, in lines that a person can read (A12).
//!
//! **In:** two [`Snapshot`]s, each the normal form of a configuration and of its directory files:
//! what is written, without comments, blanks, places and values that are the default anyway.
//! **Out:** [`Snapshot::difference`], a line for each change, such as
//! `organization "Solarmora": rule "Split delivery": then.modify.route: "exchange" -> "edge"`.
//! Things are found again by their names: organizations, routes, listeners and units by name, rules by
//! description and unit, relay entries and tests by description, users and groups by address; what
//! has no name by its place in the list. **Bounds:** [`MOST_LINES`] lines of [`LONGEST_LINE`]
//! characters; time `n log n`, memory linear in what is written, without the texts. **Errors:**
//! none. **Source:** A12. **Not here:** who changed it, and when; what files hold beside users and
//! groups: that one was written anew is told, its contents are not, and no password nor its hash is.
//!
//! # Example
//!
//! ```
//! use waypost_config::diagnostics::SourceFile;
//! use waypost_config::difference::Snapshot;
//! use waypost_config::raw;
//!
//! let snapshot = |text: &str| {
//!     let (config, _) = raw::read(SourceFile::new("waypost.toml", text), Vec::new()).unwrap();
//!     Snapshot::new(&config, &[])
//! };
//! let old = snapshot("[[organization]]\nname = \"Solarmora\"\nlicences = 10");
//! let new = snapshot("# More people.\n[[organization]]\nlicences = 12\nname = \"Solarmora\"");
//! assert_eq!(old.difference(&new), ["organization \"Solarmora\": licences: 10 -> 12"]);
//! ```

mod accounts;
mod compare;
mod tree;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::raw::{self, RawConfig, RawDirectory};
use accounts::Accounts;
use compare::Lines;
pub(crate) use tree::Tree;

/// The most lines of a difference; the last one then says how many more there are.
pub const MOST_LINES: usize = 200;

/// The most characters of a line; what is longer ends in `…`.
pub const LONGEST_LINE: usize = 300;

/// The normal form of a configuration: all that it says, and nothing of how it is written.
///
/// To be stored and read again, also by a later version of the program: a key that one of the two
/// does not know is a change like any other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    config: Tree,
    /// By organization, as its name is written.
    accounts: BTreeMap<Box<str>, Accounts>,
    /// What the files looked like that the configuration names, by path as written.
    files: BTreeMap<Box<str>, Box<str>>,
}

impl Snapshot {
    /// The normal form of a configuration and of the directory files of its organizations, which
    /// are in the same order; as many as there are.
    #[must_use]
    pub fn new(config: &RawConfig, directories: &[Vec<RawDirectory>]) -> Self {
        let mut accounts = BTreeMap::new();
        let none = Vec::new();
        let files = directories.iter().chain(std::iter::repeat(&none));
        for (organization, files) in config.organization.iter().zip(files) {
            let Some(name) = &organization.name else { continue };
            let users = organization.user.iter().chain(files.iter().flat_map(|file| &file.user));
            let groups = organization.group.iter().chain(files.iter().flat_map(|file| &file.group));
            accounts.insert(name.as_str().into(), Accounts::new(users, groups));
        }
        let mut config = raw::tree(config);
        config.without_accounts();
        Self { config, accounts, files: BTreeMap::new() }
    }

    /// Adds a file that the configuration names, and what it looked like: any text that is another one
    /// when the file was written anew.
    pub fn add_file(&mut self, path: &str, looks: &str) {
        self.files.insert(path.into(), looks.into());
    }

    /// What changed from this configuration to another one, a line each; empty when both say the same.
    #[must_use]
    pub fn difference(&self, new: &Self) -> Vec<String> {
        let mut lines = Lines::default();
        compare::configurations(&self.config, &new.config, &mut lines);
        let names: std::collections::BTreeSet<_> =
            self.accounts.keys().chain(new.accounts.keys()).collect();
        let nobody = Accounts::default();
        for name in names {
            let (was, is) = (self.accounts.get(name), new.accounts.get(name));
            let (was, is) = (was.unwrap_or(&nobody), is.unwrap_or(&nobody));
            accounts::difference(
                &format!("organization {}", tree::quoted(name)),
                was,
                is,
                &mut lines,
            );
        }
        for (path, looks) in &new.files {
            if self.files.get(path).is_some_and(|looked| looked != looks) {
                lines.push(format!("file {}: written anew", tree::quoted(path)));
            }
        }
        lines.bounded()
    }
}

#[cfg(test)]
mod tests;
