//! Placeholder.
pub mod diagnostics;
mod duration;
pub mod raw;
mod size;

pub use size::Size;
