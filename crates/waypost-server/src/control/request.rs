//! What may be asked.

use std::fmt;

use serde::{Deserialize, Serialize};
use waypost_queue::{DeliveryState, RetryScope};
use waypost_types::{QueueId, RouteName};

/// A request: one line of JSON, such as `{"hold":{"id":"0F3Z9K2M4T7QA"}}` or `"reload"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Request {
    /// The messages of the queue, oldest first: an [`Answer::Message`](super::Answer::Message) each.
    List {
        /// Only those with a delivery over a route of this name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        route: Option<RouteName>,
        /// Only those with a delivery in this state; with `route` the same delivery.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<State>,
    },
    /// Everything about one message: an [`Answer::Shown`](super::Answer::Shown).
    Show {
        /// The message.
        id: QueueId,
    },
    /// Hold what a message owes: an [`Answer::Changed`](super::Answer::Changed). A delivery under way
    /// goes on, and is held if it comes back deferred.
    Hold {
        /// The message.
        id: QueueId,
    },
    /// Let go what is held of a message, whoever held it, as a quarantine does: it is then delivered as
    /// was decided when it came. An [`Answer::Changed`](super::Answer::Changed).
    Release {
        /// The message.
        id: QueueId,
    },
    /// Throw a message away; nobody is told. A delivery under way may still succeed. An
    /// [`Answer::Changed`](super::Answer::Changed).
    Remove {
        /// The message.
        id: QueueId,
    },
    /// Try what waits for its time at once, and forget the pauses of hosts that failed (A9).
    Retry {
        /// Which deliveries.
        scope: RetryScope,
    },
    /// Read the configuration anew, and put it in force whole or not at all (A12): an
    /// [`Answer::Reloaded`](super::Answer::Reloaded).
    Reload,
    /// Who changed what, oldest first: an [`Answer::Audited`](super::Answer::Audited) a line.
    Audit,
    /// How far quotas are used: an [`Answer::Quota`](super::Answer::Quota) for each limit.
    Quota {
        /// An organization by name, a user by address, or a client by IP address; `None`: all
        /// organizations.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<String>,
    },
}

/// What a delivery waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its time.
    Waiting,
    /// Its turn.
    Ready,
    /// A next hop's answer.
    Running,
    /// A person.
    Held,
    /// Nothing: it was delivered, while others of its message were not.
    Delivered,
    /// Nothing: it failed, and its sender was told if he wanted to be.
    Failed,
}

impl State {
    pub(crate) fn of(state: &DeliveryState) -> Self {
        match state {
            DeliveryState::Ready => Self::Ready,
            DeliveryState::Running => Self::Running,
            DeliveryState::Waiting { .. } => Self::Waiting,
            DeliveryState::Held(_) => Self::Held,
            DeliveryState::Delivered => Self::Delivered,
            DeliveryState::Failed => Self::Failed,
        }
    }

    /// Whether something is still owed.
    #[must_use]
    pub fn is_open(self) -> bool {
        !matches!(self, Self::Delivered | Self::Failed)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Held => "held",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_lines_that_can_be_written_by_hand() {
        let id = QueueId::new(7);
        for (line, want) in [
            (r#""reload""#, Request::Reload),
            (r#""audit""#, Request::Audit),
            (r#"{"list":{}}"#, Request::List { route: None, state: None }),
            (
                r#"{"list":{"route":"edge","state":"held"}}"#,
                Request::List { route: Some("edge".parse().unwrap()), state: Some(State::Held) },
            ),
            (r#"{"show":{"id":"0000000000007"}}"#, Request::Show { id }),
            (r#"{"retry":{"scope":"all"}}"#, Request::Retry { scope: RetryScope::All }),
            (
                r#"{"retry":{"scope":{"message":"0000000000007"}}}"#,
                Request::Retry { scope: RetryScope::Message(id) },
            ),
            (r#"{"quota":{"of":"Solarmora"}}"#, Request::Quota { of: Some("Solarmora".into()) }),
        ] {
            assert_eq!(serde_json::from_str::<Request>(line).unwrap(), want, "{line}");
            assert_eq!(serde_json::to_string(&want).unwrap(), line);
        }
        for wrong in [r#"{"list":{"routes":"edge"}}"#, r#"{"hold":{"id":"x"}}"#, r#""hold""#, "{}"]
        {
            assert!(serde_json::from_str::<Request>(wrong).is_err(), "{wrong}");
        }
    }
}
