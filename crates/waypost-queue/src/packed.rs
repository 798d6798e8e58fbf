//! An entry that nobody needs now, in one piece of memory.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use waypost_types::{
    Changes, Delivery, Destination, MailParameters, Mailbox, Notify, QueueId, ReversePath,
    Timestamp, TlsDemand,
};

use crate::{Entry, Hold, Owed};

/// An entry as it is used, or packed: a third of the memory, and a few microseconds to use it again.
#[derive(Debug)]
pub(crate) enum Kept {
    Whole(Arc<Entry>),
    Packed(Box<[u8]>),
}

impl Kept {
    /// The entry; a copy if it is packed.
    pub(crate) fn entry(&self) -> Option<Arc<Entry>> {
        match self {
            Kept::Whole(entry) => Some(Arc::clone(entry)),
            Kept::Packed(bytes) => {
                let packed: Packed<'_> = serde_json::from_slice(bytes).ok()?;
                Some(Arc::new(packed.into_entry()))
            }
        }
    }

    /// The entry, whole from now on.
    pub(crate) fn unpack(&mut self) -> Option<Arc<Entry>> {
        let entry = self.entry()?;
        *self = Kept::Whole(Arc::clone(&entry));
        Some(entry)
    }

    /// Packs it, if it can be had again exactly.
    pub(crate) fn pack(&mut self) {
        let Kept::Whole(entry) = self else { return };
        let Ok(bytes) = serde_json::to_vec(&Packed::of(entry)) else { return };
        // Copied: what a vector grew to and gave back would lie unused beside it.
        let packed = Kept::Packed(bytes.as_slice().into());
        if packed.entry().as_deref() == Some(&**entry) {
            *self = packed;
        }
    }
}

/// An entry as a list of values: what is usual, or said before, is left out.
#[derive(Serialize, Deserialize)]
struct Packed<'a>(
    QueueId,
    Timestamp,
    std::borrow::Cow<'a, ReversePath>,
    Option<MailParameters>,
    Box<str>,
    Box<str>,
    Vec<One>,
    Box<str>,
    (u64, u64),
);

#[derive(Serialize, Deserialize)]
struct One(
    Mailbox,
    Option<Mailbox>,
    Option<ReversePath>,
    Destination,
    Option<Changes>,
    (bool, bool, bool),
    Option<Notify>,
    Option<Box<str>>,
    Option<Hold>,
    Option<Arc<str>>,
    Vec<u64>,
);

impl<'a> Packed<'a> {
    fn of(entry: &'a Entry) -> Self {
        let deliveries = entry.deliveries.iter().map(|owed| One::of(owed, entry)).collect();
        let parameters = &entry.parameters;
        Self(
            entry.id,
            entry.accepted_at,
            std::borrow::Cow::Borrowed(&entry.sender),
            (*parameters != MailParameters::default()).then(|| parameters.clone()),
            entry.client.clone(),
            entry.trace.clone(),
            deliveries,
            entry.decision.clone(),
            (entry.size, entry.header_size),
        )
    }

    fn into_entry(self) -> Entry {
        let Self(id, accepted_at, sender, parameters, client, trace, deliveries, decision, sizes) =
            self;
        let deliveries = deliveries.into_iter().map(|one| one.into_owed(&sender)).collect();
        Entry {
            id,
            accepted_at,
            sender: sender.into_owned(),
            parameters: parameters.unwrap_or_default(),
            client,
            trace,
            deliveries,
            decision,
            size: sizes.0,
            header_size: sizes.1,
        }
    }
}

impl One {
    fn of(owed: &Owed, entry: &Entry) -> Self {
        let delivery = owed.delivery.clone();
        Self(
            delivery.recipient.clone(),
            (!same(&delivery.original_recipient, &delivery.recipient))
                .then_some(delivery.original_recipient),
            (delivery.sender.to_string() != entry.sender.to_string()).then_some(delivery.sender),
            delivery.destination,
            (delivery.changes != Changes::default()).then_some(delivery.changes),
            (delivery.tls == TlsDemand::Required, delivery.suppress_bounces, delivery.spam),
            (delivery.notify != Notify::default()).then_some(delivery.notify),
            delivery.orcpt,
            owed.hold.clone(),
            owed.rule.clone(),
            owed.marks.clone(),
        )
    }

    fn into_owed(self, entry_sender: &ReversePath) -> Owed {
        let Self(
            recipient,
            original,
            sender,
            destination,
            changes,
            flags,
            notify,
            orcpt,
            hold,
            rule,
            marks,
        ) = self;
        let (required, suppress_bounces, spam) = flags;
        let delivery = Delivery {
            original_recipient: original.unwrap_or_else(|| recipient.clone()),
            recipient,
            sender: sender.unwrap_or_else(|| entry_sender.clone()),
            destination,
            tls: if required { TlsDemand::Required } else { TlsDemand::Opportunistic },
            changes: changes.unwrap_or_default(),
            suppress_bounces,
            spam,
            notify: notify.unwrap_or_default(),
            orcpt,
        };
        Owed { delivery, hold, rule, marks }
    }
}

/// To the letter: mailboxes that differ in case alone are equal.
fn same(one: &Mailbox, other: &Mailbox) -> bool {
    one.local_part() == other.local_part() && one.host() == other.host()
}

#[cfg(test)]
mod tests {
    use waypost_types::{HeaderLine, Ret};

    use super::*;
    use crate::testing::entry;

    #[test]
    fn what_was_packed_comes_out_to_the_letter() {
        let mut all =
            entry(7, "S@f.example", &["A@x.example", "\"\u{e9} x\"@[192.0.2.1]", "c@y.example"]);
        all.parameters.ret = Some(Ret::Full);
        all.parameters.envid = Some("e".into());
        all.deliveries[0].delivery.original_recipient = "a@x.example".parse().unwrap();
        let second = &mut all.deliveries[1];
        second.delivery.sender = "".parse().unwrap();
        second.delivery.tls = TlsDemand::Required;
        second.delivery.suppress_bounces = true;
        second.delivery.notify = Notify::Never;
        second.delivery.orcpt = Some("rfc822;x".into());
        second.hold = Some(Hold::Quarantine { name: "q".into(), because: "a rule".into() });
        all.deliveries[2].rule = Some("Split delivery".into());
        all.deliveries[2].marks = vec![7, u64::MAX];
        let third = &mut all.deliveries[2].delivery;
        third.spam = true;
        third.sender = "s@f.example".parse().unwrap();
        third.changes.subject_prefix = Some("[X] ".into());
        third.changes.added_headers = vec![HeaderLine::new("X", "y").unwrap()];
        for entry in [all, entry(1, "", &["a@x.example"]), entry(2, "a@b.example", &[])] {
            let mut kept = Kept::Whole(Arc::new(entry.clone()));
            kept.pack();
            assert!(matches!(kept, Kept::Packed(_)));
            let unpacked = kept.unpack().unwrap();
            assert_eq!(format!("{unpacked:?}"), format!("{entry:?}"));
            assert!(matches!(kept, Kept::Whole(_)));
        }
    }
}
