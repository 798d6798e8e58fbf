//! The crate from outside.

mod client_properties;
mod client_talk;
mod hostile;
mod sasl_reference;
mod talk;
