//! A mail queue as a value: what is owed to each recipient, when, and what its sender is told.
//!
//! **In:** accepted messages ([`Entry`]), the outcome of each attempt, commands of administrators, and
//! the time. **Out:** [`Work`] to be done now, [`Event`]s to be written down, [`Notice`]s that become
//! bounces. The trait [`Store`] says what must outlive the process; [`Recovery`] folds what it kept
//! into a queue again.
//!
//! **Units:** time is [`Timestamp`] or [`std::time::Duration`], sizes are octets. **Bounds:** memory by
//! [`Limits`]; accepting, taking and finishing cost the logarithm of the number of messages. **Errors:**
//! [`QueueError`], [`StoreError`], [`DecodeError`]. **Source:** requirements O1, O2, A10, C6; RFC 5321
//! section 4.5.4 (queuing), RFC 3461 (DSN parameters), RFC 3462 and 3464 (reports), RFC 3463 (status
//! codes).
//!
//! **Not here:** no clock, thread, disk or network; where hosts are and which one is tried; the route
//! of a bounce (the caller names it).
//!
//! # Features
//!
//! - `test-kit`: [`ModelStore`], a store in memory that loses what was not synced, for tests.

mod body;
mod codec;
mod entry;
mod event;
mod lanes;
mod message;
#[cfg(any(test, feature = "test-kit"))]
mod model_store;
mod notice;
mod queue;
mod recovery;
mod report;
mod schedule;
mod status;
mod store;
#[cfg(test)]
mod testing;
mod work;

pub use body::Body;
pub use codec::{DecodeError, FRAME_HEADER, LARGEST_EVENT, decode, encode, frame_header, unframe};
pub use entry::{Entry, Hold, Owed};
pub use event::{Attempt, ConfigChange, Ended, Event, QuotaCommit};
pub use lanes::Site;
#[cfg(any(test, feature = "test-kit"))]
pub use model_store::ModelStore;
pub use notice::{Notice, Returned};
pub use queue::{Limits, Queue, QueueError};
pub use recovery::{Recovered, Recovery};
pub use schedule::{NoDelays, Schedule};
pub use status::{DeliveryState, DeliveryStatus, Status};
pub use store::{Durability, Record, SetAside, Store, StoreError};
#[doc(no_inline)]
pub use waypost_types::Timestamp;
pub use work::{Finished, Work};
