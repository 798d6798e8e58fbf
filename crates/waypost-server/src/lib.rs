//! Waypost as a server.

mod changes;
mod clock;
mod maildir;
mod queue_ids;
mod trace;
