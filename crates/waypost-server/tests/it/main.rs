//! The crate from outside.

mod authenticate;
mod mx_hosts;
