//! The envelope filter of a rule.

use waypost_types::Mailbox;

use crate::automata;
use crate::shape::{Parsed, Shape};

/// A regular expression over a whole address, unanchored unless it says `^` or `$`, without case (C5).
///
/// Only its text is kept: a [`RuleSet`](crate::RuleSet) compiles all patterns together. Matching time is
/// linear in the address; the automaton of one pattern has at most 1 MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    source: Box<str>,
}

/// The text of a pattern is no regular expression, or too large a one.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{pattern}` is no usable regular expression (C5): {because}")]
pub struct PatternError {
    /// The text as given.
    pub pattern: String,
    /// What is wrong with it.
    pub because: String,
}

impl Pattern {
    /// Reads a pattern and sees whether it can be compiled.
    ///
    /// # Errors
    /// [`PatternError`] with the place of the fault, or when the compiled form would be too large.
    pub fn new(source: &str) -> Result<Self, PatternError> {
        let wrong = |because| PatternError { pattern: source.to_owned(), because };
        let parsed = Parsed::new(source).map_err(wrong)?;
        if let Shape::General(general) = parsed.shape() {
            let fits = automata::fits(&general.folded)
                && (!general.confirm.is_ever() || automata::fits(&parsed.hir));
            if !fits {
                return Err(wrong(
                    "its compiled form has more than 1 MiB; make its repetitions smaller".into(),
                ));
            }
        }
        Ok(Self { source: source.into() })
    }

    /// The text as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

/// One entry of a filter's list; the entries of a list are or-ed (C5).
#[derive(Clone, Debug)]
pub enum AddressMatch {
    /// The whole address, without case.
    Address(Mailbox),
    /// A regular expression.
    Pattern(Pattern),
    /// Membership of a group, nested groups counted.
    Group(Mailbox),
}

/// The envelope filter: an empty list asks for nothing, two lists are and-ed (C5).
#[derive(Clone, Debug, Default)]
pub struct EnvelopeFilter {
    /// What the envelope sender must match. The null sender is matched by patterns only, as the
    /// empty text.
    pub senders: Vec<AddressMatch>,
    /// What the recipient must match, as it came in RCPT.
    pub recipients: Vec<AddressMatch>,
}
