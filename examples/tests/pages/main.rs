//! The pages, and what they say of the code.

mod architecture;
mod dependencies;
mod document_diff;
mod documents;
mod guide;
mod public_docs;
mod threats;
