//! Waypost's configuration.
pub mod diagnostics;
pub mod directory;
mod duration;
pub mod raw;
pub mod settings;
mod size;

pub use size::Size;
