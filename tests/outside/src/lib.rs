//! Nothing of its own: what the facade re-exports is there.

#[cfg(feature = "facade")]
pub use waypost::*;
