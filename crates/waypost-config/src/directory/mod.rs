//! Users and groups from the configuration: a directory that answers from memory.
//!
//! **In:** `[[organization.user]]` and `[[organization.group]]` tables, and those of directory files.
//! **Out:** [`StaticDirectory`], and diagnostics: addresses outside the organization's domains,
//! addresses given twice, groups that contain themselves. **Bounds:** an answer is one look-up by
//! hash, membership a binary search besides; memory is linear in users, and in the members of each
//! group with nested groups expanded. **Source:** C4, C5, C8, D6, D10, D12. **Not here:** passwords
//! are kept, not checked. [`ReloadableDirectory`] is for users and groups that come from elsewhere.

mod groups;
mod memberships;
mod reloadable;

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use waypost_relay::{PasswordHash, UserLimitOverrides};
use waypost_types::{Account, Directory, Domain, Mailbox, Unavailable, User};

use self::memberships::Memberships;
use crate::diagnostics::{Diagnostic, Place, Report, Spanned};
use crate::raw::{RawGroup, RawLimits, RawUser};

pub use reloadable::ReloadableDirectory;

/// What stands behind an address: an index into the list of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    User(u32),
    Group(u32),
    /// A member of a group who is neither; no account.
    Elsewhere(u32),
}

#[derive(Clone, Debug)]
struct UserEntry {
    user: User,
    active: bool,
    password: Option<PasswordHash>,
    limits: Option<UserLimitOverrides>,
}

#[derive(Clone, Debug)]
struct GroupEntry {
    address: Mailbox,
    /// Everyone in it, nested groups and their members too; sorted.
    members: Box<[Entry]>,
}

/// The users and groups of one organization, as the configuration has them.
#[derive(Clone, Debug, Default)]
pub struct StaticDirectory {
    entries: HashMap<Mailbox, Entry>,
    users: Vec<UserEntry>,
    groups: Vec<GroupEntry>,
    elsewhere: Vec<Mailbox>,
    memberships: Memberships,
}

impl StaticDirectory {
    /// Builds the directory of an organization that has verified `domains`. What is wrong goes to the
    /// report, and is left out.
    #[must_use]
    pub fn build<'r>(
        domains: &[Domain],
        users: impl Iterator<Item = &'r Spanned<RawUser>>,
        groups: impl Iterator<Item = &'r Spanned<RawGroup>>,
        report: &mut Report,
    ) -> Self {
        let mut builder = Builder::new(domains);
        // Growing means to hash all addresses anew.
        builder.directory.entries.reserve(users.size_hint().0 + groups.size_hint().0);
        for raw in users {
            builder.add_user(raw, report);
        }
        let groups: Vec<_> = groups.collect();
        let added: Vec<_> =
            groups.iter().filter_map(|raw| builder.add_group(raw, report)).collect();
        let direct = added.iter().map(|raw| builder.members(raw, report)).collect();
        let mut directory = builder.directory;
        let expanded = groups::expand(direct, |cycle| {
            let names: Vec<_> = cycle
                .iter()
                .filter_map(|group| added.get(*group))
                .filter_map(|raw| raw.address.as_ref())
                .collect();
            let Some(first) = names.first() else { return };
            let mut path: Vec<_> = names.iter().map(|name| format!("`{}`", ***name)).collect();
            path.push(format!("`{}`", ***first));
            report.push(Diagnostic::error(
                "group-cycle",
                first.place,
                "C5",
                format!("the group contains itself: {}", path.join(" has the member ")),
                "take one of these memberships away",
            ));
        });
        for (group, members) in directory.groups.iter_mut().zip(expanded) {
            group.members = members.into();
        }
        let members = directory.groups.iter().map(|group| &*group.members);
        directory.memberships = Memberships::new(directory.users.len(), members);
        directory
    }

    /// The password's hash of an active user, by address or alias (D6).
    #[must_use]
    pub fn password_hash(&self, address: &Mailbox) -> Option<&PasswordHash> {
        self.user(address).filter(|entry| entry.active)?.password.as_ref()
    }

    /// The relay quotas set for a user, by address or alias (D12).
    #[must_use]
    pub fn limits(&self, address: &Mailbox) -> Option<&UserLimitOverrides> {
        self.user(address)?.limits.as_ref()
    }

    /// Whether the address is that of a user who is switched off, who counts as unrecognized (C8).
    #[must_use]
    pub fn is_inactive(&self, address: &Mailbox) -> bool {
        self.user(address).is_some_and(|entry| !entry.active)
    }

    /// Whether the address is that of a group.
    #[must_use]
    pub fn is_group(&self, address: &Mailbox) -> bool {
        matches!(self.entries.get(address), Some(Entry::Group(_)))
    }

    /// Whether the address is that of a group in which nobody is.
    #[must_use]
    pub fn is_empty_group(&self, address: &Mailbox) -> bool {
        self.group(address).is_some_and(|group| group.members.is_empty())
    }

    /// The addresses of the groups, in file order.
    pub fn group_addresses(&self) -> impl Iterator<Item = &Mailbox> {
        self.groups.iter().map(|group| &group.address)
    }

    /// The active users, in file order, with their password hashes and quotas.
    pub fn active_users(
        &self,
    ) -> impl Iterator<Item = (&User, Option<&PasswordHash>, Option<&UserLimitOverrides>)> {
        let active = self.users.iter().filter(|entry| entry.active);
        active.map(|entry| (&entry.user, entry.password.as_ref(), entry.limits.as_ref()))
    }

    fn user(&self, address: &Mailbox) -> Option<&UserEntry> {
        match self.entries.get(address) {
            Some(Entry::User(index)) => self.users.get(usize::try_from(*index).ok()?),
            _ => None,
        }
    }

    fn group(&self, address: &Mailbox) -> Option<&GroupEntry> {
        match self.entries.get(address) {
            Some(Entry::Group(index)) => self.groups.get(usize::try_from(*index).ok()?),
            _ => None,
        }
    }

    /// The address of a member, unless it is a group.
    fn member(&self, entry: Entry) -> Option<&Mailbox> {
        match entry {
            Entry::User(index) => {
                self.users.get(usize::try_from(index).ok()?).map(|found| &found.user.address)
            }
            Entry::Elsewhere(index) => self.elsewhere.get(usize::try_from(index).ok()?),
            Entry::Group(_) => None,
        }
    }
}

