//! Who is who in an organization.

use crate::{Mailbox, OrgUnit};

/// A user who exists and is active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The primary address: the one that quotas count under, aliases folded in (D10).
    pub address: Mailbox,
    /// The user's organizational unit.
    pub org_unit: OrgUnit,
}

/// What an address is (C4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// An address or alias of an active user.
    User(User),
    /// The address of a group.
    Group {
        /// The group's own address.
        address: Mailbox,
    },
    /// Nobody known, or an inactive user (C8).
    Unrecognized,
}

/// The directory could not answer. Mail then waits (`451 4.3.0`), it is never "unrecognized" (C8).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the directory cannot answer: {because}")]
pub struct Unavailable {
    /// What went wrong, for the log.
    pub because: String,
}

/// A directory of users and groups that answers from memory.
///
/// Answers are immediate: an implementation over a remote source refreshes its copy beside the path
/// of the message. All addresses are compared as [`Mailbox`] compares.
pub trait Directory: Send + Sync {
    /// What `address` is.
    ///
    /// # Errors
    /// [`Unavailable`] when the answer is not known now.
    fn account(&self, address: &Mailbox) -> Result<Account, Unavailable>;

    /// Whether `address` belongs to `group`, directly or through a group in it, by primary address
    /// or by alias.
    ///
    /// # Errors
    /// [`Unavailable`] when the answer is not known now.
    fn is_member(&self, address: &Mailbox, group: &Mailbox) -> Result<bool, Unavailable>;

    /// Tells each group that `address` belongs to, each once, in any order: those, and only those, for which
    /// [`Directory::is_member`] says yes.
    ///
    /// # Errors
    /// [`Unavailable`] when the answer is not known now.
    fn for_each_group(
        &self,
        address: &Mailbox,
        each: &mut dyn FnMut(&Mailbox),
    ) -> Result<(), Unavailable>;

    /// Who gets a group's mail: its members with nested groups expanded, each address once, without
    /// inactive users; empty for a non-group.
    ///
    /// # Errors
    /// [`Unavailable`] when the answer is not known now.
    fn members(&self, group: &Mailbox) -> Result<Vec<Mailbox>, Unavailable>;
}
