//! The crate from outside.

mod model;
mod observe;
mod patterns;
mod walk;
