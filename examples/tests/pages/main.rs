//! The pages, and what they say of the code.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may say what they mean"
)]

mod architecture;
mod dependencies;
mod document_diff;
mod documents;
mod guide;
mod public_docs;
mod threats;
