//! Placeholder.
mod clause;
mod client;
mod literal;
mod reading;
pub use reading::{Hop, Place, Reading, Unreadable};
