//! The crate from outside.

mod allocation;
mod bounds;
mod document;
mod forged;
mod formats;
mod layouts;
mod model;
mod mutants;
mod sample;
mod source;
mod truth_table;
