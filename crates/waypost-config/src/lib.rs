//! Waypost's configuration.
pub mod diagnostics;
mod duration;
pub mod policy;
pub mod raw;
pub mod settings;
mod size;

pub use size::Size;
