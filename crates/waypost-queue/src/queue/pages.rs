//! What a long queue is asked for piece by piece.

use std::ops::Bound;

use waypost_types::QueueId;

use super::{Queue, QueueError};
use crate::Status;
use crate::lanes::Site;
use crate::message::{Group, Phase};

impl Queue {
    /// The messages behind an id, oldest id first: for lists that are made in pages.
    pub fn list_after(&self, after: Option<QueueId>) -> impl Iterator<Item = Status> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.messages.range((from, Bound::Unbounded)).map(|(_, message)| Status::of(message))
    }

    /// As [`Queue::retry`], for the deliveries to certain sites alone.
    ///
    /// # Errors
    /// [`QueueError::Unknown`].
    pub fn retry_if(
        &mut self,
        id: QueueId,
        which: impl Fn(&Site) -> bool,
    ) -> Result<usize, QueueError> {
        self.make_ready(id, |group| matches!(group.phase, Phase::Waiting(_)) && which(&group.site));
        let message = self.messages.get(&id).ok_or(QueueError::Unknown(id))?;
        let ready = |group: &Group| group.phase == Phase::Ready && which(&group.site);
        Ok(message.groups.iter().filter(|(_, group)| ready(group)).count())
    }
}