impl Directory for StaticDirectory {
    fn account(&self, address: &Mailbox) -> Result<Account, Unavailable> {
        let place = |index: &u32| usize::try_from(*index).ok();
        Ok(match self.entries.get(address) {
            Some(Entry::Group(index)) => {
                let group = place(index).and_then(|place| self.groups.get(place));
                group.map_or(Account::Unrecognized, |group| Account::Group {
                    address: group.address.clone(),
                })
            }
            Some(Entry::User(index)) => {
                let user = place(index).and_then(|place| self.users.get(place));
                let active = user.filter(|entry| entry.active);
                active.map_or(Account::Unrecognized, |entry| Account::User(entry.user.clone()))
            }
            Some(Entry::Elsewhere(_)) | None => Account::Unrecognized,
        })
    }

    fn is_member(&self, address: &Mailbox, group: &Mailbox) -> Result<bool, Unavailable> {
        let (Some(entry), Some(group)) = (self.entries.get(address), self.group(group)) else {
            return Ok(false);
        };
        Ok(group.members.binary_search(entry).is_ok())
    }

    fn for_each_group(
        &self,
        address: &Mailbox,
        each: &mut dyn FnMut(&Mailbox),
    ) -> Result<(), Unavailable> {
        let Some(entry) = self.entries.get(address) else { return Ok(()) };
        let groups = self.memberships.of(*entry).filter_map(|group| self.groups.get(group));
        groups.for_each(|group| each(&group.address));
        Ok(())
    }

    fn members(&self, group: &Mailbox) -> Result<Vec<Mailbox>, Unavailable> {
        let members = self.group(group).map_or(&[][..], |group| &group.members);
        let found = members.iter().filter_map(|entry| self.member(*entry));
        // A user who is switched off gets no mail, through a group neither (C8).
        Ok(found.filter(|member| !self.is_inactive(member)).cloned().collect())
    }

    fn each_address(&self, see: &mut dyn FnMut(&Mailbox)) {
        self.entries.keys().for_each(see);
    }
}

struct Builder<'d, 'r> {
    directory: StaticDirectory,
    domains: &'d [Domain],
    /// The addresses of users and groups, in the order in which they got them.
    claimed: Vec<&'r Spanned<Mailbox>>,
    /// Where each of the first so many was given; looked for when one is given a second time.
    places: HashMap<&'r Mailbox, Place>,
    placed: usize,
}

impl<'d, 'r> Builder<'d, 'r> {
    fn new(domains: &'d [Domain]) -> Self {
        let directory = StaticDirectory::default();
        Self { directory, domains, claimed: Vec::new(), places: HashMap::new(), placed: 0 }
    }

    /// Where an address was given first.
    fn first_place(&mut self, address: &Mailbox) -> Option<Place> {
        for claimed in self.claimed.iter().skip(self.placed) {
            self.places.entry(&claimed.value).or_insert(claimed.place);
        }
        self.placed = self.claimed.len();
        self.places.get(address).copied()
    }

