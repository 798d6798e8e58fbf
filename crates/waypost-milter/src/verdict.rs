//! What a filter thinks of a message.

use std::fmt;

use waypost_types::Reply;

use crate::field::{FieldValue, HeaderEdit};

/// What a filter wants done with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum FilterAction {
    /// Take it.
    Accept,
    /// Refuse it for good, with this reply (5yz).
    Reject(Reply),
    /// Refuse it for now, with this reply (4yz).
    TempFail(Reply),
    /// Say that it was taken and deliver it to nobody.
    Discard,
    /// Take it and hold it, for this reason.
    Quarantine(Box<str>),
}

impl fmt::Display for FilterAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Reject(reply) => write!(f, "reject: {reply}"),
            Self::TempFail(reply) => write!(f, "tempfail: {reply}"),
            Self::Discard => f.write_str("discard"),
            Self::Quarantine(reason) => write!(f, "quarantine: {reason}"),
        }
    }
}

/// What a filter wanted and does not get.
///
/// None of it was offered in the negotiation; some filters ask for it all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Ignored {
    /// Another body, of so many octets.
    Body(u64),
    /// One more recipient, as the filter wrote it.
    AddRecipient(Box<str>),
    /// One recipient fewer, as the filter wrote it.
    DeleteRecipient(Box<str>),
    /// Another sender, as the filter wrote it.
    ChangeSender(Box<str>),
    /// One recipient of several refused, which cannot be done for one alone once the message is there.
    RefuseRecipient {
        /// Its place among the recipients of the question, from 0.
        nth: usize,
        /// The reply to it.
        reply: Reply,
    },
    /// A message held, of which no reason was given that could be shown; or held and refused at once.
    Quarantine(Box<str>),
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(octets) => write!(f, "another body of {octets} octets"),
            Self::AddRecipient(address) => write!(f, "recipient {address} added"),
            Self::DeleteRecipient(address) => write!(f, "recipient {address} deleted"),
            Self::ChangeSender(address) => write!(f, "sender changed to {address}"),
            Self::RefuseRecipient { nth, reply } => {
                write!(f, "recipient {} alone refused: {reply}", nth + 1)
            }
            Self::Quarantine(reason) => write!(f, "quarantine: {reason}"),
        }
    }
}

/// What a filter thinks of a message, with its because (D17).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct FilterVerdict {
    /// What is to be done with the message.
    pub action: FilterAction,
    /// What is to be done to its header, in this order; whatever the action is, since a caller may take
    /// what the filter would refuse.
    pub headers: Vec<HeaderEdit>,
    /// Why, on one line: what the filter answered to which step, and its telling fields
    /// ([`FilterVerdict::telling`]).
    pub reason: Box<str>,
    /// What the filter wanted besides and does not get.
    pub ignored: Vec<Ignored>,
}

/// Names of fields in which filters tell what they think, as they begin.
const TELLING: [&str; 4] = ["x-spam", "x-virus", "x-rspamd-action", "x-phish"];

impl FilterVerdict {
    /// A verdict without edits.
    #[must_use]
    pub fn new(action: FilterAction, reason: &str) -> Self {
        Self { action, headers: Vec::new(), reason: reason.into(), ignored: Vec::new() }
    }

    /// The value that the filter gives a field, names compared without case; the last one counts.
    ///
    /// ```
    /// use waypost_milter::{FieldName, FieldValue, FilterAction, FilterVerdict, HeaderEdit};
    ///
    /// let mut verdict = FilterVerdict::new(FilterAction::Accept, "end of message: accept");
    /// let (name, value) = (FieldName::new("X-Spam")?, FieldValue::new("Yes")?);
    /// verdict.headers.push(HeaderEdit::Add { name, value });
    /// assert!(verdict.field("x-spam").is_some_and(|value| value.as_str() == "Yes"));
    /// # Ok::<(), waypost_milter::FieldError>(())
    /// ```
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&FieldValue> {
        let last = self.headers.iter().rev().find(|edit| edit.name().is(name));
        last.and_then(HeaderEdit::value)
    }

    /// The edits that tell what the filter thinks: fields whose names begin in `X-Spam`, `X-Virus`,
    /// `X-Rspamd-Action` or `X-Phish`, without case.
    pub fn telling(&self) -> impl Iterator<Item = &HeaderEdit> {
        self.headers.iter().filter(|edit| {
            let name = edit.name().as_str().to_ascii_lowercase();
            edit.value().is_some() && TELLING.iter().any(|start| name.starts_with(start))
        })
    }
}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::*;
    use crate::field::FieldName;

    #[test]
    fn a_verdict_is_stored_and_read_back_and_what_it_could_not_be_is_refused() {
        let reply = Reply::new(554, (5, 7, 1), "Spam");
        let mut verdict = FilterVerdict::new(FilterAction::Reject(reply.clone()), "because");
        let name = FieldName::new("X-Spam").unwrap();
        verdict.headers.push(HeaderEdit::Change {
            name: name.clone(),
            nth: 1,
            value: FieldValue::new("a\r\n b").unwrap(),
        });
        verdict.headers.push(HeaderEdit::Delete { name, nth: 2 });
        verdict.ignored.push(Ignored::RefuseRecipient { nth: 0, reply });
        let json = serde_json::to_string(&verdict).unwrap();
        assert_eq!(serde_json::from_str::<FilterVerdict>(&json).unwrap(), verdict);
        let forged = json.replace("a\\r\\n b", "a\\r\\nBcc: b");
        assert_ne!(forged, json);
        assert!(serde_json::from_str::<FilterVerdict>(&forged).is_err());
    }
}
