//! The envelope filter of a rule.

use regex::{Regex, RegexBuilder};
use waypost_types::Mailbox;

/// A regular expression over a whole address, unanchored unless it says `^` or `$`, without case (C5).
///
/// Matching time is linear in the address; the compiled form has at most 1 MiB.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: Box<str>,
    regex: Regex,
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

pub(crate) const PATTERN_SIZE: usize = 1 << 20;

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`PatternError`] with the place of the fault, or when the compiled form would be too large.
    pub fn new(source: &str) -> Result<Self, PatternError> {
        let regex = RegexBuilder::new(source)
            .case_insensitive(true)
            .size_limit(PATTERN_SIZE)
            .dfa_size_limit(PATTERN_SIZE)
            .build()
            .map_err(|error| PatternError {
                pattern: source.to_owned(),
                because: match error {
                    regex::Error::CompiledTooBig(_) => {
                        "its compiled form has more than 1 MiB; make its repetitions smaller".into()
                    }
                    other => other.to_string(),
                },
            })?;
        Ok(Self { source: source.into(), regex })
    }

    /// The text as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether the pattern matches an address.
    #[must_use]
    pub fn is_match(&self, address: &str) -> bool {
        self.regex.is_match(address)
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
