//! Asking a filter, such as rspamd, what it thinks of a message (D17).

mod address;
mod client;
mod connection;
mod error;

pub use address::{MilterAddress, MilterAddressError};
pub use client::{MilterClient, MilterLimits};
pub use error::FilterError;
pub use waypost_milter::{
    FilterAction, FilterQuestion, FilterVerdict, HeaderEdit, Ignored, TlsFacts,
};
