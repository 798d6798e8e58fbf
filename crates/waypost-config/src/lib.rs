//! Waypost's configuration.
pub mod policy;
pub mod settings;
