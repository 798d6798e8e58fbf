//! What is known of a message beside its header: the answers of DNS and filter, wherever they come from.
//!
//! They were found out (`serve`), are supposed (`explain`, `[[expect]]`) or were recorded (`diff`); the
//! evaluator takes them all in this one form.

use std::borrow::Cow;

use waypost_auth::{Authentication, Question};
use waypost_types::{HeaderBlock, Recipient};

use super::filter::FilterAnswer;
use super::{Policy, Transaction};

/// What is known of a message beside its header. The default knows nothing: nobody asked.
#[derive(Clone, Copy, Default)]
pub struct Known<'k> {
    /// What SPF, DKIM and DMARC say (E2, C3); `None`: nobody asked.
    pub dns: Option<Answers<'k>>,
    /// What the filter says (D17): an answer for each source of [`Policy::filter_due`], or one that is
    /// supposed, whatever the source; empty: nobody asked.
    pub filter: &'k [FilterAnswer],
}

/// The answers to the questions of [`Policy::authentication_due`].
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Answers<'k> {
    /// Those that were found out, or recorded; a question that none is for is one that nobody asked.
    Given(&'k [Authentication]),
    /// Whoever answers when a question is due, once for each.
    Asked(&'k dyn Fn(&Question) -> Authentication),
}

impl<'k> Known<'k> {
    /// The answers to what is due; `None`: nobody asked.
    pub(super) fn authentication(
        &self,
        policy: &Policy,
        transaction: &Transaction,
        recipients: &[Recipient],
        header: &HeaderBlock<'_>,
    ) -> Option<Cow<'k, [Authentication]>> {
        Some(match self.dns? {
            Answers::Given(answers) => Cow::Borrowed(answers),
            Answers::Asked(answer) => {
                let due = policy.authentication_due(transaction, recipients, header);
                Cow::Owned(due.iter().map(answer).collect())
            }
        })
    }
}

impl std::fmt::Debug for Known<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("dns", &self.dns).field("filter", &self.filter).finish()
    }
}

impl std::fmt::Debug for Answers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Given(answers) => f.debug_tuple("Given").field(answers).finish(),
            Self::Asked(_) => f.write_str("Asked"),
        }
    }
}
