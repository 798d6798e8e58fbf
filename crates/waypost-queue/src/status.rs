//! What a list of the queue shows.

use std::sync::Arc;

use serde::Serialize;
use waypost_types::{Failure, Timestamp};

use crate::message::{End, Message, Phase};
use crate::{Entry, Hold};

/// One message as it stands; a copy, so the queue goes on.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The message, without its decision text ([`crate::Store::entry`] has it).
    pub entry: Arc<Entry>,
    /// One a delivery, in the order of [`Entry::deliveries`].
    pub deliveries: Vec<DeliveryStatus>,
}

/// How far one delivery has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeliveryStatus {
    /// What it waits for.
    pub state: DeliveryState,
    /// Attempts that ended; 0 for finished deliveries after a restart.
    pub attempts: u32,
    /// Why the last one did not deliver.
    pub failure: Option<Failure>,
}

/// What a delivery waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryState {
    /// Its turn.
    Ready,
    /// A worker has it.
    Running,
    /// Its time.
    Waiting {
        /// When it is due.
        due: Timestamp,
    },
    /// A person.
    Held(Hold),
    /// Nothing: the next hop has it.
    Delivered,
    /// Nothing: it failed, and its sender was told if he wanted to be.
    Failed,
}

impl Status {
    pub(crate) fn of(message: &Message) -> Option<Self> {
        let entry = message.entry.entry()?;
        let mut deliveries: Vec<_> = message
            .fates
            .iter()
            .map(|fate| DeliveryStatus {
                state: match fate.end {
                    Some(End::Delivered) => DeliveryState::Delivered,
                    Some(End::Failed) => DeliveryState::Failed,
                    None => DeliveryState::Ready,
                },
                attempts: 0,
                failure: fate.failure.as_deref().cloned(),
            })
            .collect();
        for (_, group) in message.groups.iter() {
            for place in &group.deliveries {
                let status = usize::try_from(*place).ok().and_then(|at| deliveries.get_mut(at));
                if let Some(status) = status {
                    status.attempts = group.attempts;
                    status.state = match &group.phase {
                        Phase::Held(hold) => DeliveryState::Held((**hold).clone()),
                        Phase::Waiting(due) => DeliveryState::Waiting { due: *due },
                        Phase::Ready => DeliveryState::Ready,
                        Phase::Running => DeliveryState::Running,
                    };
                }
            }
        }
        Some(Self { entry, deliveries })
    }
}
