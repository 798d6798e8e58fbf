//! Placeholder.
pub mod diagnostics;
pub mod directory;
mod duration;
pub mod raw;
mod size;

pub use size::Size;
