//! A mail queue as a value: what is owed to each recipient, when, and what its sender is told.
//!
//! **For:** servers that take responsibility for mail, and owe it to others until it is delivered.
//! **Begin with:** [`Queue::accept`], then [`Queue::take`] and [`Queue::finished`] by turns.
//!
//! **In:** accepted messages ([`Entry`]), the outcome of each attempt, commands of administrators, and
//! the time. **Out:** [`Work`] to be done now, whether intake is to slow down, [`Event`]s to be
//! written down, [`Notice`]s that become bounces. The trait [`Store`] says what must outlive the
//! process; [`Recovery`] folds what it kept into a queue again.
//!
//! **Units:** time is [`Timestamp`] or [`std::time::Duration`], sizes are octets. **Bounds:** memory by
//! [`Limits`]; accepting, taking and finishing cost the logarithm of the number of messages. **Errors:**
//! [`QueueError`], [`StoreError`], [`DecodeError`]. **Source:** requirements O1, O2, A10, C6; RFC 5321
//! section 4.5.4 (queuing), RFC 3461 (DSN parameters), RFC 3462, 3464 and 6533 (reports), RFC 3463
//! (status codes).
//!
//! **Not here:** no clock, thread, disk or network; where hosts are and which one is tried; the route
//! of a bounce (the caller names it).
//!
//! # Features
//!
//! - `test-kit`: `ModelStore`, a store in memory that loses what was not synced, for tests.
//!
//! # Example
//!
//! ```
//! use waypost_queue::{Body, Ended, Entry, Limits, Queue, Schedule, Timestamp};
//! use waypost_types::{Delivery, Destination, MailParameters, Notify, Outcome, QueueId, Reply};
//!
//! let now = Timestamp::from_millis(1_585_091_507_000);
//! let delivery = Delivery {
//!     recipient: "marie@solarmora.com".parse()?,
//!     original_recipient: "marie@solarmora.com".parse()?,
//!     sender: "someone@elsewhere.example".parse()?,
//!     destination: Destination::Mx,
//!     tls: Default::default(),
//!     changes: Default::default(),
//!     suppress_bounces: false,
//!     spam: false,
//!     notify: Notify::Unsaid,
//!     orcpt: None,
//! };
//! let body = Body::from(b"Subject: hello\r\n\r\nhello\r\n".to_vec());
//! let entry = Entry {
//!     id: QueueId::new(1),
//!     accepted_at: now,
//!     sender: delivery.sender.clone(),
//!     parameters: MailParameters::default(),
//!     client: "192.0.2.1 (mail.elsewhere.example)".into(),
//!     trace: "Received: from mail.elsewhere.example by mx.solarmora.com; now\r\n".into(),
//!     deliveries: vec![delivery.into()],
//!     decision: "{}".into(),
//!     size: 25,
//!     header_size: 18,
//! };
//!
//! let mut queue = Queue::new(Limits::default());
//! queue.accept(entry, Some(body), now)?; // after the commit of `Record::accepted`
//! let work = queue.take(now).expect("it is ready at once");
//! let outcome = Outcome::Delivered { host: None, reply: Reply::new(250, (2, 0, 0), "ok") };
//! let results = vec![Ended::new(0, outcome)];
//! let finished = queue.finished(work, results, &Schedule::default(), now);
//! assert_eq!(finished.events.len(), 2); // attempted, done: to be committed lazily
//! assert!(finished.notice.is_none() && queue.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod backlog;
mod body;
mod codec;
mod entry;
mod event;
mod lanes;
mod message;
#[cfg(any(test, feature = "test-kit"))]
mod model_store;
mod notice;
#[cfg(test)]
mod notice_tests;
mod packed;
mod queue;
#[cfg(test)]
mod queue_model;
#[cfg(test)]
mod queue_tests;
mod recovery;
mod report;
#[cfg(test)]
mod rest_tests;
mod results;
mod schedule;
mod sites;
mod status;
mod store;
mod tally;
#[cfg(test)]
mod testing;
mod window;
mod work;

pub use backlog::Backlog;
pub use body::Body;
pub use codec::{DecodeError, FRAME_HEADER, LARGEST_EVENT, decode, encode, frame_header, unframe};
pub use entry::{CountsFor, Entry, Hold, Owed};
pub use event::{
    AdministratorsTold, Attempt, ConfigChange, ConfigOutcome, Ended, Event, Handover, QueueChange,
    QueueCommand, QuotaCommit, RetryScope, SenderTold, SpamRelayed,
};
pub use lanes::Site;
#[cfg(any(test, feature = "test-kit"))]
pub use model_store::ModelStore;
pub use notice::{Notice, Returned};
pub use queue::{Limits, Queue, QueueError};
pub use recovery::{Recovered, Recovery};
pub use schedule::{NoDelays, Schedule};
pub use status::{DeliveryState, DeliveryStatus, Status};
pub use store::{Durability, Record, SetAside, Store, StoreError};
pub use tally::{Share, Tally};
#[doc(no_inline)]
pub use waypost_types::Timestamp;
pub use work::{Finished, Resting, Work};
