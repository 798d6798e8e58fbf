//! What kind of account a rule looks at.

use std::fmt;

use waypost_types::{Account, Directory, Mailbox, OrgUnit, ReversePath, Unavailable};

/// The kind of an account (C4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccountKind {
    /// An active user, by address or alias.
    User,
    /// A group.
    Group,
    /// Neither; an inactive user too (C8).
    Unrecognized,
}

impl AccountKind {
    /// All three.
    pub const ALL: [AccountKind; 3] =
        [AccountKind::User, AccountKind::Group, AccountKind::Unrecognized];

    /// The word used in configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            AccountKind::User => "users",
            AccountKind::Group => "groups",
            AccountKind::Unrecognized => "unrecognized",
        }
    }

    fn bit(self) -> u8 {
        1 << self.place()
    }

    /// Its place in [`AccountKind::ALL`].
    pub(crate) fn place(self) -> u8 {
        match self {
            AccountKind::User => 0,
            AccountKind::Group => 1,
            AccountKind::Unrecognized => 2,
        }
    }
}

/// A set of account kinds: what a rule affects; never empty in a rule (C4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountKinds(u8);

impl AccountKinds {
    /// Users alone: the default of a rule that affects an incoming direction.
    pub const USERS: AccountKinds = AccountKinds(1);
    /// Unknown addresses alone: split delivery (C7).
    pub const UNRECOGNIZED: AccountKinds = AccountKinds(4);
    /// All three: the default of a rule for outgoing directions alone (B2).
    pub const ALL: AccountKinds = AccountKinds(7);

    /// Whether the kind is in the set.
    #[must_use]
    pub fn contains(self, kind: AccountKind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<AccountKind> for AccountKinds {
    fn from_iter<I: IntoIterator<Item = AccountKind>>(kinds: I) -> Self {
        Self(kinds.into_iter().fold(0, |set, kind| set | kind.bit()))
    }
}

impl fmt::Display for AccountKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = AccountKind::ALL.into_iter().filter(|kind| self.contains(*kind));
        for (place, kind) in kinds.enumerate() {
            write!(f, "{}{}", if place == 0 { "" } else { ", " }, kind.as_str())?;
        }
        Ok(())
    }
}

/// The account that a walk is about: the recipient's for incoming directions, the envelope sender's
/// for outgoing ones (C4, C8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The kind of account.
    pub kind: AccountKind,
    /// Its unit; groups and unknown addresses are in the root unit (C8).
    pub org_unit: OrgUnit,
}

impl Subject {
    /// An unknown address in the root unit.
    #[must_use]
    pub fn unrecognized() -> Self {
        Self { kind: AccountKind::Unrecognized, org_unit: OrgUnit::root() }
    }

    /// Looks a mailbox up.
    ///
    /// # Errors
    /// [`Unavailable`] when the directory cannot answer.
    pub fn of(mailbox: &Mailbox, directory: &dyn Directory) -> Result<Self, Unavailable> {
        Ok(match directory.account(mailbox)? {
            Account::User(user) => Self { kind: AccountKind::User, org_unit: user.org_unit },
            Account::Group { .. } => Self { kind: AccountKind::Group, org_unit: OrgUnit::root() },
            Account::Unrecognized => Self::unrecognized(),
        })
    }

    /// Looks an envelope sender up; the null path is unrecognized (B2).
    ///
    /// # Errors
    /// [`Unavailable`] when the directory cannot answer.
    pub fn of_sender(sender: &ReversePath, directory: &dyn Directory) -> Result<Self, Unavailable> {
        match sender {
            ReversePath::Null => Ok(Self::unrecognized()),
            ReversePath::Mailbox(mailbox) => Self::of(mailbox, directory),
        }
    }
}
