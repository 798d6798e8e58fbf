//! Whether a message finds room: in the queue, on the disk, in memory.

use waypost_config::policy::Policy;
use waypost_types::{Reply, ReversePath, Session};

use super::{SmtpHandler, no_transaction, note};
use crate::metrics::{At, Reason};
use crate::room::SMALL;
use crate::spool::NoRoom;

impl SmtpHandler {
    /// The refusal of MAIL, if the queue, the disk or the store has no room for another message.
    pub(super) fn no_room(
        &self,
        session: &Session,
        sender: &ReversePath,
        policy: &Policy,
    ) -> Option<Reply> {
        let error = self.core.spool.room(policy.server.limits.message_size).err()?;
        Some(self.full(session, At::Mail, sender, &error))
    }

    /// The refusal for want of room, counted and logged.
    pub(super) fn full(
        &self,
        session: &Session,
        at: At,
        sender: &ReversePath,
        error: &NoRoom,
    ) -> Reply {
        tracing::warn!(client = %session.client_ip, %error, "intake waits");
        let (text, reason) = match error {
            NoRoom::Queue(_) => ("The queue is full; try again later", Reason::QueueFull),
            NoRoom::Disk { .. } => {
                ("The disk of the queue is full; try again later", Reason::DiskFull)
            }
            NoRoom::Store => ("The disk of the queue failed; try again later", Reason::StoreFailed),
        };
        let reply = Reply::new(452, (4, 3, 1), text);
        note(&self.core, self.seen(session), Some(sender), None, (at, reason), &reply, error);
        reply
    }

    /// Room in memory for the message that DATA announces: for its `SIZE` and the dots of stuffing, or for a
    /// small one.
    pub(super) async fn make_room(&mut self, session: &Session) -> Result<(), Reply> {
        let seen = self.seen(session);
        let Some(open) = &mut self.open else { return Err(no_transaction()) };
        let octets = open.size.map_or(SMALL, |size| size.saturating_add(size / 64).max(1 << 10));
        open.share = self.core.spool.intake().share(octets).await;
        if open.share.is_some() {
            return Ok(());
        }
        let text = "Too many large messages are on their way; try again in a minute";
        let reply = Reply::new(452, (4, 3, 1), text);
        let (why, sender) = ((At::Data, Reason::MemoryFull), &open.transaction.sender);
        let because = format_args!("no room in memory for {octets} octets");
        note(&self.core, seen, Some(sender), None, why, &reply, &because);
        Err(reply)
    }

    /// A message of unknown size that outgrows its room, or one that is larger than it said, gets more.
    pub(super) async fn more_room(&mut self, session: &Session, octets: u64) -> Option<u64> {
        let open = self.open.as_mut()?;
        let share = open.share.as_mut()?;
        if octets <= share.octets() {
            return Some(share.octets());
        }
        let limit = open.policy.server.limits.message_size;
        if self.core.spool.intake().grow(share, octets, limit).await {
            return Some(if share.octets() < limit { share.octets() } else { u64::MAX });
        }
        open.share = None;
        tracing::warn!(client = %session.client_ip, octets, "no room in memory for a message");
        None
    }
}
