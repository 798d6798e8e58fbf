//! What a long queue is asked for piece by piece.

use std::collections::HashSet;
use std::sync::Arc;

use waypost_types::QueueId;

use super::{Queue, QueueError};
use crate::Status;
use crate::lanes::Site;
use crate::message::{Group, Phase};

impl Queue {
    /// The messages behind an id, oldest id first: for lists that are made in pages.
    pub fn list_after(&self, after: Option<QueueId>) -> impl Iterator<Item = Status> {
        self.messages_after(after).filter_map(|(_, message)| Status::of(message))
    }

    /// As [`Queue::retry`], for the deliveries to certain sites alone.
    ///
    /// # Errors
    /// [`QueueError::Unknown`] when there is no such message.
    pub fn retry_if(
        &mut self,
        id: QueueId,
        which: impl Fn(&Site) -> bool,
    ) -> Result<usize, QueueError> {
        let message = self.messages.get(&id).ok_or(QueueError::Unknown(id))?;
        let sites = message.groups.iter().map(|(_, group)| &group.site).filter(|site| which(site));
        let sites: HashSet<Arc<Site>> = sites.cloned().collect();
        self.make_ready(id, |group| {
            matches!(group.phase, Phase::Waiting(_)) && sites.contains(&group.site)
        });
        self.lanes.rouse(|site| sites.contains(site));
        let message = self.messages.get(&id).ok_or(QueueError::Unknown(id))?;
        let ready = |group: &Group| group.phase == Phase::Ready && sites.contains(&group.site);
        Ok(message.groups.iter().filter(|(_, group)| ready(group)).count())
    }
}
