//! The crate from outside.

mod allocations;
mod attempts;
mod health;
mod mx;
mod route;