    fn add_user(&mut self, raw: &'r Spanned<RawUser>, report: &mut Report) {
        let Some(address) = &raw.address else { return };
        let entry = Entry::User(short(self.directory.users.len()));
        if !self.claim(address, entry, "C4", report) {
            return;
        }
        for alias in &raw.aliases {
            self.claim(alias, entry, "D10", report);
        }
        self.directory.users.push(UserEntry {
            user: User { address: address.value.clone(), org_unit: raw.org_unit.value.clone() },
            active: raw.active.value,
            password: raw.password.as_ref().map(|password| password.value.clone()),
            limits: raw.limits.as_ref().map(|limits| user_limits(limits, report)),
        });
    }

    fn add_group(
        &mut self,
        raw: &'r Spanned<RawGroup>,
        report: &mut Report,
    ) -> Option<&'r Spanned<RawGroup>> {
        let address = raw.address.as_ref()?;
        let entry = Entry::Group(short(self.directory.groups.len()));
        if !self.claim(address, entry, "C5", report) {
            return None;
        }
        let group = GroupEntry { address: address.value.clone(), members: Box::default() };
        self.directory.groups.push(group);
        Some(raw)
    }

    /// The members as written, aliases folded into their users.
    fn members(&mut self, raw: &Spanned<RawGroup>, report: &mut Report) -> Vec<Entry> {
        let mut members = Vec::with_capacity(raw.members.items.len());
        for member in &raw.members {
            let next = Entry::Elsewhere(short(self.directory.elsewhere.len()));
            match self.directory.entries.entry(member.value.clone()) {
                Slot::Occupied(known) => members.push(*known.get()),
                Slot::Vacant(free) => {
                    if is_ours(self.domains, member) {
                        report.push(Diagnostic::warning(
                            "unknown-member",
                            member.place,
                            "C5",
                            format!("the member `{}` is no user and no group", **member),
                            "add it as a user, or take it out of the group",
                        ));
                    }
                    members.push(*free.insert(next));
                    self.directory.elsewhere.push(member.value.clone());
                }
            }
        }
        members
    }

    /// Gives an address to an entry; `false` when it cannot have it, and the report says why.
    fn claim(
        &mut self,
        address: &'r Spanned<Mailbox>,
        entry: Entry,
        rule: &'static str,
        report: &mut Report,
    ) -> bool {
        if !is_ours(self.domains, address) {
            let domains: Vec<_> = self.domains.iter().map(Domain::as_str).collect();
            report.push(Diagnostic::error(
                "foreign-address",
                address.place,
                rule,
                format!("`{}` is outside the organization's domains", **address),
                match domains.as_slice() {
                    [] => "give the organization `domains`".into(),
                    _ => format!(
                        "add its domain to `domains` once it is verified, or write an address in {}",
                        domains.join(", ")
                    ),
                },
            ));
            return false;
        }
        if let Slot::Vacant(free) = self.directory.entries.entry(address.value.clone()) {
            free.insert(entry);
            self.claimed.push(address);
            return true;
        }
        let first = self.first_place(&address.value);
        let first = first.map_or_else(|| "another place".into(), |first| report.locate(first));
        report.push(Diagnostic::error(
            "duplicate-address",
            address.place,
            rule,
            format!("the address `{}` was given at {first} already", **address),
            "an address belongs to one user or one group: take it away here or there",
        ));
        false
    }
}

fn is_ours(domains: &[Domain], address: &Mailbox) -> bool {
    address.domain().is_some_and(|domain| domains.contains(domain))
}

/// What of `limits` can hold for one user; the rest is doubtful.
fn user_limits(raw: &RawLimits, report: &mut Report) -> UserLimitOverrides {
    let wider = raw.recipients_per_day.iter().chain(&raw.recipients_per_10_minutes);
    let wider = wider.map(|found| found.place).chain(raw.mode.iter().map(|mode| mode.place));
    for place in wider {
        report.push(Diagnostic::warning(
            "limit-not-of-users",
            place,
            "D12",
            "this limit holds for an organization, and says nothing for one user",
            "move it to `[organization.limits]`, or remove it",
        ));
    }
    let number = |field: &Option<Spanned<u32>>| field.as_ref().map(|number| number.value);
    UserLimitOverrides {
        messages_per_user_per_day: number(&raw.messages_per_user_per_day),
        unique_recipients_per_user_per_day: number(&raw.unique_recipients_per_user_per_day),
    }
}

fn short(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
